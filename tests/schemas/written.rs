//! What the program answers and decides for every replay case is what the schemas say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use harvester::app::{positions, replay};
use harvester::codec::policy;
use harvester::config::Config;
use serde_json::{Value, json};

use super::contract::faults;
use super::{case_lines, line_faults};

#[test]
fn what_a_replay_writes_validates() {
    let cases: BTreeSet<_> = case_lines().into_iter().map(|(case, _, _)| case).collect();
    let mut decided = 0;
    for case in &cases {
        let histories = vec![case.join("events.jsonl")];
        let request = replay::Request { histories, skip_bad_lines: true, ..replay::Request::default() };
        let config = Config::from_parts(Some(&case.join("policy.toml")), BTreeMap::new()).unwrap();
        let replayed = replay::replay(&request, &config, |line| {
            let line: Value = serde_json::from_str(line)?;
            assert_eq!(line_faults(&line), Vec::<String>::new(), "{}: {line}", case.display());
            decided += 1;
            Ok(())
        })
        .unwrap();
        expect_valid(case, "replay.summary.v1", &Value::Object(replayed.summary));
        expect_valid(case, "positions.v1", &positions::of_engine(&replayed.engine, true).into());
    }
    assert!(cases.is_empty() || decided > 0, "no case decides anything");
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
