//! Lines of the journal on their way from the reader to the processor.
//!
//! The reader writes the bytes of an entry once, as its line, when it takes it from the reply. The line waits among the
//! lines of its stream, goes into a batch when its turn comes, and is journalled and decoded from there. All of this
//! memory is used again: an entry allocates nothing on its way.

use crate::domain::event::ids::{EntryId, StreamId};

/// Unused space up to this size is not freed. [byte]
const SPACE_BYTES_KEPT: usize = 1 << 20;

/// The lines of one stream that wait for their turn: first in, first out.
#[derive(Debug, Default)]
pub struct WaitingLines {
    text: String,
    /// Lines before this offset were taken already.
    start: usize,
}

impl WaitingLines {
    /// Adds a line. Returns its length. [byte]
    pub fn push(&mut self, write: impl FnOnce(&mut String)) -> usize {
        let before = self.text.len();
        write(&mut self.text);
        self.text.len() - before
    }

    /// Takes the first line, whose length is known.
    pub fn pop(&mut self, len: usize, take: impl FnOnce(&str)) {
        take(&self.text[self.start..self.start + len]);
        self.start += len;
        if self.start == self.text.len() {
            self.start = 0;
            self.text.clear();
            give_back(&mut self.text);
        } else if self.start > SPACE_BYTES_KEPT && self.start > self.text.len() / 2 {
            self.text.drain(..self.start);
            self.start = 0;
        }
    }
}

/// An entry whose turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    pub stream: StreamId,
    pub id: EntryId,
    /// True if the group delivered it and waits for its acknowledgement.
    pub by_group: bool,
    /// The end of its line among the lines of the batch.
    end: usize,
}

/// Entries in canonical order, with their lines.
#[derive(Debug, Default)]
pub struct Batch {
    lines: String,
    entries: Vec<Released>,
}

impl Batch {
    /// Adds an entry. The line is empty if the entry was trimmed while it was pending.
    pub fn push(&mut self, stream: StreamId, id: EntryId, by_group: bool, line: &str) {
        self.lines.push_str(line);
        self.entries.push(Released { stream, id, by_group, end: self.lines.len() });
    }

    /// Returns the entries, each with its line; `None` if it was trimmed while it was pending.
    pub fn iter(&self) -> impl Iterator<Item = (Released, Option<&str>)> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let line = &self.lines[std::mem::replace(&mut start, entry.end)..entry.end];
            (*entry, Some(line).filter(|line| !line.is_empty()))
        })
    }

    /// Returns the number of entries. [1]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the size of all lines. [byte]
    pub fn size(&self) -> usize {
        self.lines.len()
    }

    /// Removes all entries. The space is used again.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.lines.clear();
        give_back(&mut self.lines);
    }
}

/// Frees the space that a few large entries took.
fn give_back(text: &mut String) {
    text.shrink_to(SPACE_BYTES_KEPT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in_however_long_they_wait() {
        let mut waiting = WaitingLines::default();
        let line = |n: usize| format!("{n}:{}", "é".repeat(n * 7919 % 3000));
        let mut lens = std::collections::VecDeque::new();
        let mut next = 0;
        for n in 0..2000 {
            lens.push_back(waiting.push(|text| text.push_str(&line(n))));
            // Three in, two out; all of them out at the end.
            for _ in 0..if n == 1999 { lens.len() } else { usize::from(n % 3 != 0) } {
                let len = lens.pop_front().expect("a line waits");
                waiting.pop(len, |text| assert_eq!(text, line(next)));
                next += 1;
            }
        }
        assert_eq!((next, waiting.text.len(), waiting.start), (2000, 0, 0));
        assert!(waiting.text.capacity() <= SPACE_BYTES_KEPT);
    }

    #[test]
    fn a_batch_gives_each_entry_its_line() {
        let mut batch = Batch::default();
        let (stream, id) = (StreamId(3), EntryId::new(1, 2));
        for _ in 0..2 {
            for line in ["first", "", "third"] {
                batch.push(stream, id, true, line);
            }
            let lines: Vec<Option<&str>> = batch.iter().map(|(_, line)| line).collect();
            assert_eq!(lines, [Some("first"), None, Some("third")]);
            assert_eq!((batch.len(), batch.size()), (3, 10));
            batch.clear();
            assert!(batch.is_empty());
        }
    }
}
