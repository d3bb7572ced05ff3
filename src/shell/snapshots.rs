//! A folder of state snapshots: written as a whole or not at all, and listed by name. `codec/snapshot.rs` has their
//! format.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::codec::bounded;

/// Maximum length of a snapshot. [bytes]
const FILE_BYTES_MAX: u64 = 4 << 30;

/// A folder or a file of snapshots that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("snapshots: {doing} {}: {source}", path.display())]
pub struct SnapshotsError {
    path: PathBuf,
    doing: &'static str,
    source: io::Error,
}

fn failed(path: &Path, doing: &'static str) -> impl Fn(io::Error) -> SnapshotsError {
    move |source| SnapshotsError { path: path.to_owned(), doing, source }
}

/// Writes a file under this name and replaces an existing one. Creates the folder if there is none.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, SnapshotsError> {
    fs::create_dir_all(dir).map_err(failed(dir, "making"))?;
    let path = dir.join(name);
    let written = || -> io::Result<()> {
        let mut aside = tempfile::Builder::new().tempfile_in(dir)?;
        io::Write::write_all(&mut aside, bytes)?;
        aside.as_file().sync_all()?;
        aside.persist(&path).map_err(|error| error.error)?;
        fs::File::open(dir)?.sync_all()
    };
    written().map_err(failed(&path, "writing"))?;
    Ok(path)
}

/// Returns the files whose names `meaning` accepts, sorted by its result; an empty list if there is no folder.
pub fn list<T: Ord>(dir: &Path, meaning: impl Fn(&str) -> Option<T>) -> Result<Vec<(T, PathBuf)>, SnapshotsError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(dir, "reading")(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed(dir, "reading"))?;
        if let Some(meant) = entry.file_name().to_str().and_then(&meaning) {
            files.push((meant, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

pub fn read(path: &Path) -> Result<Vec<u8>, SnapshotsError> {
    let whole = fs::File::open(path).and_then(|file| bounded::read_whole(file, FILE_BYTES_MAX));
    whole.map_err(failed(path, "reading"))
}

pub fn remove(path: &Path) -> Result<(), SnapshotsError> {
    fs::remove_file(path).map_err(failed(path, "removing"))
}
