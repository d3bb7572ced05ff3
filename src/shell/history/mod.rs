//! Histories on disk: from files, folders and standard input to one sequence of lines in canonical order.
//!
//! Promises: returns every entry of a configured stream once, in order, with its location; uses memory that does not
//! grow with the length of the history; names the file and the line of a failure. The module knows only lines, streams
//! and ids. `codec` reads the content of an entry.
//!
//! In reading order: `reader` (the entrance) → `scan` (first pass over each file) → `sort` (a file out of order) →
//! `merge` (second pass over all of them; the only one if the files are plain), on top of `source`, `entries`,
//! `blocks`, `duplicates`, `read_ahead`, `input`, `options` and `spill`.

mod blocks;
mod duplicates;
mod entries;
mod error;
mod input;
mod merge;
mod options;
mod read_ahead;
mod reader;
mod scan;
mod sort;
mod source;
mod spill;

pub use error::HistoryError;
pub use input::{Input, raw_scan};
pub use options::{Limits, Options};
pub use reader::{Extent, History, Line};
pub use scan::FormerDecision;
