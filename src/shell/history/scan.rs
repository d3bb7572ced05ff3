//! The first pass over each file: counts, order, and the rare lines that are needed before all others.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::entries::{Entries, Found};
use super::error::HistoryError;
use super::input;
use super::sort::Sorter;
use super::source::{Context, Form, MergeKey, Part};
use super::spill::{Spill, Spool};
use crate::domain::ids::{CanonicalKey, EntryId};
use crate::domain::streams::{StreamKind, Streams};

/// Files read at the same time. [1]
const THREADS: usize = 2;

/// What a kept line costs beside its bytes, at least. [byte]
const KEPT_LINE_BYTES: u64 = 64;

/// What the first pass learns of a file.
#[derive(Default)]
pub(super) struct Scan {
    pub parts: Vec<Part>,
    pub tally: Tally,
    pub kept: Vec<KeptLine>,
    pub notices: Vec<String>,
}

/// A line of a kind that is needed before the replay starts.
pub(super) struct KeptLine {
    pub key: MergeKey,
    pub bytes: Box<[u8]>,
}

/// Counts of a file, or of several.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub other_streams: u64,
    pub bad_lines: u64,
    /// Entries with ids up to the bound.
    within: u64,
    /// Entries in the millisecond of the bound, but with later ids, by stream.
    beside: Vec<u64>,
    /// The last entry, in canonical order, with an id up to the bound.
    pub last_within: Option<CanonicalKey>,
}

impl Tally {
    #[inline]
    fn count(&mut self, key: CanonicalKey, until: Option<EntryId>) {
        if until.is_none_or(|until| EntryId::new(key.ms, key.seq) <= until) {
            self.within += 1;
            if until.is_some() {
                self.last_within = self.last_within.max(Some(key));
            }
        } else {
            let stream = usize::from(key.stream.0);
            self.beside.resize(self.beside.len().max(stream + 1), 0);
            self.beside[stream] += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.other_streams += other.other_streams;
        self.bad_lines += other.bad_lines;
        self.within += other.within;
        self.last_within = self.last_within.max(other.last_within);
        self.beside.resize(self.beside.len().max(other.beside.len()), 0);
        for (mine, theirs) in self.beside.iter_mut().zip(&other.beside) {
            *mine += theirs;
        }
    }

    /// Entries up to the last one within the bound, in canonical order.
    pub fn entries(&self, until: Option<EntryId>) -> u64 {
        match (until, self.last_within) {
            (Some(until), Some(last)) if last.ms == until.ms => {
                // Streams before that of the last one are read to the end of the millisecond.
                self.within + self.beside.iter().take(usize::from(last.stream.0)).sum::<u64>()
            }
            _ => self.within,
        }
    }
}

/// Scans all files, in parallel; of several failures, gives the one of the first file.
pub(super) fn scan_all(streams: &Streams, context: &Context) -> Result<Vec<Scan>, HistoryError> {
    let shared = Shared {
        context,
        is_kept: streams.iter().map(|(_, s)| matches!(s.kind, StreamKind::Decision | StreamKind::Control)).collect(),
        kept_bytes: AtomicU64::new(0),
        runs: Spill::default(),
    };
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(usize::MAX);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let file = next.fetch_add(1, Ordering::Relaxed);
            if file >= context.files.len() || file > failed.load(Ordering::Relaxed) {
                return done;
            }
            let scan = FileScan::new(file as u32, &shared).run();
            if scan.is_err() {
                failed.fetch_min(file, Ordering::Relaxed);
            }
            done.push((file, scan));
        }
    };
    let mut scans = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS.min(context.files.len())).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect::<Vec<_>>()
    });
    scans.sort_by_key(|(file, _)| *file);
    scans.into_iter().map(|(_, scan)| scan).collect()
}

struct Shared<'a> {
    context: &'a Context,
    /// By stream, whether its lines are kept.
    is_kept: Vec<bool>,
    kept_bytes: AtomicU64,
    runs: Spill,
}

/// The pass over one file.
struct FileScan<'a> {
    file: u32,
    shared: &'a Shared<'a>,
    scan: Scan,
    /// The beginning of the file that is in order: for most files all of it.
    sorted: Option<Sorted>,
    /// Takes what comes behind the first line that is out of order.
    sorter: Option<Sorter<'a>>,
    spool: Option<Spool>,
}

struct Sorted {
    first: MergeKey,
    last: MergeKey,
    entries: u64,
}

impl<'a> FileScan<'a> {
    fn new(file: u32, shared: &'a Shared<'a>) -> Self {
        Self { file, shared, scan: Scan::default(), sorted: None, sorter: None, spool: None }
    }

    fn run(mut self) -> Result<Scan, HistoryError> {
        let mut entries = self.open()?;
        let context = self.shared.context;
        let (until, ms_max) = (context.options.until, context.ms_max());
        loop {
            match entries.next(&context.names) {
                Ok(Found::Entry { line, stream, id }) if id.ms <= ms_max => {
                    let at = MergeKey { key: CanonicalKey::new(stream, id), file: self.file, number: entries.number };
                    self.scan.tally.count(at.key, until);
                    if self.shared.is_kept[usize::from(stream.0)] {
                        self.keep(at, entries.blocks.bytes(line.clone()))?;
                    }
                    self.order(at, &entries, line)?;
                }
                Ok(Found::Entry { .. }) => {}
                Ok(Found::Other(id)) => self.scan.tally.other_streams += u64::from(until.is_none_or(|u| id <= u)),
                Ok(Found::Bad(fault)) => {
                    self.scan.tally.bad_lines += 1;
                    if !context.options.skip_bad_lines {
                        let place = context.place(self.file, entries.number);
                        return Err(HistoryError::BadLine { place, why: fault.to_string() });
                    }
                }
                Ok(Found::End) => break,
                Err(error) => {
                    self.end_early(HistoryError::while_reading(context.file(self.file), entries.number, error))?;
                    break;
                }
            }
        }
        self.finish()
    }

    fn open(&mut self) -> Result<Entries, HistoryError> {
        let context = self.shared.context;
        let failed = |error| HistoryError::while_reading(context.file(self.file), 0, error);
        let opened = input::open(context.file(self.file)).map_err(failed)?;
        let mut bytes = opened.bytes;
        if !opened.is_regular {
            let spool = Spool::new(opened.is_zstd).map_err(|source| HistoryError::Temporary { source })?;
            bytes = spool.tee(bytes);
            self.spool = Some(spool);
        }
        input::decoded(bytes, opened.is_zstd)
            .map(|text| Entries::new(text, context.limits().line_bytes_max, true))
            .map_err(failed)
    }

    fn keep(&mut self, key: MergeKey, line: &[u8]) -> Result<(), HistoryError> {
        let bytes_max = self.shared.context.limits().kept_bytes_max;
        let more = line.len() as u64 + KEPT_LINE_BYTES;
        if self.shared.kept_bytes.fetch_add(more, Ordering::Relaxed) + more > bytes_max {
            let place = self.shared.context.place(key.file, key.number);
            return Err(HistoryError::TooManyKept { place, bytes_max });
        }
        self.scan.kept.push(KeptLine { key, bytes: line.into() });
        Ok(())
    }

    #[inline]
    fn order(&mut self, at: MergeKey, entries: &Entries, line: Range<usize>) -> Result<(), HistoryError> {
        match &mut self.sorted {
            Some(sorted) if self.sorter.is_none() && sorted.last.key <= at.key => {
                sorted.last = at;
                sorted.entries += 1;
                Ok(())
            }
            Some(_) => self.sort(at, entries.blocks.bytes(line)),
            None => {
                self.sorted = Some(Sorted { first: at, last: at, entries: 1 });
                Ok(())
            }
        }
    }

    #[cold]
    fn sort(&mut self, at: MergeKey, line: &[u8]) -> Result<(), HistoryError> {
        let shared = self.shared;
        let sorter = self.sorter.get_or_insert_with(|| {
            let file = shared.context.file(at.file);
            self.scan.notices.push(format!("{file} is not in canonical order: sorted"));
            Sorter::new(&shared.runs, shared.context.limits().run_bytes_max)
        });
        self.scan.parts.extend(sorter.push(at, line)?);
        Ok(())
    }

    /// A damaged end is one bad line; any other failure is one.
    fn end_early(&mut self, error: HistoryError) -> Result<(), HistoryError> {
        if !self.shared.context.options.skip_bad_lines || !matches!(error, HistoryError::Damaged { .. }) {
            return Err(error);
        }
        self.scan.tally.bad_lines += 1;
        self.scan.notices.push(error.to_string());
        Ok(())
    }

    fn finish(mut self) -> Result<Scan, HistoryError> {
        if let Some(mut sorter) = self.sorter {
            self.scan.parts.extend(sorter.flush()?);
        }
        let has_bad_lines = self.scan.tally.bad_lines > 0;
        let form = match self.spool {
            None => Form::File { has_bad_lines },
            Some(spool) => {
                let slice = spool.finish().map_err(|source| HistoryError::Temporary { source })?;
                Form::Copied { slice, has_bad_lines }
            }
        };
        if let Some(Sorted { first, last, entries }) = self.sorted {
            self.scan.parts.push(Part { form, first, last, entries });
        }
        Ok(self.scan)
    }
}
