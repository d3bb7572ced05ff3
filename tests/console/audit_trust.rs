//! The audit of control entries: one that loosened and is not ours is a finding, however right the decisions are.

use std::path::Path;

use harvester::cli::replay::Request;
use harvester::codec::line;
use harvester::codec::signing::{SigningKey, control_text};
use harvester::shell::journal::{Journal, Limits};
use serde_json::{Value, json};

use crate::support::binary::run_with;
use crate::support::histories::{CONTROL, INTENT, RESULT, TICK};
use crate::support::lab::entry_line;
use crate::support::{config, replayed};

const KEY: &str = "a key that signs decisions";
const OTHER_KEY: &str = "another secret of enough bytes";

fn signing(key: &str) -> SigningKey {
    SigningKey::new(key.as_bytes()).expect("a key")
}

/// A `gap.accepted` of a time [ms since 1970], signed with a key or not.
fn accepted(ms: u64, key: Option<&str>) -> String {
    let payload = json!({"reason": "r", "issued_ms": ms, "nonce": format!("{ms:032x}")}).to_string();
    let signature = key.map(|key| signing(key).sign(&control_text(CONTROL, "gap.accepted", &payload)));
    let mut fields = vec![("event_type", "gap.accepted"), ("payload", &*payload)];
    fields.extend(signature.iter().map(|signature| ("signature", &**signature)));
    entry_line(CONTROL, &format!("{ms}-0"), &fields)
}

/// The audit of a journal of these lines, which are in order, with the key: exit code and report.
fn audited(folder: &Path, name: &str, lines: &[String]) -> (Option<i32>, Value) {
    let (dir, key) = (folder.join(name), folder.join("key"));
    std::fs::write(&key, KEY).expect("the key is written");
    let mut journal = Journal::open(&dir, Limits { rotate_bytes: 1 << 20 }).expect("a journal");
    for text in lines {
        let (_, id) = line::head(text.as_bytes()).expect("a line");
        journal.append(text, id.split_once('-').expect("an id").0.parse().expect("a time"));
    }
    journal.close().expect("it is written");
    let path = |path: &Path| path.to_str().expect("paths of tests are UTF-8").to_owned();
    let ran = run_with(&["audit", "--journal", &path(&dir), "--key-file", &path(&key), "--json"]);
    (ran.code, serde_json::from_str(&ran.out).expect("a report"))
}

#[test]
fn a_forged_entry_that_nobody_skipped_is_a_finding_beside_right_decisions() {
    const BEGIN_MS: u64 = 1_770_163_200_000;
    let folder = tempfile::tempdir().expect("a folder");
    let risk = [("symbol", "ADAUSDT"), ("action", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")];
    let fill = [("symbol", "ADAUSDT"), ("side", "BUY"), ("executedQty", "100"), ("avgPrice", "1"), ("orderId", "1")];
    let mut lines = vec![
        entry_line(INTENT, &format!("{BEGIN_MS}-0"), &risk),
        entry_line(RESULT, &format!("{}-0", BEGIN_MS + 1_000), &[&fill[..], &[("status", "FILLED")]].concat()),
        accepted(BEGIN_MS + 2_000, Some(KEY)),
        entry_line(TICK, &format!("{}-0", BEGIN_MS + 3_000), &[("symbol", "ADAUSDT"), ("price", "1.007")]),
    ];
    let history = folder.path().join("history.jsonl");
    std::fs::write(&history, lines.join("\n") + "\n").expect("the history is written");
    let (_, made) = replayed(&Request { histories: vec![history], ..Request::default() }, &config(None));
    let [made] = &made[..] else { panic!("{made:?}") };
    let mut decision: Value = serde_json::from_str(made).expect("a line is JSON");
    decision["fields"]["signature"] = signing(KEY).sign(decision["fields"]["hash"].as_str().expect("a hash")).into();
    lines.push(decision.to_string());

    let (code, clean) = audited(folder.path(), "clean", &lines);
    assert_eq!((code, &clean["verdict"], &clean["matched"]), (Some(0), &json!("clean"), &json!(1)), "{clean:#}");
    assert_eq!(clean["control"]["signatures"], json!({"good": 1, "bad": 0, "unchecked": 0, "none": 0}));

    for (name, key) in [("forged", Some(OTHER_KEY)), ("unsigned", None)] {
        let at = BEGIN_MS + 10_000;
        let all: Vec<String> = lines.iter().cloned().chain([accepted(at, key)]).collect();
        let (code, report) = audited(folder.path(), name, &all);
        assert_eq!((code, &report["verdict"]), (Some(1), &json!("findings")), "{name}: {report:#}");
        let finding = json!([{
            "what": "control_signature",
            "seq": null,
            "entry": format!("{at}-0"),
            "why": "gap.accepted: not signed with this key, or not issued close to its id",
        }]);
        assert_eq!(report["tampered"], finding, "{name}");
        assert_eq!(report["control"]["signatures"], json!({"good": 1, "bad": 1, "unchecked": 0, "none": 0}), "{name}");
        assert_eq!((&report["control"]["refused"], &report["matched"]), (&json!(0), &json!(1)), "{name}");
        assert_eq!(report["chain"]["signatures"], json!({"good": 1, "bad": 0, "unchecked": 0, "none": 0}), "{name}");
        assert_eq!([&report["differs"], &report["missing"], &report["unexpected"]], [&json!([]); 3], "{name}");
    }
}
