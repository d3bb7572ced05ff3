//! The input of a measurement: a recorded history, repeated with later ids until it is long enough.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use harvester::domain::event::streams::Streams;
use harvester::shell::history::{History, Input, Options};

use crate::command::{cases, root};

/// zstd's fastest level: smaller and faster to read than its default on such entries.
const LEVEL: i32 = 1;
const DAY_MS: u64 = 86_400_000;

/// A recorded history in memory, with the places of all its times.
pub struct Recorded {
    pub source: PathBuf,
    lines: Vec<Template>,
    /// The time between two repetitions: the span of the history, in whole days. [ms]
    shift_ms: u64,
    /// Time of the last entry. [ms since 1970]
    last_ms: u64,
}

/// A line whose times can be moved.
struct Template {
    text: Vec<u8>,
    /// The places of the digits of times, and the unit of each. [ms]
    times: Vec<(usize, usize, u64)>,
}

impl Recorded {
    /// Reads the history at `path`; by default the shared one beside the project, else the largest bundled case.
    pub fn read(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let source = path.map_or_else(default_source, Ok)?;
        let mut history = History::open(&[Input::Path(source.clone())], &Streams::default(), Options::default())?;
        let (Some(first), Some(last)) = (history.first(), history.last()) else {
            bail!("{} contains no entry", source.display());
        };
        let mut lines = Vec::new();
        while let Some(line) = history.next_line()? {
            lines.push(Template::of(line.bytes, first.ms - DAY_MS..=last.ms + DAY_MS));
        }
        let shift_ms = (last.ms - first.ms + 1).next_multiple_of(DAY_MS);
        Ok(Self { source, lines, shift_ms, last_ms: last.ms })
    }

    /// Writes so many entries, compressed. Returns the size of the file. [byte]
    pub fn write(&self, path: &Path, entries: u64) -> anyhow::Result<u64> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut out = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
        let mut text = Vec::new();
        let count = self.lines.len() as u64;
        let earlier_ms = self.earlier_ms(entries / count);
        for n in 0..entries {
            let (repetition, index) = (n / count, n % count);
            text.clear();
            self.lines[index as usize].write((repetition * self.shift_ms) as i64 - earlier_ms as i64, &mut text);
            out.write_all(&text)?;
        }
        out.finish()?.flush()?;
        Ok(path.metadata()?.len())
    }

    /// Returns the time by which the whole history is moved back, so that no entry is from the future: a live service
    /// would wait for such an entry. [ms]
    fn earlier_ms(&self, repetitions: u64) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let latest = now.as_millis() as u64 - DAY_MS;
        (self.last_ms + repetitions * self.shift_ms).saturating_sub(latest).next_multiple_of(DAY_MS)
    }
}

impl Template {
    /// Finds the times of a line: the numbers of 10 or 13 digits near the history, in seconds or milliseconds. They
    /// are moved with the ids; otherwise every price after the first repetition would be too late to be used.
    fn of(line: &[u8], near: std::ops::RangeInclusive<u64>) -> Self {
        let mut times = Vec::new();
        let mut at = 0;
        while at < line.len() {
            let digits = line[at..].iter().take_while(|b| b.is_ascii_digit()).count();
            let unit_ms = match digits {
                10 => 1000,
                13 => 1,
                _ => 0,
            };
            let is_fraction = at > 0 && line[at - 1] == b'.';
            if unit_ms > 0 && !is_fraction && near.contains(&(number(&line[at..at + digits]) * unit_ms)) {
                times.push((at, digits, unit_ms));
            }
            at += digits.max(1);
        }
        Self { text: line.to_vec(), times }
    }

    fn write(&self, shift_ms: i64, out: &mut Vec<u8>) {
        let mut from = 0;
        for &(at, digits, unit_ms) in &self.times {
            out.extend_from_slice(&self.text[from..at]);
            from = at + digits;
            let moved = number(&self.text[at..from]).wrapping_add_signed(shift_ms / unit_ms as i64);
            out.extend_from_slice(moved.to_string().as_bytes());
        }
        out.extend_from_slice(&self.text[from..]);
        out.push(b'\n');
    }
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |n, &b| n * 10 + u64::from(b - b'0'))
}

fn default_source() -> anyhow::Result<PathBuf> {
    let shared = root().join("../shared/history");
    if shared.is_dir() {
        return Ok(shared);
    }
    let events = cases()?.into_iter().map(|case| case.join("events.jsonl"));
    let sizes = events.filter_map(|path| Some((path.metadata().ok()?.len(), path)));
    Ok(sizes.max().context("there are no bundled cases")?.1)
}
