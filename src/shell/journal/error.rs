//! Errors of opening, writing and reading a journal.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::journal::Fault;

/// A journal that cannot continue. Every message names the folder or the file, and the position if there is one.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process (or another handle in this one) writes it.
    #[error(
        "the journal {} is in use by another process, which writes it: give this one another --journal, or stop that process",
        dir.display()
    )]
    InUse { dir: PathBuf },
    /// Committed data is missing or changed.
    #[error(
        "the journal file {} is damaged at byte {at}: {why}: put back a copy of it, or move it and all older files aside (what \
         they hold is then missing when a store is folded anew); `harvester journal verify` says what else is damaged",
        file.display()
    )]
    Damaged { file: PathBuf, at: u64, why: String },
    /// Entries between two files are missing, or a file was replaced.
    #[error(
        "the journal file {} does not follow the one before it: {why}: put back what is missing, or move all older files \
         aside; `harvester journal verify` says what else is wrong",
        file.display()
    )]
    Unchained { file: PathBuf, why: String },
    /// The disk is full. Nothing of this commit counts, and the same commit can be repeated once there is space.
    #[error("the disk of the journal is full: {}: {source}; free space on it and start again", file.display())]
    DiskFull { file: PathBuf, source: io::Error },
    /// An earlier write failed. The state on disk is known only after the journal is opened again.
    #[error("an earlier write to the journal {} failed, so it refuses further entries: restart the process", dir.display())]
    Broken { dir: PathBuf },
    /// It was written by a service that reads other accounts.
    #[error(
        "the journal {} is of {found}, and this service reads {wanted}: which accounts a journal is for is fixed. Give back \
         run.cell, run.accounts or run.shard as it was, or give this cell a journal and a store of its own",
        dir.display()
    )]
    OtherScope { dir: PathBuf, found: String, wanted: String },
    /// The entries were deleted by retention, or do not exist yet.
    #[error("the journal {} holds entries from {first}{}, not {position}", dir.display(), up_to(*.end))]
    NotHeld { dir: PathBuf, position: u64, first: u64, end: Option<u64> },
    #[error("the journal cannot be used: {doing} {}: {source}", path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
}

impl JournalError {
    pub(super) fn io(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { file: path.clone(), source }
            }
            _ => Self::Io { path: path.clone(), doing, source },
        }
    }

    pub(super) fn damaged(file: &Path, at: u64, why: impl ToString) -> Self {
        Self::Damaged { file: file.to_owned(), at, why: why.to_string() }
    }

    pub(super) fn fault(file: &Path, len: u64, fault: Fault) -> Self {
        let at = match fault {
            Fault::NoHead | Fault::Head => 0,
            Fault::Scope => crate::codec::journal::HEAD_BYTES as u64,
            Fault::NoFoot | Fault::Foot => len.saturating_sub(crate::codec::journal::FOOT_BYTES as u64),
        };
        Self::damaged(file, at, fault)
    }

    pub(super) fn unchained(file: &Path, why: String) -> Self {
        Self::Unchained { file: file.to_owned(), why }
    }
}

fn up_to(end: Option<u64>) -> String {
    end.map_or_else(String::new, |end| format!(" up to {end}"))
}
