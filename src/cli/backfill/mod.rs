//! `harvester backfill`: fills in values from the history and then from the exchange, and reports what is still
//! missing.
//!
//! In reading order: `command`, `history` (the readable history), `lines` (a verdict for each position), `gap` (folds a
//! store again). The hashes of the old service are in `service::write_back`.

mod command;
mod gap;
mod history;
mod lines;

pub use crate::service::write_back::{FieldWritten, Goal, HashChange, Legacy, goals};
pub use command::{Args, run};
pub use history::dump;
