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
//! Each part has a thread. The reader, the emitter and the lease task have a connection each. The event loop waits for
//! none of them: it passes what happened to the `processor`, which decides, and hands out what follows.
//!
//! In reading order: `command` (from settings to the end), `preflight` (conditions of a live start), `claim` (accounts of
//! cells), `start` (opens
//! store and journal), `connect` (retries), `reader` with `lines` (entries on their way) and `gap_detector` (finds what
//! was trimmed) and `clocks` (of several servers), `event_loop` with `message` and `event`, `processor`, `disk` (journal and checkpoint), `emitter`,
//! `lease_task`, `kill_gate` (holds orders back), `findings`, `orders` (writes requests), `crash_guard` (ends crash
//! loops), `snapshots` (keeps past states), `fetching` (asks for what is lacking), `publish` (publishes the report),
//! `source` (the reader's requests), `several` (several cells in one process), `fail` (failure points for tests).

mod claim;
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
pub use reader::{Reader, ReaderSetup, Trouble, run as read_streams};
pub use reader_status::ReaderStatus;
