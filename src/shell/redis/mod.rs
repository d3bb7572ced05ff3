//! Redis: the one place that speaks to the server.
//!
//! Promises: a failure names the server by host and port, never by its URL, which may hold a password.
//!
//! In reading order: `server` (a connection, and the plain commands that every part needs), `reply` (what comes back),
//! `consume` (reading streams), `lease` (who may read and emit), `emit` (writing decisions, exactly once).

mod consume;
mod emit;
mod lease;
mod reply;
mod server;

pub use consume::{Consumer, GroupState, Membership, Round, Survey, Take};
pub use emit::{Emission, EmitKeys, Emitter, Offered, Request};
pub use lease::{Lease, LeaseKeys};
pub use reply::RawEntry;
pub use server::{FieldBytes, Server, ServerError};
