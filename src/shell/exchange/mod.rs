//! The exchange: the only module that talks to it (Binance USDⓈ-M futures, REST and sockets).
//!
//! Promises: a failed call returns a typed error, and never a list of positions. The demands of the exchange (weights,
//! waits, bans) are obeyed, also across restarts. No call is sent twice automatically, except after a refused
//! timestamp, which the exchange did not act on. Key, secret, signature, listen key and signed URL are in no error, log
//! or `Debug`.
//!
//! In reading order: `settings`, `key` (its kind, its signatures), `credentials` (their problems, by name), `call` (the
//! calls and their weights), `error`; `budget`, `circuit`, `ban`, `gate` (the admission of calls), `clock` (the
//! server's), `signed`, `client` (one call), `calls` (each of them), `counts`; `tls`, `socket` (a WebSocket).

mod ban;
mod budget;
mod call;
mod calls;
mod circuit;
mod client;
mod clock;
mod counts;
mod credentials;
mod error;
mod gate;
mod key;
mod settings;
mod signed;
mod socket;
mod tls;

pub use call::Call;
pub use calls::{Positions, TRADES_MAX, TRADES_WINDOW_MS, TradesFrom};
pub use circuit::CircuitState;
pub use client::Exchange;
pub use counts::{CallCount, Health};
pub use credentials::{CredentialProblem, Credentials, Given};
pub use error::{CallError, SetupError};
pub use key::KeyKind;
pub use settings::{PositionRiskVersion, Settings};
pub use socket::{Socket, SocketError};
