//! `harvester run`: the service. Streams in, decisions out, safe to kill at any point.
//!
//! Four parts, each with its own thread and its own connection: the `reader` (entries in canonical order), the
//! `processor` (journal, state, outbox; driven by `event_loop`), the `emitter` (decisions, own entries,
//! acknowledgements), and the `lease_task` (lease and kill key). `message` has the messages between them.
//!
//! In reading order: `command` (from settings to the end), `preflight` (conditions of a live start), `start` (opens
//! store and journal), `connect` (retries), the four parts, `message`, `lines` (entries on their way), `gap_detector` (finds what was trimmed), `gate`
//! and `kill_gate` (hold decisions back), `quarantine_outbox` (publishes quarantined entries), `refused` (publishes
//! refused entries), `findings`, `orders` (writes requests), `crash_guard` (ends crash loops), `snapshots` (keeps past
//! states), `fetching` (asks for what is lacking), `publish` (publishes the report), `fail` (failure points for tests).

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
mod kill_key;
mod lease_task;
mod lines;
mod message;
mod orders;
mod preflight;
mod processor;
mod publish;
mod quarantine_outbox;
mod reader;
mod reader_status;
mod refused;
mod snapshots;
mod start;

pub use command::{Args, Failed, run, stop_on_signal};
pub use connect::Connect;
pub use lines::{Batch, Released};
pub use message::{Message, Role};
pub use reader::{ReaderSetup, run as read_streams};
pub use reader_status::ReaderStatus;
