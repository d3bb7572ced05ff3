//! Redis: the only module that talks to the server.
//!
//! Promises: a failure names the server by host and port, never by its URL, which may contain a password.
//!
//! In reading order: `address` (the address of the server), `server` (a connection, and the basic commands that every
//! part needs), `slot`, `cluster` and `route` (the owner of a key in a cluster, and commands to it), `reply` (parses
//! replies), `wire` (a connection without the client library) and `frame` (the end and the values of its replies),
//! `consume` and `round` (read streams), `links` (reads from several servers), `lease` (the right to read and emit),
//! `claims` (the accounts of cells), `emit` (writes decisions exactly once), `ranges` (reads ranges of streams, and
//! appends to streams), `in_time` (appends what must not be late), `hashes` (hashes of other services), `marks` (writes mark prices), `inspect` (the state of the
//! server, its streams and their groups).

mod address;
mod claims;
mod cluster;
mod consume;
mod emit;
pub mod frame;
mod hashes;
mod in_time;
mod inspect;
mod lease;
mod links;
mod marks;
mod ranges;
mod reply;
mod retire;
mod round;
mod route;
mod server;
mod slot;
mod wire;

pub use address::{Address, BLOCK_MAX};
pub use claims::{Claim, key_of as claims_key};
pub use cluster::{Node, Shard, View};
pub use consume::{Consumer, GroupState, Membership, StreamStats};
pub use emit::{EmitKeys, Emitter, Offered, OutputFault, append_control, borrowed, memory_of};
pub use hashes::{FieldChange, HashText, PriceText, PriceTexts, Written};
pub use inspect::{ConsumerInfo, GroupInfo, ServerInfo, StreamInfo};
pub use lease::{HeldLease, Lease, LeaseKeys};
pub use links::Links;
pub use marks::{MarkPlaces, MarkText};
pub use reply::RawEntry;
pub use round::{Round, RoundAnswer, Sent, Take};
pub use server::{FieldBytes, Server, ServerError, StreamFault};
pub use slot::{SLOTS, SlotsDiffer, one_slot, slot_of, tag_of};
