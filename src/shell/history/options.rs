//! Options for reading a history, and its limits.

use crate::domain::event::ids::EntryId;

/// Options for reading a history.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lines that are not entries, and the end of a damaged file, are counted instead of rejected.
    pub skip_bad_lines: bool,
    /// Reading ends, in canonical order, with the last entry whose id is at or before this one.
    pub until: Option<EntryId>,
    pub limits: Limits,
}

/// Limits for memory and for open files.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A longer line is a bad line. [byte]
    pub line_bytes_max: usize,
    /// Amount of lines that are sorted at a time if a file is out of order. [byte]
    pub run_bytes_max: usize,
    /// Size of all decision and control lines together. [byte]
    pub kept_bytes_max: u64,
    /// Number of overlapping files and runs that are merged without an intermediate step. [1]
    pub open_parts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_max: 64 * 1024 * 1024,
            run_bytes_max: 32 * 1024 * 1024,
            kept_bytes_max: 256 * 1024 * 1024,
            open_parts_max: 64,
        }
    }
}
