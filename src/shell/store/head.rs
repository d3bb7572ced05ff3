//! The last acknowledged commit, in a file of its own beside sled's.
//!
//! Sled answers a damaged log by returning to an older state that is consistent in itself. Only a witness outside sled
//! can detect this. The witness is written after the commit is durable, and it is not synced: after a kill it is exact,
//! after a loss of power it may be older than the store, never newer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::summary::Summary;

/// Number of slots, written in turn and in pages of their own, so that a torn write spares the previous one.
const SLOTS: u64 = 2;
const SLOT_BYTES: u64 = 4096;

#[derive(Debug)]
pub(super) struct Head {
    file: File,
}

impl Head {
    /// Writes the head of an empty store and syncs it.
    pub(super) fn create(path: &Path) -> io::Result<()> {
        let head = Self { file: File::create(path)? };
        for slot in 0..SLOTS {
            head.file.write_all_at(&Summary::default().encode(), slot * SLOT_BYTES)?;
        }
        head.file.sync_all()
    }

    /// Opens the file and returns the last acknowledged commit; `None` if no slot is complete.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Summary>)> {
        let head = Self { file: File::options().read(true).write(true).open(path)? };
        let mut whole = Vec::new();
        for slot in 0..SLOTS {
            let mut bytes = vec![0; Summary::encoded_len()];
            match head.file.read_exact_at(&mut bytes, slot * SLOT_BYTES) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(e) => return Err(e),
            }
            whole.extend(Summary::decode(&bytes));
        }
        Ok((head, whole.into_iter().max_by_key(|summary| summary.commit)))
    }

    pub(super) fn write(&self, summary: &Summary) -> io::Result<()> {
        self.file.write_all_at(&summary.encode(), summary.commit % SLOTS * SLOT_BYTES)
    }
}
