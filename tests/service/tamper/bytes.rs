//! Flipped bytes of decisions, of a journal and of a snapshot.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use super::{Night, anchor, audit, joined, kinds, text};
use crate::support::binary::run_with;
use crate::support::replayed;
use fastrand::Rng;
use harvester::cli::replay::Request;
use harvester::config::Config;
use harvester::drive::snapshots;
use harvester::shell::journal::{Journal, Limits};
use serde_json::Value;

/// Number of bytes that are flipped in each kind of file. `HARVESTER_FLIPS` sets more.
const FLIPS: usize = 100;

fn flips() -> usize {
    std::env::var("HARVESTER_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(FLIPS)
}

#[test]
fn a_flipped_byte_of_a_decision_is_found_and_named() {
    let night = Night::new();
    let whole = joined(&night.lines).into_bytes();
    let anchor = night.file("anchor", anchor(&night));
    let mut rng = Rng::with_seed(20_260_204);
    let (mut missed, mut named) = (Vec::new(), BTreeMap::<String, u64>::new());
    for _ in 0..flips() {
        let (place, bit) = (rng.usize(..whole.len()), rng.u8(..8));
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << bit;
        let report = night.judge(&bytes, &["--anchor", text(&anchor)]);
        match kinds(&report).first() {
            Some(kind) => *named.entry((*kind).to_owned()).or_default() += 1,
            None => missed.push((place, bit, report["verdict"].clone())),
        }
    }
    print_line!("decisions: {} of {} flipped bytes found: {named:?}", flips() - missed.len(), flips());
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn a_flipped_byte_of_a_journal_is_found_and_named() {
    let night = Night::new();
    let folder = night.folder.path().join("journal");
    fs::create_dir(&folder).unwrap();
    let mut journal = Journal::open(&folder, Limits { rotate_bytes: 4_000 }).expect("the journal opens");
    let history = fs::read_to_string(&night.events).unwrap();
    for (number, line) in history.lines().enumerate() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let ms = entry["id"].as_str().unwrap().split_once('-').unwrap().0.parse().unwrap();
        journal.append(line, ms);
        if number % 200 == 199 {
            journal.commit().expect("the journal commits");
        }
    }
    journal.close().expect("the journal closes");
    let decisions = night.file("decisions.jsonl", joined(&night.lines));
    let judge = |config: &Config| audit(config, &["--journal", text(&folder), "--decisions", text(&decisions)]);
    let report = judge(&night.config);
    assert_eq!((report["verdict"].as_str(), report["matched"].as_u64()), (Some("clean"), Some(10)), "{report:#}");

    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "zst"));
    files.sort();
    let mut rng = Rng::with_seed(44);
    let (mut found, mut missed) = (0, Vec::new());
    for _ in 0..flips() {
        let file = &files[rng.usize(..files.len())];
        let whole = fs::read(file).unwrap();
        let mut bytes = whole.clone();
        let (place, bit) = (rng.usize(..bytes.len()), rng.u8(..8));
        bytes[place] ^= 1 << bit;
        fs::write(file, &bytes).unwrap();
        let report = judge(&night.config);
        if kinds(&report).contains(&"journal") {
            found += 1;
        } else {
            missed.push((file.clone(), place, bit, report["verdict"].clone()));
        }
        fs::write(file, &whole).unwrap();
    }
    print_line!("journal of {} files: {found} of {} flipped bytes found", files.len(), flips());
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// A changed snapshot is not used: it is neither listed as good, nor preferred to an older good one.
#[test]
fn a_flipped_byte_of_a_snapshot_is_found_and_the_snapshot_is_not_used() {
    let night = Night::new();
    let store = night.folder.path().join("store");
    let request = Request {
        histories: vec![night.events.clone()],
        store: Some(store.clone()),
        snapshot_every: Some(600),
        ..Request::default()
    };
    replayed(&request, &night.config);
    let folder = snapshots::folder_of(&store);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let newest = files.last().expect("a snapshot is taken").clone();
    assert!(files.len() >= 2, "there must be an older one: {files:?}");
    let nearest = |notices: &mut Vec<String>| {
        snapshots::nearest(&folder, None, &night.config, notices).expect("snapshots are read").map(|found| found.path)
    };
    assert_eq!(nearest(&mut Vec::new()).as_ref(), Some(&newest), "the unchanged snapshot is used");

    let whole = fs::read(&newest).unwrap();
    let mut rng = Rng::with_seed(207);
    let mut missed = Vec::new();
    for _ in 0..flips() {
        let (place, bit) = (rng.usize(..whole.len()), rng.u8(..8));
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << bit;
        fs::write(&newest, &bytes).unwrap();
        let is_refused = snapshots::restored(&newest, &night.config).is_err();
        let mut notices = Vec::new();
        let used = nearest(&mut notices);
        let is_named = notices.iter().any(|notice| notice.contains(text(&newest)));
        if !is_refused || used.as_ref() != files.iter().nth_back(1) || !is_named {
            missed.push((place, bit, used, notices));
        }
    }
    print_line!("snapshot of {} bytes: {} of {} flipped bytes found", whole.len(), flips() - missed.len(), flips());
    assert!(missed.is_empty(), "not found: {missed:?}");
    let verified = run_with(&["snapshots", "verify", "--store", text(&store)]);
    assert_eq!(verified.code, Some(1), "{}{}", verified.out, verified.log);
}
