//! Follows a journal while its service writes it. Each line is read once.
//!
//! Promises: reads only, takes no lock, and returns only lines of completed commits. One file is open at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memchr::memrchr;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::error::JournalError;
use super::folder::{Headed, files};
use super::reader::LINE_BYTES_MAX;
use crate::codec::bounded::WINDOW_LOG_MAX;

/// Compressed bytes that are read at a time. [bytes]
const READ_BYTES: usize = 64 * 1024;
/// Text that is returned at a time, unless one line is longer. [bytes]
const TEXT_BYTES: usize = 1 << 20;

/// A position in a journal that moves forward.
pub struct Tail {
    dir: PathBuf,
    /// Position of the next line. [1]
    position: u64,
    open: Option<Open>,
}

/// The file that contains that position.
struct Open {
    path: PathBuf,
    file: File,
    /// Compressed bytes that were read so far. [bytes]
    at: u64,
    decoder: Decoder<'static>,
    /// Lines at its beginning that were returned before it was opened. [1]
    skipped: u64,
    /// Text after the last line that was returned.
    text: Vec<u8>,
}

/// Returns the range of positions in a journal: its first entry, and the end of its last commit.
pub fn extent(dir: &Path) -> Result<Option<(u64, u64)>, JournalError> {
    let files = files(dir)?;
    let (Some((first, _)), Some((last, path))) = (files.first(), files.last()) else { return Ok(None) };
    let headed = Headed::open(path, false)?;
    let count = match headed.head.commits {
        Some(commits) => commits.iter().map(|commit| commit.count).max().unwrap_or(0),
        None => headed.foot()?.count,
    };
    Ok(Some((*first, last + count)))
}

impl Tail {
    /// Creates a tail that begins at a position of a journal. The journal need not have reached it yet.
    pub fn at(dir: &Path, position: u64) -> Self {
        Self { dir: dir.to_owned(), position, open: None }
    }

    /// Returns the position of the next line. [1]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next whole lines, each with its line feed, or `None` at the end of the last commit.
    pub fn next_lines(&mut self) -> Result<Option<Vec<u8>>, JournalError> {
        loop {
            if self.open.is_none() {
                self.open = Open::of(&self.dir, self.position)?;
            }
            let Some(open) = &mut self.open else { return Ok(None) };
            let is_closed = open.read()?;
            if let Some((text, lines)) = open.take_lines() {
                self.position += lines;
                return Ok(Some(text));
            }
            if !is_closed {
                return Ok(None);
            }
            // The next file begins here, if it exists already.
            let next = Open::of(&self.dir, self.position)?;
            if next.as_ref().is_none_or(|next| next.path == open.path) {
                return Ok(None);
            }
            self.open = next;
        }
    }
}

impl Open {
    /// Opens the file that contains a position, or that ends at it.
    fn of(dir: &Path, position: u64) -> Result<Option<Self>, JournalError> {
        let files = files(dir)?;
        let Some(&(kept, _)) = files.first() else { return Ok(None) };
        let Some((first, path)) = files.into_iter().rev().find(|(first, _)| *first <= position) else {
            return Err(JournalError::NotHeld { dir: dir.to_owned(), position, first: kept, end: None });
        };
        let failed = JournalError::io(&path, "reading");
        let file = File::open(&path).map_err(&failed)?;
        let mut decoder = Decoder::new().map_err(&failed)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(&failed)?;
        Ok(Some(Self { path, file, at: 0, decoder, skipped: position - first, text: Vec::new() }))
    }

    /// Reads up to about [`TEXT_BYTES`] more. Returns true if the file is closed and was read to its end.
    fn read(&mut self) -> Result<bool, JournalError> {
        let failed = JournalError::io(&self.path, "reading");
        let Headed { head, len, .. } = Headed::open(&self.path, false)?;
        let end = head.commits.map_or(len, |[a, b]| a.len.max(b.len));
        let mut compressed = vec![0; READ_BYTES];
        let mut room = vec![0; 2 * READ_BYTES];
        while self.at < end && self.text.len() < TEXT_BYTES {
            let wanted = usize::try_from(end - self.at).unwrap_or(READ_BYTES).min(READ_BYTES);
            self.file.read_exact_at(&mut compressed[..wanted], self.at).map_err(&failed)?;
            let mut input = InBuffer::around(&compressed[..wanted]);
            loop {
                let mut output = OutBuffer::around(&mut room[..]);
                self.decoder.run(&mut input, &mut output).map_err(&failed)?;
                let written = output.pos();
                self.text.extend_from_slice(&room[..written]);
                if self.text.len() > LINE_BYTES_MAX + TEXT_BYTES {
                    let why = format!("a line is longer than {LINE_BYTES_MAX} bytes");
                    return Err(JournalError::damaged(&self.path, self.at, why));
                }
                if input.pos() == wanted && written < room.len() {
                    break;
                }
            }
            self.at += wanted as u64;
            self.skip();
        }
        Ok(head.commits.is_none() && self.at >= end)
    }

    /// Drops lines that were returned before the file was opened.
    fn skip(&mut self) {
        let mut from = 0;
        while self.skipped > 0
            && let Some(end) = memchr::memchr(b'\n', &self.text[from..])
        {
            from += end + 1;
            self.skipped -= 1;
        }
        self.text.drain(..from);
    }

    /// Removes and returns the whole lines, with their number.
    fn take_lines(&mut self) -> Option<(Vec<u8>, u64)> {
        let end = memrchr(b'\n', &self.text).filter(|_| self.skipped == 0)? + 1;
        let rest = self.text.split_off(end);
        let lines = std::mem::replace(&mut self.text, rest);
        let number = memchr::memchr_iter(b'\n', &lines).count() as u64;
        Some((lines, number))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Journal, Limits};
    use super::*;

    fn line(number: u64) -> String {
        format!(r#"{{"stream":"s","id":"{number}-0","fields":{{"text":"{}"}}}}"#, "x".repeat(300))
    }

    fn read(tail: &mut Tail) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(text) = tail.next_lines().expect("it reads") {
            all.extend(String::from_utf8(text).expect("text").lines().map(str::to_owned));
        }
        all
    }

    #[test]
    fn a_tail_returns_each_line_of_a_commit_once_and_goes_on_in_the_next_file() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(extent(folder.path()).expect("an empty folder"), None);
        // Files are closed early, so that the tail crosses several ends.
        let mut journal = Journal::open(folder.path(), Limits { rotate_bytes: 512 }).expect("a journal");
        let (mut tail, mut written, mut seen) = (Tail::at(folder.path(), 0), Vec::new(), Vec::new());
        assert_eq!(read(&mut tail), Vec::<String>::new());
        for commit in 0..200_u64 {
            for number in 0..=commit % 7 {
                let text = line(commit * 1000 + number);
                journal.append(&text, commit);
                written.push(text);
            }
            seen.extend(read(&mut tail));
            journal.commit().expect("a commit");
            if commit % 3 == 0 {
                seen.extend(read(&mut tail));
                assert_eq!(seen, written, "after commit {commit}");
            }
        }
        assert!(journal.files() > 3, "{} files", journal.files());
        seen.extend(read(&mut tail));
        assert_eq!(seen, written);
        assert_eq!(extent(folder.path()).expect("an extent"), Some((0, written.len() as u64)));
        let mut later = Tail::at(folder.path(), 421);
        assert_eq!(read(&mut later), written[421..], "it begins inside a file");
        assert_eq!(later.position(), written.len() as u64);
        journal.close().expect("it closes");
        assert_eq!(read(&mut tail), Vec::<String>::new());
        assert_eq!(extent(folder.path()).expect("an extent"), Some((0, written.len() as u64)));
    }
}
