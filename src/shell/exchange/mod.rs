//! The exchange: the one place that speaks to it (Binance USDⓈ-M futures, REST and sockets).
//!
//! Promises: a failed call has a typed error, and no list of positions comes out of it; what the exchange asks for
//! (weights, waits, bans) is kept, also across restarts; nothing is sent twice by itself, but for a refused timestamp,
//! which the exchange did not act on. Key, secret, signature, listen key and signed URL are in no error, log or `Debug`.
//!
//! In reading order: `settings`, `key` (its kind, its signatures), `credentials` (what is wrong with them, by name),
//! `call` (what can be asked and what it weighs), `error`; `budget`, `circuit`, `ban`, `gate` (may a call go out now),
//! `clock` (the server's), `signed`, `client` (one call), `calls` (each of them), `counts`;
//! `tls`, `socket` (a WebSocket).

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
