//! Redis: the one place that speaks to the server.
//!
//! Promises: a failure names the server by host and port, never by its URL, which may hold a password.
//!
//! In reading order: `server` (a connection, and the plain commands that every part needs).

mod server;

pub use server::{FieldBytes, Server, ServerError};
