//! A child process that writes a store for the tests: it is stopped, killed and cut off, and its rows are checked.
//!
//! The child is this test binary: its test `run` does nothing unless another test starts it. The rows of a store
//! after commit n are a function of n, so that any state can be checked by its commit number alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::random::Random;
use harvester::shell::store::{OpenError, Store};

pub const FORMAT: u32 = 3;

const SLOTS: u64 = 40;
const LOG_ROWS: u64 = 30;
const BIG_EVERY: u64 = 10;

/// Limit of a store call in the tests of the watchdog. Other tests use the disk at the same time.
pub const CALL_LIMIT: Duration = Duration::from_secs(2);

/// Returns bytes that depend on their commit and their row.
fn value(commit: u64, row: u64, len: u64) -> Vec<u8> {
    let mut random = Random(commit << 20 | row);
    let mut bytes = commit.to_be_bytes().to_vec();
    while (bytes.len() as u64) < len {
        bytes.extend_from_slice(&random.next().to_be_bytes());
    }
    bytes
}

/// Returns the rows that a commit writes: all slots, a row that stays for a while, sometimes a value of several
/// pieces.
pub fn rows_of(commit: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut rows = Vec::new();
    for slot in 0..SLOTS {
        let len = Random(commit ^ slot << 32).below(700);
        rows.push((format!("slot/{slot:02}").into_bytes(), Some(value(commit, slot, len))));
    }
    rows.push((format!("log/{commit:010}").into_bytes(), Some(value(commit, SLOTS, 100))));
    if let Some(old) = commit.checked_sub(LOG_ROWS).filter(|old| *old > 0) {
        rows.push((format!("log/{old:010}").into_bytes(), None));
    }
    if commit.is_multiple_of(BIG_EVERY) {
        let len = Random(commit).below(200_000);
        rows.push((b"big".to_vec(), Some(value(commit, SLOTS + 1, len))));
    }
    rows
}

/// Returns all rows of a store after a commit.
pub fn state_after(commit: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut state = BTreeMap::new();
    let first = commit.saturating_sub(LOG_ROWS.max(BIG_EVERY) + 1).max(1);
    for n in first..=commit {
        for (key, value) in rows_of(n) {
            match value {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
    }
    state
}

pub fn state_of(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    store.scan_prefix(b"").map(|row| row.expect("a row")).collect()
}

/// Asserts that the store is whole at its commit number. Returns that number.
pub fn assert_whole(store: &Store) -> u64 {
    let commit = store.commit_number();
    assert!(state_of(store) == state_after(commit), "the rows are not those of commit {commit}");
    commit
}

pub fn commit_next(store: &mut Store) -> u64 {
    let commit = store.commit_number() + 1;
    store.commit(rows_of(commit).into_iter()).expect("a commit");
    commit
}

/// Makes a store with so many commits, and closes it.
pub fn store_with(dir: &Path, commits: u64) {
    let mut store = Store::open(dir, FORMAT).expect("a store");
    for _ in 0..commits {
        commit_next(&mut store);
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
}

/// A child process that writes and reads lines.
pub struct Spawned {
    pub child: Child,
    pub output: BufReader<ChildStdout>,
    pub input: ChildStdin,
}

/// Starts this test binary as a child that does `what` to the store in `dir`.
pub fn spawn(what: &str, dir: &Path) -> Spawned {
    spawn_by(Command::new(own_path()), what, dir)
}

pub fn own_path() -> PathBuf {
    std::env::current_exe().expect("the path of this test")
}

/// Does the same as [`spawn`] with a command that ends with the path of this test binary.
pub fn spawn_by(mut command: Command, what: &str, dir: &Path) -> Spawned {
    let mut child = command
        .args(["--ignored", "--exact", "child::run", "--nocapture", "--test-threads=1"])
        .env("STORE_CHILD", what)
        .env("STORE_DIR", dir)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let input = child.stdin.take().expect("its input");
    Spawned { child, output, input }
}

impl Spawned {
    /// Returns the next line for the test; `None` at the end.
    pub fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).expect("readable output") == 0 {
                return None;
            }
            if let Some(text) = line.strip_prefix('@') {
                return Some(text.trim_end().to_owned());
            }
        }
    }

    /// Returns the number after `word` in the next line.
    pub fn expect_number(&mut self, word: &str) -> u64 {
        let line = self.line().unwrap_or_else(|| panic!("the child ended before it wrote {word}"));
        number_after(&line, word).unwrap_or_else(|| panic!("the child wrote {line:?}, not {word}"))
    }

    pub fn send(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("a child that listens");
    }

    /// Kills the child at once. Returns the lines that it had still written.
    pub fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("a child to kill");
        let mut rest = Vec::new();
        while let Some(line) = self.line() {
            rest.push(line);
        }
        self.child.wait().expect("a dead child");
        rest
    }
}

pub fn number_after(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.trim().parse().ok()
}

fn print_line(line: impl std::fmt::Display) {
    // The leading line break ends the line that the test harness has begun.
    print!("\n@{line}\n");
    std::io::stdout().flush().expect("a parent that reads");
}

fn read_line() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a parent that writes");
    line.trim().to_owned()
}

/// Does nothing unless another test started it.
#[test]
#[ignore = "does its work as the child of another test"]
fn run() {
    let Ok(what) = std::env::var("STORE_CHILD") else { return };
    let dir = PathBuf::from(std::env::var_os("STORE_DIR").expect("a folder"));
    match what.as_str() {
        "write" => write(&dir),
        "hold" => hold(&dir),
        "check" => check(&dir),
        "pause" => pause(&dir),
        "fill" => fill(&dir),
        "hang" => hang(&dir),
        "slow" => slow(&dir),
        "stall" => stall(&dir),
        other => panic!("no child can {other}"),
    }
}

/// Commits until it is killed. Writes the number of each commit once it is acknowledged.
fn write(dir: &Path) {
    let mut store = Store::open(dir, FORMAT).expect("a store");
    print_line(format_args!("open {}", store.commit_number()));
    loop {
        let commit = commit_next(&mut store);
        print_line(format_args!("ack {commit}"));
    }
}

/// Keeps the store open until the parent writes a line.
fn hold(dir: &Path) {
    let store = Store::open(dir, FORMAT).expect("a store");
    print_line(format_args!("open {}", store.commit_number()));
    read_line();
}

/// Opens the store and writes the result. The parent sees a panic or a wrong row.
fn check(dir: &Path) {
    match Store::open(dir, FORMAT) {
        Ok(store) => print_line(format_args!("whole {}", assert_whole(&store))),
        Err(OpenError::Damaged { reason, .. }) => print_line(format_args!("damaged {reason}")),
        Err(other) => print_line(format_args!("error {other}")),
    }
}

/// Makes as many commits as the parent asks for, waits within the last of them once it is durable, and again within
/// the one after it.
fn pause(dir: &Path) {
    let mut store = Store::open(dir, FORMAT).expect("a store");
    print_line(format_args!("open {}", store.commit_number()));
    let last = store.commit_number() + read_line().parse::<u64>().expect("a number");
    store.on_synced(move |commit| {
        if commit >= last {
            print_line(format_args!("durable {commit}"));
            read_line();
        }
    });
    loop {
        commit_next(&mut store);
    }
}

/// Commits until a commit fails, then tries every operation once more.
fn fill(dir: &Path) {
    let mut store = Store::open(dir, FORMAT).expect("a store");
    let failure = loop {
        let commit = store.commit_number() + 1;
        match store.commit(rows_of(commit).into_iter()) {
            Ok(()) => {}
            Err(e) => break e,
        }
    };
    print_line(format_args!("ack {}", store.commit_number()));
    print_line(format_args!("{failure:?}"));
    print_line(failure);
    print_line(format_args!("{:?}", store.commit(rows_of(1).into_iter()).expect_err("poisoned")));
    print_line(format_args!("{:?}", store.get(b"big").expect_err("poisoned")));
    let scanned: Vec<_> = store.scan_prefix(b"").collect();
    print_line(format_args!("{scanned:?}"));
    drop(store);
    print_line("closed");
}

/// Hangs in its second commit.
fn hang(dir: &Path) {
    let mut store = Store::open_watched(dir, FORMAT, CALL_LIMIT).expect("a store");
    store.on_synced(|commit| {
        if commit == 2 {
            loop {
                std::thread::park();
            }
        }
    });
    loop {
        let commit = commit_next(&mut store);
        print_line(format_args!("ack {commit}"));
    }
}

/// Works for longer than the limit of one call, in calls that are each within it. Then idles until the parent writes a
/// line, and commits once more.
fn slow(dir: &Path) {
    let mut store = Store::open_watched(dir, FORMAT, CALL_LIMIT).expect("a store");
    print_line(format_args!("open {}", store.commit_number()));
    // A slow disk.
    store.on_synced(|_| std::thread::sleep(CALL_LIMIT / 4));
    for _ in 0..8 {
        commit_next(&mut store);
    }
    print_line(format_args!("idle {}", store.commit_number()));
    read_line();
    print_line(format_args!("ack {}", commit_next(&mut store)));
}

/// Waits within a commit until the parent writes a line.
fn stall(dir: &Path) {
    let mut store = Store::open_watched(dir, FORMAT, CALL_LIMIT).expect("a store");
    store.on_synced(|commit| {
        print_line(format_args!("within {commit}"));
        read_line();
    });
    print_line(format_args!("ack {}", commit_next(&mut store)));
}
