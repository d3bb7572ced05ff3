//! `harvester top`: positions, holds, decisions and inputs of a running service in a terminal, live.
//!
//! ```text
//!  /status, /positions ─▶ answer ─┐
//!                                 ├─▶ Top ─▶ draw ─▶ terminal
//!  keys ──────────────────────────┘    └─▶ effect: end, suspend
//! ```
//!
//! Promises: reads `/status` and `/positions` of a service, and nothing else. The screen depends on the answers and the
//! keys only, so tests need no terminal. A colour is never the only sign.
//!
//! In reading order: `command` (the loop), `state` (the effect of answers and keys), `table` (rows that are filtered
//! and sorted), `tables` (the rows of each page), `detail` (everything about one row), `view` (draws).

mod command;
mod detail;
mod state;
mod table;
mod tables;
mod view;

pub use command::{Args, run};
pub use state::{Answer, Effect, Top};
pub use view::draw;
