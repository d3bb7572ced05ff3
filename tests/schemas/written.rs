//! What the program answers and decides for every replay case is what the schemas say.

use std::path::Path;

use harvester::app::positions;
use harvester::app::replay::Request;
use harvester::codec::policy;
use serde_json::{Value, json};

use super::contract::faults;
use super::support::{config, replayed};
use super::{cases, line_faults};

#[test]
fn what_a_replay_writes_validates() {
    let mut decided = 0;
    for (case, _) in cases() {
        let request =
            Request { histories: vec![case.join("events.jsonl")], skip_bad_lines: true, ..Request::default() };
        let (replayed, decisions) = replayed(&request, &config(Some(&case.join("policy.toml"))));
        expect_valid(&case, "replay.summary.v1", &Value::Object(replayed.summary));
        expect_valid(&case, "positions.v1", &positions::of_engine(&replayed.engine, true).into());
        for line in decisions.iter().map(|line| serde_json::from_str(line).unwrap()) {
            assert_eq!(line_faults(&line), Vec::<String>::new(), "{}: {line}", case.display());
            decided += 1;
        }
    }
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
