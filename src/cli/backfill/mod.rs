//! `harvester backfill`: fills in from the history, then from the exchange, and reports what is still missing.
//!
//! In reading order: `command`, `history` (everything that can be read), `lines` (a verdict for each position), `gap`
//! (a store that is folded again). The hashes of the old service are in `service::write_back`.

mod command;
mod gap;
mod history;
mod lines;

pub use crate::service::write_back::{FieldWritten, Goal, HashChange, Legacy, goals};
pub use command::{Args, run};
pub use history::dump;
