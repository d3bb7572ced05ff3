//! Builds a new store beside the one in use, and swaps the two.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::errors::OpenError;
use super::folder::{self, Contents};
use super::open::LOCK_WAIT;
use super::table::Store;
use crate::shell::folder_lock::FolderLock;

/// A store under construction in `<dir>.rebuild-<n>`. It is removed when it is dropped without [`Rebuild::swap`].
#[derive(Debug)]
pub struct Rebuild {
    dir: PathBuf,
    building: PathBuf,
    /// `None` once it is closed for the swap.
    store: Option<Store>,
}

impl Rebuild {
    /// Creates an empty store beside `dir`, which is left unchanged. Removes the remains of killed rebuilds.
    pub fn start(dir: &Path, format_version: u32) -> Result<Self, OpenError> {
        let parent = folder::parent(dir);
        fs::create_dir_all(&parent).map_err(OpenError::io(dir, "make the folder above"))?;
        folder::remove_stale_rebuilds(dir);
        let building = folder::new_rebuild(dir).map_err(OpenError::io(dir, "make a folder to rebuild in"))?;
        let store = Store::open(&building, format_version)?;
        Ok(Self { dir: dir.to_owned(), building, store: Some(store) })
    }

    /// Returns the store under construction.
    pub fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("a rebuild has its store until the swap")
    }

    /// Renames the present folder aside and the new one into its place. Returns the new path of the former one, if
    /// there was one.
    ///
    /// If the process is killed in between, the next open completes the swap. The store must be opened afterwards.
    ///
    /// # Errors
    /// [`OpenError::InUse`] or [`OpenError::Foreign`] for the present folder, which then stays; [`OpenError::Io`].
    pub fn swap(mut self) -> Result<Option<PathBuf>, OpenError> {
        let store = self.store.take().expect("a rebuild has its store until the swap");
        let lock = store.close().expect("a store has its lock until it closes");
        let lock_present = self.lock_present()?;
        let failed = |doing| OpenError::io(&self.dir, doing);
        folder::mark_finished(&self.building, &lock).map_err(failed("finish the rebuild"))?;
        let aside = match lock_present {
            Some(_) => Some(folder::set_aside(&self.dir).map_err(failed("move the former store aside"))?),
            None => None,
        };
        fs::rename(&self.building, &self.dir).map_err(failed("move the rebuilt store into place"))?;
        folder::sync_dir(&folder::parent(&self.dir)).map_err(failed("sync the folder above"))?;
        folder::unmark_finished(&self.dir, &lock).map_err(failed("settle the rebuild"))?;
        Ok(aside)
    }

    /// Returns the lock of the folder to be replaced, or `None` if there is no such folder.
    fn lock_present(&self) -> Result<Option<FolderLock>, OpenError> {
        let dir = &self.dir;
        let lock = match FolderLock::take(dir, LOCK_WAIT) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(OpenError::InUse { dir: dir.clone() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(OpenError::io(dir, "lock the folder")(e)),
        };
        match Contents::look(dir).map_err(OpenError::io(dir, "read the folder"))? {
            Contents::Store { .. } | Contents::Unreadable => Ok(Some(lock)),
            Contents::Nothing => Ok(None),
            Contents::Foreign(holds) => Err(OpenError::Foreign { dir: dir.clone(), holds }),
        }
    }
}

impl Drop for Rebuild {
    fn drop(&mut self) {
        let Some(store) = self.store.take() else { return };
        if let Some(_lock) = store.close() {
            // The next rebuild removes whatever cannot be removed now.
            let _ = folder::remove_store(&self.building);
        }
    }
}

impl Store {
    /// Closes the store and empties its folder.
    ///
    /// # Errors
    /// If something in the folder cannot be removed. The rest then opens as a new store, or not at all.
    pub fn empty(self) -> io::Result<()> {
        let dir = self.dir.clone();
        let _lock = self.close();
        folder::empty_store(&dir)
    }

    /// Renames the folder to `<dir>.quarantine-<UTC time>` and returns that path, so that the store can be rebuilt.
    ///
    /// # Errors
    /// `WouldBlock` if it is in use, `InvalidInput` if it is not a store of harvester.
    pub fn move_aside(dir: &Path) -> io::Result<PathBuf> {
        let refused = |kind, why| io::Error::new(kind, format!("{} {why}", dir.display()));
        let _lock = FolderLock::take(dir, LOCK_WAIT)?
            .ok_or_else(|| refused(io::ErrorKind::WouldBlock, "is in use by another process"))?;
        match Contents::look(dir)? {
            Contents::Store { .. } | Contents::Unreadable => folder::set_aside(dir),
            Contents::Nothing | Contents::Foreign(_) => {
                Err(refused(io::ErrorKind::InvalidInput, "is not a store of ours and is left as it is"))
            }
        }
    }
}
