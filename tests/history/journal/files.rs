//! Lines of a journal of the tests, its files, and random numbers.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{BEGIN_MS, SMALL};
use crate::support::random::Random;
use harvester::codec::journal::{HEAD_BYTES, Head};
use harvester::shell::journal::Journal;

/// Returns the line at a position, which determines its content.
pub fn line(n: u64) -> String {
    let filling = format!("{:x}", Random(n).next()).repeat((Random(n).below(9)) as usize);
    format!(r#"{{"stream":"quantum:stream:market.tick","id":"{}-{n}","fields":{{"k":"v","f":"{filling}"}}}}"#, BEGIN_MS)
}

pub fn written(dir: &Path, count: u64, per_commit: u64) -> String {
    written_with(dir, count, per_commit, line)
}

/// Writes and closes a journal of small files. Returns all its text.
pub fn written_with(dir: &Path, count: u64, per_commit: u64, line: impl Fn(u64) -> String) -> String {
    let mut journal = Journal::open(dir, SMALL).expect("a journal");
    let mut text = String::new();
    for n in 0..count {
        journal.append(&line(n), BEGIN_MS);
        text.push_str(&line(n));
        text.push('\n');
        if n % per_commit == per_commit - 1 {
            journal.commit().expect("a commit");
        }
    }
    journal.close().expect("the journal closes");
    text
}

pub fn lines_from(journal: &Journal, position: u64) -> Vec<String> {
    journal.read_from(position).expect("entries").collect::<Result<_, _>>().expect("lines")
}

pub fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names: BTreeSet<String> = names.map(|name| name.into_string().expect("a plain name")).collect();
    names.into_iter().filter(|name| name.ends_with(".jsonl.zst")).collect()
}

pub fn decompressed(path: &Path) -> String {
    let mut text = String::new();
    let file = fs::File::open(path).expect("the file");
    zstd::stream::read::Decoder::new(file).expect("zstd").read_to_string(&mut text).expect("text");
    text
}

pub fn head(bytes: &[u8]) -> Head {
    Head::read(bytes[..HEAD_BYTES].try_into().expect("a head")).expect("a head")
}

pub fn commits(bytes: &[u8]) -> [harvester::codec::journal::Commit; 2] {
    let mut commits = head(bytes).commits.expect("an open file");
    commits.sort_by_key(|commit| commit.len);
    commits
}

pub fn empty_commit(bytes: &[u8]) -> harvester::codec::journal::Commit {
    let digest = harvester::domain::book::plans::sha256_hex(&head(bytes).closed().bytes());
    let digest = std::array::from_fn(|i| u8::from_str_radix(&digest[2 * i..2 * i + 2], 16).expect("hex"));
    harvester::codec::journal::Commit { len: HEAD_BYTES as u64, count: 0, last_ms: 0, digest }
}

/// Returns the file that is not closed.
pub fn open_file(dir: &Path) -> Option<PathBuf> {
    let is_open = |path: &PathBuf| head(&fs::read(path).expect("the file")).commits.is_some();
    names(dir).iter().map(|name| dir.join(name)).find(is_open)
}

/// Returns the number after the word `ack`, and 0 for any other line.
pub fn ack(line: &str) -> u64 {
    line.strip_prefix("ack ").and_then(|number| number.parse().ok()).unwrap_or(0)
}
