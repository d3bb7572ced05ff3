//! What the program answers and decides for every replay case is what the schemas say.

use std::path::Path;

use clap::Parser;
use harvester::cli::audit::{self, Args};
use harvester::cli::replay::Request;
use harvester::codec::policy;
use harvester::codec::view;
use serde_json::{Value, json};

use super::{cases, line_faults};
use crate::support::contract::faults;
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
fn what_a_replay_writes_validates() {
    let (mut decided, mut audited) = (0, 0);
    let folder = tempfile::tempdir().unwrap();
    for (case, _) in cases() {
        let request =
            Request { histories: vec![case.join("events.jsonl")], skip_bad_lines: true, ..Request::default() };
        let (replayed, decisions) = replayed(&request, &config(Some(&case.join("policy.toml"))));
        expect_valid(&case, "replay.summary.v1", &Value::Object(replayed.summary));
        expect_valid(&case, "positions.v1", &view::positions(&replayed.engine, true).into());
        for line in decisions.iter().map(|line| serde_json::from_str(line).unwrap()) {
            assert_eq!(line_faults(&line), Vec::<String>::new(), "{}: {line}", case.display());
            decided += 1;
        }
        // Whole, without the first decision, and the chain by itself.
        let skipped = decisions.iter().skip(1).cloned().collect::<Vec<_>>();
        for (emitted, chain_only) in [(&decisions, false), (&skipped, false), (&skipped, true)] {
            let file = folder.path().join("decisions.jsonl");
            std::fs::write(&file, emitted.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
            let mut words = Cli::words(&case.join("events.jsonl"), &file);
            words.extend(chain_only.then(|| "--chain-only".to_owned()));
            let mut out = Vec::new();
            let args = Cli::try_parse_from(words).expect("the arguments are right").args;
            let done = audit::run(&args, &config(Some(&case.join("policy.toml"))), &mut out);
            // Cases about lines that do not read are refused.
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

fn expect_valid(case: &Path, name: &str, document: &Value) {
    assert_eq!(faults(name, document), Vec::<String>::new(), "{}: {name}: {document}", case.display());
}
