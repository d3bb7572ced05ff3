//! The trace of a run: one line for each event, for a person to read.

use std::fmt::Write as _;

/// Number of lines that are kept if the run did not ask for the whole trace. [1]
const LINES_KEPT: usize = 60;

#[derive(Debug, Default)]
pub struct Trace {
    lines: std::collections::VecDeque<String>,
    is_whole: bool,
    /// Checksum of all lines, kept or not.
    sum: u64,
    count: u64,
}

impl Trace {
    pub fn new(is_whole: bool) -> Self {
        Self { is_whole, sum: 0xcbf2_9ce4_8422_2325, ..Self::default() }
    }

    /// Adds a line: time, actor, event.
    pub fn add(&mut self, now_us: u64, who: &str, what: &str) {
        let mut line = String::with_capacity(24 + who.len() + what.len());
        let _ = write!(line, "{:>4}.{:06} {who:<9} {what}", now_us / 1_000_000, now_us % 1_000_000);
        for byte in line.bytes() {
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.count += 1;
        if !self.is_whole && self.lines.len() >= LINES_KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Returns checksum and number of all lines.
    pub const fn sum(&self) -> (u64, u64) {
        (self.sum, self.count)
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
