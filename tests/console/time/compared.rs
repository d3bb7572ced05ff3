//! `history` and `diff`: changes of a position, and differences between two histories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Made, incident};
use crate::support::binary::{harvester, name, run};
use crate::support::lab::entry_line;
use crate::support::root;
use serde_json::Value;

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
    assert_eq!(out, golden, "{file} changed (cargo xtask bless, then read the diff)");
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
    let shown = with_config(&["history", "nearusdt", "--journal", name(&journal)]);
    assert_eq!(shown.code, Some(0), "{}", shown.log);
    assert_golden("history.txt", &shown.out, made.folder.path());
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
