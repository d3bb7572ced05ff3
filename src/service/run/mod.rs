//! `harvester run`: the service. Streams in, decisions out, safe to kill at any point.
//!
//! ```text
//!             lines                 lines
//!  reader ─────────────▶ event loop ──────▶ journal ─── on disk ───┐
//!  lease task ─ lease ──▶ (processor)                              │
//!                            │  ▲ ◀────────────────────────────────┘
//!                    actions │  │ answers          rows
//!                            ▼  │            ───────────────▶ checkpoint
//!                         emitter
//! ```
//!
//! Each part has a thread. Reader, emitter, lease, kill key and, in live mode, executors have a connection each. The
//! event loop waits for none of them: it passes each event to the `processor`, which decides, and hands out the
//! resulting actions. If there is nothing else to do, it writes a few lines itself.
//!
//! In reading order:
//!
//! - the start: `command` (from settings to the end), `several` (several cells in one process), `preflight` (conditions
//!   of a live start), `claim` (accounts of cells), `start` (opens store and journal), `parts` (threads and channels),
//!   `connect` (retries);
//! - the way of an entry: `reader` with `source` (its requests), `lines` (entries on their way), `gap_detector` (finds
//!   lost entries) and `clocks` (of several servers); `event_loop` with `message` and `event`; `processor` with `orders`
//!   (makes requests) and `findings`; `disk` (journal and checkpoint); `emitter`;
//! - other tasks: `lease_task`, `kill_gate` (stops orders), `crash_guard` (ends crash loops), `snapshots` (saves
//!   states), `fetching` (fetches what is lacking), `publish` (publishes the report), `fail` (failure points for tests).

pub mod claim;
mod clocks;
mod command;
mod connect;
pub mod crash_guard;
mod disk;
mod emitter;
mod event;
mod event_loop;
mod fail;
mod fetching;
mod findings;
mod gap_detector;
mod kill_gate;
mod lease_task;
pub mod lines;
mod message;
pub mod orders;
mod parts;
pub mod preflight;
pub mod processor;
mod publish;
mod reader;
mod reader_status;
mod several;
mod snapshots;
pub mod source;
mod start;

pub use command::{Args, Failed, run, stop_on_signal};
pub use connect::Connect;
pub use kill_gate::KillGate;
pub use lines::{Batch, Released};
pub use message::{LeaseState, Message};
pub use reader::{ReadError, Reader, ReaderSetup, run as read_streams};
pub use reader_status::ReaderStatus;
