//! An open history: its counts, and its lines one by one.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::duplicates::Duplicates;
use super::error::HistoryError;
use super::input::{self, Counted, Input, Opened};
use super::merge::Merge;
use super::options::Options;
use super::scan::{self, Counters, FormerDecision, KeptLine, Scan};
use super::sort;
use super::source::{Context, MergeKey, Source};
use crate::domain::event::ids::{EntryId, SortKey, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};

/// Maximum number of files that a single pass keeps open. Each may take 8 MiB to decompress. [1]
const PLAIN_FILES_MAX: usize = 4;

/// The amount to read.
#[derive(Clone, Debug)]
pub enum Extent {
    /// Number of entries. [1]
    Entries(u64),
    /// Total size of the files, and the bytes read so far. [byte]
    Bytes { total: u64, read: Arc<AtomicU64> },
}

/// One entry as it is written in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The JSON text without its line end.
    pub bytes: &'a [u8],
    pub stream: StreamId,
    pub id: EntryId,
    /// Its sort key in the merge. In a journal, the sort key of the latest entry before it if that is later.
    pub key: SortKey,
    /// The file, for [`History::location`].
    pub file: u32,
    /// Line number in the file, from 1. [1]
    pub number: u64,
    /// True if the previous line is the same entry.
    pub duplicate: bool,
}

impl<'a> Line<'a> {
    fn new(at: MergeKey, bytes: &'a [u8], duplicate: bool) -> Self {
        Self { bytes, stream: at.entry.stream, id: at.id(), key: at.key, file: at.file, number: at.number, duplicate }
    }
}

/// Files, folders and standard input as one sequence of lines in canonical order.
///
/// A journal (recognised by its file names) keeps its own order, in which its entries were applied: an entry with a
/// smaller sort key than an earlier one gets the sort key of that one. All bounds and sort keys follow this rule.
///
/// ```
/// use harvester::domain::event::streams::Streams;
/// use harvester::shell::history::{History, Input, Options};
///
/// let line = |stream: &str, id: &str| format!(r#"{{"stream":"quantum:stream:{stream}","id":"{id}","fields":{{}}}}"#);
/// let folder = tempfile::tempdir()?;
/// let ticks = line("market.tick", "1000-0") + "\n" + &line("market.tick", "3000-0");
/// std::fs::write(folder.path().join("a.jsonl"), ticks)?;
/// std::fs::write(folder.path().join("b.jsonl"), line("apply.plan", "2000-0"))?;
///
/// // 1000 ms and 3000 ms from one file, 2000 ms from the other
/// let inputs = [Input::Path(folder.path().to_owned())];
/// let mut history = History::open(&inputs, &Streams::default(), Options::default())?;
/// let mut read = Vec::new();
/// while let Some(line) = history.next_line()? {
///     read.push(line.id.to_string());
/// }
/// assert_eq!(read, ["1000-0", "2000-0", "3000-0"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct History {
    context: Context,
    streams: Streams,
    merge: Merge,
    /// The last line to be read, if reading has a bound.
    end: MergeKey,
    counters: Counters,
    /// The first entry, and the last one if it is known before it is reached.
    range: (Option<SortKey>, Option<SortKey>),
    extent: Extent,
    kept: Vec<KeptLine>,
    former: Vec<FormerDecision>,
    /// The journal whose former decisions count, if one is chosen among several.
    former_of: Option<usize>,
    notices: Vec<String>,
    duplicates: Duplicates,
    yielded: u64,
}

impl History {
    /// Reads all inputs once, to find their order and counts. Lines that are out of order are sorted into temporary
    /// files.
    pub fn open(inputs: &[Input], streams: &Streams, options: Options) -> Result<Self, HistoryError> {
        let (files, journals) = input::expand(inputs)?;
        let context = Context::new(files, journals, streams, options);
        let Scan { mut parts, counters, mut kept, former, notices, .. } =
            scan::scan_first(context.files.len(), &context)?;
        let until = context.options.until;
        let end = match until {
            None => parts.iter().map(|part| part.last.key).max(),
            Some(_) => counters.last_within,
        };
        parts.retain(|part| Some(part.first.key) <= end);
        kept.retain(|line: &KeptLine| Some(line.key.key) <= end);
        let first = parts.iter().map(|part| part.first.key).min();
        Ok(Self {
            merge: Merge::new(sort::with_few_open(parts, &context)?),
            context,
            streams: streams.clone(),
            end: end.map_or(MergeKey::MAX, MergeKey::last_of),
            range: (first, first.and(end)),
            extent: Extent::Entries(counters.entries(until)),
            counters,
            kept,
            former,
            former_of: None,
            notices,
            duplicates: Duplicates::default(),
            yielded: 0,
        })
    }

    /// Reads the files in a single pass. Returns `None` if that cannot be enough: there is a bound, a journal, an input
    /// that can be read only once, or more files than may be open. Other files, such as those of decisions, can be read
    /// before it with [`Self::open`].
    ///
    /// A single pass assumes the results of the first pass of [`Self::open`]: every line is an entry, each file is in
    /// canonical order, and none contains an entry of a decision or control stream, which earlier entries may depend
    /// on. The first line that differs returns [`HistoryError::NotPlain`]. Then all earlier lines are invalid, and the
    /// caller must use [`Self::open`].
    pub fn in_one_pass(
        inputs: &[Input],
        read_before: &[Input],
        streams: &Streams,
        options: Options,
    ) -> Result<Option<Self>, HistoryError> {
        let (mut files, mut journals) =
            if read_before.is_empty() { Default::default() } else { input::expand(read_before)? };
        let scanned = files.len();
        let unread = input::expand(inputs)?;
        files.extend(unread.0);
        journals.extend(unread.1);
        if options.until.is_some() || !journals.is_empty() || files.len() > scanned + PLAIN_FILES_MAX {
            return Ok(None);
        }
        let context = Context::new(files, journals, streams, options);
        let Scan { parts, counters, kept, former, notices, .. } = scan::scan_first(scanned, &context)?;
        let (mut sources, mut total, read) = (Vec::new(), 0, Arc::new(AtomicU64::new(0)));
        for (file, input) in context.files.iter().enumerate().skip(scanned) {
            let failed = |error| HistoryError::while_reading(input, 0, error);
            let Some(bytes) = input.regular_size().map_err(failed)? else { return Ok(None) };
            total += bytes;
            let Opened { bytes, coding, is_regular } = input::open(input).map_err(failed)?;
            let opened = Opened { bytes: Box::new(Counted { bytes, count: Arc::clone(&read) }), coding, is_regular };
            match Source::open_unread(file as u32, opened, &context) {
                Ok(source) => sources.extend(source),
                Err(HistoryError::NotPlain { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let firsts = sources.iter().map(|source| source.key.key).chain(parts.iter().map(|part| part.first.key));
        Ok(Some(Self {
            range: (firsts.min(), None),
            merge: Merge::with_open(sort::with_few_open(parts, &context)?, sources),
            context,
            streams: streams.clone(),
            end: MergeKey::MAX,
            counters,
            extent: Extent::Bytes { total, read },
            kept,
            former,
            former_of: None,
            notices,
            duplicates: Duplicates::default(),
            yielded: 0,
        }))
    }

    /// Returns true if it is read in a single pass, as [`Self::in_one_pass`] does.
    pub fn is_in_one_pass(&self) -> bool {
        matches!(self.extent, Extent::Bytes { .. })
    }

    /// Returns the next line. After an error the history is unusable.
    #[inline]
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, HistoryError> {
        let Some(merged) = self.merge.next(&self.context)?.filter(|merged| merged.key <= self.end) else {
            return Ok(None);
        };
        if let Some(former) = merged.duplicate {
            self.duplicates.compare(former, (merged.key, merged.bytes), &self.context);
        }
        self.yielded += 1;
        Ok(Some(Line::new(merged.key, merged.bytes, merged.duplicate.is_some())))
    }

    /// Returns the amount to read.
    pub fn extent(&self) -> &Extent {
        &self.extent
    }

    /// Returns the total number of entries of [`Self::next_line`]; unknown in a single pass. [1]
    pub fn total_entries(&self) -> Option<u64> {
        match self.extent {
            Extent::Entries(entries) => Some(entries),
            Extent::Bytes { .. } => None,
        }
    }

    /// Returns the number of entries that [`Self::next_line`] has returned so far. [1]
    pub fn yielded(&self) -> u64 {
        self.yielded
    }

    /// Returns the number of skipped entries of streams that are not configured; in a single pass, those so far. [1]
    pub fn other_streams(&self) -> u64 {
        self.counters.other_streams + self.merge.other_lines()
    }

    /// Returns the number of skipped lines that are not entries. [1]
    pub fn bad_lines(&self) -> u64 {
        self.counters.bad_lines
    }

    /// Returns the first entry in canonical order.
    pub fn first(&self) -> Option<SortKey> {
        self.range.0
    }

    /// Returns the last entry in canonical order; unknown in a single pass.
    pub fn last(&self) -> Option<SortKey> {
        self.range.1
    }

    /// Returns all entries of decision streams in canonical order, independent of the read position.
    pub fn decision_lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.kept_lines(StreamKind::Decision)
    }

    /// Returns all entries of control streams in canonical order, independent of the read position.
    pub fn control_lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.kept_lines(StreamKind::Control)
    }

    /// Returns the lines of the journal that may be decisions of streams that are no longer configured. Of several journals
    /// there are none unless one is chosen: such a line may then be of a stream that another service writes.
    pub fn former_decisions(&self) -> impl Iterator<Item = &FormerDecision> {
        let journal = self.former_of.or_else(|| (self.context.journals.len() == 1).then_some(0));
        self.former.iter().filter(move |decision| Some(decision.journal) == journal)
    }

    /// Chooses the journal of [`Self::former_decisions`], by its place among the journals that were given.
    #[must_use]
    pub fn with_former_of(self, journal: usize) -> Self {
        Self { former_of: Some(journal), ..self }
    }

    /// Returns these lines of all journals.
    pub fn former_decisions_of_all(&self) -> &[FormerDecision] {
        &self.former
    }

    fn kept_lines(&self, kind: StreamKind) -> impl Iterator<Item = Line<'_>> {
        let is_duplicate = |i: usize| i > 0 && self.kept[i - 1].key.entry == self.kept[i].key.entry;
        let lines = self.kept.iter().enumerate();
        lines
            .filter(move |(_, line)| self.streams.kind(line.key.entry.stream) == kind)
            .map(move |(i, line)| Line::new(line.key, &line.bytes, is_duplicate(i)))
    }

    /// Returns the notices about the files. Duplicates that differ are added while they are read.
    pub fn notices(&self) -> Vec<String> {
        self.notices.iter().cloned().chain(self.duplicates.notices()).collect()
    }

    /// Returns, by file, the position of its first line in the journal, if exactly one journal is part of the history.
    /// The position of a line is this number plus its line number, minus one.
    pub fn journal_firsts(&self) -> Vec<Option<u64>> {
        let is_one = self.context.journals.len() == 1;
        let first = |(file, input)| input::journal_file(input).filter(|_| is_one && self.context.is_journal(file));
        self.context
            .files
            .iter()
            .enumerate()
            .map(|(i, input)| first((i as u32, input)).map(|(_, first)| first))
            .collect()
    }

    /// Returns the input of a line by the number of its file.
    pub fn input(&self, file: u32) -> &Input {
        self.context.file(file)
    }

    /// Returns the location of a line as `FILE:LINE`.
    pub fn location(&self, file: u32, number: u64) -> String {
        self.context.location(file, number)
    }
}
