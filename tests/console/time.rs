//! States of the past: checksums of the state, snapshots, and states at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::binary::{harvester, name, run};
use crate::support::lab::{Lab, entry_line};
use crate::support::{cases, config, replayed, root};
use harvester::cli::replay::Request;
use harvester::codec::checksum::{state_checksum, state_checksum_hex};
use harvester::codec::snapshot;
use harvester::codec::view;
use harvester::config::Config;
use harvester::domain::engine::Engine;
use harvester::domain::event::ids::EntryId;
use harvester::drive::commits::decision_line;
use harvester::drive::snapshots;
use harvester::drive::state_at::{Sources, state_at};
use harvester::shell::journal::{Journal, Limits};
use serde_json::Value;

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

/// Compares output with a golden file, or writes the file if `HARVESTER_BLESS` is set. Leaves out the paths of this
/// run, and checksums of the state, which change with the stored format.
fn assert_golden(file: &str, out: &str, folder: &Path) {
    let path = root().join("tests/console/golden").join(file);
    let out = out.replace(name(folder), "FOLDER").replace(name(&root()), "ROOT");
    let mut pieces = out.split(", state ");
    let first = pieces.next().unwrap_or_default().to_owned();
    let out = pieces.fold(first, |out, piece| format!("{out}, state CHECKSUM{}", &piece[16..]));
    if std::env::var_os("HARVESTER_BLESS").is_some() {
        fs::write(&path, &out).expect("a golden file");
        return;
    }
    let golden = fs::read_to_string(&path).expect("a golden file");
    assert_eq!(out, golden, "{file} changed: see HARVESTER_BLESS");
}

/// Writes the incident with a change, for example without one entry or with two exchanged.
fn changed(made: &Made, file: &str, change: impl FnOnce(&mut Vec<String>)) -> PathBuf {
    let mut lines = made.lines.clone();
    change(&mut lines);
    let path = made.folder.path().join(file);
    fs::write(&path, lines.join("\n")).expect("a history");
    path
}

/// Returns the number of the line that opens the position of a symbol.
fn opening(made: &Made, symbol: &str) -> usize {
    let is_opening = |line: &String| line.contains("exchange.position") && line.contains(symbol);
    made.lines.iter().position(is_opening).expect("an opening")
}

#[test]
fn history_lists_every_change_of_a_position_with_its_cause() {
    let made = Made::new(10_000);
    let policy = incident().join("policy.toml");
    let journal = made.journal();
    let with_config = |arguments: &[&str]| run(harvester().args(["--config", name(&policy)]).args(arguments));
    let told = with_config(&["history", "nearusdt", "--journal", name(&journal)]);
    assert_eq!(told.code, Some(0), "{}", told.log);
    assert_golden("history.txt", &told.out, made.folder.path());
    let changes = with_config(&["history", "NEARUSDT", "--journal", name(&journal), "--json"]).json();
    let changes = changes.as_array().expect("a list");
    let of = |field: &str| changes.iter().filter(|change| change["field"] == field).collect::<Vec<_>>();
    assert!(!of("entry_price").is_empty() && !of("risk").is_empty() && !of("hold").is_empty());
    assert!(of("rung 0.5").iter().any(|change| change["from"].is_null() && change["to"] == "shadowed"));
    // Every cause is an entry of the history.
    for change in changes {
        let (stream, id) = change["cause"].as_str().and_then(|cause| cause.split_once('/')).expect("stream/id");
        let named = |line: &&String| line.contains(stream) && line.contains(&format!("\"{id}\""));
        assert!(made.lines.iter().any(|line| named(&line)), "{change}");
    }
    let since = of("rung 0.5")[0]["cause"].as_str().and_then(|cause| cause.split_once('/')).expect("stream/id").1;
    let later = with_config(&["history", "NEARUSDT", "--journal", name(&journal), "--since", since, "--json"]).json();
    assert!(later.as_array().is_some_and(|later| !later.is_empty() && later.len() < changes.len()));
    with_config(&["history", "NOUSDT", "--journal", name(&journal)]).refused(&["NOUSDT"]);
}

/// The command believes the same entries as a replay: an unsigned entry ends a gap only if there is no key.
#[test]
fn with_a_key_history_believes_no_unsigned_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("h.jsonl");
    let filled = [("symbol", "ADAUSDT"), ("side", "BUY"), ("qty", "100"), ("price", "1"), ("status", "FILLED")];
    let gap =
        [("event_type", "history.gap"), ("payload", r#"{"stream":"quantum:stream:apply.result","reason":"trimmed"}"#)];
    let accepted = [("event_type", "gap.accepted"), ("payload", r#"{"symbol":"ADAUSDT","reason":"looked"}"#)];
    let lines = [
        entry_line("quantum:stream:apply.result", "1770163203000-0", &filled),
        entry_line("quantum:stream:harvest.control", "1770163204000-0", &gap),
        entry_line("quantum:stream:harvest.control", "1770163205000-0", &accepted),
    ];
    fs::write(&history, lines.join("\n")).expect("a history");
    let flags = |command: &mut Command| -> Vec<Value> {
        let changes = run(command.args(["history", "ADAUSDT", name(&history), "--json"])).json();
        let changes = changes.as_array().expect("a list").clone();
        changes.into_iter().filter(|change| change["field"] == "flags").map(|change| change["to"].clone()).collect()
    };
    assert_eq!(flags(&mut harvester()), [Value::from("history_gap"), Value::Null]);
    let with_key = flags(harvester().env("HARVEST_SIGNING_KEY", "a secret of enough bytes, for tests"));
    assert_eq!(with_key, [Value::from("history_gap")]);
}

#[test]
fn diff_finds_no_difference_between_a_store_its_snapshot_and_its_journal() {
    let made = Made::new(10_000);
    let policy = incident().join("policy.toml");
    let newest = made.snapshots().pop().expect("a snapshot");
    let sorted = changed(&made, "sorted.jsonl", |_| {});
    let sides = [made.store(), newest, made.journal(), sorted];
    for (i, a) in sides.iter().enumerate() {
        for b in &sides[i..] {
            let same = run(harvester().args(["--config", name(&policy), "diff", name(a), name(b), "--json"])).json();
            assert_eq!(same["verdict"], "same", "{} and {}: {same}", a.display(), b.display());
            assert_eq!(same["a"]["state"], same["b"]["state"]);
        }
    }
}

#[test]
fn diff_names_the_first_entry_at_which_two_histories_differ() {
    let made = Made::new(10_000);
    let policy = incident().join("policy.toml");
    let journal = made.journal();
    let diff = |b: &Path| run(harvester().args(["--config", name(&policy), "diff", name(&journal), name(b), "--json"]));
    let opening = opening(&made, "NEARUSDT");
    let id = made.id(opening).to_string();
    let found = |b: &Path| -> Value {
        let ran = diff(b);
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.log);
        serde_json::from_str(&ran.out).expect("one document")
    };

    let missing = found(&changed(&made, "missing.jsonl", |lines| drop(lines.remove(opening))));
    assert_eq!(missing["first"]["entry"], format!("quantum:stream:harvest.observation/{id}"), "{}", missing["first"]);
    assert_eq!((&missing["entries"]["only_a"], &missing["entries"]["only_b"]), (&1.into(), &0.into()));
    assert_eq!(missing["entries"]["first"]["only_a"], format!("quantum:stream:harvest.observation/{id}"));

    let quantity = found(&changed(&made, "quantity.jsonl", |lines| {
        lines[opening] = lines[opening].replacen("130", "1300", 1);
    }));
    assert_eq!(quantity["first"]["entry"], format!("quantum:stream:harvest.observation/{id}"), "{}", quantity["first"]);
    assert_eq!(quantity["entries"]["changed"], 1);
    let of = quantity["first"]["of"].as_str().expect("a position");
    assert_eq!(of, format!("NEARUSDT@{id}"));

    let cut = made.lines.len() - 40;
    let shorter = found(&changed(&made, "shorter.jsonl", |lines| lines.truncate(cut)));
    assert_eq!(shorter["entries"]["only_a"], 40);
    assert_eq!(shorter["entries"]["both"], cut);
}

#[test]
fn diff_shows_the_decisions_that_differ_under_another_policy() {
    let made = Made::new(10_000);
    let policy = incident().join("policy.toml");
    let other = made.folder.path().join("other.toml");
    fs::write(&other, "[policy]\nladder = \"0.5:0.5,1:0.5\"\n").expect("a policy");
    let events = incident().join("events.jsonl");
    let arguments = ["diff", name(&events), name(&events), "--policy", name(&other), "--derive"];
    let shown = run(harvester().args(["--config", name(&policy)]).args(arguments));
    assert_eq!(shown.code, Some(1), "{}", shown.log);
    assert_golden("diff.txt", &shown.out, made.folder.path());
    let json = run(harvester().args(["--config", name(&policy)]).args(arguments).arg("--json"));
    let found: Value = serde_json::from_str(&json.out).expect("one document");
    assert_ne!(found["a"]["policy"], found["b"]["policy"]);
    assert!(found["first"]["field"].as_str().is_some_and(|field| field.starts_with("decision")), "{}", found["first"]);
    assert_eq!(found["entries"]["changed"], 0);
}

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
