//! States of the past: checksums of the state, snapshots, and states at a time.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::binary::{harvester, name, run};
use crate::support::lab::{Lab, entry_line};
use crate::support::{cases, config, replayed, root};
use harvester::cli::replay::Request;
use harvester::codec::checksum::{state_checksum, state_checksum_hex};
use harvester::codec::{snapshot, view};
use harvester::config::Config;
use harvester::domain::engine::Engine;
use harvester::domain::event::ids::EntryId;
use harvester::drive::commits::decision_line;
use harvester::drive::snapshots;
use harvester::drive::state_at::{Sources, state_at};
use harvester::shell::journal::{Journal, Limits};
use serde_json::Value;

mod compared;

fn incident() -> PathBuf {
    root().join("replay/nights/incident-2026-02-04")
}

fn of_case(case: &Path) -> (Config, Vec<String>) {
    let text = fs::read_to_string(case.join("events.jsonl")).expect("the history of a case");
    let config = config(Some(&case.join("policy.toml")));
    (config, text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

/// Returns the lines of configured streams, in canonical order, of a readable history.
fn readable(config: &Config, lines: Vec<String>) -> Vec<String> {
    let key = |line: &String| {
        let head: Value = serde_json::from_str(line).ok()?;
        let stream = config.streams.id_of(head["stream"].as_str()?)?;
        let id: EntryId = head["id"].as_str()?.parse().ok()?;
        Some((id.ms, stream, id.seq))
    };
    let mut keyed: Vec<_> = lines.into_iter().filter_map(|line| Some((key(&line)?, line))).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, line)| line).collect()
}

fn fed(lab: &mut Lab, lines: &[String]) {
    for line in lines {
        lab.feed(line);
    }
}

/// For every case: the state is written, read back and continued, at three places; it ends like one uninterrupted
/// run.
#[test]
fn a_state_that_was_read_back_continues_like_an_uninterrupted_run() {
    let mut tried = 0;
    for case in cases() {
        let (config, lines) = of_case(&case);
        let lines = readable(&config, lines);
        let mut whole = Lab::new(&config);
        fed(&mut whole, &lines);
        for cut in [lines.len() / 3, lines.len() / 2, lines.len().saturating_sub(1)] {
            let mut first = Lab::new(&config);
            fed(&mut first, &lines[..cut]);
            let (head, bytes) = snapshot::write(&first.engine, &config.policy, Some(cut as u64));
            let read = snapshot::read(&bytes).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
            assert_eq!(read.head, head);
            let back = read.engine(&config.streams, &config.policy);
            let mut rest =
                Lab::new(&config).going_on(back.unwrap_or_else(|error| panic!("{}: {error}", case.display())));
            fed(&mut rest, &lines[cut..]);
            assert_eq!(
                view::positions(&rest.engine, true),
                view::positions(&whole.engine, true),
                "{} at {cut}",
                case.display()
            );
            assert_eq!(state_checksum(&rest.engine), state_checksum(&whole.engine), "{} at {cut}", case.display());
            tried += 1;
        }
    }
    assert!(tried > 150, "only {tried} places were tried");
}

/// If an applied entry is left out, the checksum differs at once, whichever entry it is.
#[test]
fn a_checksum_differs_if_an_entry_is_missing_and_only_then() {
    let (config, lines) = of_case(&incident());
    let lines = readable(&config, lines);
    let mut whole = Lab::new(&config);
    fed(&mut whole, &lines);
    let wanted = state_checksum(&whole.engine);
    let mut again = Lab::new(&config);
    // Symbols are first named in another order.
    for name in ["ZZZUSDT", "XRPUSDT", "BTCUSDT"] {
        again.intern(name);
    }
    fed(&mut again, &lines);
    assert_eq!(state_checksum(&again.engine), wanted);
    for missing in (0..lines.len()).step_by(97) {
        let mut lab = Lab::new(&config);
        let before: Vec<String> = lines[..=missing].to_vec();
        fed(&mut lab, &before);
        let with = state_checksum(&lab.engine);
        let mut lab = Lab::new(&config);
        fed(&mut lab, &before[..missing]);
        assert_ne!(state_checksum(&lab.engine), with, "line {missing}");
    }
}

/// A value that has expired is not a part of the state, whether it was removed already or not.
#[test]
fn a_checksum_does_not_depend_on_the_time_at_which_old_values_are_forgotten() {
    let config = config(None);
    let hour = 3_600_000_u64;
    let lines: Vec<String> = (0..190_u64)
        .flat_map(|n| {
            let (ms, order) = (1_770_163_200_000 + n * hour, n.to_string());
            let intent = [("data", r#"{"symbol":"ADAUSDT","side":"BUY","atr_value":0.02,"volatility_factor":1.5}"#)];
            let side = if n % 2 == 0 { "BUY" } else { "SELL" };
            let fill = [
                ("symbol", "ADAUSDT"),
                ("side", side),
                ("filled_qty", "10"),
                ("order_id", order.as_str()),
                ("avgPrice", "0.4"),
            ];
            [
                entry_line("quantum:stream:trade.intent", &format!("{ms}-0"), &intent),
                entry_line("quantum:stream:apply.result", &format!("{ms}-0"), &fill),
            ]
        })
        .collect();
    let mut whole = Lab::new(&config);
    let mut restarted = Lab::new(&config);
    for (n, line) in lines.iter().enumerate() {
        whole.feed(line);
        restarted.feed(line);
        if n % 7 == 0 {
            let (_, bytes) = snapshot::write(&restarted.engine, &config.policy, None);
            let back = snapshot::read(&bytes).and_then(|read| read.engine(&config.streams, &config.policy));
            restarted = Lab::new(&config).going_on(back.expect("the snapshot reads"));
        }
        if n % 5 == 0 {
            assert_eq!(state_checksum(&restarted.engine), state_checksum(&whole.engine), "line {n}");
        }
    }
}

#[test]
fn any_changed_byte_of_a_snapshot_is_found() {
    let (config, lines) = of_case(&incident());
    let mut lab = Lab::new(&config);
    fed(&mut lab, &readable(&config, lines)[..60]);
    let (_, bytes) = snapshot::write(&lab.engine, &config.policy, None);
    let mut tried = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let read = snapshot::read(&changed).and_then(|read| read.engine(&config.streams, &config.policy));
        assert!(read.is_err(), "byte {at}");
        tried += 1;
    }
    println!("{tried} of {tried} changed bytes found");
    assert!(tried > 1_000, "only {tried} bytes were tried");
    for len in [0, 31, 32, bytes.len() / 2, bytes.len() - 1] {
        assert!(snapshot::read(&bytes[..len]).is_err(), "{len} bytes");
    }
}

/// The incident as a journal of several files, and a store that was made from it with snapshots in between.
struct Made {
    folder: tempfile::TempDir,
    config: Config,
    lines: Vec<String>,
}

impl Made {
    fn new(snapshot_every: u64) -> Self {
        let (config, lines) = of_case(&incident());
        let lines = readable(&config, lines);
        let made = Self { folder: tempfile::tempdir().expect("a folder"), config, lines };
        let mut journal = Journal::open(&made.journal(), Limits { rotate_bytes: 4_000 }).expect("a journal");
        for (n, line) in made.lines.iter().enumerate() {
            journal.append(line, made.id(n).ms);
            if n % 50 == 49 {
                journal.commit().expect("a commit");
            }
        }
        journal.close().expect("the journal closes");
        let request = Request {
            histories: vec![made.journal()],
            store: Some(made.store()),
            snapshot_every: Some(snapshot_every),
            ..Request::default()
        };
        replayed(&request, &made.config);
        made
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn id(&self, line: usize) -> EntryId {
        let head: Value = serde_json::from_str(&self.lines[line]).expect("a line is JSON");
        head["id"].as_str().expect("an id").parse().expect("an id")
    }

    fn snapshots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(snapshots::folder_of(&self.store())).expect("the snapshots");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    }

    fn past(&self, at: EntryId, with_snapshots: bool) -> (Engine, Option<PathBuf>, u64, Vec<String>) {
        let sources = Sources {
            journal: Some(self.journal()),
            histories: Vec::new(),
            snapshots: with_snapshots.then(|| snapshots::folder_of(&self.store())),
        };
        let past = state_at(&sources, Some(at), &self.config).expect("a state of the past");
        (past.engine, past.snapshot, past.entries, past.notices)
    }
}

#[test]
fn a_state_of_the_past_is_made_from_the_nearest_snapshot_and_the_entries_after_it() {
    let made = Made::new(200);
    assert!(made.snapshots().len() > 4, "{:?}", made.snapshots());
    for line in [0, 150, 199, 200, 201, 610, made.lines.len() - 1] {
        let at = made.id(line);
        let (whole, none, all, _) = made.past(at, false);
        let (quick, snapshot, entries, notices) = made.past(at, true);
        assert_eq!(state_checksum_hex(&quick), state_checksum_hex(&whole), "at line {line}");
        assert_eq!((none, notices), (None, Vec::new()));
        assert_eq!(snapshot.is_some(), line >= 199, "at line {line}");
        // Of the journal, only the files from the snapshot on were read.
        assert!(line < 400 || entries < all / 2, "{entries} of {all} entries were read for line {line}");
    }
}

#[test]
fn a_damaged_snapshot_is_named_and_not_used() {
    let made = Made::new(300);
    let at = made.id(made.lines.len() - 1);
    let newest = made.snapshots().pop().expect("a snapshot");
    let mut bytes = fs::read(&newest).expect("the snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&newest, bytes).expect("a changed snapshot");
    let (engine, snapshot, _, notices) = made.past(at, true);
    assert_eq!(state_checksum(&engine), state_checksum(&made.past(at, false).0));
    assert!(snapshot.is_some_and(|path| path < newest));
    assert!(notices.len() == 1 && notices[0].contains(name(&newest)) && notices[0].contains("digest"), "{notices:?}");
}

#[test]
fn commands_list_and_verify_snapshots_and_show_past_states() {
    let made = Made::new(400);
    let policy = incident().join("policy.toml");
    let (store, journal) = (made.store(), made.journal());
    let with_config = |arguments: &[&str]| run(harvester().args(["--config", name(&policy)]).args(arguments));

    let list = with_config(&["snapshots", "list", "--store", name(&store), "--json"]).json();
    let list = list.as_array().expect("a list").clone();
    assert_eq!(list.len(), made.lines.len().div_ceil(400));
    assert_eq!(list[0]["journal"], 400);
    assert_eq!(list[0]["last"], made.id(399).to_string());
    let verified = with_config(&["snapshots", "verify", "--store", name(&store)]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.log);
    assert_eq!(verified.out.lines().filter(|line| line.ends_with("good")).count(), list.len(), "{}", verified.out);

    let at = made.id(500);
    let with =
        ["positions", "--as-of", &at.to_string(), "--journal", name(&journal), "--store", name(&store), "--json"];
    let history = incident().join("events.jsonl");
    let without = ["positions", "--as-of", &at.to_string(), "--json", "--history", name(&history)];
    let (with, without) = (with_config(&with).json(), with_config(&without).json());
    assert_eq!(with, without);
    assert!(with.as_array().is_some_and(|positions| !positions.is_empty()));

    let newest = made.snapshots().pop().expect("a snapshot");
    fs::write(&newest, "nothing").expect("a changed snapshot");
    let found = with_config(&["snapshots", "verify", "--store", name(&store), "--json"]);
    assert_eq!(found.code, Some(1), "{}{}", found.out, found.log);
    assert!(found.out.contains("the digest differs"), "{}", found.out);

    let clean = with_config(&["journal", "verify", name(&journal), "--json"]).json();
    assert_eq!((&clean["verdict"], &clean["entries"]), (&"clean".into(), &made.lines.len().into()));
    let file = journal.join("journal-00000000000000000000.jsonl.zst");
    let mut bytes = fs::read(&file).expect("a file of the journal");
    bytes[1_000] ^= 1;
    fs::write(&file, bytes).expect("a changed file");
    let found = with_config(&["journal", "verify", name(&journal), "--json"]);
    assert_eq!(found.code, Some(1), "{}{}", found.out, found.log);
    let found: Value = serde_json::from_str(&found.out).expect("one document");
    assert_eq!(found["verdict"], "findings");
    assert_eq!(found["findings"][0]["file"], name(&file));
}

/// The service makes a decision, reads it back as an entry, and journals both. A replay of the journal finds the same
/// state.
#[test]
fn recorded_decisions_give_the_state_of_the_run_that_made_them() {
    let (config, lines) = of_case(&incident());
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path(), Limits { rotate_bytes: u64::MAX }).expect("a journal");
    let mut live = Lab::new(&config);
    let mut decisions = 0;
    for line in readable(&config, lines) {
        let came = live.feed(&line);
        journal.append(&line, came.entry.id.ms);
        if let Some(sealed) = came.sealed {
            let line = decision_line(&live.engine, &sealed, &came.entry);
            live.feed(&line);
            journal.append(&line, came.entry.id.ms);
            decisions += 1;
        }
    }
    assert_eq!(decisions, 10);
    journal.close().expect("the journal closes");
    let sources = Sources { journal: Some(folder.path().to_owned()), ..Sources::default() };
    let found = state_at(&sources, None, &config).expect("the journal replays").engine;
    assert_eq!(view::positions(&found, true), view::positions(&live.engine, true));
    assert_eq!(state_checksum_hex(&found), state_checksum_hex(&live.engine));
}

// ---- history and diff ------------------------------------------------------------------------------------------------

#[test]
fn every_command_accepts_the_same_forms_of_a_time() {
    let history = incident().join("events.jsonl");
    let (history, policy) = (name(&history), incident().join("policy.toml"));
    let folder = tempfile::tempdir().expect("a folder");
    let decisions = folder.path().join("decisions.jsonl");
    let decided =
        run(harvester().args(["--config", name(&policy), "replay", history, "--decisions", name(&decisions)]));
    assert_eq!(decided.code, Some(0), "{}", decided.log);
    let of_command = |arguments: &[&str]| {
        let ran = run(harvester().args(["--config", name(&policy)]).args(arguments));
        assert!(matches!(ran.code, Some(0 | 1)), "{arguments:?}: {}", ran.log);
        let mut document: Value = serde_json::from_str(&ran.out).expect("one document");
        if let Some(summary) = document.as_object_mut() {
            summary.remove("seconds");
        }
        document
    };
    let spellings =
        ["1770170900000", "2026-02-04T02:08:20Z", "2026-02-04 03:08:20.0+01:00", "02:08:20.000", "2m 38s 600ms ago"];
    for before in [
        vec!["replay", history, "--json", "--until"],
        vec!["replay", history, "--json", "--since"],
        vec!["history", "NEARUSDT", history, "--json", "--until"],
        vec!["history", "NEARUSDT", history, "--json", "--since"],
        vec!["explain", "NEARUSDT", history, "--json", "--at"],
        vec!["positions", "--history", history, "--json", "--as-of"],
        vec!["audit", history, "--decisions", name(&decisions), "--json", "--until"],
        vec!["audit", history, "--decisions", name(&decisions), "--json", "--since"],
    ] {
        let with = |at: &str| of_command(&[&before[..], &[at]].concat());
        let (wanted, other) = (with(spellings[0]), with("1770170700000"));
        assert_ne!(wanted, other, "{before:?} ignores the time");
        for at in &spellings[1..] {
            assert_eq!(with(at), wanted, "{before:?} {at}");
        }
        let refused = run(harvester().args(&before).arg("yesterday"));
        refused.refused(&[before[before.len() - 1], "\"yesterday\" is not a time", "an entry id", "90m ago"]);
    }
}

#[test]
fn positions_as_of_without_a_history_needs_a_snapshot_and_names_the_existing_ones() {
    let made = Made::new(200);
    let policy = incident().join("policy.toml");
    let (store, journal) = (made.store(), made.journal());
    let positions = |at: &str, more: &[&str]| {
        let before = ["--config", name(&policy), "positions", "--as-of", at, "--store", name(&store), "--json"];
        run(harvester().args(before).args(more))
    };
    for line in [199, 399] {
        let at = made.id(line).to_string();
        let alone = positions(&at, &[]);
        assert_eq!(alone.json(), positions(&at, &["--journal", name(&journal)]).json(), "{at}");
        assert!(alone.log.contains("no history is read"), "{}", alone.log);
    }
    let (first, second) = (made.id(199).to_string(), made.id(399).to_string());
    let named = ["--journal DIR", "--history HISTORY", &first, &second];
    positions(&made.id(450).to_string(), &[]).refused(&named);
    positions(&made.id(0).to_string(), &[]).refused(&["--journal DIR", "has no snapshot up to"]);
    made.snapshots().iter().for_each(|path| fs::remove_file(path).expect("a snapshot"));
    positions(&first, &[]).refused(&["--journal DIR", "has no snapshot"]);
    positions("1s ago", &[]).refused(&["--as-of", "1s ago", "there is no history and no snapshot"]);
}
