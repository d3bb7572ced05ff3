//! The golden contract: every folder below `replay/` with an `events.jsonl` contains a history, a policy,
//! expectations written by hand (`expect.toml`), all outputs (`expected.jsonl`) and the changes of each entry
//! (`story.txt`). `cargo xtask bless` rewrites the last two.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::story;
use crate::support::{cases, config, four_at_once, replayed};
use harvester::cli::replay::Request;
use harvester::codec::view;
use serde_json::{Value, json};

/// All outputs of a case, one a line.
struct Outputs {
    summary: Value,
    decisions: Vec<Value>,
    quarantined: Vec<Value>,
    positions: Vec<Value>,
}

/// Returns all cases, which are run once for all tests.
fn outputs() -> &'static [(PathBuf, Outputs)] {
    static CAME: OnceLock<Vec<(PathBuf, Outputs)>> = OnceLock::new();
    CAME.get_or_init(|| {
        four_at_once(cases(), |case| {
            let outputs = run(&case);
            (case, outputs)
        })
    })
}

fn run(case: &Path) -> Outputs {
    let config = config(Some(&case.join("policy.toml")));
    let store = tempfile::tempdir().expect("a temporary folder");
    let request = Request {
        histories: vec![case.join("events.jsonl")],
        store: Some(store.path().join("store")),
        ..Request::default()
    };
    let (replayed, decisions) = replayed(&request, &config);
    let mut summary = json!(replayed.summary);
    summary.as_object_mut().expect("an object").remove("seconds");
    let (_, rows) = harvester::drive::projection::read(&store.path().join("store")).expect("the store reads");
    let quarantined = harvester::codec::state::quarantined(&rows)
        .expect("the quarantine reads")
        .into_iter()
        .map(|q| serde_json::json!({"stream": q.stream, "id": q.id.to_string(), "reason": q.reason}))
        .collect();
    Outputs {
        summary,
        decisions: decisions.iter().map(|line| serde_json::from_str(line).expect("a decision is JSON")).collect(),
        quarantined,
        positions: view::positions(&replayed.engine, true).iter().map(|position| json!(position)).collect(),
    }
}

fn lines(outputs: &Outputs) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: &Value| {
        text.push_str(&serde_json::json!({ key: value }).to_string());
        text.push('\n');
    };
    line("summary", &outputs.summary);
    outputs.quarantined.iter().for_each(|value| line("quarantined", value));
    outputs.decisions.iter().for_each(|value| line("decision", value));
    outputs.positions.iter().for_each(|value| line("position", value));
    text
}

#[test]
fn every_case_meets_the_expectations_written_by_hand() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (case, outputs) in outputs() {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(text) = fs::read_to_string(case.join("expect.toml")) else {
            wrong.push(format!("{name}: expect.toml is missing"));
            continue;
        };
        let expect: toml::Table = text.parse().unwrap_or_else(|error| panic!("{name}/expect.toml: {error}"));
        let mut check = |what: String, want: &toml::Value, got: &Value| {
            checked += 1;
            let want = serde_json::to_value(want).expect("TOML is JSON");
            if want != *got {
                wrong.push(format!("{name}: {what}: want {want}, got {got}"));
            }
        };
        for (key, want) in table(expect.get("summary")) {
            check(format!("summary.{key}"), want, at(&outputs.summary, key, Value::from(0)));
        }
        for (i, item) in items(&expect, "position").enumerate() {
            let matches = |position: &&Value| {
                ["symbol", "position_id"]
                    .iter()
                    .all(|key| item.get(*key).is_none_or(|want| want.as_str() == position[*key].as_str()))
            };
            // If a symbol has several positions, the last one is meant.
            let found = outputs.positions.iter().rfind(matches).unwrap_or(&Value::Null);
            for (key, want) in item {
                check(format!("position {i} {}: {key}", found["symbol"]), want, at(found, key, Value::Null));
            }
        }
        if expect.contains_key("decision") {
            let count = toml::Value::Integer(items(&expect, "decision").count() as i64);
            check("number of decisions".to_owned(), &count, &outputs.decisions.len().into());
        }
        for (i, item) in items(&expect, "decision").enumerate() {
            let payload = outputs.decisions.get(i).and_then(|d| d["fields"]["payload"].as_str()).unwrap_or("null");
            let payload: Value = serde_json::from_str(payload).expect("a payload is JSON");
            for (key, want) in item {
                check(format!("decision {i}: {key}"), want, at(&payload, key, Value::Null));
            }
        }
        for item in items(&expect, "quarantined") {
            let want = serde_json::to_value(item).expect("TOML is JSON");
            let found = outputs.quarantined.iter().find(|q| q["id"] == want["id"] && q["stream"] == want["stream"]);
            let got = found.map_or(&Value::Null, |q| &q["reason"]);
            check(format!("quarantined {}", want["id"]), &item["reason"], got);
        }
    }
    assert!(checked > 500, "only {checked} expectations were checked");
    assert!(wrong.is_empty(), "{} of {checked} expectations failed:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_case_has_a_unique_name_and_a_line_in_its_topic() {
    let mut names = BTreeSet::new();
    for case in cases() {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let topic = case.parent().expect("a topic").join("README.md");
        let text = fs::read_to_string(&topic).unwrap_or_else(|error| panic!("{}: {error}", topic.display()));
        assert!(text.contains(&format!("[`{name}`]({name}/README.md)")), "{} does not list {name}", topic.display());
        assert!(names.insert(name), "two cases are called {}", case.display());
    }
}

#[test]
fn every_case_gives_its_golden_lines() {
    let bless = std::env::var_os("HARVESTER_BLESS").is_some();
    let mut differ = Vec::new();
    for (case, outputs) in outputs() {
        let golden = case.join("expected.jsonl");
        let got = lines(outputs);
        if bless {
            fs::write(&golden, got).expect("the golden lines are written");
            continue;
        }
        let want = fs::read_to_string(&golden).unwrap_or_default();
        if want != got {
            let first = want.lines().zip(got.lines()).find(|(w, g)| w != g);
            differ.push(format!("{}: first difference {first:#?}", case.display()));
        }
    }
    assert!(differ.is_empty(), "golden lines differ (cargo xtask bless, then read the diff):\n{}", differ.join("\n"));
}

#[test]
fn every_case_has_the_story_that_was_reviewed() {
    let bless = std::env::var_os("HARVESTER_BLESS").is_some();
    let mut differ = Vec::new();
    for case in cases() {
        let path = case.join("story.txt");
        let got = story::of(&case, &config(Some(&case.join("policy.toml"))));
        if bless {
            fs::write(&path, got).expect("the story is written");
            continue;
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        if want != got {
            let first = want.lines().zip(got.lines()).find(|(w, g)| w != g);
            differ.push(format!("{}: first difference {first:#?}", path.display()));
        }
    }
    assert!(differ.is_empty(), "stories differ (cargo xtask bless, then read the diff):\n{}", differ.join("\n"));
}

fn table(value: Option<&toml::Value>) -> impl Iterator<Item = (&String, &toml::Value)> {
    value.and_then(toml::Value::as_table).into_iter().flatten()
}

fn items<'a>(expect: &'a toml::Table, key: &str) -> impl Iterator<Item = &'a toml::Table> {
    expect.get(key).and_then(toml::Value::as_array).into_iter().flatten().filter_map(toml::Value::as_table)
}

/// Returns the value at a dotted path; list items by index.
fn at<'a>(value: &'a Value, path: &str, absent: Value) -> &'a Value {
    if let Some(found) = value.get(path) {
        return found;
    }
    let mut here = value;
    for part in path.split('.') {
        let next = match part.parse::<usize>() {
            Ok(index) if here.is_array() => here.get(index),
            _ => here.get(part),
        };
        match next {
            Some(found) => here = found,
            None => return Box::leak(Box::new(absent)),
        }
    }
    here
}
