//! `harvester backfill`: what history holds, then what the exchange says, and what is missing all the same.
//!
//! In reading order: `command`, `history` (everything that can be read), `lines` (a verdict for each position),
//! `write_back` (the hashes of the old service), `gap` (a store folded anew).

mod command;
mod gap;
mod history;
mod lines;

pub use crate::service::write_back::{FieldWritten, Goal, HashChange, Legacy, goals};
pub use command::{Args, run};
pub use history::dump;
