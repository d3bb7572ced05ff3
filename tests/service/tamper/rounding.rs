//! Decisions of another rounding or another policy.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Night, audit, count, joined, resealed, signed, text};
use crate::support::histories::{INTENT, OBSERVATION, RESULT, TICK};
use crate::support::lab::entry_line;
use crate::support::{self, config, replayed, root};
use harvester::cli::replay::Request;
use serde_json::Value;

#[test]
fn another_rounding_and_another_policy_are_found_in_their_fields() {
    let night = Night::new();
    // The emission of a build that cuts instead of rounding half to even: another digit in the last place.
    let cut = |seq: u64, payload: &mut serde_json::Map<String, Value>| {
        if seq == 1 {
            assert_eq!(payload["r_net"], "0.566667");
            payload.insert("r_net".to_owned(), "0.566666".into());
        }
    };
    let lines: Vec<String> = resealed(&night.lines, cut).iter().map(|line| signed(line)).collect();
    let report = night.judge(joined(&lines), &[]);
    assert_eq!((count(&report, "differs"), report["matched"].as_u64()), (1, Some(9)), "{report:#}");
    let fields = report["differs"][0]["fields"].as_object().unwrap();
    assert_eq!(fields.keys().collect::<Vec<_>>(), ["r_net"]);
    assert_eq!(count(&report, "tampered"), 0);

    // Another policy with the same rungs: every decision contains the hash of its policy.
    let policy = night.file("policy.toml", "[policy]\nmin_notional = \"4\"\n");
    let other = config(Some(&policy));
    let decisions = night.file("decisions.jsonl", joined(&night.lines));
    let report = audit(&other, &[text(&night.events), "--decisions", text(&decisions)]);
    assert_eq!((count(&report, "differs"), count(&report, "missing")), (10, 0), "{report:#}");
    for item in report["differs"].as_array().unwrap() {
        assert_eq!(item["fields"].as_object().unwrap().keys().collect::<Vec<_>>(), ["policy"]);
    }

    // Decisions of another rules version are counted as such, and their content is still compared.
    let rules = |_: u64, payload: &mut serde_json::Map<String, Value>| {
        payload.insert("engine".to_owned(), "0".into());
    };
    let lines: Vec<String> = resealed(&night.lines, rules).iter().map(|line| signed(line)).collect();
    let report = night.judge(joined(&lines), &[]);
    assert_eq!((report["verdict"].as_str(), &report["other_rules"]["0"]), (Some("clean"), &Value::from(10)));
}

/// Writes a history of a long of 10 that is sold in quarters: whole steps are 2, and 3 if rounded to the nearest or
/// up.
fn sold_in_steps(night: &Night) -> (PathBuf, Vec<String>) {
    let at = |second: u64| format!("{}-0", 1_770_163_200_000 + 1_000 * second);
    let instrument = r#"{"symbol":"SOLUSDT","stepSize":"1","minQty":"1","minNotional":"5"}"#;
    let intent = [("symbol", "SOLUSDT"), ("side", "BUY"), ("atr_value", "2"), ("volatility_factor", "1")];
    let fill = [("symbol", "SOLUSDT"), ("side", "BUY"), ("orderId", "1"), ("executedQty", "10"), ("avgPrice", "100")];
    let price = |second, price: &str| entry_line(TICK, &at(second), &[("symbol", "SOLUSDT"), ("price", price)]);
    let lines = [
        entry_line(OBSERVATION, &at(0), &[("event_type", "instrument"), ("payload", instrument)]),
        entry_line(INTENT, &at(1), &intent),
        entry_line(RESULT, &at(2), &[&fill[..], &[("order_status", "FILLED")]].concat()),
        price(3, "101.2"),
        price(4, "102.2"),
        price(5, "103.2"),
    ];
    let events = night.file("sold.jsonl", joined(&lines));
    let (_, decisions) = replayed(&Request { histories: vec![events.clone()], ..Request::default() }, &night.config);
    assert_eq!(decisions.len(), 3);
    (events, decisions)
}

#[test]
fn another_rounding_of_a_quantity_is_found_in_each_decision() {
    let night = Night::new();
    let (events, decisions) = sold_in_steps(&night);
    let up = |_: u64, payload: &mut serde_json::Map<String, Value>| {
        assert_eq!(payload.insert("qty".to_owned(), "3".into()), Some("2".into()));
    };
    let judge = |lines: &[String]| {
        let decisions = night.file("sold-decisions.jsonl", joined(lines));
        audit(&night.config, &[text(&events), "--decisions", text(&decisions)])
    };
    assert_eq!(judge(&decisions)["verdict"], "clean");
    let report = judge(&resealed(&decisions, up));
    assert_eq!((count(&report, "differs"), count(&report, "tampered")), (3, 0), "{report:#}");
    for item in report["differs"].as_array().unwrap() {
        assert_eq!(item["fields"], serde_json::json!({"qty": {"emitted": "3", "recomputed": "2"}}), "{item:#}");
    }
}

/// The code of each rule of rounding, and that of the other build: quantities up instead of down, R cut off instead
/// of half to even.
const ROUNDINGS: [(&str, &str); 2] = [
    (
        "        self.minus(Self(rest))\n",
        "        if rest.is_zero() { Ok(self) } else { self.minus(Self(rest))?.plus(step) }\n",
    ),
    (
        "quotient.round_dp_with_strategy(6, RoundingStrategy::MidpointNearestEven)",
        "quotient.round_dp_with_strategy(6, RoundingStrategy::ToZero)",
    ),
];

/// Another build of the program with another rounding: our audit finds its decisions by the rounded fields.
#[test]
#[ignore = "builds the program a second time"]
fn a_build_with_another_rounding_is_found_by_its_decisions() {
    let night = Night::new();
    let other = Path::new(env!("CARGO_TARGET_TMPDIR")).join("other-rounding");
    let source = other.join("source");
    let _ = fs::remove_dir_all(&source);
    for part in [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "schemas",
        "replay/nights/incident-2026-02-04",
        "tools/xtask",
        "tools/deploy",
    ] {
        copy(&root().join(part), &source.join(part));
    }
    let units = source.join("src/domain/units.rs");
    let mut rules = fs::read_to_string(&units).unwrap();
    for (ours, theirs) in ROUNDINGS {
        assert_eq!(rules.matches(ours).count(), 1, "the code of the rule was found: {ours}");
        rules = rules.replace(ours, theirs);
    }
    fs::write(&units, rules).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--locked", "--bin", "harvester", "--manifest-path"])
        .arg(source.join("Cargo.toml"));
    assert!(cargo.arg("--target-dir").arg(other.join("target")).status().expect("cargo runs").success());

    let (sold, _) = sold_in_steps(&night);
    let (mut tried, mut found) = (0, 0);
    for (events, fields) in [(&night.events, &["r_net"][..]), (&sold, &["qty"])] {
        let decisions = night.folder.path().join("of-the-other.jsonl");
        let mut replay = Command::new(other.join("target/debug/harvester"));
        replay.env_clear().args(["replay", text(events), "--json", "--decisions", text(&decisions)]);
        assert!(support::binary::run(&mut replay).code == Some(0));
        let emitted = fs::read_to_string(&decisions).unwrap();
        let recomputed = replayed(&Request { histories: vec![events.clone()], ..Request::default() }, &night.config).1;
        // Decisions are chained, so their content is compared without the chain.
        let payloads = |line: &str| serde_json::from_str::<Value>(line).unwrap()["fields"]["payload"].clone();
        let apart = emitted.lines().zip(&recomputed).filter(|(a, b)| payloads(a) != payloads(b)).count();
        assert!(apart > 0, "both builds give the same: {}", events.display());
        let report = audit(&night.config, &[text(events), "--decisions", text(&decisions)]);
        for item in report["differs"].as_array().unwrap() {
            let named: Vec<_> = item["fields"].as_object().unwrap().keys().collect();
            assert_eq!(named, fields, "{item:#}");
        }
        assert_eq!(count(&report, "tampered") + count(&report, "missing") + count(&report, "unexpected"), 0);
        tried += apart;
        found += count(&report, "differs");
    }
    print_line!("another rounding: {found} of {tried} decisions found");
    assert_eq!(found, tried);
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
        return;
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}
