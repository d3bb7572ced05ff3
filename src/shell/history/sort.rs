//! External sorting: turns lines in any order into sorted runs on disk.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::ops::Range;

use super::error::HistoryError;
use super::merge::Merge;
use super::source::{Context, Form, Header, MergeKey, Part};
use super::spill::{Slice, Spill, ZSTD_LEVEL};

/// Window of compressed runs. It is small because many runs are open at once. [log2 byte]
const RUN_WINDOW_LOG: u32 = 18;

/// Collects lines and writes them, sorted, as runs of limited size.
pub(super) struct Sorter<'a> {
    spill: &'a Spill,
    run_bytes_max: usize,
    text: Vec<u8>,
    lines: Vec<(MergeKey, Range<usize>)>,
}

impl<'a> Sorter<'a> {
    pub fn new(spill: &'a Spill, run_bytes_max: usize) -> Self {
        Self { spill, run_bytes_max, text: Vec::new(), lines: Vec::new() }
    }

    /// Takes a line. Returns the run that had to be written first to make room, if any.
    pub fn push(&mut self, key: MergeKey, line: &[u8]) -> Result<Option<Part>, HistoryError> {
        let held = self.text.len() + size_of_val(self.lines.as_slice());
        let run = if held + line.len() > self.run_bytes_max { self.flush()? } else { None };
        let start = self.text.len();
        self.text.extend_from_slice(line);
        self.lines.push((key, start..self.text.len()));
        Ok(run)
    }

    /// Writes the collected lines, if there are any.
    pub fn flush(&mut self) -> Result<Option<Part>, HistoryError> {
        // Merge keys contain the position of the line. No two are equal, and equal entries keep their order.
        self.lines.sort_unstable_by_key(|(key, _)| *key);
        let (Some((first, _)), Some((last, _))) = (self.lines.first(), self.lines.last()) else { return Ok(None) };
        let slice = self.write().map_err(|source| HistoryError::Temporary { source })?;
        let (first, last, entries) = (*first, *last, self.lines.len() as u64);
        let part = Part { form: Form::Run(slice), is_journal: false, first, last, entries };
        self.text.clear();
        self.lines.clear();
        Ok(Some(part))
    }

    fn write(&self) -> io::Result<Slice> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
        encoder.window_log(RUN_WINDOW_LOG)?;
        let mut header = Vec::with_capacity(Header::BYTES);
        for (key, range) in &self.lines {
            let line_bytes = u32::try_from(range.len()).map_err(io::Error::other)?;
            header.clear();
            Header { key: *key, line_bytes }.write(&mut header);
            encoder.write_all(&header)?;
            encoder.write_all(&self.text[range.clone()])?;
        }
        self.spill.append(&encoder.finish()?)
    }
}

/// Merges parts into fewer until the number that must be open at the same time is within the limit.
pub(super) fn with_few_open(mut parts: Vec<Part>, context: &Context) -> Result<Vec<Part>, HistoryError> {
    let open_parts_max = context.limits().open_parts_max.max(2);
    loop {
        let clusters = clusters(parts);
        let is_enough = clusters.iter().all(|cluster| cluster.open_at_once <= open_parts_max);
        parts = Vec::new();
        for cluster in clusters {
            if cluster.open_at_once <= open_parts_max {
                parts.extend(cluster.parts);
                continue;
            }
            let mut rest = cluster.parts.into_iter().peekable();
            while rest.peek().is_some() {
                parts.push(merged(rest.by_ref().take(open_parts_max).collect(), context)?);
            }
        }
        if is_enough {
            return Ok(parts);
        }
    }
}

/// Parts that overlap, directly or through others, in order of their first lines.
#[derive(Default)]
struct Cluster {
    parts: Vec<Part>,
    open_at_once: usize,
}

fn clusters(mut parts: Vec<Part>) -> Vec<Cluster> {
    parts.sort_by_key(|part| part.first);
    let mut clusters = Vec::new();
    let mut ends = BinaryHeap::new();
    for part in parts {
        while ends.peek().is_some_and(|Reverse(end)| *end < part.first) {
            ends.pop();
        }
        if ends.is_empty() {
            clusters.push(Cluster::default());
        }
        ends.push(Reverse(part.last));
        let cluster = clusters.last_mut().expect("the first part starts a cluster");
        cluster.open_at_once = cluster.open_at_once.max(ends.len());
        cluster.parts.push(part);
    }
    clusters
}

fn merged(parts: Vec<Part>, context: &Context) -> Result<Part, HistoryError> {
    let spill = Spill::default();
    let mut sorter = Sorter::new(&spill, context.limits().run_bytes_max);
    let mut merge = Merge::new(parts);
    let mut whole: Option<Part> = None;
    while let Some(line) = merge.next(context)? {
        if let Some(run) = sorter.push(line.key, line.bytes)? {
            whole = Some(joined(whole, run));
        }
    }
    let last = sorter.flush()?.expect("the line pushed last is still held");
    Ok(joined(whole, last))
}

/// Joins two runs. Consecutive compressed frames are read as one.
fn joined(whole: Option<Part>, run: Part) -> Part {
    match whole {
        Some(Part { form: Form::Run(before), first, entries, .. }) => {
            let Form::Run(after) = run.form else { unreachable!("a sorter writes runs") };
            let form = Form::Run(before.joined(&after));
            Part { form, is_journal: false, first, last: run.last, entries: entries + run.entries }
        }
        _ => run,
    }
}
