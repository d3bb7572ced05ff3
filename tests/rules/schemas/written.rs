//! Every document that the program writes for the replay cases validates against its schema.

use std::path::Path;

use clap::Parser;
use harvester::cli::audit::{self, Args};
use harvester::cli::replay::Request;
use harvester::codec::policy;
use harvester::codec::view;
use serde_json::{Value, json};

use super::{cases, line_faults, resolve};
use crate::support::contract::{DOCUMENTS, faults};
use crate::support::{config, replayed};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

impl Cli {
    fn words(events: &Path, decisions: &Path) -> Vec<String> {
        let words = ["audit".to_owned(), "--json".to_owned(), events.display().to_string()];
        words.into_iter().chain(["--decisions".to_owned(), decisions.display().to_string()]).collect()
    }
}

#[test]
fn every_document_of_a_replay_validates() {
    let (mut decided, mut audited) = (0, 0);
    let folder = tempfile::tempdir().unwrap();
    for (case, _) in cases() {
        let request =
            Request { histories: vec![case.join("events.jsonl")], skip_bad_lines: true, ..Request::default() };
        let (replayed, decisions) = replayed(&request, &config(Some(&case.join("policy.toml"))));
        expect_valid(&case, "replay.summary.v1", &json!(replayed.summary));
        expect_valid(&case, "positions.v1", &json!(view::positions(&replayed.engine, true)));
        for line in decisions.iter().map(|line| serde_json::from_str(line).unwrap()) {
            assert_eq!(line_faults(&line), Vec::<String>::new(), "{}: {line}", case.display());
            decided += 1;
        }
        // The whole history, the history without its first decision, and the chain by itself.
        let skipped = decisions.iter().skip(1).cloned().collect::<Vec<_>>();
        for (emitted, chain_only) in [(&decisions, false), (&skipped, false), (&skipped, true)] {
            let file = folder.path().join("decisions.jsonl");
            std::fs::write(&file, emitted.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            let mut words = Cli::words(&case.join("events.jsonl"), &file);
            words.extend(chain_only.then(|| "--chain-only".to_owned()));
            let mut out = Vec::new();
            let args = Cli::try_parse_from(words).expect("the arguments are right").args;
            let done = audit::run(&args, &config(Some(&case.join("policy.toml"))), &mut out);
            // Cases about unreadable lines are refused.
            let Ok(report) = serde_json::from_slice(&out) else { continue };
            expect_valid(&case, "audit.report.v1", &report);
            audited += 1;
            assert_eq!(done.is_ok(), report["verdict"] == "clean");
        }
    }
    assert!(audited > 100, "{audited} reports");
    assert!(decided > 0, "no case decides anything");
}

#[test]
fn the_canonical_policy_validates() {
    let live = r#"{"mode":"live","ladder":"1:0.5","atr_unit":{"default":"fraction"},"price_sources":["market.tick"],"on_live":"take"}"#;
    for policy in ["{}", live].map(|text| policy::from_json(text).unwrap()) {
        let canonical: Value = serde_json::from_str(&policy::to_json(&policy)).unwrap();
        assert_eq!(faults("harvest.policy.v1", &canonical), Vec::<String>::new(), "{canonical}");
        let adopted = json!({"event_type": "policy.adopted", "payload": json!({"policy": canonical}).to_string()});
        assert_eq!(faults("harvest.control.v1", &adopted), Vec::<String>::new(), "{adopted}");
    }
}

/// Asserts that a written document validates and that its schema describes every key.
fn expect_valid(case: &Path, name: &str, document: &Value) {
    assert_eq!(faults(name, document), Vec::<String>::new(), "{}: {name}: {document}", case.display());
    let mut unknown = Vec::new();
    undescribed(name, &DOCUMENTS[name], document, "", &mut unknown);
    assert_eq!(unknown, Vec::<String>::new(), "{}: keys of {name} without a description", case.display());
}

/// Collects the keys of a document that its schema does not name.
fn undescribed(name: &str, schema: &Value, document: &Value, place: &str, unknown: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let of = reference.split_once(".json#").map_or(name, |(file, _)| file);
        return undescribed(of, resolve(name, reference).expect("it leads somewhere"), document, place, unknown);
    }
    // For several alternatives: the one that has a branch for the document.
    if let Some(ways) = schema["anyOf"].as_array() {
        let lists = ways.iter().map(|way| {
            let mut list = Vec::new();
            undescribed(name, way, document, place, &mut list);
            list
        });
        unknown.extend(lists.min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    match document {
        Value::Object(members) => {
            for (key, value) in members {
                let place = format!("{place}/{key}");
                match (schema["properties"].get(key), schema.get("additionalProperties")) {
                    (Some(inner), _) | (None, Some(inner)) => undescribed(name, inner, value, &place, unknown),
                    (None, None) => unknown.push(place),
                }
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| undescribed(name, &schema["items"], item, &format!("{place}/*"), unknown));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
