//! The open store: commits and reads.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::errors::{StoreError, without_panic};
use super::head::Head;
use super::row::{
    COMMIT_KEY, EncodedRow, KEY_BYTES_MAX, StoredRow, VALUE_BYTES_MAX, checksum, key_of, piece_key, row_key,
};
use super::summary::Summary;
use super::watchdog::{StoreCall, Watchdog};
use crate::shell::folder_lock::FolderLock;

/// Free space that a commit requires besides twice its rows. The log grows by whole segments. [bytes]
const FREE_BYTES_MIN: u64 = 2 * super::open::SEGMENT_BYTES as u64;

/// Rows of bytes in sled, opened by one process at a time.
///
/// After a failed call the store refuses all further ones. A failed commit is complete or absent when the store is
/// opened again.
pub struct Store {
    pub(super) dir: PathBuf,
    /// `None` only while the store is closing.
    pub(super) db: Option<sled::Db>,
    /// Sled's own file, for the fdatasync that sled omits.
    pub(super) log: File,
    pub(super) head: Head,
    pub(super) summary: Summary,
    pub(super) poisoned: AtomicBool,
    pub(super) on_synced: Option<SyncedHook>,
    pub(super) watchdog: Watchdog,
    /// `None` only while the store is closing; released last.
    pub(super) lock: Option<FolderLock>,
}

/// A function that receives the number of each commit that has just become durable.
pub(super) type SyncedHook = Box<dyn FnMut(u64) + Send>;

/// The changes of one commit by key. The last change of a key counts.
type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl Store {
    /// Writes the rows (`None` removes a row) as one commit, all or nothing, and returns once it is durable.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] before anything is written; all others poison the store.
    pub fn commit(&mut self, rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        let changes = self.changes(rows)?;
        let _watched = self.watchdog.call(StoreCall::Commit);
        let dir = self.dir.clone();
        let result = without_panic(&dir, "commit", || {
            self.ensure_room(&changes)?;
            self.write(&changes)
        });
        self.poison_on_error(result).map(|summary| self.summary = summary)
    }

    /// Returns the number of the last commit, from 1; 0 before the first.
    pub fn commit_number(&self) -> u64 {
        self.summary.commit
    }

    pub fn row_count(&self) -> u64 {
        self.summary.rows
    }

    /// Returns the value of a key, verified against its checksum.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.refuse_if_poisoned()?;
        self.read(|db| {
            let Some(stored) = db.get(row_key(key)).map_err(StoreError::sled(&self.dir, "read"))? else {
                return Ok(None);
            };
            self.assemble(db, key, &stored).map(Some)
        })
    }

    /// Returns the rows whose key starts with `prefix`, in order of their keys, each verified. Ends at the first error.
    pub fn scan_prefix(&self, prefix: &[u8]) -> Scan<'_> {
        let poisoned = self.refuse_if_poisoned().err();
        Scan { store: self, rows: self.db().scan_prefix(row_key(prefix)), refused: poisoned, ended: false }
    }

    /// Reads every row and compares count and sum of checksums with those of the last commit.
    pub fn verify(&self) -> Result<(), StoreError> {
        let mut found = Summary { commit: self.summary.commit, ..Summary::default() };
        for row in self.scan_prefix(&[]) {
            let (key, value) = row?;
            found.add(checksum(&key, &value));
        }
        if found == self.summary {
            return Ok(());
        }
        let reason = format!(
            "commit {} left {} rows and the sum {:016x}, {} rows and {:016x} are there",
            self.summary.commit, self.summary.rows, self.summary.sum, found.rows, found.sum
        );
        Err(StoreError::damaged(&self.dir, reason))
    }

    /// Returns the length of all files of the store. [bytes]
    pub fn size_on_disk(&self) -> io::Result<u64> {
        size_of_files(&self.dir)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sets a hook that each commit calls after its rows are durable and before it is acknowledged.
    #[doc(hidden)]
    pub fn on_synced(&mut self, hook: impl FnMut(u64) + Send + 'static) {
        self.on_synced = Some(Box::new(hook));
    }

    fn changes(&self, rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<Changes, StoreError> {
        let too_long = |part, len, max| StoreError::TooLong { dir: self.dir.clone(), part, len, max };
        let mut changes = Changes::new();
        for (key, value) in rows {
            let value_len = value.as_ref().map_or(0, Vec::len);
            if key.len() > KEY_BYTES_MAX {
                return Err(too_long("key", key.len(), KEY_BYTES_MAX));
            }
            if value_len > VALUE_BYTES_MAX {
                return Err(too_long("value", value_len, VALUE_BYTES_MAX));
            }
            changes.insert(key, value);
        }
        Ok(changes)
    }

    /// Returns an error if the disk lacks space. Opening needs space too, because sled fills up the last segment: a
    /// commit that took the last of it would make the store impossible to open.
    fn ensure_room(&self, changes: &Changes) -> Result<(), StoreError> {
        let failed = StoreError::io(&self.dir, "look for free space");
        let disk = rustix::fs::fstatvfs(&self.log).map_err(|e| failed(e.into()))?;
        let rows: usize = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        let needed = FREE_BYTES_MIN + 2 * rows as u64;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= needed {
            return Ok(());
        }
        let text = format!("{free} bytes are free, a commit needs {needed}");
        Err(failed(io::Error::new(io::ErrorKind::StorageFull, text)))
    }

    fn write(&mut self, changes: &Changes) -> Result<Summary, StoreError> {
        let (batch, summary) = self.batch(changes)?;
        self.db().apply_batch(batch).map_err(StoreError::sled(&self.dir, "write the commit"))?;
        self.make_durable(summary.commit)?;
        self.head.write(&summary).map_err(StoreError::io(&self.dir, "write the head"))?;
        Ok(summary)
    }

    /// Makes a commit durable. Sled's flush passes the pages to the disk without waiting for them; the fdatasync waits.
    fn make_durable(&mut self, commit: u64) -> Result<(), StoreError> {
        self.db().flush().map_err(StoreError::sled(&self.dir, "flush the commit"))?;
        self.log.sync_data().map_err(StoreError::io(&self.dir, "sync the commit"))?;
        if let Some(hook) = &mut self.on_synced {
            hook(commit);
        }
        Ok(())
    }

    fn batch(&self, changes: &Changes) -> Result<(sled::Batch, Summary), StoreError> {
        let mut batch = sled::Batch::default();
        let mut summary = Summary { commit: self.summary.commit + 1, ..self.summary };
        for (key, value) in changes {
            let at = row_key(key);
            let mut pieces_before = 0;
            if let Some(stored) = self.db().get(&at).map_err(StoreError::sled(&self.dir, "read the row before"))? {
                let before = StoredRow::decode(&stored).ok_or_else(|| self.damaged_row(key))?;
                summary.remove(before.checksum);
                pieces_before = before.pieces;
            }
            let mut pieces = 0;
            if let Some(value) = value {
                let row = EncodedRow::new(key, value);
                summary.add(row.checksum);
                batch.insert(at, row.stored);
                for piece in row.pieces {
                    batch.insert(piece_key(key, pieces), piece);
                    pieces += 1;
                }
            } else {
                batch.remove(at);
            }
            for left_over in pieces..pieces_before {
                batch.remove(piece_key(key, left_over));
            }
        }
        batch.insert(COMMIT_KEY, summary.encode().as_slice());
        Ok((batch, summary))
    }

    /// Runs a read under the watchdog. If anything fails in it, no data is returned.
    pub(super) fn read<T>(&self, read: impl FnOnce(&sled::Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _watched = self.watchdog.call(StoreCall::Read);
        self.poison_on_error(without_panic(&self.dir, "read", || read(self.db())))
    }

    fn assemble(&self, db: &sled::Db, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        let row = StoredRow::decode(stored).ok_or_else(|| self.damaged_row(key))?;
        let mut value = row.first.to_vec();
        for index in 0..row.pieces {
            let piece = db.get(piece_key(key, index)).map_err(StoreError::sled(&self.dir, "read"))?;
            value.extend_from_slice(&piece.ok_or_else(|| self.damaged_row(key))?);
        }
        if checksum(key, &value) == row.checksum { Ok(value) } else { Err(self.damaged_row(key)) }
    }

    fn damaged_row(&self, key: &[u8]) -> StoreError {
        StoreError::damaged(&self.dir, format!("the row {} is not as it was written", key.escape_ascii()))
    }

    fn poison_on_error<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.is_err() {
            self.poisoned.store(true, Ordering::Relaxed);
        }
        result
    }

    fn refuse_if_poisoned(&self) -> Result<(), StoreError> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(StoreError::Poisoned { dir: self.dir.clone() });
        }
        Ok(())
    }

    pub(super) fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("a store has its database until it closes")
    }

    /// Closes sled and returns the lock, for the remaining work on the folder.
    pub(super) fn close(mut self) -> Option<FolderLock> {
        self.close_database();
        self.lock.take()
    }

    fn close_database(&mut self) {
        let Some(db) = self.db.take() else { return };
        let _watched = self.watchdog.call(StoreCall::Close);
        // Sled syncs once more when dropped and panics if that fails. Every acknowledged commit is durable already.
        let _ = without_panic(&self.dir, "close", || {
            drop(db);
            Ok(())
        });
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close_database();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).field("summary", &self.summary).finish_non_exhaustive()
    }
}

/// Rows in order of their keys; ends at the first error.
pub struct Scan<'a> {
    store: &'a Store,
    rows: sled::Iter,
    refused: Option<StoreError>,
    ended: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Some(refused) = self.refused.take() {
            self.ended = true;
            return Some(Err(refused));
        }
        let store = self.store;
        let rows = &mut self.rows;
        let row = store.read(|db| {
            let Some(row) = rows.next() else { return Ok(None) };
            let (at, stored) = row.map_err(StoreError::sled(&store.dir, "scan"))?;
            let key = key_of(&at);
            Ok(Some((key.to_vec(), store.assemble(db, key, &stored)?)))
        });
        self.ended = !matches!(row, Ok(Some(_)));
        row.transpose()
    }
}

fn size_of_files(dir: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        size += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of_files(&entry.path())?,
            Ok(metadata) => metadata.len(),
            // Sled removes files in the background.
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes a row while the store is open: the read returns an error, and all further calls are refused.
    #[test]
    fn a_damaged_row_is_never_handed_out() {
        let changed = [&[0, 0, 9], [0; 8].as_slice()].concat();
        let damages: [(Vec<u8>, Option<Vec<u8>>); 3] =
            [(piece_key(b"a", 0), None), (row_key(b"a"), Some(changed)), (row_key(b"a"), Some(vec![1]))];
        for (at, damage) in damages {
            let folder = tempfile::tempdir().expect("a folder");
            let mut store = Store::open(&folder.path().join("store"), 1).expect("a store");
            let rows = [(b"a".to_vec(), Some(vec![7; 100_000])), (b"b".to_vec(), Some(vec![8]))];
            store.commit(rows.into_iter()).expect("a commit");
            match damage {
                Some(bytes) => store.db().insert(at, bytes),
                None => store.db().remove(at),
            }
            .expect("a write");
            assert_eq!(store.get(b"b").expect("a read"), Some(vec![8]));
            let scanned: Vec<_> = store.scan_prefix(b"").collect();
            assert!(matches!(scanned[..], [Err(StoreError::Damaged { .. })]), "{scanned:?}");
            assert!(matches!(store.get(b"b"), Err(StoreError::Poisoned { .. })));
            assert!(matches!(store.verify(), Err(StoreError::Poisoned { .. })));
            assert!(matches!(store.commit(std::iter::empty()), Err(StoreError::Poisoned { .. })));
        }
    }
}
