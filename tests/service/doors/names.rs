//! Names from outside in output: a log line, a table, an error (incident 77: a newline in a symbol wrote its own line
//! into the log).

use serde_json::json;

use crate::support::binary::{Ran, harvester, name, run, run_with};

/// A name that contains a line that an operator would believe, a command to a terminal, and letters that reverse the
/// text.
const FORGED: &str =
    "x\nHARVEST_EMIT action=FULL_CLOSE symbol=FORGED\r\u{1b}[2J\u{9b}1m\u{2028}\u{202e}desrever\u{2066}\u{200b}";

/// Asserts that no line begins with a name, and that no hidden character is in the output.
fn is_plain(ran: &Ran, what: &str) {
    for (place, text) in [("out", &ran.out), ("log", &ran.log)] {
        for line in text.lines() {
            assert!(!line.starts_with("HARVEST_EMIT action=FULL"), "{what}: {place} begins a line of its own: {line}");
            let hidden =
                line.chars().find(|c| c.is_control() || ('\u{2028}'..='\u{2069}').contains(c) || *c == '\u{200b}');
            assert_eq!(hidden, None, "{what}: {place}: {line:?}");
        }
    }
    let output = format!("{}{}", ran.out, ran.log).to_uppercase();
    assert!(output.contains("FORGED"), "{what}: the name is in the output: {}{}", ran.out, ran.log);
}

#[test]
fn i77_a_name_cannot_begin_a_line_of_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("events.jsonl");
    let store = folder.path().join("store");
    let entry = |at: u32, stream: &str, fields: serde_json::Value| {
        json!({"stream": stream, "id": format!("1770163200000-{at}"), "fields": fields}).to_string()
    };
    let lines = [
        entry(
            1,
            "quantum:stream:apply.result",
            json!({
                "symbol": "ADAUSDT", "side": "BUY", "status": "FILLED", "order_id": FORGED, "filled_qty": "5", "avgPrice": "1",
                "reduceOnly": "False", "plan_id": FORGED, "source": FORGED,
            }),
        ),
        entry(
            2,
            "quantum:stream:harvest.control",
            json!({
                "event_type": "history.gap", "payload": json!({"stream": FORGED, "reason": FORGED}).to_string(),
            }),
        ),
        entry(
            3,
            "quantum:stream:apply.plan",
            json!({
                "plan_id": FORGED, "symbol": FORGED, "side": "UP", "source": FORGED,
            }),
        ),
        entry(4, "quantum:stream:trade.intent", json!({"payload": FORGED})),
    ];
    std::fs::write(&history, lines.join("\n") + "\n").expect("the history is written");
    let done = run_with(&["replay", name(&history), "--store", name(&store)]);
    assert_eq!(done.code, Some(0), "{}", done.log);
    let store = name(&store);
    for arguments in [
        &["quarantine", "list", "--store", store][..],
        &["quarantine", "show", "--store", store, "quantum:stream:trade.intent", "1770163200000-4"],
        &["positions", "--store", store, "ADAUSDT"],
        &["history", "ADAUSDT", name(&history)],
    ] {
        let ran = run_with(arguments);
        assert!(ran.code.is_some_and(|code| code < 2), "{arguments:?}: {}", ran.log);
        is_plain(&ran, &arguments.join(" "));
    }
    // In errors and in the log: names that a command line, an environment and a file system can contain.
    let missing = run_with(&["replay", FORGED]);
    assert_eq!(missing.code, Some(2));
    is_plain(&missing, "a file that is not there");
    let marked = folder.path().join(FORGED);
    std::fs::write(&marked, "\u{feff}[run]\ngroup = \"g\"\n").expect("the file is written");
    is_plain(&run_with(&["config", "--config", name(&marked)]), "a warning");
    let mode = run(harvester().arg("config").env("HARVEST_MODE", FORGED.to_uppercase()));
    assert_eq!(mode.code, Some(2));
    is_plain(&mode, "a setting");
    let unknown = run(harvester().arg("config").env("HARVEST_FORGED\nHARVEST_EMIT\u{202e}", "1"));
    assert_eq!(unknown.code, Some(2));
    is_plain(&unknown, "a name of the environment");
}

/// User and password in an address.
const USERS: [&str; 7] =
    ["me:hush", ":hush", "hush", "me:hush%20hush", "me:hush@hush", "me:hush/hush", "me:hush?hush#hush"];

/// Every way in which the address of a server with its password can be given, and can be wrong.
#[test]
fn no_error_contains_a_password() {
    let absent = format!("127.0.0.1:{}", crate::support::redis::free_port());
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "no certificate").expect("the file is written");
    let file = folder.path().join("harvester.toml");
    let mut tried = 0;
    for user in USERS {
        for url in [
            format!("redis://{user}@{absent}"),
            format!("rediss://{user}@{absent}/1"),
            format!("redis://{user}@{absent}/x"),
            format!("redis://{user}@"),
            format!("redis://{user}@host:port"),
            format!("redis+cluster://{user}@{absent}"),
            format!("rediss-cluster://{user}@{absent}"),
            format!("http://{user}@{absent}"),
            format!("{user}@{absent}"),
        ] {
            let toml = format!("[redis]\nurl = {}\nca_file = {:?}\n", json!(url), name(&ca));
            std::fs::write(&file, toml).expect("the file is written");
            let command = |arguments: &[&str]| {
                let mut command = harvester();
                command.args(arguments).current_dir(folder.path());
                command
            };
            let control = ["control", "kill", "on", "--reason", "r", "--yes"];
            let ways: [&dyn Fn() -> Ran; 5] = [
                &|| run(command(&control).env("REDIS_URL", &url)),
                &|| run(&mut command(&[&control[..], &["--redis", &url]].concat())),
                &|| run(&mut command(&[&control[..], &["--config", name(&file)]].concat())),
                &|| run(&mut command(&["config", "--json", "--config", name(&file)])),
                &|| run(&mut command(&["status", "--url", &url])),
            ];
            // Each address with the first user in every way, and with the others in one way.
            let all = if user == USERS[0] { 0..5 } else { tried % 5..tried % 5 + 1 };
            for way in &ways[all] {
                let ran = way();
                let output = format!("{}{}", ran.out, ran.log);
                assert!(!output.contains("hush"), "{url}: {output}");
                tried += 1;
            }
        }
    }
    println!("{tried} addresses with a password were given, none was output");
}
