//! Splits bytes into lines inside one block of memory.

use std::io::{self, Read};
use std::ops::Range;

use memchr::memchr;

/// Size of the block that contains the lines. [byte]
const BLOCK_BYTES: usize = 256 * 1024;

/// A source of bytes and the block that contains the next ones. Ranges point into the block and are valid until the
/// next call. A marked range stays readable until the next mark.
pub(super) struct Blocks {
    input: Box<dyn Read + Send>,
    block: Vec<u8>,
    unread: Range<usize>,
    line_bytes_max: usize,
    marked: Range<usize>,
    /// The marked bytes, once they had to leave the block.
    saved: Option<Vec<u8>>,
    spare: Vec<u8>,
    ascii: Ascii,
}

/// The known positions of bytes that are not ASCII.
enum Ascii {
    NotAsked,
    /// There are none from this offset in the block on.
    From(usize),
}

/// The next item of the input.
pub(super) enum Piece {
    /// A line without its line feed.
    Line(Range<usize>),
    /// A line over the limit, which was skipped.
    TooLong,
    End,
}

impl Blocks {
    pub fn new(input: Box<dyn Read + Send>, line_bytes_max: usize) -> Self {
        Self {
            input,
            block: vec![0; BLOCK_BYTES],
            unread: 0..0,
            line_bytes_max,
            marked: 0..0,
            saved: None,
            spare: Vec::new(),
            ascii: Ascii::NotAsked,
        }
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.block[range]
    }

    /// Enables [`Self::is_surely_ascii`]. The check of a whole block costs almost nothing.
    pub fn look_for_ascii(mut self) -> Self {
        self.ascii = Ascii::From(self.unread.end);
        self
    }

    /// Returns true if a line is certainly ASCII.
    #[inline]
    pub fn is_surely_ascii(&self, line: &Range<usize>) -> bool {
        matches!(self.ascii, Ascii::From(offset) if offset <= line.start)
    }

    /// Returns the next line. After an error the rest of an unfinished line is lost; all earlier whole lines were
    /// returned.
    #[inline]
    pub fn next_line(&mut self) -> io::Result<Piece> {
        let start = self.unread.start;
        match memchr(b'\n', &self.block[self.unread.clone()]) {
            Some(length) if length <= self.line_bytes_max => {
                self.unread.start += length + 1;
                Ok(Piece::Line(start..start + length))
            }
            _ => self.next_line_across_blocks(),
        }
    }

    #[cold]
    fn next_line_across_blocks(&mut self) -> io::Result<Piece> {
        let mut searched = 0;
        loop {
            let start = self.unread.start;
            let found = memchr(b'\n', &self.block[start + searched..self.unread.end]);
            let length = found.map_or(self.unread.len(), |at| searched + at);
            if length > self.line_bytes_max {
                self.skip_line()?;
                return Ok(Piece::TooLong);
            }
            if found.is_some() {
                self.unread.start += length + 1;
                return Ok(Piece::Line(start..start + length));
            }
            searched = length;
            if !self.refill()? {
                // The last line of a file may lack its line feed.
                let last = self.unread.clone();
                self.unread.start = self.unread.end;
                return Ok(if last.is_empty() { Piece::End } else { Piece::Line(last) });
            }
        }
    }

    /// Returns the next `count` bytes, or `None` at the end of the input.
    pub fn next_bytes(&mut self, count: usize) -> io::Result<Option<Range<usize>>> {
        if !self.fill(count)? {
            return Ok(None);
        }
        let start = self.unread.start;
        self.unread.start += count;
        Ok(Some(start..start + count))
    }

    /// Keeps these bytes readable as [`Self::marked`].
    #[inline]
    pub fn mark(&mut self, range: Range<usize>) {
        self.marked = range;
        if let Some(saved) = self.saved.take() {
            self.spare = saved;
        }
    }

    pub fn marked(&self) -> &[u8] {
        self.saved.as_deref().unwrap_or_else(|| &self.block[self.marked.clone()])
    }

    /// Returns true if `count` bytes are available.
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        while self.unread.len() < count {
            if !self.refill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads more bytes after the unread ones. Returns false at the end of the input.
    fn refill(&mut self) -> io::Result<bool> {
        if self.unread.end == self.block.len() {
            self.make_room();
        }
        loop {
            match self.input.read(&mut self.block[self.unread.end..]) {
                Ok(read) => {
                    let new = self.unread.end..self.unread.end + read;
                    self.unread.end = new.end;
                    if matches!(self.ascii, Ascii::From(_)) && !self.block[new.clone()].is_ascii() {
                        self.ascii = Ascii::From(new.end);
                    }
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn make_room(&mut self) {
        if self.saved.is_none() && !self.marked.is_empty() {
            let mut saved = std::mem::take(&mut self.spare);
            saved.clear();
            saved.extend_from_slice(&self.block[self.marked.clone()]);
            self.saved = Some(saved);
        }
        let tail = self.unread.len();
        if let Ascii::From(offset) = &mut self.ascii {
            *offset = offset.saturating_sub(self.unread.start);
        }
        self.block.copy_within(self.unread.clone(), 0);
        self.unread = 0..tail;
        if tail > self.block.len() / 2 {
            self.block.resize(self.block.len() * 2, 0);
        } else if tail <= BLOCK_BYTES / 2 && self.block.len() > BLOCK_BYTES {
            // One long line must not make a block large for the rest of the file.
            self.block.truncate(BLOCK_BYTES);
            self.block.shrink_to_fit();
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            if let Some(length) = memchr(b'\n', &self.block[self.unread.clone()]) {
                self.unread.start += length + 1;
                return Ok(());
            }
            self.unread.start = self.unread.end;
            if !self.refill()? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte less than requested, as pipes and decoders do.
    struct Trickle(io::Cursor<Vec<u8>>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let wanted = buffer.len().saturating_sub(1).max(1);
            self.0.read(&mut buffer[..wanted])
        }
    }

    fn blocks(text: Vec<u8>, line_bytes_max: usize) -> Blocks {
        Blocks::new(Box::new(Trickle(io::Cursor::new(text))), line_bytes_max)
    }

    fn lines(mut blocks: Blocks) -> Vec<Option<Vec<u8>>> {
        let mut lines = Vec::new();
        loop {
            match blocks.next_line().unwrap() {
                Piece::Line(line) => lines.push(Some(blocks.bytes(line).to_vec())),
                Piece::TooLong => lines.push(None),
                Piece::End => return lines,
            }
        }
    }

    #[test]
    fn lines_across_blocks_come_whole() {
        let lengths = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3, 5 * BLOCK_BYTES, 0, 7];
        let wanted: Vec<_> = lengths.iter().map(|&n| Some(vec![b'x'; n])).collect();
        let mut text = wanted.iter().flatten().cloned().collect::<Vec<_>>().join(&b'\n');
        assert_eq!(lines(blocks(text.clone(), usize::MAX)), wanted, "last line without line feed");
        text.push(b'\n');
        assert_eq!(lines(blocks(text, usize::MAX)), wanted, "last line with line feed");
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_without_being_held() {
        let text = [vec![b'a'; 10], vec![b'b'; 40 * BLOCK_BYTES], vec![b'c'; 9], vec![b'd'; 11]].join(&b'\n');
        let mut blocks = blocks(text, 10);
        for wanted in [Some(b'a'), None, Some(b'c'), None] {
            let first = match blocks.next_line().unwrap() {
                Piece::Line(line) => Some(blocks.bytes(line)[0]),
                Piece::TooLong => None,
                Piece::End => panic!("ended early"),
            };
            assert_eq!(first, wanted);
        }
        assert!(matches!(blocks.next_line().unwrap(), Piece::End));
        assert!(blocks.block.len() <= 2 * BLOCK_BYTES, "{} bytes", blocks.block.len());
    }

    #[test]
    fn a_block_grown_for_a_long_line_shrinks_again() {
        let text = [vec![b'a'; 9 * BLOCK_BYTES], vec![b'b'; 10], vec![b'c'; BLOCK_BYTES / 2]].join(&b'\n');
        let text = [text, vec![b'\n'; 8 * BLOCK_BYTES]].concat();
        let mut blocks = blocks(text, usize::MAX);
        while !matches!(blocks.next_line().unwrap(), Piece::End) {}
        assert_eq!(blocks.block.len(), BLOCK_BYTES);
    }

    #[test]
    fn what_is_marked_stays_readable_when_the_block_moves_on() {
        let text = [vec![b'a'; 100], vec![b'b'; 2 * BLOCK_BYTES], vec![b'c'; 2 * BLOCK_BYTES]].join(&b'\n');
        let mut blocks = blocks(text, usize::MAX);
        for wanted in [vec![b'a'; 100], vec![b'b'; 2 * BLOCK_BYTES]] {
            let Piece::Line(line) = blocks.next_line().unwrap() else { panic!("no line") };
            blocks.mark(line);
            assert_eq!(blocks.marked(), wanted);
            let mut later = blocks.unread.start;
            while later == blocks.unread.start && blocks.refill().unwrap() {
                later = blocks.unread.start;
            }
            assert_eq!(blocks.marked(), wanted);
        }
    }
}
