//! `harvester control`: shown first, written with `--yes`, and read back by the decoder that folds it.

use crate::redis_server::{RedisServer, free_port};
use crate::support::binary::{Ran, harvester, run};

const STREAM: &str = "quantum:stream:harvest.control";

fn control(server: &RedisServer, arguments: &[&str]) -> Ran {
    run(harvester().arg("control").args(arguments).env("REDIS_URL", server.url()))
}

#[test]
fn nothing_is_written_without_yes_and_nothing_is_said_without_a_reason() {
    let server = RedisServer::start();
    let dry = control(&server, &["kill", "on", "--reason", "the exchange is down"]);
    assert_eq!(dry.code, Some(0), "{}", dry.log);
    for part in [r#"{"kill":true,"reason":"the exchange is down"}"#, "kill.changed", "Nothing was written"] {
        assert!(dry.out.contains(part), "{part}: {}", dry.out);
    }
    assert_eq!(server.cli(&["XLEN", STREAM]).trim(), "0");
    assert_eq!(control(&server, &["kill", "on", "--yes"]).code, Some(2), "a reason is required");
    control(&server, &["kill", "on", "--yes", "--reason", " "]).refused(&["a reason is wanted"]);
    control(&server, &["rearm", "NEARUSDT", "0.5", "--yes", "--reason", "x"]).refused(&["NEARUSDT", "no position"]);
    control(&server, &["gap-accept", "None", "--yes", "--reason", "x"]).refused(&["None", "no symbol"]);
    assert_eq!(server.cli(&["EXISTS", STREAM]).trim(), "0");
}

#[test]
fn each_word_is_written_as_the_entry_that_was_shown() {
    let server = RedisServer::start();
    let position = "NEARUSDT@1770163205000-0";
    for (arguments, event_type, payload) in [
        (&["kill", "on"][..], "kill.changed", r#"{"kill":true,"reason":"r"}"#.to_owned()),
        (&["kill", "off"], "kill.changed", r#"{"kill":false,"reason":"r"}"#.to_owned()),
        (&["gap-accept"], "gap.accepted", r#"{"reason":"r"}"#.to_owned()),
        (&["gap-accept", "nearusdt"], "gap.accepted", r#"{"reason":"r","symbol":"NEARUSDT"}"#.to_owned()),
        (&["risk-accept", position], "risk.accepted", format!(r#"{{"position_id":"{position}","reason":"r"}}"#)),
        (
            &["rearm", position, "0.50"],
            "rung.rearmed",
            format!(r#"{{"position_id":"{position}","r":"0.5","reason":"r"}}"#),
        ),
    ] {
        let document = control(&server, &[arguments, &["--reason", "r", "--yes", "--json"]].concat()).json();
        assert_eq!(document["fields"]["payload"], payload);
        let entry = server.cli(&["XREVRANGE", STREAM, "+", "-", "COUNT", "1"]);
        let written: Vec<&str> = entry.lines().collect();
        let id = document["id"].as_str().expect("the id is said");
        assert_eq!(written, [id, "event_type", event_type, "payload", &payload, "source", "operator"]);
    }
    assert_eq!(server.cli(&["XLEN", STREAM]).trim(), "6");
}

#[test]
fn who_lets_decisions_go_on_is_told_what_the_kill_key_says() {
    let server = RedisServer::start();
    let warnings = || {
        let document = control(&server, &["kill", "off", "--reason", "r", "--json"]).json();
        document["warnings"].to_string()
    };
    assert!(warnings().contains("is not there"), "{}", warnings());
    for (value, refuses) in [("1", true), ("TRUE", true), ("anything", true), ("0", false), ("False", false)] {
        server.cli(&["SET", "quantum:kill", value]);
        assert_eq!(warnings().contains("still refuses everything"), refuses, "{value}: {}", warnings());
    }
}

#[test]
fn a_server_out_of_reach_is_exit_code_3() {
    let mut command = harvester();
    command.args(["control", "kill", "on", "--reason", "r"]);
    let ran = run(command.env("REDIS_URL", format!("redis://127.0.0.1:{}", free_port())));
    assert_eq!(ran.code, Some(3), "{}", ran.log);
}
