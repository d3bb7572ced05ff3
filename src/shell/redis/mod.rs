//! Redis: the one place that speaks to the server.
//!
//! Promises: a failure names the server by host and port, never by its URL, which may hold a password.
//!
//! In reading order: `address` (where the server is), `server` (a connection, and the plain commands that every part
//! needs), `reply` (what comes back), `consume` (reading streams), `lease` (who may read and emit), `emit` (writing
//! decisions, exactly once), `ranges` (streams as far as they reach, and appending to them), `hashes` (what other
//! services keep beside their streams), `marks` (mark prices, written), `inspect` (how the server, its streams and their groups are).

mod address;
mod consume;
mod emit;
mod hashes;
mod inspect;
mod lease;
mod marks;
mod ranges;
mod reply;
mod server;

pub use address::Address;
pub use consume::{Answer, Consumer, GroupState, Membership, Round, StreamStats, Take};
pub use emit::{Emission, EmitKeys, Emitter, Offered, Request, Tried, WrittenDecision, append_control, borrowed};
pub use hashes::{FieldChange, HashText, PriceText, PriceTexts, Written};
pub use inspect::{ConsumerInfo, GroupInfo, ServerInfo, StreamInfo};
pub use lease::{Lease, LeaseKeys};
pub use marks::{MarkPlaces, MarkText};
pub use reply::RawEntry;
pub use server::{FieldBytes, Server, ServerError, StreamFault};
