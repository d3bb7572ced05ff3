//! Decision entries that a service refused: the state of the audit has the hold that they caused, and no genuine decision
//! is accused for them.

use std::path::PathBuf;

use super::{Night, audit, count, joined, kinds, text};
use crate::support::histories::{CONTROL, DECISION, PLAN, RESULT, TICK};
use crate::support::lab::entry_line;
use crate::support::{config, replayed};
use harvester::cli::replay::Request;
use serde_json::{Value, json};

/// Lists that a report may have findings in.
const LISTS: [&str; 6] = ["tampered", "differs", "missing", "unexpected", "duplicated", "unseen"];

fn at(s: u64) -> String {
    format!("{}-0", 1_770_163_200_000 + 1000 * s)
}

fn tick(s: u64, price: &str) -> String {
    entry_line(TICK, &at(s), &[("symbol", "SOLUSDT"), ("price", price)])
}

/// Returns a position of `risk_price` 2: LONG 10 @ 100.
fn opened() -> Vec<String> {
    let plan = [
        ("plan_id", "p1"),
        ("decision", "EXECUTE"),
        ("symbol", "SOLUSDT"),
        ("side", "BUY"),
        ("qty", "10"),
        ("atr_value", "2"),
        ("volatility_factor", "1"),
    ];
    let filled = [
        ("symbol", "SOLUSDT"),
        ("executed", "true"),
        ("executedQty", "10"),
        ("avgPrice", "100"),
        ("orderId", "501"),
        ("order_status", "FILLED"),
        ("side", "BUY"),
        ("plan_id", "p1"),
    ];
    vec![entry_line(PLAN, &at(1), &plan), entry_line(RESULT, &at(2), &filled), tick(3, "100.1")]
}

/// Returns the decisions of a history.
fn decided(night: &Night, events: &[String]) -> (PathBuf, Vec<String>) {
    let path = night.file("foreign.jsonl", joined(events));
    let request = Request { histories: vec![path.clone()], ..Request::default() };
    let (_, decisions) = replayed(&request, &config(None));
    (path, decisions)
}

fn findings(report: &Value) -> Vec<usize> {
    LISTS.iter().map(|list| count(report, list)).collect()
}

/// A forged entry holds the symbol at 4 s. An operator accepts the gap at 6 s, and the decision at 7 s is genuine: it is
/// the one of the price at 7 s, not of the price at 5 s.
#[test]
fn a_decision_after_the_hold_of_a_forged_one_is_right() {
    let night = Night::new();
    let mut events = opened();
    let (_, made) = decided(&night, &[&events[..], &[tick(5, "101.2")]].concat());
    let mut forged: Value = serde_json::from_str(&made[0]).expect("a decision is JSON");
    forged["id"] = at(4).into();
    forged["fields"]["hash"] = "deadbeef".repeat(8).into();
    forged["fields"]["signature"] = "aa".into();
    assert_eq!(forged["stream"], DECISION);
    let accepted = json!({"symbol": "SOLUSDT", "reason": "seen"}).to_string();
    let accepted = entry_line(CONTROL, &at(6), &[("event_type", "gap.accepted"), ("payload", &*accepted)]);
    events.extend([forged.to_string(), tick(5, "101.2"), accepted, tick(7, "101.6")]);
    let (history, made) = decided(&night, &events);
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].contains("101.6"), "{made:?}");

    // The history has the decisions, as a journal and the streams of a server have them.
    let whole = night.file("whole.jsonl", joined(&[&events[..], &made[..]].concat()));
    let report = audit(&config(None), &[text(&whole)]);
    assert_eq!((findings(&report), &report["matched"]), (vec![1, 0, 0, 0, 0, 0], &json!(1)), "{report:#}");
    assert_eq!((kinds(&report), &report["tampered"][0]["entry"]), (vec!["payload"], &json!(at(4))), "{report:#}");

    // Beside a file of decisions, the history still shows that a service read the forged one.
    let decisions = night.file("made.jsonl", joined(&made));
    let report = audit(&config(None), &[text(&history), "--decisions", text(&decisions)]);
    assert_eq!((count(&report, "differs"), &report["matched"]), (0, &json!(1)), "{report:#}");
}

/// Without a key, a signature on another entry says nothing about those that have none.
#[test]
fn unsigned_decisions_are_not_accused_without_a_key() {
    let night = Night::new();
    let mut lines: Vec<Value> = night.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let all_but = |first: usize, lines: &mut [Value]| {
        for entry in &mut lines[first..] {
            entry["fields"].as_object_mut().unwrap().remove("signature");
        }
    };
    let judge = |lines: &[Value]| {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let decisions = night.file("mixed.jsonl", joined(&lines));
        audit(&night.config, &[text(&night.events), "--decisions", text(&decisions)])
    };
    all_but(1, &mut lines);
    let report = judge(&lines);
    assert_eq!((findings(&report), &report["matched"]), (vec![0, 0, 0, 0, 0, 1], &json!(10)), "{report:#}");
    assert_eq!(report["verdict"], "incomplete");
    assert_eq!(
        report["unseen"][0]["why"],
        "1 decision is signed and 9 not: without a key (--key-file) it is not known which of them are ours"
    );
    // A signature that no key makes is a fault of its own entry only.
    lines[0]["fields"]["signature"] = "aa".into();
    let report = judge(&lines);
    assert_eq!((count(&report, "tampered"), kinds(&report)), (1, vec!["signature"]), "{report:#}");
    assert_eq!(report["tampered"][0]["why"], "the signature is no 64 hex digits");
    all_but(0, &mut lines);
    assert_eq!(judge(&lines)["verdict"], "clean");
}
