//! Code that several tests share: the project's folders, replays in this process, servers, and the program as a
//! process.
#![allow(dead_code, reason = "each binary uses its part")]

pub mod binary;
pub mod books;
pub mod cluster;
pub mod contract;
pub mod exact;
pub mod exchange;
pub mod frames;
pub mod fuzz;
pub mod histories;
pub mod html;
pub mod lab;
pub mod orders;
pub mod power;
pub mod proxy;
pub mod random;
pub mod redis;
pub mod rust;
pub mod service;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use harvester::cli::replay::{Replayed, Request, replay};
use harvester::config::Config;

/// Returns the root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the folders of all replay cases, by name: every folder below `replay/` that contains a history.
pub fn cases() -> Vec<PathBuf> {
    let mut cases = Vec::new();
    let mut folders = vec![root().join("replay")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of cases") {
            let path = entry.expect("an entry of the folder").path();
            if path.join("events.jsonl").exists() {
                cases.push(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    cases.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    assert!(cases.len() > 50, "only {} cases were found", cases.len());
    cases
}

/// Returns the folder of one replay case.
pub fn case(name: &str) -> PathBuf {
    let found = cases().into_iter().find(|case| case.ends_with(name));
    found.unwrap_or_else(|| panic!("there is no case {name}"))
}

/// Does the same with each item, four at once, and returns the results in the order of the items. For work that waits
/// for the disk most of the time.
pub fn four_at_once<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let (waiting, done) = (Mutex::new(items.into_iter().enumerate()), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((n, item)) = next() {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Returns a configuration from a file, without the environment of the process that runs the tests.
pub fn config(file: Option<&Path>) -> Config {
    Config::from_parts(file, BTreeMap::new()).expect("the configuration of a test is valid")
}

/// Replays histories. Returns the replay and the decisions as history lines.
pub fn replayed(request: &Request, config: &Config) -> (Replayed, Vec<String>) {
    let mut decisions = Vec::new();
    let replayed = replay(request, config, &mut decisions).expect("the history replays");
    (replayed, decisions)
}

/// Runs an ignored test of this binary in a process of its own, where no other test allocates, forks or waits.
pub fn run_alone(test: &str) {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.stdin(Stdio::null()).output().expect("the test starts");
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "no test is called {test}: {text}");
}

/// Returns the shared history beside the project, if it is there. Writes a note if it is not.
pub fn shared_history() -> Option<PathBuf> {
    let path = root().join("../shared/history");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}
