//! The first pass over each file: counts, order, and the rare lines that are needed before all others.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::entries::{Entries, Found};
use super::error::HistoryError;
use super::input::{self, Coding};
use super::read_ahead::Ahead;
use super::sort::Sorter;
use super::source::{Context, Form, MergeKey, Part};
use super::spill::{Spill, Spool};
use crate::codec::line;
use crate::domain::event::ids::{EntryId, SortKey};

/// Files read at the same time. [1]
const THREADS: usize = 2;

/// Minimum memory that a kept line costs besides its bytes. [byte]
const KEPT_LINE_BYTES: u64 = 64;

/// The result of the first pass over one file, or over several.
#[derive(Default)]
pub(super) struct Scan {
    pub parts: Vec<Part>,
    pub counters: Counters,
    pub kept: Vec<KeptLine>,
    pub former: Vec<FormerDecision>,
    pub notices: Vec<String>,
    /// The facts about the file that a journal needs for the files before and after it.
    journal: Seen,
}

/// The facts about a file, independent of its bounds.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Its first entry.
    first: Option<SortKey>,
    /// Its last entry in canonical order.
    last: Option<SortKey>,
    /// Lines of any kind. [1]
    lines: u64,
    /// Share of the limit that its decision and control lines use. [byte]
    kept_bytes: u64,
}

/// A line of a kind that is needed before the replay starts.
pub(super) struct KeptLine {
    pub key: MergeKey,
    pub bytes: Box<[u8]>,
}

/// A line of a journal that may be a decision of a stream that is no longer configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerDecision {
    pub stream: Box<str>,
    pub id: EntryId,
    /// The JSON text without its line end.
    pub bytes: Box<[u8]>,
    /// The journal, by its place among those of the history.
    pub journal: usize,
}

/// Counts of a file, or of several.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub other_streams: u64,
    pub bad_lines: u64,
    /// Entries with ids up to the bound.
    within: u64,
    /// Entries in the millisecond of the bound with later ids, by stream.
    beside: Vec<u64>,
    /// The last entry, in canonical order, with an id up to the bound.
    pub last_within: Option<SortKey>,
}

impl Counters {
    #[inline]
    fn count(&mut self, key: SortKey, until: Option<EntryId>) {
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

    /// Returns the number of entries up to the last one within the bound, in canonical order.
    pub fn entries(&self, until: Option<EntryId>) -> u64 {
        match (until, self.last_within) {
            (Some(until), Some(last)) if last.ms == until.ms => {
                // Streams that sort before that of the last entry are read to the end of the millisecond.
                self.within + self.beside.iter().take(usize::from(last.stream.0)).sum::<u64>()
            }
            _ => self.within,
        }
    }
}

/// Scans the first files in parallel into one result with the kept lines in order. Of several failures, returns the one
/// of the first file.
pub(super) fn scan_first(files: usize, context: &Context) -> Result<Scan, HistoryError> {
    let shared = Shared { context, kept_bytes: AtomicU64::new(0), runs: Spill::default() };
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(usize::MAX);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let file = next.fetch_add(1, Ordering::Relaxed);
            if file >= files || file > failed.load(Ordering::Relaxed) {
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
        let workers: Vec<_> = (0..THREADS.min(files)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect::<Vec<_>>()
    });
    scans.sort_by_key(|(file, _)| *file);
    let mut scans = scans.into_iter().map(|(_, scan)| scan).collect::<Result<Vec<_>, _>>()?;
    for files in &context.journals {
        follow_on(files.clone(), &mut scans, &shared)?;
    }
    let mut all = Scan::default();
    for scan in scans {
        all.counters.add(&scan.counters);
        all.parts.extend(scan.parts);
        all.kept.extend(scan.kept);
        all.former.extend(scan.former);
        all.notices.extend(scan.notices);
    }
    all.kept.sort_by_key(|line| line.key);
    Ok(all)
}

/// Joins the files of a journal to one sequence. A file that begins with an entry from before the end of the previous
/// file is scanned again with that knowledge. Returns an error if entries between two files are missing.
fn follow_on(files: Range<u32>, scans: &mut [Scan], shared: &Shared<'_>) -> Result<(), HistoryError> {
    let mut reached = None;
    let mut next = None;
    for file in files {
        let scan = &mut scans[file as usize];
        let found = input::journal_file(shared.context.file(file)).map_or(0, |(_, first)| first);
        if let Some(before) = next.filter(|before| *before != found) {
            let gap = HistoryError::JournalGap { file: shared.context.file(file).to_string(), found, before };
            if !shared.context.options.skip_bad_lines {
                return Err(gap);
            }
            scan.notices.push(gap.to_string());
        }
        if scan.journal.first.is_some_and(|first| Some(first) < reached) {
            shared.kept_bytes.fetch_sub(scan.journal.kept_bytes, Ordering::Relaxed);
            *scan = FileScan { reached, ..FileScan::new(file, shared) }.run()?;
        }
        reached = reached.max(scan.journal.last);
        next = Some(found + scan.journal.lines);
    }
    Ok(())
}

struct Shared<'a> {
    context: &'a Context,
    kept_bytes: AtomicU64,
    runs: Spill,
}

/// The pass over one file.
struct FileScan<'a> {
    file: u32,
    shared: &'a Shared<'a>,
    scan: Scan,
    /// The start of the file that is in order, which is the whole file in most cases.
    sorted: Option<Sorted>,
    /// Takes the lines after the first one that is out of order.
    sorter: Option<Sorter<'a>>,
    spool: Option<Spool>,
    is_journal: bool,
    /// The current sort key of a journal. None of its lines is merged before this.
    reached: Option<SortKey>,
}

struct Sorted {
    first: MergeKey,
    last: MergeKey,
    entries: u64,
}

impl<'a> FileScan<'a> {
    fn new(file: u32, shared: &'a Shared<'a>) -> Self {
        let is_journal = shared.context.is_journal(file);
        let scan = Scan::default();
        Self { file, shared, scan, sorted: None, sorter: None, spool: None, is_journal, reached: None }
    }

    fn run(mut self) -> Result<Scan, HistoryError> {
        let mut entries = self.open()?;
        let context = self.shared.context;
        let (until, ms_max) = (context.options.until, context.ms_max());
        loop {
            match entries.next(&context.names) {
                Ok(Found::Entry { line, stream, id }) => {
                    let at = self.location(SortKey::new(stream, id), entries.number);
                    if at.key.ms > ms_max {
                        continue;
                    }
                    self.scan.counters.count(at.key, until);
                    if context.is_kept[usize::from(stream.0)] {
                        self.keep(at, entries.blocks.bytes(line.clone()))?;
                    }
                    self.order(at, &entries, line)?;
                }
                Ok(Found::Other { line, id }) => {
                    if until.is_none_or(|until| id <= until) {
                        self.scan.counters.other_streams += 1;
                        self.keep_former(id, entries.number, entries.blocks.bytes(line))?;
                    }
                }
                Ok(Found::Bad(fault)) => {
                    self.scan.counters.bad_lines += 1;
                    if !context.options.skip_bad_lines {
                        let location = context.location(self.file, entries.number);
                        return Err(HistoryError::BadLine { location, why: fault.to_string() });
                    }
                }
                Ok(Found::End) => break,
                Err(error) => {
                    self.end_early(HistoryError::while_reading(context.file(self.file), entries.number, error))?;
                    break;
                }
            }
        }
        // The last number belongs to the end of the file, not to a line.
        self.scan.journal.lines = entries.number.saturating_sub(1);
        self.finish()
    }

    #[inline]
    fn location(&mut self, entry: SortKey, number: u64) -> MergeKey {
        let mut key = entry;
        if self.is_journal {
            self.scan.journal.first.get_or_insert(entry);
            self.scan.journal.last = self.scan.journal.last.max(Some(entry));
            self.reached = self.reached.max(Some(entry));
            key = self.reached.unwrap_or(entry);
        }
        MergeKey { key, file: self.file, number, entry }
    }

    fn open(&mut self) -> Result<Entries, HistoryError> {
        let context = self.shared.context;
        let failed = |error| HistoryError::while_reading(context.file(self.file), 0, error);
        let opened = input::open(context.file(self.file)).map_err(failed)?;
        let mut bytes = opened.bytes;
        if !opened.is_regular {
            let spool =
                Spool::new(opened.coding == Coding::Zstd).map_err(|source| HistoryError::Temporary { source })?;
            bytes = spool.tee(bytes);
            self.spool = Some(spool);
        }
        let text = input::decoded(bytes, opened.coding).and_then(|text| {
            // If several files are scanned at the same time, the cores are busy already.
            let is_alone = context.files.len() == 1 && opened.is_regular && opened.coding != Coding::Plain;
            let ahead: Box<dyn Read + Send> = if is_alone { Box::new(Ahead::start(text)?) } else { text };
            Ok(ahead)
        });
        text.map(|text| Entries::new(text, context.limits().line_bytes_max, true)).map_err(failed)
    }

    fn keep(&mut self, key: MergeKey, line: &[u8]) -> Result<(), HistoryError> {
        self.count_kept(key.number, line)?;
        self.scan.kept.push(KeptLine { key, bytes: line.into() });
        Ok(())
    }

    /// Keeps a line of a stream that is not configured, if its journal has a decision there. The service that wrote the
    /// journal read that stream, and what it decided stays decided.
    fn keep_former(&mut self, id: EntryId, number: u64, line: &[u8]) -> Result<(), HistoryError> {
        let journal = self.shared.context.journals.iter().position(|files| files.contains(&self.file));
        let Some(journal) = journal.filter(|_| line::may_be_decision(line)) else { return Ok(()) };
        let Ok((stream, _)) = line::head(line) else { return Ok(()) };
        self.count_kept(number, line)?;
        self.scan.former.push(FormerDecision { stream: stream.into(), id, bytes: line.into(), journal });
        Ok(())
    }

    fn count_kept(&mut self, number: u64, line: &[u8]) -> Result<(), HistoryError> {
        let bytes_max = self.shared.context.limits().kept_bytes_max;
        let more = line.len() as u64 + KEPT_LINE_BYTES;
        self.scan.journal.kept_bytes += more;
        if self.shared.kept_bytes.fetch_add(more, Ordering::Relaxed) + more > bytes_max {
            let location = self.shared.context.location(self.file, number);
            return Err(HistoryError::TooManyKept { location, bytes_max });
        }
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

    /// Counts a damaged end as one bad line. Any other failure is returned.
    fn end_early(&mut self, error: HistoryError) -> Result<(), HistoryError> {
        if !self.shared.context.options.skip_bad_lines || !matches!(error, HistoryError::Damaged { .. }) {
            return Err(error);
        }
        self.scan.counters.bad_lines += 1;
        self.scan.notices.push(error.to_string());
        Ok(())
    }

    fn finish(mut self) -> Result<Scan, HistoryError> {
        if let Some(mut sorter) = self.sorter {
            self.scan.parts.extend(sorter.flush()?);
        }
        let has_bad_lines = self.scan.counters.bad_lines > 0;
        let form = match self.spool {
            None => Form::File { has_bad_lines },
            Some(spool) => {
                let slice = spool.finish().map_err(|source| HistoryError::Temporary { source })?;
                Form::Copied { slice, has_bad_lines }
            }
        };
        if let Some(Sorted { first, last, entries }) = self.sorted {
            self.scan.parts.push(Part { form, is_journal: self.is_journal, first, last, entries });
        }
        Ok(self.scan)
    }
}
