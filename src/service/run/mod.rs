//! `harvester run`: the service. Streams in, decisions out, killed at any point.
//!
//! Four parts, each with its own thread and its own connection: the `reader` (entries in canonical order), the `fold`
//! (journal, state, outbox; driven by `serve`), the `emitter` (decisions, own entries, acknowledgements), and the
//! `keeper` (lease and kill key). What they tell each other is in `message`. `start` opens store and journal,
//! `losses` finds what was trimmed, `gate` holds decisions back, `aside` tells what was put aside, `orders` writes requests, `crash_guard` ends crash loops, `snapshots` keeps states of the
//! past, `fetching` asks for what is lacking, `publish` tells how it is.

mod command;
mod connect;
mod crash_guard;
mod emitter;
mod event_loop;
mod fail;
mod fetching;
mod findings;
mod gap_detector;
mod gate;
mod kill_gate;
mod lease_task;
mod message;
mod orders;
mod preflight;
mod processor;
mod publish;
mod quarantine_outbox;
mod reader;
mod refused;
mod snapshots;
mod start;

pub use command::{Args, Failed, run, stop_on_signal};
pub use connect::Connect;
pub use message::{Message, Released, Role};
pub use reader::{ReaderSetup, ReaderStatus, run as read_streams};
