//! Opens a store: checks that the folder is a store, is ours, is not in use, and is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::errors::{OpenError, StoreError, without_panic};
use super::folder::{self, Contents, HEAD};
use super::head::Head;
use super::row::COMMIT_KEY;
use super::summary::Summary;
use super::table::Store;
use super::watchdog::{CALL_LIMIT, StoreCall, Watchdog};
use crate::shell::folder_lock::FolderLock;

/// Segment size of sled. With its default of 512 KiB and a single writer sled deadlocks; with this size it does not.
pub(super) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// Size of sled's page cache. Rows that are written often (positions, prices, orders) take a few MB. Closed positions
/// and decisions are written once and would fill any cache over time.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Time limit for taking a lock. After a drop, the same process may still be releasing it.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(10);

impl Store {
    /// Returns true if a folder is that of a store, readable or not.
    pub fn is_at(dir: &Path) -> bool {
        folder::has_marker(dir)
    }

    /// Opens the store in `dir`, or creates one if there is none. Reads and checks every row.
    ///
    /// # Errors
    /// [`OpenError::InUse`], [`OpenError::OtherFormat`], [`OpenError::Damaged`], [`OpenError::Foreign`] (left
    /// untouched), [`OpenError::Io`].
    pub fn open(dir: &Path, format_version: u32) -> Result<Self, OpenError> {
        Self::open_watched(dir, format_version, CALL_LIMIT)
    }

    /// Does the same as [`Store::open`], with a time limit per call after which the process ends.
    pub fn open_watched(dir: &Path, format_version: u32, call_limit: Duration) -> Result<Self, OpenError> {
        let lock = lock_folder(dir, true)?;
        let found = Contents::look(dir).map_err(OpenError::io(dir, "read the folder"))?;
        let is_new = matches!(found, Contents::Nothing);
        if is_new {
            folder::begin_store(dir, &lock, format_version).map_err(OpenError::io(dir, "begin a store"))?;
        } else {
            check_format(dir, found, format_version)?;
        }
        let store = Self::open_locked(dir, lock, call_limit, is_new)?;
        folder::remove_stale_rebuilds(dir);
        Ok(store)
    }

    /// Opens the store in `dir` and creates nothing if there is none.
    ///
    /// # Errors
    /// [`OpenError::Absent`], and those of [`Store::open`].
    pub fn open_existing(dir: &Path, format_version: u32) -> Result<Self, OpenError> {
        let lock = lock_folder(dir, false)?;
        let found = Contents::look(dir).map_err(OpenError::io(dir, "read the folder"))?;
        check_format(dir, found, format_version)?;
        Self::open_locked(dir, lock, CALL_LIMIT, false)
    }

    fn open_locked(dir: &Path, lock: FolderLock, call_limit: Duration, is_new: bool) -> Result<Self, OpenError> {
        folder::unmark_finished(dir, &lock).map_err(OpenError::io(dir, "settle a rebuild"))?;
        let (head, acknowledged) = Head::open(&dir.join(HEAD)).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => OpenError::damaged(dir, format!("the file {HEAD} is missing")),
            _ => OpenError::io(dir, "open the head")(e),
        })?;
        let acknowledged =
            acknowledged.ok_or_else(|| OpenError::damaged(dir, format!("the file {HEAD} cannot be read")))?;
        let watchdog = Watchdog::start(dir, call_limit).map_err(OpenError::io(dir, "start the watchdog"))?;
        let opening = watchdog.call(StoreCall::Open);
        let db = open_sled(dir)?;
        let log = sync_files(dir, &lock).map_err(OpenError::io(dir, "sync its files"))?;
        if is_new {
            folder::finish_store(dir, &lock).map_err(OpenError::io(dir, "make the folder a store"))?;
        }
        drop(opening);
        let mut store = Self {
            dir: dir.to_owned(),
            db: Some(db),
            log,
            head,
            summary: Summary::default(),
            poisoned: AtomicBool::new(false),
            on_synced: None,
            watchdog,
            lock: Some(lock),
        };
        store.summary = store.recovered(acknowledged)?;
        store.verify()?;
        store.head.write(&store.summary).map_err(OpenError::io(dir, "write the head"))?;
        Ok(store)
    }

    /// Returns the last commit that sled reports, unless it is older than the acknowledged one.
    fn recovered(&self, acknowledged: Summary) -> Result<Summary, StoreError> {
        let stored =
            self.read(|db| db.get(COMMIT_KEY).map_err(StoreError::sled(&self.dir, "read the commit number")))?;
        let damaged = |reason: String| StoreError::damaged(&self.dir, reason);
        let found = match stored {
            Some(stored) => {
                Summary::decode(&stored).ok_or_else(|| damaged("the commit number cannot be read".to_owned()))?
            }
            None => Summary::default(),
        };
        if found.commit < acknowledged.commit {
            return Err(damaged(format!(
                "commit {} was acknowledged, the last that is there is {}",
                acknowledged.commit, found.commit
            )));
        }
        if found.commit == acknowledged.commit && found != acknowledged {
            return Err(damaged(format!("commit {} is not as it was acknowledged", found.commit)));
        }
        Ok(found)
    }
}

fn check_format(dir: &Path, found: Contents, want: u32) -> Result<(), OpenError> {
    match found {
        Contents::Store { format_version } if format_version == want => Ok(()),
        Contents::Store { format_version } => {
            Err(OpenError::OtherFormat { dir: dir.to_owned(), found: format_version, want })
        }
        Contents::Unreadable => Err(OpenError::damaged(dir, "its marker cannot be read")),
        Contents::Foreign(holds) => Err(OpenError::Foreign { dir: dir.to_owned(), holds }),
        Contents::Nothing => Err(OpenError::Absent { dir: dir.to_owned() }),
    }
}

/// Locks the folder, after moving a finished rebuild into its place or, if requested, creating it.
fn lock_folder(dir: &Path, make: bool) -> Result<FolderLock, OpenError> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match FolderLock::take(dir, left) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => return Err(OpenError::InUse { dir: dir.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(OpenError::io(dir, "lock the folder")(e)),
        }
        match adopt_rebuild(dir).map_err(OpenError::io(dir, "move a finished rebuild into place"))? {
            Adopted::Yes => continue,
            Adopted::Busy if left.is_zero() => return Err(OpenError::InUse { dir: dir.to_owned() }),
            Adopted::Busy => thread::sleep(LOCK_POLL),
            Adopted::None if make => {
                fs::create_dir_all(dir).map_err(OpenError::io(dir, "make the folder"))?;
            }
            Adopted::None => return Err(OpenError::Absent { dir: dir.to_owned() }),
        }
    }
}

enum Adopted {
    Yes,
    None,
    /// Another process works on a finished rebuild, most likely moving it into its place.
    Busy,
}

/// Completes a swap that was killed between its two renames.
fn adopt_rebuild(dir: &Path) -> io::Result<Adopted> {
    let finished: Vec<PathBuf> = folder::rebuilds(dir)?.into_iter().filter(|path| folder::is_finished(path)).collect();
    let Some(newest) = finished.last() else { return Ok(Adopted::None) };
    let _lock = match FolderLock::try_take(newest) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(Adopted::Busy),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Adopted::Busy),
        Err(e) => return Err(e),
    };
    if !dir.exists() {
        fs::rename(newest, dir)?;
        folder::sync_dir(&folder::parent(dir))?;
    }
    Ok(Adopted::Yes)
}

/// Opens sled. On damaged files it fails or panics. Its own lock can outlive a drop in the same process for a while.
fn open_sled(dir: &Path) -> Result<sled::Db, OpenError> {
    let config =
        sled::Config::new().path(dir).segment_size(SEGMENT_BYTES).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let opened = without_panic(dir, "open sled", || {
            let opened = config.open();
            match opened {
                Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock") => Ok(None),
                Err(e) => Err(StoreError::sled(dir, "open sled")(e)),
                Ok(db) => {
                    db.flush().map_err(StoreError::sled(dir, "flush"))?;
                    Ok(Some(db))
                }
            }
        })?;
        match opened {
            Some(db) => return Ok(db),
            None if Instant::now() >= until => return Err(OpenError::InUse { dir: dir.to_owned() }),
            None => thread::sleep(LOCK_POLL),
        }
    }
}

/// Makes the files that sled wrote while opening durable, including their names, and keeps a handle on its log.
fn sync_files(dir: &Path, lock: &FolderLock) -> io::Result<File> {
    let log = File::open(dir.join("db"))?;
    log.sync_all()?;
    File::open(dir.join("conf"))?.sync_all()?;
    folder::sync_dir(&dir.join("blobs"))?;
    lock.sync()?;
    Ok(log)
}
