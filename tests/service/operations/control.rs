//! `harvester control`: shows an entry first, writes it with `--yes`, and the decoder reads it back.

use crate::support::binary::{Ran, harvester, run};
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, free_port};

const STREAM: &str = "quantum:stream:harvest.control";

fn control(server: &RedisServer, arguments: &[&str]) -> Ran {
    run(harvester().arg("control").args(arguments).env("REDIS_URL", server.url()))
}

#[test]
fn nothing_is_written_without_yes_or_without_a_reason() {
    let server = RedisServer::start();
    let dry = control(&server, &["kill", "on", "--reason", "the exchange is down"]);
    assert_eq!(dry.code, Some(0), "{}", dry.log);
    for part in [r#"{"kill":true,"reason":"the exchange is down"}"#, "kill.changed", "Nothing was written"] {
        assert!(dry.out.contains(part), "{part}: {}", dry.out);
    }
    assert_eq!(server.cli(&["XLEN", STREAM]).trim(), "0");
    assert_eq!(control(&server, &["kill", "on", "--yes"]).code, Some(2), "a reason is required");
    control(&server, &["kill", "on", "--yes", "--reason", " "]).refused(&["the reason (--reason) is empty"]);
    control(&server, &["rearm", "NEARUSDT", "0.5", "--yes", "--reason", "x"]).refused(&["NEARUSDT", "not a position"]);
    control(&server, &["gap-accept", "None", "--yes", "--reason", "x"]).refused(&["None", "not a symbol"]);
    assert_eq!(server.cli(&["EXISTS", STREAM]).trim(), "0");
}

#[test]
fn each_command_writes_the_entry_that_it_has_shown() {
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
        let id = document["id"].as_str().expect("the document has the id");
        assert_eq!(written, [id, "event_type", event_type, "payload", &payload, "source", "operator"]);
    }
    assert_eq!(server.cli(&["XLEN", STREAM]).trim(), "6");
    let unanswered = control(&server, &["risk-accept", position, "--reason", "r", "--url", "http://127.0.0.1:9"]);
    assert_eq!(unanswered.code, Some(0), "{}", unanswered.log);
    assert!(unanswered.out.contains("No service answered whether it knows that."), "{}", unanswered.out);
}

#[test]
fn the_kill_key_is_set_with_the_kill_entry() {
    let server = RedisServer::start();
    let key = || server.cli(&["GET", "quantum:kill"]).trim().to_owned();
    assert_eq!(
        control(&server, &["kill", "on", "--reason", "r", "--json"]).json()["kill_key"],
        serde_json::Value::Null
    );
    assert_eq!(key(), "", "a dry run does not set the key");
    for (switch, value) in [("on", "1"), ("off", "0"), ("on", "1")] {
        let document = control(&server, &["kill", switch, "--reason", "r", "--yes", "--json"]).json();
        assert_eq!((&document["kill_key"], &document["service"]), (&value.into(), &"nobody".into()), "{document}");
        assert_eq!(key(), value);
    }
    let shown = control(&server, &["kill", "on", "--reason", "r", "--yes"]);
    for part in ["The kill key is set to 1.", "No service answered"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
}

/// Exit code 0 means that both are written (docs/spec/emission.md, "Kill by command").
#[test]
fn a_kill_without_its_key_is_a_failure() {
    let server = RedisServer::start();
    server.cli(&["ACL", "SETUSER", "op", "on", ">pw", "~quantum:stream:*", "+@all"]);
    let url = server.url().replace("redis://", "redis://op:pw@");
    for switch in ["on", "off"] {
        let mut command = harvester();
        command.args(["control", "kill", switch, "--reason", "r", "--yes", "--json"]);
        let ran = run(command.env("REDIS_URL", &url));
        assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.log);
        assert!(ran.log.contains("the kill key is not set"), "{}", ran.log);
        let document: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
        assert_eq!(document["kill_key"], serde_json::Value::Null, "{document}");
        assert!(document["id"].is_string(), "the entry counts by itself: {document}");
    }
    assert_eq!(server.cli(&["XLEN", STREAM]).trim(), "2");
    assert_eq!(server.cli(&["EXISTS", "quantum:kill"]).trim(), "0");
}

#[test]
fn a_connection_that_breaks_during_a_kill_is_a_failure_that_names_the_key() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port());
    let kill = || {
        let mut command = harvester();
        command.args(["control", "kill", "on", "--reason", "r", "--yes"]);
        run(command.env("REDIS_URL", proxy.url()))
    };
    proxy.lose_answer_to("XADD");
    let ran = kill();
    assert!(proxy.has_lost());
    assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.log);
    for part in ["The kill key is set to 1.", "the entry may be written or not"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert_eq!(server.cli(&["GET", "quantum:kill"]).trim(), "1");
    server.cli(&["DEL", "quantum:kill", STREAM]);
    proxy.lose_answer_to("quantum:kill");
    let ran = kill();
    assert_eq!(ran.code, Some(3), "{} {}", ran.out, ran.log);
    assert!(ran.log.contains("the kill key may be set to 1"), "{}", ran.log);
    assert_eq!(server.cli(&["GET", "quantum:kill"]).trim(), "1", "the key is set");
    assert_eq!(server.cli(&["EXISTS", STREAM]).trim(), "0");
}

#[test]
fn entries_of_an_operator_are_signed_if_there_is_a_key() {
    use harvester::codec::signing::{SigningKey, control_text};
    let server = RedisServer::start();
    let key = "a secret of enough bytes";
    let mut command = harvester();
    command.args(["control", "gap-accept", "--reason", "r", "--yes", "--json"]);
    let document = run(command.env("REDIS_URL", server.url()).env("HARVEST_SIGNING_KEY", key)).json();
    assert_eq!((&document["signed"], &document["warnings"]), (&true.into(), &serde_json::json!([])), "{document}");
    let written = server.cli(&["--json", "XRANGE", STREAM, "-", "+"]);
    let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    let fields: Vec<&str> = written[0][1].as_array().expect("fields").iter().filter_map(|f| f.as_str()).collect();
    let [.., "payload", payload, "source", "operator", "signature", signature] = fields[..] else {
        panic!("{fields:?}")
    };
    let text = control_text(STREAM, "gap.accepted", payload);
    assert!(SigningKey::new(key.as_bytes()).expect("a key").verifies(&text, signature), "{fields:?}");
    assert!(
        control(&server, &["gap-accept", "--reason", "r", "--json"]).json()["warnings"][0]
            .as_str()
            .is_some_and(|warning| warning.contains("no signing key"))
    );
}

#[test]
fn a_server_out_of_reach_is_exit_code_3() {
    let mut command = harvester();
    command.args(["control", "kill", "on", "--reason", "r"]);
    let ran = run(command.env("REDIS_URL", format!("redis://127.0.0.1:{}", free_port())));
    assert_eq!(ran.code, Some(3), "{}", ran.log);
}
