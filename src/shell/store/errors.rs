//! Errors of a store, each one sentence that names the folder.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

// Sled panics on some damaged files. A build that aborts on panic could not turn that into an error.
const _: () = assert!(cfg!(panic = "unwind"), "the store needs panics that unwind");

/// A failed attempt to open, move or replace a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another handle in this one) holds the lock.
    #[error(
        "the store {} is in use by another process: ask the service with --url, or replay its journal into another store",
        dir.display()
    )]
    InUse { dir: PathBuf },
    /// Another version of this program wrote it. A service folds its own again at its start.
    #[error(
        "the store {} has format {found}, this program reads format {want}: a service makes its own again at its start; \
         make any other with harvester replay HISTORY --store {0}",
        dir.display()
    )]
    OtherFormat { dir: PathBuf, found: u32, want: u32 },
    /// Written data is missing or changed. A service folds its own again at its start.
    #[error(
        "the store {} is damaged ({reason}): a service makes its own again at its start; make any other with harvester \
         replay HISTORY --store {0}",
        dir.display()
    )]
    Damaged { dir: PathBuf, reason: String },
    /// The folder contains something else, which is left untouched.
    #[error(
        "{} is not a store of harvester: it contains {holds}. Nothing was changed: give another folder with --store",
        dir.display()
    )]
    Foreign { dir: PathBuf, holds: String },
    /// There is no store to read.
    #[error("there is no store at {}: `harvester run` or `harvester replay HISTORY --store` makes one", dir.display())]
    Absent { dir: PathBuf },
    #[error("the store {} cannot be opened: {doing}: {source}", dir.display())]
    Io { dir: PathBuf, doing: &'static str, source: io::Error },
}

/// A failed commit or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An earlier call failed. Memory may differ from the disk until the store is opened again.
    #[error("an earlier call of the store {} failed, so it refuses further calls: restart the process", dir.display())]
    Poisoned { dir: PathBuf },
    /// The value that was read is not the value that was written.
    #[error(
        "the store {} is damaged ({reason}): a service makes its own again at its start; make any other with harvester \
         replay HISTORY --store {0}",
        dir.display()
    )]
    Damaged { dir: PathBuf, reason: String },
    /// The disk has no space for the commit, or for the one after it.
    #[error("the disk of the store {} is full: {doing}: {source}; free space on it and start again", dir.display())]
    DiskFull { dir: PathBuf, doing: &'static str, source: io::Error },
    /// A key or a value is longer than the limit. Nothing was written, and the store continues.
    #[error("a {part} of {len} bytes is too long for the store {}, the limit is {max}", dir.display())]
    TooLong { dir: PathBuf, part: &'static str, len: usize, max: usize },
    #[error("the store {} failed: {doing}: {source}", dir.display())]
    Io { dir: PathBuf, doing: &'static str, source: io::Error },
}

impl OpenError {
    pub(super) fn damaged(dir: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { dir: dir.to_owned(), reason: reason.into() }
    }

    pub(super) fn io(dir: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { dir: dir.to_owned(), doing, source }
    }
}

impl StoreError {
    pub(super) fn damaged(dir: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { dir: dir.to_owned(), reason: reason.into() }
    }

    pub(super) fn io(dir: &Path, doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| {
            let dir = dir.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Self::DiskFull { dir, doing, source }
                }
                // Sled reads only where it has written, so these mean a file that is too short, or bytes without
                // meaning.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
                    Self::Damaged { dir, reason: format!("{doing}: {source}") }
                }
                _ => Self::Io { dir, doing, source },
            }
        }
    }

    pub(super) fn sled(dir: &Path, doing: &'static str) -> impl Fn(sled::Error) -> Self {
        move |error| match error {
            sled::Error::Io(source) => Self::io(dir, doing)(source),
            other => Self::damaged(dir, format!("{doing}: {other}")),
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { dir, reason } => Self::Damaged { dir, reason },
            StoreError::DiskFull { dir, doing, source } | StoreError::Io { dir, doing, source } => {
                Self::Io { dir, doing, source }
            }
            StoreError::Poisoned { dir } => Self::Damaged { dir, reason: "a call failed while opening".to_owned() },
            StoreError::TooLong { dir, part, .. } => Self::Damaged { dir, reason: format!("a {part} is too long") },
        }
    }
}

/// Runs a call into sled, which panics on files or pages that it did not expect.
pub(super) fn without_panic<T>(
    dir: &Path,
    doing: &'static str,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        Err(StoreError::damaged(dir, format!("{doing}: sled panicked: {}", panic_text(payload.as_ref()))))
    })
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    text.and_then(|t| t.lines().next()).unwrap_or("without a message")
}
