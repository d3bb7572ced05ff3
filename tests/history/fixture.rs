//! Temporary folders with histories, for the tests that read histories.

use std::fs;
use std::path::{Path, PathBuf};

use harvester::domain::event::streams::Streams;
use harvester::shell::history::{History, HistoryError, Input, Options};
use tempfile::TempDir;

pub const CONTROL: &str = "quantum:stream:harvest.control";
pub const INTENT: &str = "quantum:stream:trade.intent";
pub const RESULT: &str = "quantum:stream:apply.result";
pub const PRICE: &str = "quantum:stream:market.tick";
pub const DECISION: &str = "quantum:stream:harvest.decision";

/// A temporary folder with histories in it.
pub struct Folder(TempDir);

impl Folder {
    pub fn temporary() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file with exactly these bytes.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes lines, compressed if the name ends in `.zst`.
    pub fn lines<L: AsRef<str>>(&self, name: &str, lines: &[L]) -> PathBuf {
        let text: String = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        if name.ends_with(".zst") { self.write(name, zstd(text.as_bytes())) } else { self.write(name, text) }
    }
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub fn entry(stream: &str, id: &str) -> String {
    entry_with_value(stream, id, "v")
}

pub fn entry_with_value(stream: &str, id: &str, value: &str) -> String {
    format!(r#"{{"stream":"{stream}","id":"{id}","fields":{{"k":"{value}"}}}}"#)
}

pub fn open(paths: &[&Path], options: Options) -> Result<History, HistoryError> {
    let inputs: Vec<_> = paths.iter().map(|path| Input::from(path.to_path_buf())).collect();
    History::open(&inputs, &Streams::default(), options)
}

/// Opens histories that must open, with default options.
pub fn opened(paths: &[&Path]) -> History {
    open(paths, Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

pub fn skipping_bad_lines() -> Options {
    Options { skip_bad_lines: true, ..Options::default() }
}

/// Returns all lines that are left.
pub fn texts(history: &mut History) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = history.next_line().unwrap_or_else(|error| panic!("{error}")) {
        lines.push(String::from_utf8(line.bytes.to_vec()).unwrap());
    }
    assert_eq!(history.yielded(), lines.len() as u64);
    assert_eq!(history.total_entries(), Some(lines.len() as u64));
    lines
}

/// Returns all lines that are left, by name: `market.tick 5-0 FILE:LINE`, with `duplicate` after it if the line is
/// one.
pub fn names(history: &mut History) -> Vec<String> {
    let streams = Streams::default();
    let mut lines = Vec::new();
    while let Some(line) = history.next_line().unwrap_or_else(|error| panic!("{error}")) {
        let stream = streams.get(line.stream).short_name();
        let (named, file, number) = (format!("{stream} {}", line.id), line.file, line.number);
        let duplicate = if line.duplicate { " duplicate" } else { "" };
        let location = history.location(file, number);
        let location = location.rsplit('/').next().unwrap();
        lines.push(format!("{named} {location}{duplicate}"));
    }
    assert_eq!(history.yielded(), lines.len() as u64);
    assert_eq!(history.total_entries(), Some(lines.len() as u64));
    lines
}

/// Returns the error of a history that must not open, without the name of the temporary folder.
pub fn refusal(folder: &Folder, result: Result<History, HistoryError>) -> String {
    match result {
        Ok(_) => panic!("opened what it should refuse"),
        Err(error) => without_folder(folder, &error.to_string()),
    }
}

pub fn without_folder(folder: &Folder, text: &str) -> String {
    let text = text.replace(&format!("{}/", folder.0.path().display()), "");
    text.replace(&folder.0.path().display().to_string(), "FOLDER")
}

pub fn notices(folder: &Folder, history: &History) -> Vec<String> {
    history.notices().iter().map(|notice| without_folder(folder, notice)).collect()
}
