//! The journal: every entry that was consumed, in the order of application, durable before it is acknowledged.
//!
//! Promises: entries for which [`Journal::commit`] has returned are present after any end of the process and after a
//! loss of power, in order, once. Other entries are present as a whole or not at all. [`Journal::verify`] finds a file
//! that was changed later. Streams contain minutes, the journal contains everything: only [`Journal::retain`] deletes
//! files, always whole ones, and only those that it is asked to delete.
//!
//! The files are ordinary histories (`zstd -dc` prints lines); their format is in `codec/journal.rs`. If the last files
//! are removed, the journal cannot notice it: compare [`Journal::position`] with the store.
//!
//! In reading order: `writer` (the entrance) → `file` (the file that grows) → `folder` (the closed files) → `recovery`
//! (the file that a crash left open) → `reader`, `tail` (follows a journal while it grows), `verify`.

mod error;
mod file;
mod folder;
mod reader;
mod recovery;
mod tail;
mod verify;
mod writer;

pub use error::JournalError;
pub use reader::Lines;
pub use tail::{Tail, extent};
pub use verify::{FileReport, Finding, Report};
pub use writer::{Journal, Limits};
