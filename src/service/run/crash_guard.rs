//! The entry that was being folded when the process ended. An entry that ended the process twice is skipped.
//!
//! After an unclean end, the guard notes each entry in a file beside the store before it is processed, for the first
//! entries. A kill from outside could blame an entry only if it hit those microseconds twice. A process that ends
//! regularly removes the file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::domain::event::ids::EntryId;

/// After an unclean end, this many entries are noted before they are folded. [1]
const NOTED_ENTRIES: u64 = 100_000;
/// The file has one line, padded to this length. [bytes]
const LINE_BYTES: usize = 512;

/// The note of the entry that is being processed.
#[derive(Debug)]
pub struct CrashGuard {
    path: PathBuf,
    file: Option<File>,
    /// The entry at which earlier processes ended, and how often.
    former: Option<(String, EntryId, u32)>,
    left: u64,
    is_noted: bool,
}

impl CrashGuard {
    /// Reads the file of the last process. If it exists, that process did not end regularly.
    pub fn open(store: &Path) -> io::Result<Self> {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".in-hand");
        let path = store.with_file_name(name);
        let left_behind = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let former = left_behind.as_deref().and_then(parse);
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        let left = if left_behind.is_some() { NOTED_ENTRIES } else { 0 };
        let crash_guard = Self { path, file: Some(file), former, left, is_noted: false };
        if left_behind.is_none() {
            crash_guard.note("", EntryId::default(), 0);
        }
        Ok(crash_guard)
    }

    /// Creates a guard that notes nothing.
    pub fn off() -> Self {
        Self { path: PathBuf::new(), file: None, former: None, left: 0, is_noted: false }
    }

    /// Returns the entry at which the process has ended at least twice.
    pub fn culprit(&self) -> Option<(&str, EntryId)> {
        self.former.as_ref().filter(|(_, _, times)| *times >= 2).map(|(stream, id, _)| (stream.as_str(), *id))
    }

    /// Clears the note: the culprit is skipped from now on.
    pub fn clear(&mut self) {
        self.former = None;
        self.note("", EntryId::default(), 0);
    }

    /// Notes an entry that is about to be folded.
    pub fn begin(&mut self, stream: &str, id: EntryId) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let times = match &self.former {
            Some((of, former, times)) if of == stream && *former == id => times + 1,
            // The end before that was not noted. This entry may have caused it, too.
            _ => 1,
        };
        self.note(stream, id, times);
        self.is_noted = true;
    }

    /// Clears an entry that was folded: it cannot be the cause of a later end.
    pub fn folded(&mut self) {
        if std::mem::take(&mut self.is_noted) {
            self.note("", EntryId::default(), 0);
        }
    }

    /// Removes the file, because the process ends regularly.
    pub fn finish(mut self) {
        self.file = None;
        let _ = fs::remove_file(&self.path);
    }

    fn note(&self, stream: &str, id: EntryId, times: u32) {
        let Some(file) = &self.file else { return };
        let mut line = Vec::with_capacity(LINE_BYTES);
        let _ = write!(line, "{times} {id} {stream}");
        line.resize(LINE_BYTES.max(line.len() + 1), b' ');
        // If the note cannot be written, a crash has no culprit. There is no other loss.
        let _ = file.write_all_at(&line, 0);
    }
}

fn parse(text: &str) -> Option<(String, EntryId, u32)> {
    let mut parts = text.trim_end().splitn(3, ' ');
    let times = parts.next()?.parse().ok().filter(|times| *times > 0)?;
    let id = parts.next()?.parse().ok()?;
    Some((parts.next()?.to_owned(), id, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_an_entry_that_ended_the_process_twice_is_the_culprit() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        let id = EntryId::new(7, 1);
        // The first end is not noted, because there was no unclean end before it.
        let mut first = CrashGuard::open(&store).unwrap();
        first.begin("a:stream", id);
        drop(first);
        for want in [None, None, Some(("a:stream", id))] {
            let mut next = CrashGuard::open(&store).unwrap();
            assert_eq!(next.culprit(), want);
            next.begin("a:stream", id);
        }
        let mut next = CrashGuard::open(&store).unwrap();
        next.clear();
        next.begin("a:stream", EntryId::new(8, 0));
        next.folded();
        drop(next);
        let next = CrashGuard::open(&store).unwrap();
        assert_eq!(next.culprit(), None, "what was folded is not suspected");
        next.finish();
        assert_eq!(CrashGuard::open(&store).unwrap().left, 0, "a clean end leaves nothing behind");
    }
}
