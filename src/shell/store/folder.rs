//! The folder of a store: its marker, and the folders beside it.
//!
//! A folder without our marker is never written into, moved or removed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::head::Head;
use super::row::seal;
use crate::shell::folder_lock::FolderLock;

/// File that marks the folder as ours and contains its format.
const MARKER: &str = "harvester.store";
/// The marker during creation. It states that the folder was empty before and that everything in it is ours.
const MARKER_NEW: &str = "harvester.store.new";
/// File of the last acknowledged commit.
pub(super) const HEAD: &str = "harvester.head";
/// File that marks a rebuild as complete, with only the move into its place left.
const FINISHED: &str = "harvester.finished";

const MARKER_LINE: &str = "harvester store";

/// The content of a folder, judged by its marker.
pub(super) enum Contents {
    /// Nothing, or the remains of a creation that was killed.
    Nothing,
    Store {
        format_version: u32,
    },
    /// Ours, with a marker that cannot be read.
    Unreadable,
    /// Something else, such as the named entry.
    Foreign(String),
}

impl Contents {
    pub(super) fn look(dir: &Path) -> io::Result<Self> {
        if !fs::metadata(dir)?.is_dir() {
            return Ok(Self::Foreign("a file".to_owned()));
        }
        match fs::read(dir.join(MARKER)) {
            Ok(marker) => {
                return Ok(
                    read_marker(&marker).map_or(Self::Unreadable, |format_version| Self::Store { format_version })
                );
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        if dir.join(MARKER_NEW).exists() {
            return Ok(Self::Nothing);
        }
        match fs::read_dir(dir)?.next() {
            Some(entry) => Ok(Self::Foreign(entry?.file_name().to_string_lossy().into_owned())),
            None => Ok(Self::Nothing),
        }
    }
}

/// Returns true if there is a store of ours, in any state.
pub(super) fn has_marker(dir: &Path) -> bool {
    dir.join(MARKER).is_file()
}

/// Claims an empty folder and creates the head.
pub(super) fn begin_store(dir: &Path, lock: &FolderLock, format_version: u32) -> io::Result<()> {
    let mut file = File::create(dir.join(MARKER_NEW))?;
    file.write_all(marker(format_version).as_bytes())?;
    file.sync_all()?;
    lock.sync()?;
    remove_entries(dir, Some(MARKER_NEW))?;
    Head::create(&dir.join(HEAD))
}

/// Turns the folder into that of a store, after all its files exist and are durable.
pub(super) fn finish_store(dir: &Path, lock: &FolderLock) -> io::Result<()> {
    fs::rename(dir.join(MARKER_NEW), dir.join(MARKER))?;
    lock.sync()?;
    sync_dir(&parent(dir))
}

fn marker(format_version: u32) -> String {
    let text = format!("{MARKER_LINE}\nformat {format_version}\n");
    let sealed = seal(b"marker", text.as_bytes());
    format!("{text}checksum {sealed:016x}\n")
}

/// Parses the format version. Returns `None` for any text that [`marker`] has not written.
fn read_marker(bytes: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(bytes).ok()?;
    let format_version = text.lines().nth(1)?.strip_prefix("format ")?.parse().ok()?;
    (text == marker(format_version)).then_some(format_version)
}

/// Marks the store in this folder as complete, durably.
pub(super) fn mark_finished(dir: &Path, lock: &FolderLock) -> io::Result<()> {
    File::create(dir.join(FINISHED))?.sync_all()?;
    lock.sync()
}

/// Removes that mark after the store was moved into its place.
pub(super) fn unmark_finished(dir: &Path, lock: &FolderLock) -> io::Result<()> {
    match fs::remove_file(dir.join(FINISHED)) {
        Ok(()) => lock.sync(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

pub(super) fn is_finished(dir: &Path) -> bool {
    dir.join(FINISHED).exists()
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub(super) fn parent(dir: &Path) -> PathBuf {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns `<dir><suffix>`, beside the folder.
fn beside(dir: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name = OsString::from(dir.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} has no name to put another folder beside", dir.display()),
        )
    })?);
    name.push(suffix);
    Ok(dir.with_file_name(name))
}

/// Renames a folder of ours to `<dir>.quarantine-<UTC time>` and makes that durable.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let time = Utc::now().format("%Y%m%dT%H%M%SZ");
    let mut aside = beside(dir, &format!(".quarantine-{time}"))?;
    for n in 2.. {
        if fs::symlink_metadata(&aside).is_err() {
            break;
        }
        aside = beside(dir, &format!(".quarantine-{time}-{n}"))?;
    }
    fs::rename(dir, &aside)?;
    sync_dir(&parent(dir))?;
    Ok(aside)
}

/// Creates the first free `<dir>.rebuild-<n>`.
pub(super) fn new_rebuild(dir: &Path) -> io::Result<PathBuf> {
    let mut n = 1;
    loop {
        let building = beside(dir, &format!(".rebuild-{n}"))?;
        match fs::create_dir(&building) {
            Ok(()) => return Ok(building),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => n += 1,
            Err(e) => return Err(e),
        }
    }
}

/// Returns the folders `<dir>.rebuild-<n>` by number. The list is empty if no folder can exist beside `dir`.
pub(super) fn rebuilds(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let Ok(pattern) = beside(dir, ".rebuild-") else { return Ok(Vec::new()) };
    let prefix = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let entries = match fs::read_dir(parent(dir)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(&prefix)).and_then(|n| n.parse::<u32>().ok());
        if let Some(number) = number {
            found.push((number, dir.with_file_name(name)));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Removes the remains of killed rebuilds beside `dir`, except those that are in use or not ours. A folder that cannot
/// be removed only takes space.
pub(super) fn remove_stale_rebuilds(dir: &Path) {
    let result = rebuilds(dir).and_then(|found| found.iter().try_for_each(|building| remove_stale_rebuild(building)));
    if let Err(error) = result {
        tracing::warn!(store = %dir.display(), %error, "an unfinished rebuild is not removed");
    }
}

fn remove_stale_rebuild(building: &Path) -> io::Result<()> {
    let Some(_lock) = FolderLock::try_take(building)? else { return Ok(()) };
    match Contents::look(building)? {
        Contents::Store { .. } | Contents::Nothing => remove_store(building),
        Contents::Unreadable | Contents::Foreign(_) => Ok(()),
    }
}

/// Removes a folder of ours, its marker last. A kill in between leaves a folder that is still recognised as ours.
pub(super) fn remove_store(dir: &Path) -> io::Result<()> {
    empty_store(dir)?;
    fs::remove_dir(dir)
}

/// Does the same and keeps the folder itself.
pub(super) fn empty_store(dir: &Path) -> io::Result<()> {
    remove_entries(dir, Some(MARKER))?;
    remove_entries(dir, None)
}

fn remove_entries(dir: &Path, except: Option<&str>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if except.is_some_and(|name| entry.file_name() == name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_only_as_it_was_written() {
        let written = marker(12);
        assert_eq!(read_marker(written.as_bytes()), Some(12));
        for at in 0..written.len() {
            let mut changed = written.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(read_marker(&changed), None, "byte {at}");
            assert_eq!(read_marker(&written.as_bytes()[..at]), None, "length {at}");
        }
    }

    #[test]
    fn a_folder_beside_another_has_its_name_and_a_suffix() {
        for (dir, want) in [("a/b", "a/b.x"), ("a/b/", "a/b.x"), ("b", "b.x"), ("/b", "/b.x")] {
            assert_eq!(beside(Path::new(dir), ".x").expect("a name"), Path::new(want));
        }
        assert!(beside(Path::new("/"), ".x").is_err());
        assert!(beside(Path::new(".."), ".x").is_err());
    }
}
