//! The exchange: the only module that talks to it, over REST and sockets. It knows no venue: each one describes itself
//! in `codec/exchange`.
//!
//! Promises: a failed call returns a typed error, and never a list of positions. The demands of the exchange (weights,
//! waits, bans) are obeyed, also across restarts. No call is sent twice automatically, except after a refused
//! timestamp, which the exchange did not act on. Key, secret, signature, listen key and signed URL are in no error, log
//! or `Debug`.
//!
//! In reading order: `settings`, `error`; `budget`, `circuit`, `ban`, `address` (their limits), `gate` (the admission of calls), `clock` (of the
//! server), `client` (one call), `calls` (each of them), `counts`; `tls`, `socket` (a WebSocket).

mod address;
mod ban;
mod budget;
mod calls;
mod circuit;
mod client;
mod clock;
mod counts;
mod error;
mod gate;
mod settings;
mod socket;
mod tls;

pub use calls::Positions;
pub use circuit::CircuitState;
pub use client::Exchange;
pub use clock::wall_ms;
pub use counts::{CallCount, Health};
pub use error::{CallError, SetupError};
pub use settings::Settings;
pub use socket::{Socket, SocketError};
