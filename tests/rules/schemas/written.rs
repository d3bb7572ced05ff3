//! Every document that the program writes for the replay cases validates against its schema.

use std::path::Path;

use clap::Parser;
use harvester::cli::audit::{self, Args};
use harvester::cli::explain;
use harvester::cli::replay::Request;
use harvester::codec::policy;
use harvester::codec::view;
use harvester::service::report::{Report, concerns};
use serde_json::{Value, json};

use super::{cases, line_faults};
use crate::support::contract::{DOCUMENTS, expect_valid, faults};
use crate::support::{config, replayed};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[derive(Parser)]
struct ExplainCli {
    #[command(flatten)]
    args: explain::Args,
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
        let named = case.display().to_string();
        let request =
            Request { histories: vec![case.join("events.jsonl")], skip_bad_lines: true, ..Request::default() };
        let (replayed, decisions) = replayed(&request, &config(Some(&case.join("policy.toml"))));
        expect_valid(&named, "replay.summary.v1", &json!(replayed.summary));
        expect_valid(&named, "positions.v1", &json!(view::positions(&replayed.engine, true)));
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
            expect_valid(&named, "audit.report.v1", &report);
            audited += 1;
            assert_eq!(done.is_ok(), report["verdict"] == "clean");
        }
    }
    assert!(audited > 100, "{audited} reports");
    assert!(decided > 0, "no case decides anything");
}

#[test]
fn every_document_of_explain_validates() {
    let (mut of_symbols, mut of_decisions) = (0, 0);
    for (case, _) in cases() {
        let config = config(Some(&case.join("policy.toml")));
        let events = case.join("events.jsonl");
        let request = Request { histories: vec![events.clone()], skip_bad_lines: true, ..Request::default() };
        let (replayed, decisions) = replayed(&request, &config);
        let symbols = replayed.engine.symbols().map(|symbol| symbol.name.to_string()).take(2);
        let decided = decisions.iter().take(2).filter_map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["fields"]["decision_id"].as_str().map(str::to_owned)
        });
        for what in symbols.chain(decided) {
            let words = ["explain", "--json", "--raw", &what, &events.display().to_string()].map(str::to_owned);
            let args = ExplainCli::try_parse_from(words).expect("the arguments are right").args;
            let mut out = Vec::new();
            // Cases about unreadable lines are refused.
            let Ok(()) = explain::run(&args, &config, &mut out) else { continue };
            let document: Value = serde_json::from_slice(&out).unwrap();
            expect_valid(&format!("{} {what}", case.display()), "explanation.v1", &document);
            *(if document.get("decision").is_some() { &mut of_decisions } else { &mut of_symbols }) += 1;
        }
    }
    assert!(of_symbols > 100 && of_decisions > 50, "{of_symbols} symbols, {of_decisions} decisions");
}

/// The example has every key, so that the type and the schema describe the same document.
#[test]
fn the_report_of_a_service_agrees_with_its_schema() {
    let example = &DOCUMENTS["status.v1"]["examples"][0];
    let report: Report = serde_json::from_value(example.clone()).unwrap();
    let mut page = example.clone();
    page.as_object_mut().unwrap().remove("concerns").expect("the example has concerns");
    assert_eq!(json!(report), page);
    let described = DOCUMENTS["status.v1"]["properties"].as_object().unwrap();
    assert_eq!(example.as_object().unwrap().keys().collect::<Vec<_>>(), described.keys().collect::<Vec<_>>());
    assert_ne!(json!(concerns(&report)), json!([]), "the example needs an operator");
    for report in [report, Report::default()] {
        expect_valid("the page", "status.v1", &json!(report));
        let mut document = json!(report);
        document["concerns"] = json!(concerns(&report));
        expect_valid("the screen", "status.v1", &document);
    }
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
