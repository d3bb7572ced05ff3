//! Import of a history into a real server: the same entries under the same ids, and never into a stream that has
//! entries.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::redis::{RedisServer, free_port};
use crate::support::root;

fn import(history: &Path, url: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_harvester"))
        .args(["import", "--json", "--redis", url])
        .arg(history)
        .env_clear()
        .output()
        .expect("the program runs")
}

#[test]
fn a_history_is_written_under_its_own_ids_and_only_once() {
    let server = RedisServer::start();
    let history = root().join("replay/nights/incident-2026-02-04/events.jsonl");
    let output = import(&history, &server.url());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(summary["written"], 1235);
    assert_eq!(server.cli(&["XLEN", "quantum:stream:trade.intent"]).trim(), "46");
    let text = std::fs::read_to_string(&history).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let entry = server.cli(&["XRANGE", "quantum:stream:trade.intent", "-", "+", "COUNT", "1"]);
    let mut lines = entry.lines();
    assert_eq!(lines.next(), first["id"].as_str());
    // Names and values in the order of the line.
    let (name, value) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(first["fields"][name], value);

    let again = import(&history, &server.url());
    assert_eq!(again.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&again.stderr).contains("entries already: import writes into empty streams only"),
        "{again:?}"
    );
    assert_eq!(server.cli(&["XLEN", "quantum:stream:trade.intent"]).trim(), "46", "nothing was added");
}

#[test]
fn bytes_that_are_not_utf8_arrive_unchanged() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("history.jsonl");
    // AP8= is the two bytes 00 ff.
    let line = r#"{"stream":"quantum:stream:apply.plan","id":"5-1","fields_b64":{"note":"AP8="}}"#;
    std::fs::write(&history, format!("{line}\n{line}\n")).unwrap();
    let output = import(&history, &server.url());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let entry = server.cli(&["--no-raw", "XRANGE", "quantum:stream:apply.plan", "-", "+"]);
    assert!(entry.contains(r#""\x00\xff""#) && entry.contains("5-1"), "{entry}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["written"], &summary["duplicates"]), (&1.into(), &1.into()));
}

#[test]
fn an_absent_server_is_exit_code_3_and_the_error_has_no_password() {
    let history = root().join("replay/incidents/i02_new_field_for_old_positions/events.jsonl");
    let output = import(&history, &format!("redis://:secret-word@127.0.0.1:{}", free_port()));
    assert_eq!(output.status.code(), Some(3));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("cannot be reached") && !log.contains("secret-word"), "{log}");
}

#[test]
fn a_stream_that_was_emptied_is_refused_before_anything_is_written() {
    let server = RedisServer::start();
    server.cli(&["XADD", "quantum:stream:market.tick", "*", "a", "b"]);
    server.cli(&["XTRIM", "quantum:stream:market.tick", "MAXLEN", "0"]);
    let output = import(&root().join("replay/nights/incident-2026-02-04/events.jsonl"), &server.url());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("was emptied"));
    assert_eq!(server.cli(&["XLEN", "quantum:stream:trade.intent"]).trim(), "0");
}
