//! JSON that nests twenty thousand deep, in every place where JSON is read (incident 68: an entry of 40 kB ended the
//! process at every start).

use serde_json::{Value, json};

use crate::support::binary::{Ran, harvester, name, run, run_with};
use crate::support::redis::RedisServer;

const DEEP: usize = 20_000;
/// Largest depth that is read (docs/spec/history-files.md), including the object around it. [1]
const READ_DEPTH: usize = 63;

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// Returns texts that nest deeply: closed and open, of lists and of objects.
fn deep() -> [String; 4] {
    let objects = format!("{}1{}", "{\"a\":".repeat(DEEP), "}".repeat(DEEP));
    [nested(DEEP), "[".repeat(DEEP), "{\"a\":".repeat(DEEP), objects]
}

fn line(stream: &str, at: usize, fields: &Value) -> String {
    json!({"stream": format!("quantum:stream:{stream}"), "id": format!("1770163200000-{at}"), "fields": fields})
        .to_string()
}

/// Returns entries with a value `x` in every place where JSON is read.
fn entries(x: &str) -> Vec<(&'static str, Value)> {
    let inside = |rest: &str| format!("{{{rest},\"x\":{x}}}");
    vec![
        ("trade.intent", json!({"payload": inside(r#""symbol":"ADAUSDT","side":"BUY","atr_value":0.02"#)})),
        ("trade.intent", json!({"data": inside(r#""symbol":"ADAUSDT","side":"BUY""#)})),
        ("trade.intent", json!({"payload": x})),
        ("apply.plan", json!({"payload": inside(r#""symbol":"ADAUSDT","plan_id":"p","side":"BUY""#)})),
        (
            "apply.result",
            json!({
                "symbol": "ADAUSDT", "side": "BUY", "executed": "true", "plan_id": "p",
                "details": inside(r#""filled_qty":5,"order_id":7"#),
            }),
        ),
        // Written as a JSON string, which is read once.
        ("trade.intent", json!({"payload": json!(inside(r#""symbol":"ADAUSDT","side":"BUY""#)).to_string()})),
        (
            "apply.result",
            json!({
                "symbol": "ADAUSDT", "side": "BUY", "executed": "true", "plan_id": "s",
                "details": json!(inside(r#""filled_qty":5,"order_id":9"#)).to_string(),
            }),
        ),
        ("apply.result", json!({"symbol": "ADAUSDT", "plan_id": "q", "executed": "True", "steps_results": x})),
        (
            "apply.result",
            json!({
                "symbol": "ADAUSDT", "plan_id": "r", "executed": "True",
                "steps_results": format!("[{}]", inside(r#""order_id":"8","executed_qty":1,"side":"BUY""#)),
            }),
        ),
        ("position.snapshot", json!({"payload": inside(r#""symbol":"ADAUSDT","position_amt":1"#)})),
        ("market.tick", json!({"payload": inside(r#""symbol":"ADAUSDT","price":1"#)})),
        (
            "harvest.observation",
            json!({
                "event_type": "price", "payload": inside(r#""symbol":"ADAUSDT","price":1,"source":"api""#),
            }),
        ),
        ("harvest.control", json!({"event_type": "gap.accepted", "payload": inside(r#""symbol":"ADAUSDT""#)})),
        ("harvest.control", json!({"event_type": "policy.adopted", "payload": format!("{{\"policy\":{x}}}")})),
        ("harvest.control", json!({"event_type": "policy.adopted", "policy": x})),
        (
            "harvest.control",
            json!({
                "event_type": "policy.adopted", "payload": format!("{{\"policy\":{{\"ladder\":{x}}}}}"),
            }),
        ),
        ("harvest.control", json!({"event_type": "kill.changed", "payload": format!("{{\"kill\":{x}}}")})),
        ("harvest.control", json!({"event_type": "rung.rearmed", "payload": inside(r#""position_id":"p","r":1"#)})),
        ("harvest.decision", json!({"event_type": "harvest.decision", "payload": format!("{{\"rungs\":{x}}}")})),
        ("harvest.decision", json!({"event_type": "harvest.decision", "payload": x})),
    ]
}

fn history(entries: &[(&'static str, Value)]) -> String {
    let lines = entries.iter().zip(1..).map(|((stream, fields), at)| line(stream, at, fields) + "\n");
    lines.collect()
}

fn replay(folder: &tempfile::TempDir, history: &str, more: &[&str]) -> Ran {
    let file = folder.path().join("events.jsonl");
    std::fs::write(&file, history).expect("the history is written");
    run_with(&[&["replay", name(&file), "--json"], more].concat())
}

#[test]
fn i68_json_that_nests_too_deeply_is_bad_json_in_every_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut tried = 0;
    for (nth, x) in deep().into_iter().enumerate() {
        // Alone in each place, with each text in turn.
        for one in entries(&x).into_iter().skip(nth).step_by(4) {
            let ran = replay(&folder, &history(std::slice::from_ref(&one)), &[]);
            let summary = ran.json();
            assert_eq!(summary["quarantined"], json!({"bad_json": 1}), "{}: {:.90}", one.0, one.1.to_string());
            tried += 1;
        }
        let all = entries(&x);
        let summary = replay(&folder, &history(&all), &[]).json();
        assert_eq!(summary["quarantined"], json!({"bad_json": all.len()}), "all at once");
    }
    println!("{tried} entries that nest {DEEP} deep were tried, none ended the process");
    // With the largest allowed depth: the entry is read, and any refusal has another reason.
    let read = replay(&folder, &history(&entries(&nested(READ_DEPTH - 1))[..2]), &[]).json();
    assert_eq!(read["quarantined"], json!({}));
}

#[test]
fn a_line_that_nests_too_deeply_is_not_an_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let tick = r#"{"symbol":"ADAUSDT","price":1}"#;
    let good = line("market.tick", 1, &json!({"payload": tick}));
    let head = r#""stream":"quantum:stream:trade.intent","id":"1770163200000-2""#;
    for deep in [nested(DEEP), format!("{}1{}", "{\"a\":".repeat(DEEP), "}".repeat(DEEP))] {
        for bad in [
            deep.clone(),
            format!("{{{head},\"fields\":{{}},\"x\":{deep}}}"),
            format!("{{\"x\":{deep},{head},\"fields\":{{}}}}"),
            format!("{{{head},\"fields\":{{\"payload\":{deep}}}}}"),
            format!("{{{head},\"fields\":{deep}}}"),
            format!("{{\"stream\":{deep},\"id\":\"1-1\",\"fields\":{{}}}}"),
        ] {
            let text = format!("{good}\n{bad}\n");
            let refused = replay(&folder, &text, &[]);
            refused.refused(&["events.jsonl"]);
            let summary = replay(&folder, &text, &["--skip-bad-lines"]).json();
            assert_eq!((&summary["bad_lines"], &summary["applied"]), (&json!(1), &json!(1)), "{bad:.80}");
        }
    }
}

#[test]
fn i68_a_service_starts_with_such_an_entry_in_its_control_stream() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    for x in deep() {
        let payload = format!("{{\"policy\":{x}}}");
        server.cli(&[
            "XADD",
            "quantum:stream:harvest.control",
            "*",
            "event_type",
            "policy.adopted",
            "payload",
            &payload,
        ]);
        server.cli(&["XADD", "quantum:stream:harvest.decision", "*", "payload", &payload]);
    }
    // The service contacts nothing outside of this machine.
    let quiet = folder.path().join("quiet.toml");
    std::fs::write(&quiet, "[backfill]\nsources = [\"redis\"]\n").expect("the file is written");
    // The first service reads it from the stream, the second from its own journal and in the look-ahead.
    for start in ["first", "second"] {
        let ran = run(harvester().args(["run", "--redis", &server.url(), "--until-idle", "1", "--listen", ""]).args([
            "--store",
            name(&folder.path().join(start)),
            "--journal",
            name(&folder.path().join("journal")),
            "--config",
            name(&quiet),
        ]));
        assert_eq!(ran.code, Some(0), "{start}: {}", ran.log);
    }
    let audit = run_with(&["audit", name(&folder.path().join("journal")), "--json"]);
    assert!(audit.code.is_some(), "{}", audit.log);
    let doctor = run(harvester().args(["doctor", "--json", "--redis", &server.url()]).current_dir(folder.path()));
    assert_eq!(doctor.code, Some(1), "{}", doctor.log);
}

#[test]
fn a_configuration_that_nests_too_deeply_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("harvester.toml");
    let table = format!("{}1{}", "{a=".repeat(DEEP), "}".repeat(DEEP));
    for deep in [nested(DEEP), table] {
        std::fs::write(&file, format!("[policy]\nladder = {deep}\n")).expect("the file is written");
        run_with(&["config", "--config", name(&file)]).refused(&["harvester.toml"]);
    }
    std::fs::write(&file, format!("[policy.{}x]\n", "a.".repeat(DEEP))).expect("the file is written");
    run_with(&["config", "--config", name(&file)]).refused(&["harvester.toml"]);
    let ladder = run(harvester().arg("config").env("HARVEST_LADDER", nested(DEEP)));
    ladder.refused(&["HARVEST_LADDER"]);
}
