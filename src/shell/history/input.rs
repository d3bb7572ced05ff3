//! The inputs of a history: files, folders and standard input, plain or compressed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::blocks::{Blocks, Piece};
use super::error::HistoryError;
use super::options::Limits;
use crate::codec::{bounded, journal};

/// Bytes per read of a compressed file. [byte]
const COMPRESSED_READ_BYTES: usize = 128 * 1024;

/// One input of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, or a folder that includes every `*.jsonl` and `*.jsonl.zst` below it.
    Path(PathBuf),
    Stdin,
}

impl Input {
    /// Returns the size of a regular file, which can be opened again; `None` for anything else. [byte]
    pub(super) fn regular_size(&self) -> io::Result<Option<u64>> {
        match self {
            Self::Stdin => Ok(None),
            Self::Path(path) => Ok(Some(fs::metadata(path)?).filter(fs::Metadata::is_file).map(|meta| meta.len())),
        }
    }
}

impl From<&str> for Input {
    fn from(name: &str) -> Self {
        PathBuf::from(name).into()
    }
}

impl From<PathBuf> for Input {
    /// `-` is standard input.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::Path(path) }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("-"),
        }
    }
}

/// Decompresses and splits into lines, and nothing else. The speed of reading is compared with this. (bytes, lines)
pub fn raw_scan(inputs: &[Input]) -> Result<(u64, u64), HistoryError> {
    let (mut bytes, mut lines) = (0, 0);
    for file in expand(inputs)?.0 {
        let failed = |at, error| HistoryError::while_reading(&file, at, error);
        let text = open(&file).and_then(|opened| decoded(opened.bytes, opened.coding)).map_err(|e| failed(0, e))?;
        let mut blocks = Blocks::new(text, Limits::default().line_bytes_max);
        loop {
            match blocks.next_line().map_err(|e| failed(lines, e))? {
                Piece::Line(line) => bytes += line.len() as u64 + 1,
                Piece::TooLong => {}
                Piece::End => break,
            }
            lines += 1;
        }
    }
    Ok((bytes, lines))
}

/// Returns the files of all inputs, those of a folder sorted by path, and the ranges of files that form one journal.
pub(super) fn expand(inputs: &[Input]) -> Result<(Vec<Input>, Vec<Range<u32>>), HistoryError> {
    if inputs.is_empty() {
        return Err(HistoryError::NoInputs);
    }
    if inputs.iter().filter(|input| **input == Input::Stdin).count() > 1 {
        return Err(HistoryError::StdinTwice);
    }
    let mut files = Vec::new();
    for input in inputs {
        match input {
            Input::Path(path) if metadata(path)?.is_dir() => files.extend(folder(path)?.into_iter().map(Input::Path)),
            Input::Path(_) | Input::Stdin => files.push(input.clone()),
        }
    }
    with_journals_together(files)
}

/// Places the files of each journal one after another, in its order, at the position of the first one that was named.
fn with_journals_together(files: Vec<Input>) -> Result<(Vec<Input>, Vec<Range<u32>>), HistoryError> {
    let mut folders: Vec<(PathBuf, BTreeMap<u64, PathBuf>)> = Vec::new();
    let mut places: Vec<Result<Input, usize>> = Vec::new();
    for file in files {
        let Some((path, first)) = journal_file(&file) else {
            places.push(Ok(file));
            continue;
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let real = fs::canonicalize(folder).map_err(|source| unreadable(folder, source))?;
        let known = folders.iter().position(|(folder, _)| *folder == real).unwrap_or_else(|| {
            folders.push((real, BTreeMap::new()));
            places.push(Err(folders.len() - 1));
            folders.len() - 1
        });
        folders[known].1.insert(first, path.to_owned());
    }
    let (mut files, mut journals) = (Vec::new(), Vec::new());
    for location in places {
        match location {
            Ok(file) => files.push(file),
            Err(folder) => {
                let begin = files.len() as u32;
                files.extend(std::mem::take(&mut folders[folder].1).into_values().map(Input::Path));
                journals.push(begin..files.len() as u32);
            }
        }
    }
    Ok((files, journals))
}

/// Returns path and position of a file whose name is that of a journal file.
pub(super) fn journal_file(file: &Input) -> Option<(&Path, u64)> {
    match file {
        Input::Path(path) => Some((path, journal::first_of_name(path.file_name()?.to_str()?)?)),
        Input::Stdin => None,
    }
}

fn folder(path: &Path) -> Result<Vec<PathBuf>, HistoryError> {
    let mut files = Vec::new();
    walk(path, &mut Vec::new(), &mut files)?;
    if files.is_empty() {
        return Err(HistoryError::EmptyFolder(path.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// Collects the files of a folder. `above` contains the real paths of the parent folders: a link to one of them is not
/// followed.
fn walk(path: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<(), HistoryError> {
    let failed = |source| unreadable(path, source);
    let real = fs::canonicalize(path).map_err(failed)?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    for entry in fs::read_dir(path).map_err(failed)? {
        let child = entry.map_err(failed)?.path();
        if is_history_name(&child) && !metadata(&child)?.is_dir() {
            files.push(child);
        } else if child.is_dir() {
            walk(&child, above, files)?;
        }
    }
    above.pop();
    Ok(())
}

fn is_history_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".jsonl") || name.ends_with(b".jsonl.zst")
}

fn metadata(path: &Path) -> Result<fs::Metadata, HistoryError> {
    fs::metadata(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> HistoryError {
    HistoryError::Unreadable { file: path.display().to_string(), source }
}

/// Counts the bytes that pass through it, for the progress display.
pub(super) struct Counted<R> {
    pub bytes: R,
    pub count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// The bytes of an input, compressed or not.
pub(super) struct Opened {
    pub bytes: Box<dyn Read + Send>,
    pub coding: Coding,
    /// True if it can be opened again. A pipe can be read only once.
    pub is_regular: bool,
}

/// The encoding of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Zstd,
    /// The file that a journal writes to, up to its last commit. Its last frame has not ended.
    UnendedZstd,
}

pub(super) fn open(input: &Input) -> io::Result<Opened> {
    if let Some(opened) = growing(input)? {
        return Ok(opened);
    }
    let (mut bytes, is_regular, is_named_zst): (Box<dyn Read + Send>, bool, bool) = match input {
        Input::Stdin => (Box::new(io::stdin()), false, false),
        Input::Path(path) => {
            let file = File::open(path)?;
            let is_regular = file.metadata()?.is_file();
            (Box::new(file), is_regular, path.extension().is_some_and(|e| e == "zst"))
        }
    };
    let mut start = Vec::with_capacity(4);
    bytes.by_ref().take(4).read_to_end(&mut start)?;
    // An empty file has no frames: nothing was written to it yet.
    let is_zstd = is_zstd_magic(&start) || is_named_zst && !start.is_empty();
    let coding = if is_zstd { Coding::Zstd } else { Coding::Plain };
    Ok(Opened { bytes: Box::new(io::Cursor::new(start).chain(bytes)), coding, is_regular })
}

/// Opens a journal file that is not closed, up to its last commit. Later bytes were never acknowledged.
fn growing(input: &Input) -> io::Result<Option<Opened>> {
    let Some((path, _)) = journal_file(input) else { return Ok(None) };
    let file = File::open(path)?;
    let mut bytes = [0; journal::HEAD_BYTES];
    for _ in 0..journal::HEAD_TRIES {
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            // A file with the name of a journal file and other content is read as any other file.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        match journal::Head::read(&bytes) {
            Ok(journal::Head { commits: Some([a, b]), .. }) => {
                let bytes = Box::new(file.take(a.len.max(b.len)));
                return Ok(Some(Opened { bytes, coding: Coding::UnendedZstd, is_regular: true }));
            }
            Ok(journal::Head { commits: None, .. }) | Err(journal::Fault::NoHead) => return Ok(None),
            // Its writer may be in the middle of a commit.
            Err(_) => {}
        }
    }
    Err(io::Error::other(journal::Fault::Head))
}

/// Returns true at the start of a frame, or of a skippable frame as parallel compressors write them.
fn is_zstd_magic(start: &[u8]) -> bool {
    start == [0x28, 0xB5, 0x2F, 0xFD] || matches!(start, [0x50..=0x5F, 0x2A, 0x4D, 0x18])
}

pub(super) fn decoded(bytes: Box<dyn Read + Send>, coding: Coding) -> io::Result<Box<dyn Read + Send>> {
    if coding == Coding::Plain {
        return Ok(bytes);
    }
    let buffered = BufReader::with_capacity(COMPRESSED_READ_BYTES, bytes);
    let text = Box::new(bounded::decompress(buffered)?);
    Ok(if coding == Coding::UnendedZstd { Box::new(Unended(text)) } else { text })
}

/// Text that ends at the last commit of its file, in the middle of a frame.
struct Unended(Box<dyn Read + Send>);

impl Read for Unended {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }
}
