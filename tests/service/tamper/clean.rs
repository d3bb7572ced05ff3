//! Chains without a finding: of cases, of a service, and those with entries missing for a good reason.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use super::{Cli, Night, audit, count, id_of, joined, kinds, text};
use crate::support::binary::run_with;
use crate::support::redis::RedisServer;
use crate::support::{cases, config, replayed, root};
use clap::Parser as _;
use harvester::cli::replay::Request;
use harvester::codec::policy::from_json;
use harvester::config::Config;
use serde_json::Value;

#[test]
fn an_untouched_chain_is_clean() {
    let night = Night::new();
    let report = night.judge(joined(&night.lines), &[]);
    assert_eq!(report["verdict"], "clean", "{report:#}");
    assert_eq!((report["matched"].as_u64(), count(&report, "tampered")), (Some(10), 0));
    assert_eq!(report["chain"]["signatures"]["good"], 10);
    let ticks = &report["coverage"]["quantum:stream:market.tick"];
    assert_eq!((ticks["first"].as_str(), ticks["gaps"].as_array().map(Vec::len)), (Some("1770170830000-0"), Some(0)));
}

/// Findings are about false content, not about clocks, and not about entries that a server lost.
#[test]
fn decisions_written_again_and_a_clock_that_went_back_are_counted_and_are_not_findings() {
    let night = Night::new();
    let with = |change: &dyn Fn(u64, &mut Value)| -> Vec<String> {
        let mut all: Vec<Value> = night.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for (entry, seq) in all.iter_mut().zip(1..) {
            change(seq, entry);
        }
        all.sort_by_key(id_of);
        all.iter().map(ToString::to_string).collect()
    };
    let moved = |ms: i64| {
        move |entry: &mut Value| {
            let (of_ms, seq) = id_of(entry);
            entry["id"] = format!("{}-{seq}", of_ms.saturating_add_signed(ms)).into();
        }
    };
    let again = with(&|seq, entry| {
        if (3..=5).contains(&seq) {
            moved(86_400_000)(entry);
            entry["fields"]["again"] = "1".into();
        }
    });
    let back = with(&|_, entry| moved(-10_000)(entry));
    // Its copy is in the old place: the server had not lost it after all.
    let twice = [joined(&night.lines), joined(&again[again.len() - 3..])].concat();
    let n = night.lines.len() as u64;
    for (what, text_of, written_again, clock_back) in
        [("again", joined(&again), 3, 0), ("back", joined(&back), 0, n), ("twice", twice, 3, 0)]
    {
        let report = night.judge(text_of, &[]);
        assert_eq!(report["verdict"], "clean", "{what}: {report:#}");
        assert_eq!(report["chain"]["written_again"], written_again, "{what}: {report:#}");
        assert_eq!(report["chain"]["clock_back"], clock_back, "{what}: {report:#}");
        assert_eq!(report["chain"]["head"]["seq"], n, "{what}");
    }
    // A marked and altered decision is still a finding.
    let forged: Vec<String> =
        again.iter().map(|line| line.replacen(r#"\"attempt\":1"#, r#"\"attempt\":2"#, 1)).collect();
    assert_eq!(night.judge(joined(&forged), &[])["verdict"], "findings");
}

/// A loss of the cause and of the decision: the decision is written again, and its entries are missing, so it cannot
/// be judged.
#[test]
fn a_decision_that_was_written_again_without_its_cause_is_not_a_finding() {
    let night = Night::new();
    let mut last: Value = serde_json::from_str(night.lines.last().unwrap()).unwrap();
    let payload: Value = serde_json::from_str(last["fields"]["payload"].as_str().unwrap()).unwrap();
    let (stream, cause) = payload["cause"].as_str().unwrap().rsplit_once('/').unwrap();
    let is_cause = |line: &&str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        entry["stream"] == stream && entry["id"] == cause
    };
    let events = fs::read_to_string(&night.events).unwrap();
    assert_eq!(events.lines().filter(|line| is_cause(line)).count(), 1);
    let left: String = events.lines().filter(|line| !is_cause(line)).map(|line| format!("{line}\n")).collect();
    let left = night.file("left.jsonl", left);
    let judge = |last: &Value| {
        let mut lines = night.lines.clone();
        *lines.last_mut().unwrap() = last.to_string();
        let decisions = night.file("again.jsonl", joined(&lines));
        let key = night.folder.path().join("key");
        let arguments = [text(&left), "--decisions", text(&decisions), "--key-file", text(&key)];
        let words = ["audit"].iter().chain(&arguments);
        let mut shown = Vec::new();
        let _ = audit::run(&Cli::try_parse_from(words).unwrap().args, &night.config, &mut shown);
        (audit(&night.config, &arguments), String::from_utf8(shown).unwrap())
    };
    let (report, shown) = judge(&last);
    assert_eq!((&report["verdict"], count(&report, "unexpected")), (&Value::from("findings"), 1), "{report:#}");
    assert!(!shown.contains("written again"), "{shown}");
    last["fields"]["again"] = "1".into();
    let (report, shown) = judge(&last);
    assert_eq!((&report["verdict"], count(&report, "unexpected")), (&Value::from("incomplete"), 0), "{report:#}");
    assert!(report["unseen"].to_string().contains("written again after a loss"), "{report:#}");
    assert!(shown.contains("INCOMPLETE") && shown.contains("written again 1,"), "{shown}");
}

#[test]
fn decisions_of_a_service_are_clean_by_its_journal_and_by_the_streams_alone() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (store, journal) = (folder.path().join("store"), folder.path().join("journal"));
    let events = root().join("replay/nights/incident-2026-02-04/events.jsonl");
    let url = server.url();
    run_with(&["import", text(&events), "--redis", &url, "--json"]).json();
    let places = ["--store", text(&store), "--journal", text(&journal)];
    let how = ["run", "--redis", &url, "--from", "earliest", "--until-idle", "1", "--listen", ""];
    let ran = run_with(&[&how[..], &places].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.log);

    let from_server = format!("--redis={url}");
    for sources in [&["--journal", text(&journal), &from_server][..], &[&from_server]] {
        let report = audit(&config(None), sources);
        assert_eq!((report["verdict"].as_str(), report["matched"].as_u64()), (Some("clean"), Some(10)), "{report:#}");
    }
    // The present configuration states nothing about decisions from before the service began.
    let policy = from_json(r#"{"ladder":"3:0.5","min_r":"2"}"#).unwrap();
    let report = audit(&Config { policy, ..config(None) }, &["--journal", text(&journal)]);
    assert_eq!((report["verdict"].as_str(), report["matched"].as_u64()), (Some("clean"), Some(10)), "{report:#}");
    let args = Cli::try_parse_from(["audit", "anchor", &from_server]).unwrap().args;
    let mut out = Vec::new();
    audit::run(&args, &config(None), &mut out).unwrap();
    let anchor = folder.path().join("anchor");
    fs::write(&anchor, out).unwrap();

    // The last decision is removed from the stream.
    let stream = "quantum:stream:harvest.decision";
    let last = server.cli(&["XREVRANGE", stream, "+", "-", "COUNT", "1"]);
    server.cli(&["XDEL", stream, last.lines().next().unwrap().trim()]);
    let report = audit(&config(None), &["--journal", text(&journal), &from_server, "--anchor", text(&anchor)]);
    // The journal has it, because the service has read it back.
    assert_eq!((kinds(&report), report["tampered"][0]["seq"].as_u64()), (vec!["gap"], Some(10)), "{report:#}");
    let report = audit(&config(None), &[&*from_server, "--anchor", text(&anchor)]);
    assert_eq!((kinds(&report), count(&report, "missing")), (vec!["tail"], 1), "{report:#}");

    // Producers trim their streams all the time. That is not held against decisions that rest on trimmed entries.
    for stream in ["quantum:stream:harvest.observation", "quantum:stream:trade.intent"] {
        server.cli(&["XTRIM", stream, "MAXLEN", "1"]);
    }
    let report = audit(&config(None), &[&*from_server]);
    assert_eq!(report["verdict"], "incomplete", "{report:#}");
    let unseen = report["unseen"].to_string();
    assert!(unseen.contains("the server no longer holds") && unseen.contains("harvest.observation"), "{report:#}");
    let judged = report["matched"].as_u64().unwrap() as usize + count(&report, "unseen");
    assert!(judged >= 9, "each of the nine remaining is judged or reported as not judged: {report:#}");
}

/// Cases whose recorded decisions differ from those of the rules, by design.
const NOT_CLEAN: [&str; 13] = [
    // It was made before entries named an account, so it has another name now.
    "s4_decision_without_an_account",
    // One of its decisions has rules version 1, and version 2 would not make it.
    "s4_decisions_of_rules_1",
    // Live under a policy that another program adopted, and that no service had configured.
    "s5_fill_outlasts_refusal",
    "s5_on_live_skip",
    "s5_on_live_take",
    "s5_share_stays_with_its_decision",
    "s4_own_decisions_differ",
    "s4_own_decisions_missing",
    "s4_own_decisions_other_instance",
    "s4_own_decisions_agree",
    "s4_own_decisions_homeless",
    "s4_unsigned_decision_before_its_cause",
    "s4_unreadable_decision_reaches_nothing",
];

#[test]
fn every_case_that_was_replayed_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    let decisions = folder.path().join("decisions.jsonl");
    let (mut judged, mut matched, mut wrong) = (0, 0, Vec::new());
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let config = config(Some(&case.join("policy.toml")));
        let events = case.join("events.jsonl");
        let request = Request { histories: vec![events.clone()], skip_bad_lines: true, ..Request::default() };
        let Ok(replayed) = std::panic::catch_unwind(|| replayed(&request, &config)) else { continue };
        fs::write(&decisions, joined(&replayed.1)).unwrap();
        let report = audit(&config, &[text(&events), "--decisions", text(&decisions)]);
        judged += 1;
        matched += report["matched"].as_u64().unwrap();
        for (outcome, n) in report["outcomes"].as_object().unwrap() {
            *outcomes.entry(outcome.clone()).or_default() += n.as_u64().unwrap();
        }
        let has_gap = fs::read_to_string(&events).unwrap().contains("history.gap");
        if (report["verdict"] == "clean") == (has_gap || NOT_CLEAN.contains(&&*name)) {
            wrong.push(format!("{name}: {report:#}"));
        }
    }
    print_line!("{judged} cases, {matched} decisions matched, outcomes {outcomes:?}");
    assert!(judged > 100 && matched > 80, "{judged} cases, {matched} decisions");
    assert!(outcomes.values().all(|n| *n > 0), "each outcome occurs: {outcomes:?}");
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
