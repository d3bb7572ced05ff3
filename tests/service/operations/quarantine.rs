//! `harvester quarantine try`: the result of the present decoder for quarantined entries.

use std::fs;

use serde_json::Value;

use crate::support::binary::{name, run_with};

#[test]
fn quarantined_entries_are_decoded_again_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (history, store) = (folder.path().join("history.jsonl"), folder.path().join("state"));
    // The second entry can be read, and is quarantined because of the state: a fill without a side and with an
    // unknown plan.
    let lines = [
        r#"{"stream":"quantum:stream:trade.intent","id":"1770163200000-0","fields":{"payload":"{no json"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163201000-0","fields":{"symbol":"ADAUSDT","order_id":"7","filled_qty":"5","status":"FILLED"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163202000-0","fields":{"symbol":"ADAUSDT","order_id":"8","filled_qty":"x"}}"#,
    ];
    fs::write(&history, lines.join("\n")).unwrap();
    let replayed = run_with(&["replay", name(&history), "--store", name(&store), "--json"]).json();
    assert_eq!(replayed["quarantined"].to_string(), r#"{"bad_json":1,"bad_number":1,"no_side":1}"#);

    let list = || run_with(&["quarantine", "list", "--store", name(&store), "--json"]).json();
    let before = list();
    let tried = run_with(&["quarantine", "try", "--store", name(&store), "--json"]).json();
    let became: Vec<(&str, &str, &Value)> = tried
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["was"].as_str().unwrap(), &one["reason"]))
        .collect();
    assert_eq!(
        became,
        [
            ("1770163201000-0", "no_side", &Value::Null),
            ("1770163202000-0", "bad_number", &"bad_number".into()),
            ("1770163200000-0", "bad_json", &"bad_json".into()),
        ]
    );
    assert!(tried[0]["shape"].is_string() && tried[1]["shape"].is_null(), "{tried}");
    let one = run_with(&["quarantine", "try", "--store", name(&store), "apply.result", "1770163201000-0"]);
    assert!(one.out.contains("reads now as") && one.out.contains("is a rebuild"), "{}", one.out);
    assert!(one.out.contains("1 of 1 can be read"), "{}", one.out);
    run_with(&["quarantine", "try", "--store", name(&store), "apply.plan", "5-0"]).refused(&["not in quarantine"]);
    assert_eq!(list(), before, "nothing is changed");
}
