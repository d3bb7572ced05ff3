//! What several tests need: the project's folders, and replays in this process.
#![allow(dead_code, reason = "each test uses its part")]

pub mod binary;
pub mod books;
pub mod exact;
pub mod histories;
pub mod lab;
pub mod orders;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harvester::app::replay::{Replayed, Request, replay};
use harvester::config::Config;

/// The root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A configuration from a file, without the environment of whoever runs the tests.
pub fn config(file: Option<&Path>) -> Config {
    Config::from_parts(file, BTreeMap::new()).expect("the configuration of a test is valid")
}

/// Replays histories; answers the replay and the decisions as history lines.
pub fn replayed(request: &Request, config: &Config) -> (Replayed, Vec<String>) {
    let mut decisions = Vec::new();
    let replayed = replay(request, config, &mut decisions).expect("the history replays");
    (replayed, decisions)
}

/// The shared history beside the project, if it is there; says so if not.
pub fn shared_history() -> Option<PathBuf> {
    let path = root().join("../shared/history");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}
