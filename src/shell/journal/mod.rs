//! The journal: everything that was consumed, in the order in which it was applied, durable before it is acknowledged.
//!
//! Promises: what [`Journal::commit`] has answered for is there after any end of the process and after a loss of power,
//! in order, once; what it has not answered for is there whole or not at all; a file that changed afterwards is found by
//! [`Journal::verify`]. Streams keep minutes, the journal keeps everything: nothing is deleted but whole files that
//! [`Journal::retain`] is told to give up.
//!
//! The files are histories like any other (`zstd -dc` prints lines); their form is `codec/journal.rs`. What the journal
//! cannot know is how far it once was if its last files are taken away: compare [`Journal::position`] with the store.
//!
//! In reading order: `writer` (the door) → `file` (the one that grows) → `folder` (those that are closed) → `recovery`
//! (the one that a crash left open) → `reader`, `verify`.

mod error;
mod file;
mod folder;
mod reader;
mod recovery;
mod verify;
mod writer;

pub use error::JournalError;
pub use reader::Lines;
pub use verify::{FileReport, Finding, Report};
pub use writer::{Journal, Limits};
