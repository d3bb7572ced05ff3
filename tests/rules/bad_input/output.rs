//! Output of commands: decisions, documents, closed pipes and full disks.

use std::fs;
use std::process::Command;

use super::{Folder, good, price};
use crate::support::binary::{harvester, name, piped, run, run_with};
use crate::support::histories::{DECISION, TICK};
use crate::support::lab::entry_line;
use serde_json::{Value, json};

#[test]
fn decisions_are_written_as_a_history() {
    let folder = Folder::new();
    let history = folder.history(&good());
    let written = run_with(&["replay", &history, "--decisions", "-"]);
    assert_eq!(written.code, Some(0), "{}", written.log);
    let lines: Vec<Value> =
        written.out.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(lines.len(), 1, "{}", written.out);
    assert_eq!((&lines[0]["stream"], &lines[0]["id"]), (&json!(DECISION), &json!("1770163203000-1")));

    let file = name(&folder.path("decisions.jsonl")).to_owned();
    run_with(&["replay", &history, "--decisions", &file, "--json"]).json();
    assert_eq!(fs::read_to_string(&file).expect("the decisions are there"), written.out);
    let summary = run_with(&["replay", &history, &file, "--json"]).json();
    assert_eq!((&summary["decisions"], &summary["own_decisions"]["agree"]), (&json!(0), &json!(1)));
    let summary = run_with(&["replay", &history, &file, "--derive", "--json"]).json();
    assert_eq!(summary["decisions"], 1);
    // On the screen, "0 decisions" alone would look like a loss.
    for (arguments, expected) in [
        (vec!["replay", &history, &file], "; 1 recorded decision adopted, 0 made anew"),
        (vec!["replay", &history, &file, "--derive"], "; 1 decision"),
    ] {
        let shown = run_with(&arguments).out;
        assert!(shown.lines().any(|line| line.ends_with(expected)), "{expected}: {shown}");
    }

    // A decision whose cause is missing still counts as a recorded decision.
    let mut without_cause = good();
    without_cause.remove(3);
    let history_without = folder.file("without_cause.jsonl", without_cause.join("\n") + "\n");
    let shown = run_with(&["replay", &history_without, &file]).out;
    let expected = "; 1 recorded decision adopted (1 of them with no cause in the history), 0 made anew";
    assert!(shown.lines().any(|line| line.ends_with(expected)), "{shown}");
    let summary = run_with(&["replay", &history_without, &file, "--json"]).json();
    assert_eq!(summary["counts"]["decision_without_cause"], 1);
    let own = json!({"agree": 0, "differ": 0, "missing": 0, "unexpected": 0, "homeless": 0});
    assert_eq!(summary["own_decisions"], own);

    run_with(&["replay", &history, "--decisions", "-", "--json"]).refused(&["--decisions", "--json"]);
    let nowhere = name(&folder.path("no/such/folder/d.jsonl")).to_owned();
    run_with(&["replay", &history, "--decisions", &nowhere]).refused(&[&nowhere]);
}

#[test]
fn an_age_of_months_is_printed_in_days() {
    let folder = Folder::new();
    let mut lines = good();
    // 298 days and 21 hours after the last price.
    let later = format!("{}-0", 1_770_163_204_000_u64 + (298 * 24 + 21) * 3_600_000);
    lines.push(entry_line(TICK, &later, &[("symbol", "OTHERUSDT"), ("price", "1")]));
    run_with(&["replay", &folder.history(&lines), "--store", &folder.store(), "--json"]).json();
    for arguments in [vec!["needs"], vec!["positions", "SOLUSDT"], vec!["explain", "SOLUSDT"]] {
        let shown = run_with(&[&arguments[..], &["--store", &folder.store()]].concat()).out;
        assert!(shown.contains("298d 21h"), "{arguments:?}: {shown}");
    }
}

#[test]
fn json_is_one_document_on_standard_output_and_logs_go_to_standard_error() {
    let folder = Folder::new();
    let mut lines = good();
    lines.swap(2, 4);
    let history = folder.history(&lines);
    for arguments in [
        vec!["replay", &history, "--json"],
        vec!["replay", &history, "--store", &folder.store(), "--json"],
        vec!["positions", "--store", &folder.store(), "--json"],
        vec!["positions", "--store", &folder.store(), "--all", "--json"],
        vec!["positions", "SOLUSDT", "--store", &folder.store(), "--json"],
        vec!["positions", "solusdt", "--store", &folder.store(), "--json"],
        vec!["quarantine", "list", "--store", &folder.store(), "--json"],
    ] {
        let ran = run(harvester().args(&arguments).env("LOG_LEVEL", "trace"));
        ran.json();
        assert!(ran.out.ends_with('\n') && !ran.out.contains('\u{1b}'), "{arguments:?}: {}", ran.out);
    }
    // Output for people has no colour either if it does not go to a terminal.
    let shown = run_with(&["replay", &history]);
    assert!(
        shown.code == Some(0) && !shown.out.contains('\u{1b}') && !shown.log.contains('\u{1b}'),
        "{shown:?}",
        shown = shown.out
    );
}

#[test]
fn a_closed_standard_output_is_not_a_failure() {
    let folder = Folder::new();
    let lines: Vec<String> = (0..20_000).map(|i| price(i, &format!("S{i}USDT"), "oops")).collect();
    let history = folder.history(&lines);
    run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    let mut child = piped(harvester().args(["quarantine", "list", "--store", &folder.store(), "--json"]));
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("the program ends");
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = Folder::new();
    let history = folder.history(&good());
    run_with(&["replay", &history, "--decisions", "/dev/full", "--json"]).refused(&["decisions"]);

    // No file may grow beyond a size: for a store that is a full disk.
    let mut lines = good();
    lines.extend((10..3_000).map(|second| price(second, "SOLUSDT", "oops")));
    let history = folder.history(&lines);
    for blocks in [0, 1, 16, 512] {
        let mut limited = Command::new("/bin/sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        limited.env_clear().args(["-c", &script]).arg(env!("CARGO_BIN_EXE_harvester"));
        run(limited.args(["replay", &history, "--store", &folder.store(), "--json"])).refused(&[&folder.store()]);
    }
    // Once there is room again, the replay continues as if nothing had happened.
    let summary = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    let n = json!(lines.len());
    assert_eq!((&summary["entries"], &summary["decisions"]), (&n, &json!(1)));
    let again = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    assert_eq!((&again["duplicates"], &again["decisions"]), (&n, &json!(0)));
}

/// Returns a pipe without a reader.
fn closed_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer
}

#[test]
fn every_command_ends_without_an_error_if_its_output_is_closed() {
    let folder = Folder::new();
    let history = folder.history(&good());
    let absent = "redis://127.0.0.1:9";
    for arguments in [
        &["demo"][..],
        &["schema"],
        &["schema", "harvest.decision.v1"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["config"],
        &["--help"],
        &["replay", &history],
        &["replay", &history, "--json"],
        &["replay", &history, "--decisions", "-"],
        &["doctor", "--redis", absent],
        &["doctor", "--json", "--redis", absent],
        &["positions", "--store", "absent"],
        &["run", "--redis", "nonsense"],
    ] {
        // A warning that is logged in any case.
        let command = || {
            let mut command = harvester();
            command.args(arguments).env("HARVEST_METRICS_PORT", "9100").stdin(std::process::Stdio::null());
            command
        };
        let usual = run(&mut command());
        let mut with_log = command();
        let child = with_log.stdout(closed_pipe()).stderr(std::process::Stdio::piped()).spawn().expect("a start");
        let output = crate::support::binary::ended(child);
        let log = String::from_utf8_lossy(&output.stderr);
        // A command that ends before it writes anything fails as usual. The findings of a doctor count in any case.
        let fails = usual.out.is_empty() || arguments[0] == "doctor";
        let code = if fails { usual.code } else { Some(0) };
        assert_eq!(output.status.code(), code, "{arguments:?}: {log}");
        assert!(!log.contains("panicked") && !log.contains("os error 32"), "{arguments:?}: {log}");
        let without_log = command().stdout(std::process::Stdio::null()).stderr(closed_pipe()).status();
        assert_eq!(without_log.expect("a start").code(), usual.code, "{arguments:?}, without a reader of the log");
        let neither = command().stdout(closed_pipe()).stderr(closed_pipe()).status();
        assert_eq!(neither.expect("a start").code(), code, "{arguments:?}, without a reader of anything");
    }
}
