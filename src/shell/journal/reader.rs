//! Reads entries of a journal, from any position on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

use super::error::JournalError;
use crate::codec::bounded;
use crate::codec::journal::HEAD_BYTES;

/// Maximum length of a line, far above that of the largest entry. [bytes]
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;

/// The part of a file that is read, as text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// [byte]
    pub end: u64,
    /// True if the frame ends there. The frame of an open file is still growing.
    pub is_ended: bool,
}

impl Span {
    pub fn text(self, path: &Path) -> Result<Text, JournalError> {
        let failed = JournalError::io(path, "reading");
        let bytes = File::open(path).map_err(&failed)?.take(self.end);
        let decoder = bounded::decompress(BufReader::new(bytes)).map_err(&failed)?;
        Ok(Text { decoder, is_ended: self.is_ended })
    }
}

/// The lines of a file in sequence.
pub(super) struct Text {
    decoder: zstd::stream::read::Decoder<'static, BufReader<io::Take<File>>>,
    is_ended: bool,
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.decoder.read(buffer) {
            // Each commit ends with a block, so nothing after it can be missing.
            Err(error) if !self.is_ended && error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}

/// Counts the line feeds that pass through it.
pub(super) struct Counted<R> {
    inner: R,
    pub lines: u64,
}

impl<R: Read> Counted<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, lines: 0 }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.lines += memchr_iter(b'\n', &buffer[..read]).count() as u64;
        Ok(read)
    }
}

/// One of the files to read.
#[derive(Debug)]
pub(super) struct Piece {
    pub path: PathBuf,
    pub span: Span,
    /// Number of lines to skip at the start. [1]
    pub skipped: u64,
    /// Number of lines to return after that. [1]
    pub count: u64,
}

/// Entries of a journal, as history lines without line ends.
pub struct Lines {
    pieces: VecDeque<Piece>,
    open: Option<BufReader<Text>>,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl Lines {
    pub(super) fn new(pieces: VecDeque<Piece>) -> Self {
        Self { pieces, open: None }
    }

    fn read(&mut self) -> Result<Option<String>, JournalError> {
        while let Some(piece) = self.pieces.front_mut() {
            if piece.count == 0 {
                self.open = None;
                self.pieces.pop_front();
                continue;
            }
            let text = match &mut self.open {
                Some(text) => text,
                none => {
                    let mut text = BufReader::new(piece.span.text(&piece.path)?);
                    for _ in 0..piece.skipped {
                        line(&mut text, &piece.path)?;
                    }
                    none.insert(text)
                }
            };
            piece.count -= 1;
            return line(text, &piece.path).map(Some);
        }
        Ok(None)
    }
}

fn line(text: &mut BufReader<Text>, path: &Path) -> Result<String, JournalError> {
    let damaged = |why: &dyn ToString| JournalError::damaged(path, HEAD_BYTES as u64, why.to_string());
    let mut line = Vec::new();
    text.take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(|error| damaged(&error))?;
    if line.len() == LINE_BYTES_MAX {
        return Err(damaged(&format!("a line is longer than {LINE_BYTES_MAX} bytes")));
    }
    if line.pop() != Some(b'\n') {
        return Err(damaged(&"it ends before its last line"));
    }
    String::from_utf8(line).map_err(|error| damaged(&error))
}

impl Iterator for Lines {
    type Item = Result<String, JournalError>;

    /// Returns the next line. After an error it returns no more lines.
    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.pieces.clear();
        }
        read.transpose()
    }
}
