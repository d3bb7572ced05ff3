//! The lock on a folder that only one process may write.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

const POLL: Duration = Duration::from_millis(10);

/// An exclusive lock on a folder, held until dropped. It moves with the folder when that is renamed.
#[derive(Debug)]
pub struct FolderLock {
    folder: File,
}

impl FolderLock {
    /// Returns `None` if another process holds it, or if the folder was moved away meanwhile.
    ///
    /// # Errors
    ///
    /// The folder cannot be opened, or its file system has no locks.
    pub fn try_take(dir: &Path) -> io::Result<Option<Self>> {
        let folder = File::open(dir)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let lock = Self { folder };
        let (locked, named) = (lock.folder.metadata()?, fs::metadata(dir)?);
        let same = (locked.dev(), locked.ino()) == (named.dev(), named.ino());
        Ok(same.then_some(lock))
    }

    /// Returns `None` if another process holds it for longer than `wait`.
    ///
    /// # Errors
    ///
    /// As [`Self::try_take`].
    pub fn take(dir: &Path, wait: Duration) -> io::Result<Option<Self>> {
        let until = Instant::now() + wait;
        loop {
            match Self::try_take(dir)? {
                Some(lock) => return Ok(Some(lock)),
                None if Instant::now() >= until => return Ok(None),
                None => thread::sleep(POLL),
            }
        }
    }

    /// Makes the names in the folder durable.
    ///
    /// # Errors
    ///
    /// The disk refused it.
    pub fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // A child process has a copy of the descriptor between its fork and its exec. The lock would last until the
        // copy is closed; unlocking ends it for all copies.
        let _ = flock(&self.folder, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_outlive_the_lock() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let lock = FolderLock::try_take(dir.path())?.expect("nobody has it");
        let copy = lock.folder.try_clone()?;
        assert!(FolderLock::try_take(dir.path())?.is_none(), "held");
        drop(lock);
        assert!(FolderLock::try_take(dir.path())?.is_some(), "released, although a copy is open");
        drop(copy);
        Ok(())
    }
}
