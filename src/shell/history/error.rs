//! Errors of reading a history.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::spill::SpoolFailed;

/// A history that cannot be read. Every message names the file, and the line if there is one.
#[derive(Debug, Error)]
pub enum HistoryError {
    #[error("no history is named: want files, folders or - for standard input")]
    NoInputs,
    #[error("-: standard input is named twice, and can be read once")]
    StdinTwice,
    #[error("{}: no *.jsonl or *.jsonl.zst in this folder or below", .0.display())]
    EmptyFolder(PathBuf),
    #[error("{file}: cannot be read: {source}")]
    Unreadable { file: String, source: io::Error },
    #[error("{file}: cut off or damaged after {whole_lines} whole lines: {why}")]
    Damaged { file: String, whole_lines: u64, why: io::Error },
    /// `location` is `FILE:LINE`, as [`super::History::location`] returns it.
    #[error("{location}: {why}")]
    BadLine { location: String, why: String },
    /// Entries of a journal between two of its files are missing.
    #[error("{file}: begins with entry {found} of its journal, the file before it ends with {before} entries in all")]
    JournalGap { file: String, found: u64, before: u64 },
    /// A single pass was not enough: see [`super::History::in_one_pass`].
    #[error("{file}: has to be read once before it is read in order")]
    NotPlain { file: String },
    #[error("{file}: changed while it was being read")]
    Changed { file: String },
    #[error("{location}: decision and control entries up to here take more than {bytes_max} bytes, the limit")]
    TooManyKept { location: String, bytes_max: u64 },
    #[error("temporary file in {}: {source}", std::env::temp_dir().display())]
    Temporary { source: io::Error },
}

impl HistoryError {
    /// Returns the failure for an error while reading `file`, after `whole_lines` were read.
    pub(super) fn while_reading(file: &impl ToString, whole_lines: u64, error: io::Error) -> Self {
        let file = file.to_string();
        if error.get_ref().is_some_and(|inner| inner.is::<SpoolFailed>()) {
            return Self::Temporary { source: error };
        }
        // Failures of the file have an error number of the operating system; those of the decoder do not.
        match error.raw_os_error() {
            Some(_) => Self::Unreadable { file, source: error },
            None => Self::Damaged { file, whole_lines, why: error },
        }
    }
}
