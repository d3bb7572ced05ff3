//! Sorted pieces of a history, and a reader for one of them.

use std::io::{self, Read};
use std::ops::Range;

use super::blocks::Blocks;
use super::entries::{Entries, Found, Names};
use super::error::HistoryError;
use super::input::{self, Coding, Input, Opened};
use super::options::{Limits, Options};
use super::spill::Slice;
use crate::domain::event::ids::{EntryId, SortKey, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};

/// The settings that every pass over a history needs.
pub(super) struct Context {
    pub files: Vec<Input>,
    /// Ranges of files that form one journal each. They are read one after another, in the order of their lines.
    pub journals: Vec<Range<u32>>,
    pub names: Names,
    /// By stream, true if its lines are needed before all others.
    pub is_kept: Vec<bool>,
    pub options: Options,
}

impl Context {
    pub fn new(files: Vec<Input>, journals: Vec<Range<u32>>, streams: &Streams, options: Options) -> Self {
        let is_kept = |kind| matches!(kind, StreamKind::Decision | StreamKind::Control);
        let is_kept = streams.iter().map(|(_, stream)| is_kept(stream.kind)).collect();
        Self { files, journals, names: Names::new(streams), is_kept, options }
    }

    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Returns the last millisecond that is read. [ms]
    pub fn ms_max(&self) -> u64 {
        self.options.until.map_or(u64::MAX, |until| until.ms)
    }

    pub fn file(&self, file: u32) -> &Input {
        &self.files[file as usize]
    }

    /// Returns true if the lines of a file are in the order in which they were applied, which is then kept.
    pub fn is_journal(&self, file: u32) -> bool {
        self.journals.iter().any(|files| files.contains(&file))
    }

    pub fn location(&self, file: u32, number: u64) -> String {
        format!("{}:{number}", self.file(file))
    }
}

/// The position of a line in the merge: canonical order, and for equal entries the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeKey {
    /// The sort key of its entry. In a journal, the sort key of the latest entry before it if that is later.
    pub key: SortKey,
    pub file: u32,
    pub number: u64,
    /// The sort key of the entry itself.
    pub entry: SortKey,
}

impl MergeKey {
    pub const MAX: Self = Self { key: LAST, file: u32::MAX, number: u64::MAX, entry: LAST };

    /// Returns the greatest merge key with this sort key.
    pub fn last_of(key: SortKey) -> Self {
        Self { key, ..Self::MAX }
    }

    pub fn id(&self) -> EntryId {
        EntryId::new(self.entry.ms, self.entry.seq)
    }
}

/// A key after all others.
const LAST: SortKey = SortKey { ms: u64::MAX, stream: StreamId(u16::MAX), seq: u64::MAX };

/// A piece of a history in canonical order, or a piece of a journal in the journal's own order.
pub(super) struct Part {
    pub form: Form,
    /// True if its lines keep their order, independent of their ids.
    pub is_journal: bool,
    pub first: MergeKey,
    pub last: MergeKey,
    /// Entries of configured streams up to the last millisecond that is read. [1]
    pub entries: u64,
}

/// The location of the lines of a part.
#[derive(Clone)]
pub(super) enum Form {
    /// From the start of a file. `has_bad_lines`: some lines there must be skipped.
    File { has_bad_lines: bool },
    /// The same in a copy of an input that could be read only once.
    Copied { slice: Slice, has_bad_lines: bool },
    /// Lines that we sorted, each after a [`Header`].
    Run(Slice),
}

/// The numbers before each line of a run, in little-endian order.
pub(super) struct Header {
    pub key: MergeKey,
    pub line_bytes: u32,
}

impl Header {
    pub const BYTES: usize = 52;

    pub fn write(&self, out: &mut Vec<u8>) {
        let MergeKey { key, file, number, entry } = self.key;
        for part in [key.ms, key.seq, entry.ms, entry.seq, number] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        out.extend_from_slice(&file.to_le_bytes());
        out.extend_from_slice(&self.line_bytes.to_le_bytes());
        out.extend_from_slice(&key.stream.0.to_le_bytes());
        out.extend_from_slice(&entry.stream.0.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            bytes[at..at + N].try_into().expect("a header has its full length")
        }
        let key = |at: usize, stream_at: usize| SortKey {
            ms: u64::from_le_bytes(array(bytes, at)),
            stream: StreamId(u16::from_le_bytes(array(bytes, stream_at))),
            seq: u64::from_le_bytes(array(bytes, at + 8)),
        };
        Self {
            key: MergeKey {
                key: key(0, 48),
                file: u32::from_le_bytes(array(bytes, 40)),
                number: u64::from_le_bytes(array(bytes, 32)),
                entry: key(16, 50),
            },
            line_bytes: u32::from_le_bytes(array(bytes, 44)),
        }
    }
}

/// One open part, at its current line.
pub(super) struct Source {
    lines: Lines,
    file: u32,
    pub key: MergeKey,
    line: Range<usize>,
    known: Known,
    is_journal: bool,
    ms_max: u64,
}

/// The entries that a part is known to contain.
enum Known {
    /// Remaining entries, as counted by an earlier pass. [1]
    Left(u64),
    /// No earlier pass: lines of streams that are not configured are counted now. [1]
    Nothing { others: u64 },
}

enum Lines {
    Text(Entries),
    Run(Blocks),
}

impl Source {
    /// Opens a part at its first line.
    pub fn open(part: &Part, context: &Context) -> Result<Self, HistoryError> {
        let file = part.first.file;
        let lines = lines(part, context).map_err(|error| HistoryError::while_reading(context.file(file), 0, error))?;
        let (known, is_journal, ms_max) = (Known::Left(part.entries), part.is_journal, context.ms_max());
        let mut source = Self { lines, file, key: part.first, line: 0..0, known, is_journal, ms_max };
        if source.advance(context)? && source.key == part.first {
            Ok(source)
        } else {
            Err(source.is_unexpected(context))
        }
    }

    /// Opens a file that was not read before at its first line, if it has one. `opened` contains the file.
    pub fn open_unread(file: u32, opened: Opened, context: &Context) -> Result<Option<Self>, HistoryError> {
        let text = input::decoded(opened.bytes, opened.coding);
        let text = text.map_err(|error| HistoryError::while_reading(context.file(file), 0, error))?;
        let lines = Lines::Text(Entries::new(text, context.limits().line_bytes_max, true));
        let before = SortKey { ms: 0, stream: StreamId(0), seq: 0 };
        let key = MergeKey { key: before, file, number: 0, entry: before };
        let (known, ms_max) = (Known::Nothing { others: 0 }, context.ms_max());
        let mut source = Self { lines, file, key, line: 0..0, known, is_journal: false, ms_max };
        Ok(source.advance(context)?.then_some(source))
    }

    /// Returns the number of lines of streams that are not configured, if no earlier pass has counted them. [1]
    pub fn others(&self) -> u64 {
        match self.known {
            Known::Left(_) => 0,
            Known::Nothing { others } => others,
        }
    }

    /// Moves to the next line. Returns false at the end of the part.
    #[inline]
    pub fn advance(&mut self, context: &Context) -> Result<bool, HistoryError> {
        match &mut self.known {
            Known::Left(0) => return Ok(false),
            Known::Left(left) => *left -= 1,
            Known::Nothing { .. } => {}
        }
        let before = self.key.key;
        // In a single pass, a line that is not plain, or a damaged end, requires a restart in two passes.
        let is_unread = matches!(self.known, Known::Nothing { .. });
        match &mut self.lines {
            Lines::Text(entries) => {
                entries.blocks.mark(self.line.clone());
                loop {
                    match entries.next(&context.names) {
                        Ok(Found::Entry { line, stream, id }) => {
                            if is_unread && context.is_kept[usize::from(stream.0)] {
                                return Err(self.is_unexpected(context));
                            }
                            let entry = SortKey::new(stream, id);
                            let key = if self.is_journal { entry.max(before) } else { entry };
                            if key.ms <= self.ms_max {
                                self.line = line;
                                self.key = MergeKey { key, file: self.file, number: entries.number, entry };
                                break;
                            }
                        }
                        Ok(Found::Other { .. }) => {
                            if let Known::Nothing { others } = &mut self.known {
                                *others += 1;
                            }
                        }
                        Ok(Found::End) if is_unread => return Ok(false),
                        Ok(Found::Bad(_)) if context.options.skip_bad_lines && !is_unread => {}
                        Ok(Found::Bad(_) | Found::End) => return Err(self.is_unexpected(context)),
                        Err(_) if is_unread => return Err(self.is_unexpected(context)),
                        Err(error) => {
                            let whole_lines = entries.number;
                            return Err(HistoryError::while_reading(context.file(self.file), whole_lines, error));
                        }
                    }
                }
                if self.key.key < before { Err(self.is_unexpected(context)) } else { Ok(true) }
            }
            Lines::Run(blocks) => {
                blocks.mark(self.line.clone());
                let (key, line) = next_of_run(blocks).map_err(|source| HistoryError::Temporary { source })?;
                self.key = key;
                self.line = line;
                Ok(true)
            }
        }
    }

    #[inline]
    pub fn line(&self) -> &[u8] {
        self.blocks().bytes(self.line.clone())
    }

    /// Returns the previous line.
    pub fn former(&self) -> &[u8] {
        self.blocks().marked()
    }

    #[inline]
    fn blocks(&self) -> &Blocks {
        match &self.lines {
            Lines::Text(entries) => &entries.blocks,
            Lines::Run(blocks) => blocks,
        }
    }

    /// Returns the error for content that differs from the first pass, or that a single pass cannot handle.
    #[cold]
    fn is_unexpected(&self, context: &Context) -> HistoryError {
        let file = context.file(self.file).to_string();
        match self.known {
            Known::Left(_) => HistoryError::Changed { file },
            Known::Nothing { .. } => HistoryError::NotPlain { file },
        }
    }
}

fn lines(part: &Part, context: &Context) -> io::Result<Lines> {
    let line_bytes_max = context.limits().line_bytes_max;
    let text = |bytes: Box<dyn Read + Send>, coding: Coding, has_bad_lines: bool| {
        Ok(Lines::Text(Entries::new(input::decoded(bytes, coding)?, line_bytes_max, has_bad_lines)))
    };
    match &part.form {
        Form::File { has_bad_lines } => {
            let opened = input::open(context.file(part.first.file))?;
            text(opened.bytes, opened.coding, *has_bad_lines)
        }
        Form::Copied { slice, has_bad_lines } => text(Box::new(slice.clone()), Coding::Zstd, *has_bad_lines),
        Form::Run(slice) => {
            let decoded = input::decoded(Box::new(slice.clone()), Coding::Zstd)?;
            Ok(Lines::Run(Blocks::new(decoded, line_bytes_max)))
        }
    }
}

fn next_of_run(blocks: &mut Blocks) -> io::Result<(MergeKey, Range<usize>)> {
    let header = blocks.next_bytes(Header::BYTES)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let header = Header::read(blocks.bytes(header));
    let line = blocks.next_bytes(header.line_bytes as usize)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((header.key, line))
}
