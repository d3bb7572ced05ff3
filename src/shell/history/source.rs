//! Sorted pieces of a history and the reading of one of them.

use std::io::{self, Read};
use std::ops::Range;

use super::blocks::Blocks;
use super::entries::{Entries, Found, Names};
use super::error::HistoryError;
use super::input::{self, Input};
use super::reader::{Limits, Options};
use super::spill::Slice;
use crate::domain::ids::{CanonicalKey, EntryId, StreamId};

/// What every pass over a history needs to know.
pub(super) struct Context {
    pub files: Vec<Input>,
    pub names: Names,
    pub options: Options,
}

impl Context {
    pub fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// The last millisecond that is read. [ms]
    pub fn ms_max(&self) -> u64 {
        self.options.until.map_or(u64::MAX, |until| until.ms)
    }

    pub fn file(&self, file: u32) -> &Input {
        &self.files[file as usize]
    }

    pub fn place(&self, file: u32, number: u64) -> String {
        format!("{}:{number}", self.file(file))
    }
}

/// Where a line stands in the merge: canonical order, and between equal entries the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MergeKey {
    pub key: CanonicalKey,
    pub file: u32,
    pub number: u64,
}

impl MergeKey {
    pub const MAX: Self = Self {
        key: CanonicalKey { ms: u64::MAX, stream: StreamId(u16::MAX), seq: u64::MAX },
        file: u32::MAX,
        number: u64::MAX,
    };

    /// Where the last line with this key can stand.
    pub fn last_of(key: CanonicalKey) -> Self {
        Self { key, ..Self::MAX }
    }

    pub fn id(&self) -> EntryId {
        EntryId::new(self.key.ms, self.key.seq)
    }
}

/// A piece of a history that is in canonical order.
pub(super) struct Part {
    pub form: Form,
    pub first: MergeKey,
    pub last: MergeKey,
    /// Entries of configured streams up to the last millisecond that is read. [1]
    pub entries: u64,
}

/// Where the lines of a part are.
#[derive(Clone)]
pub(super) enum Form {
    /// From the start of a file; `has_bad_lines`: some lines there are to be passed over.
    File { has_bad_lines: bool },
    /// The same in a copy of what could be read only once.
    Copied { slice: Slice, has_bad_lines: bool },
    /// Lines sorted by us, each behind a [`Header`].
    Run(Slice),
}

/// What stands before each line of a run, as numbers in little-endian order.
pub(super) struct Header {
    pub key: MergeKey,
    pub line_bytes: u32,
}

impl Header {
    pub const BYTES: usize = 34;

    pub fn write(&self, out: &mut Vec<u8>) {
        let MergeKey { key, file, number } = self.key;
        out.extend_from_slice(&key.ms.to_le_bytes());
        out.extend_from_slice(&key.seq.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&file.to_le_bytes());
        out.extend_from_slice(&self.line_bytes.to_le_bytes());
        out.extend_from_slice(&key.stream.0.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            bytes[at..at + N].try_into().expect("a header has its full length")
        }
        let (ms, seq) = (u64::from_le_bytes(array(bytes, 0)), u64::from_le_bytes(array(bytes, 8)));
        let stream = StreamId(u16::from_le_bytes(array(bytes, 32)));
        Self {
            key: MergeKey {
                key: CanonicalKey { ms, stream, seq },
                file: u32::from_le_bytes(array(bytes, 24)),
                number: u64::from_le_bytes(array(bytes, 16)),
            },
            line_bytes: u32::from_le_bytes(array(bytes, 28)),
        }
    }
}

/// One open part, standing at a line.
pub(super) struct Source {
    lines: Lines,
    file: u32,
    pub key: MergeKey,
    line: Range<usize>,
    /// Entries not yet reached. [1]
    left: u64,
    ms_max: u64,
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
        let (left, ms_max) = (part.entries, context.ms_max());
        let mut source = Self { lines, file, key: part.first, line: 0..0, left, ms_max };
        if source.advance(context)? && source.key == part.first { Ok(source) } else { Err(source.changed(context)) }
    }

    /// Goes to the next line; false at the end of the part.
    #[inline]
    pub fn advance(&mut self, context: &Context) -> Result<bool, HistoryError> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        let before = self.key.key;
        match &mut self.lines {
            Lines::Text(entries) => {
                entries.blocks.mark(self.line.clone());
                loop {
                    match entries.next(&context.names) {
                        Ok(Found::Entry { line, stream, id }) if id.ms <= self.ms_max => {
                            self.line = line;
                            self.key.key = CanonicalKey::new(stream, id);
                            self.key.number = entries.number;
                            break;
                        }
                        Ok(Found::Entry { .. } | Found::Other(_)) => {}
                        Ok(Found::Bad(_)) if context.options.skip_bad_lines => {}
                        Ok(Found::Bad(_) | Found::End) => return Err(self.changed(context)),
                        Err(error) => {
                            let whole_lines = entries.number;
                            return Err(HistoryError::while_reading(context.file(self.file), whole_lines, error));
                        }
                    }
                }
                if self.key.key < before { Err(self.changed(context)) } else { Ok(true) }
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

    /// The line before this one.
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

    #[cold]
    fn changed(&self, context: &Context) -> HistoryError {
        HistoryError::Changed { file: context.file(self.file).to_string() }
    }
}

fn lines(part: &Part, context: &Context) -> io::Result<Lines> {
    let line_bytes_max = context.limits().line_bytes_max;
    let text = |bytes: Box<dyn Read + Send>, is_zstd: bool, has_bad_lines: bool| {
        Ok(Lines::Text(Entries::new(input::decoded(bytes, is_zstd)?, line_bytes_max, has_bad_lines)))
    };
    match &part.form {
        Form::File { has_bad_lines } => {
            let opened = input::open(context.file(part.first.file))?;
            text(opened.bytes, opened.is_zstd, *has_bad_lines)
        }
        Form::Copied { slice, has_bad_lines } => text(Box::new(slice.clone()), true, *has_bad_lines),
        Form::Run(slice) => Ok(Lines::Run(Blocks::new(input::decoded(Box::new(slice.clone()), true)?, line_bytes_max))),
    }
}

fn next_of_run(blocks: &mut Blocks) -> io::Result<(MergeKey, Range<usize>)> {
    let header = blocks.next_bytes(Header::BYTES)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let header = Header::read(blocks.bytes(header));
    let line = blocks.next_bytes(header.line_bytes as usize)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((header.key, line))
}
