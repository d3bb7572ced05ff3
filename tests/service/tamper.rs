//! A change of any byte of the emitted decisions, or of the journal below them, is found: flipped bytes, entries that
//! were deleted, repeated, moved or cut off, another policy, another rounding, a chain that was sealed again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::support::{config, replayed, root};
use clap::Parser;
use harvester::cli::audit::{self, Args};
use harvester::cli::replay::Request;
use harvester::codec::seal::chained;
use harvester::codec::signing::SigningKey;
use harvester::config::Config;
use serde_json::Value;

/// Prints although the test passes: the counts belong into every log of CI.
macro_rules! print_line {
    ($($what:tt)*) => {
        writeln!(std::io::stdout(), $($what)*).expect("standard output is there")
    };
}

mod bytes;
mod clean;
mod foreign;
mod rounding;

const KEY: &str = "a key that signs decisions";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// Returns the report of the command, as its JSON document.
fn audit(config: &Config, arguments: &[&str]) -> Value {
    let words = ["audit", "--json"].iter().chain(arguments);
    let args = Cli::try_parse_from(words).expect("the arguments are right").args;
    let mut out = Vec::new();
    let done = audit::run(&args, config, &mut out);
    let report: Value = serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(done.is_ok(), report["verdict"] == "clean", "{report:#}");
    report
}

/// The bundled night with signed decisions, and their files.
struct Night {
    folder: tempfile::TempDir,
    config: Config,
    events: PathBuf,
    lines: Vec<String>,
}

impl Night {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(None);
        let events = root().join("replay/nights/incident-2026-02-04/events.jsonl");
        let request = Request { histories: vec![events.clone()], ..Request::default() };
        let (_, lines) = replayed(&request, &config);
        let lines: Vec<String> = lines.iter().map(|line| signed(line)).collect();
        assert_eq!(lines.len(), 10);
        fs::write(folder.path().join("key"), KEY).unwrap();
        Self { folder, config, events, lines }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Audits the history against these decisions.
    fn judge(&self, decisions: impl AsRef<[u8]>, more: &[&str]) -> Value {
        let decisions = self.file("decisions.jsonl", decisions);
        let key = self.folder.path().join("key");
        let first = [text(&self.events), "--decisions", text(&decisions), "--key-file", text(&key)];
        audit(&self.config, &[&first, more].concat())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Returns a decision line with its signature in the place of an entry.
fn signed(line: &str) -> String {
    let mut entry: Value = serde_json::from_str(line).unwrap();
    let fields = entry["fields"].as_object_mut().unwrap();
    let signature = SigningKey::new(KEY.as_bytes()).unwrap().sign(fields["hash"].as_str().unwrap());
    fields.insert("signature".to_owned(), signature.into());
    entry.to_string()
}

/// Returns the lines sealed again after `change`, as a writer without the key can do it.
fn resealed(lines: &[String], change: impl Fn(u64, &mut serde_json::Map<String, Value>)) -> Vec<String> {
    let mut prev = "0".repeat(64);
    let seal = |line: &String| {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        let fields = entry["fields"].as_object_mut().unwrap();
        let seq = fields["seq"].as_str().unwrap().parse().unwrap();
        let mut payload: Value = serde_json::from_str(fields["payload"].as_str().unwrap()).unwrap();
        change(seq, payload.as_object_mut().unwrap());
        let payload = payload.to_string();
        let hash = chained(&prev, &payload);
        fields.insert("prev".to_owned(), std::mem::replace(&mut prev, hash.clone()).into());
        fields.insert("hash".to_owned(), hash.into());
        fields.insert("payload".to_owned(), payload.into());
        entry.to_string()
    };
    lines.iter().map(seal).collect()
}

fn count(report: &Value, list: &str) -> usize {
    report[list].as_array().unwrap_or_else(|| panic!("{list} is no list: {report:#}")).len()
}

/// Returns the kinds of tampering that a report names, once each.
fn kinds(report: &Value) -> Vec<&str> {
    let mut kinds: Vec<&str> =
        report["tampered"].as_array().unwrap().iter().filter_map(|fault| fault["what"].as_str()).collect();
    kinds.dedup();
    kinds
}

/// A forged decision is a finding, and the genuine ones around it are not: the chain is the one that a service would
/// believe.
#[test]
fn only_the_forged_decision_is_a_finding() {
    let night = Night::new();
    let n = night.lines.len();
    let of = |at: usize| -> Value { serde_json::from_str(&night.lines[at]).unwrap() };
    // A copy of a decision with another name, under an id before or after it.
    let forged = |at: usize, by: i64, change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut entry = of(at);
        let (ms, seq) = id_of(&entry);
        entry["id"] = format!("{}-{}", ms.saturating_add_signed(by), seq + 500).into();
        let fields = entry["fields"].as_object_mut().unwrap();
        let id = "00112233445566778899aabbccddeeff";
        let payload = fields["payload"].as_str().unwrap().replace(fields["decision_id"].as_str().unwrap(), id);
        fields.insert("decision_id".to_owned(), id.into());
        fields.insert("hash".to_owned(), chained(fields["prev"].as_str().unwrap(), &payload).into());
        fields.insert("payload".to_owned(), payload.into());
        fields.remove("signature");
        change(fields);
        entry.to_string()
    };
    let set = |name: &'static str, value: String| {
        move |fields: &mut serde_json::Map<String, Value>| _ = fields.insert(name.to_owned(), value.clone().into())
    };
    let next = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let hash = of(n - 1)["fields"]["hash"].clone();
        forged(n - 1, 60_000, &|fields: &mut serde_json::Map<String, Value>| {
            let payload = fields["payload"].as_str().unwrap().to_owned();
            fields.insert("seq".to_owned(), (n + 1).to_string().into());
            fields.insert("prev".to_owned(), hash.clone());
            fields.insert("hash".to_owned(), chained(hash.as_str().unwrap(), &payload).into());
            change(fields);
        })
    };
    let dead = || set("hash", "deadbeef".repeat(8));
    let with_key = [
        ("before the first", forged(0, -1, &dead())),
        ("before the first, its hash its own", forged(0, -1, &|_| ())),
        ("beside one", forged(4, 0, &dead())),
        ("before one", forged(4, -1, &|_| ())),
        ("behind the last", next(&dead())),
        ("behind the last, its hash its own", next(&|_| ())),
        ("far ahead", next(&set("seq", "900".to_owned()))),
        ("signed with nonsense", forged(4, -1, &set("signature", "0".repeat(64)))),
    ];
    // Without a key, an entry that follows the chain with a valid hash would be believed.
    let without = [
        ("before the first", forged(0, -1, &dead())),
        ("beside one", forged(4, 0, &dead())),
        ("before one, following nothing", {
            let prev = "1".repeat(64);
            forged(4, -1, &|fields: &mut serde_json::Map<String, Value>| {
                let payload = fields["payload"].as_str().unwrap().to_owned();
                fields.insert("hash".to_owned(), chained(&prev, &payload).into());
                fields.insert("prev".to_owned(), prev.clone().into());
            })
        }),
        ("behind the last", next(&dead())),
    ];
    let all = with_key.into_iter().map(|case| (case, true)).chain(without.into_iter().map(|case| (case, false)));
    for ((what, line), has_key) in all {
        let mut lines: Vec<Value> = night.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        if !has_key {
            lines.iter_mut().for_each(|entry| _ = entry["fields"].as_object_mut().unwrap().remove("signature"));
        }
        lines.push(serde_json::from_str(&line).unwrap());
        lines.sort_by_key(id_of);
        let text_of: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let report = if has_key {
            night.judge(joined(&text_of), &[])
        } else {
            let decisions = night.file("unsigned.jsonl", joined(&text_of));
            audit(&night.config, &[text(&night.events), "--decisions", text(&decisions)])
        };
        let what = format!("{what}, with a key: {has_key}");
        let found: Vec<usize> = ["tampered", "differs", "missing", "unexpected", "duplicated", "unseen"]
            .iter()
            .map(|list| count(&report, list))
            .collect();
        assert_eq!(found, [1, 0, 0, 0, 0, 0], "{what}: {report:#}");
        assert_eq!(
            report["tampered"][0]["entry"],
            serde_json::from_str::<Value>(&line).unwrap()["id"],
            "{what}: {report:#}"
        );
        assert_eq!(report["chain"]["head"]["hash"], of(n - 1)["fields"]["hash"], "{what}: {report:#}");
        assert_eq!(report["matched"], n, "{what}: {report:#}");
    }
}

fn id_of(entry: &Value) -> (u64, u64) {
    let (ms, seq) = entry["id"].as_str().unwrap().split_once('-').unwrap();
    (ms.parse().unwrap(), seq.parse().unwrap())
}

/// Returns the head of the chain, as the command prints it.
fn anchor(night: &Night) -> String {
    let decisions = night.file("whole.jsonl", joined(&night.lines));
    let args = Cli::try_parse_from(["audit", "anchor", "--decisions", text(&decisions)]).expect("right").args;
    let mut out = Vec::new();
    audit::run(&args, &night.config, &mut out).expect("the chain has a head");
    String::from_utf8(out).unwrap()
}

#[test]
fn deleted_repeated_moved_and_cut_off_entries_are_named_as_such() {
    let night = Night::new();
    let anchor = night.file("anchor", anchor(&night));
    let lines = &night.lines;
    let (mut tried, mut wrong) = (0, Vec::new());
    let mut expect = |what: String, found: bool, report: &Value| {
        tried += 1;
        if !found {
            wrong.push(format!("{what}: {report:#}"));
        }
    };
    for n in 0..lines.len() {
        let mut deleted = lines.clone();
        deleted.remove(n);
        let report = night.judge(joined(&deleted), &["--anchor", text(&anchor)]);
        let kind = if n + 1 == lines.len() { "tail" } else { "gap" };
        let found = kinds(&report) == [kind] && count(&report, "missing") == 1 && report["matched"] == 9;
        expect(format!("decision {} deleted", n + 1), found, &report);

        let mut repeated = lines.clone();
        repeated.insert(n, lines[n].clone());
        let report = night.judge(joined(&repeated), &[]);
        let found = count(&report, "duplicated") == 1 && count(&report, "tampered") == 0 && report["matched"] == 10;
        expect(format!("decision {} repeated", n + 1), found, &report);

        let mut again = lines.clone();
        again.push(
            lines[n]
                .replacen("\"id\":\"17701710", "\"id\":\"17701720", 1)
                .replacen("\"id\":\"17701708", "\"id\":\"17701720", 1)
                .replacen("\"id\":\"17701709", "\"id\":\"17701720", 1),
        );
        let report = night.judge(joined(&again), &[]);
        let found = count(&report, "duplicated") == 1 && report["matched"] == 10;
        expect(format!("decision {} emitted again under another id", n + 1), found, &report);

        let report = night.judge(joined(&lines[..n]), &["--anchor", text(&anchor)]);
        let found = kinds(&report) == ["tail"] && count(&report, "missing") == lines.len() - n;
        expect(format!("cut off after {n}"), found, &report);
    }
    for n in 1..lines.len() {
        let mut moved = lines.clone();
        moved.swap(n - 1, n);
        let report = night.judge(joined(&moved), &[]);
        expect(format!("lines {n} and {} swapped", n + 1), kinds(&report) == ["order"], &report);

        let mut entries: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (first, second) = (entries[n - 1]["fields"].clone(), entries[n]["fields"].clone());
        (entries[n - 1]["fields"], entries[n]["fields"]) = (second, first);
        let swapped: Vec<String> = entries.iter().map(Value::to_string).collect();
        let report = night.judge(joined(&swapped), &[]);
        expect(format!("contents {n} and {} swapped", n + 1), kinds(&report).contains(&"order"), &report);
    }
    print_line!("entries: {} of {tried} manipulations found and named", tried - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_resealed_chain_is_found_by_recomputation_and_by_the_key() {
    let night = Night::new();
    let quantity = |seq: u64, payload: &mut serde_json::Map<String, Value>| {
        if seq == 4 {
            payload.insert("qty".to_owned(), "15".into());
        }
    };
    let lines = resealed(&night.lines, quantity);
    let report = night.judge(joined(&lines), &[]);
    assert_eq!(report["differs"][0]["fields"]["qty"]["emitted"], "15", "{report:#}");
    assert_eq!(report["differs"][0]["fields"]["qty"]["recomputed"], "3.75");
    assert_eq!(kinds(&report), ["signature"], "from the fourth on the hashes differ");
    assert_eq!(count(&report, "tampered"), 7);
    let anchor = night.file("anchor", anchor(&night));
    let report = night.judge(joined(&lines), &["--chain-only", "--anchor", text(&anchor)]);
    assert!(kinds(&report).contains(&"anchor"), "{report:#}");
}

#[test]
fn a_history_with_a_hole_is_never_clean() {
    let night = Night::new();
    let history = fs::read_to_string(&night.events).unwrap();
    let decisions = night.file("decisions.jsonl", joined(&night.lines));
    let judge = |lines: &[&str]| {
        let path = night.file("history.jsonl", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        audit(&night.config, &[text(&path), "--decisions", text(&decisions)])
    };
    let lines: Vec<&str> = history.lines().collect();

    // A gap that the service recorded itself.
    let gap = r#"{"stream":"quantum:stream:harvest.control","id":"1770171058700-0","fields":{"event_type":"history.gap","payload":"{\"stream\":\"quantum:stream:market.tick\",\"after\":\"1770171058600-0\",\"before\":\"1770171058690-0\"}"}}"#;
    let report = judge(&[&lines[..], &[gap]].concat());
    assert_eq!(report["verdict"], "incomplete", "{report:#}");
    assert_eq!(report["coverage"]["quantum:stream:market.tick"]["gaps"][0]["after"], "1770171058600-0");

    // A history that ends too early: later decisions are not judged, and the report states that.
    let (early, _) = lines.split_at(800);
    let report = judge(early);
    assert_eq!(report["verdict"], "incomplete", "{report:#}");
    assert!(count(&report, "unseen") > 0 && count(&report, "unexpected") == 0, "{report:#}");

    // Every entry that a decision names, removed one by one.
    let (mut tried, mut clean) = (0, Vec::new());
    for line in &night.lines {
        let entry: Value = serde_json::from_str(line).unwrap();
        let payload: Value = serde_json::from_str(entry["fields"]["payload"].as_str().unwrap()).unwrap();
        let evidence = payload["evidence"].as_object().unwrap().values().map(|proof| proof["entry"].as_str().unwrap());
        for id in evidence {
            let id = format!("\"id\":\"{id}\"");
            let without: Vec<&str> = lines.iter().copied().filter(|line| !line.contains(&id)).collect();
            assert!(without.len() < lines.len(), "{id} is in the history");
            tried += 1;
            if judge(&without)["verdict"] == "clean" {
                clean.push(id);
            }
        }
    }
    print_line!("history: {} of {tried} missing entries found", tried - clean.len());
    assert!(clean.is_empty(), "{clean:?}");
}
