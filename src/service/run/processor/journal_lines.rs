//! Lines on their way to the journal.

use super::Processor;

/// How long lines wait for further ones before they are written, if nothing waits for them. [ms]
const LINES_WAIT_MS: u64 = 20;
/// Lines of this size are written at once. [byte]
const LINES_BYTES: usize = 256 << 10;

/// Lines that are folded and not yet on their way to the disk.
#[derive(Debug, Default)]
pub struct JournalLines {
    /// Whole lines, each with its line feed.
    pub text: Vec<u8>,
    /// The end of each line in the text, and the time of its id. [ms since 1970]
    pub ends: Vec<(usize, u64)>,
    /// When the first of them was folded, by the clock of the process. [ms]
    since_ms: u64,
}

impl JournalLines {
    pub(super) fn append(&mut self, line: &str, id_ms: u64, now_ms: u64) {
        if self.is_empty() {
            self.since_ms = now_ms;
        }
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        self.ends.push((self.text.len(), id_ms));
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

impl Processor {
    /// Returns when the lines have to be written: at once if a decision waits for them or there are many of them,
    /// otherwise after a moment, so that not every price causes a sync. Returns `None` if there are no lines. [ms]
    pub fn lines_due_ms(&self) -> Option<u64> {
        let JournalLines { text, since_ms, .. } = &self.journal;
        let is_urgent = self.delivery.waits_for_sync() || text.len() >= LINES_BYTES;
        let due_ms = if is_urgent { *since_ms } else { since_ms + LINES_WAIT_MS };
        (!self.journal.is_empty()).then_some(due_ms)
    }
}
