//! Incident 60: control entries whose ids are ahead of the clock.

use super::{KEY, SYMBOL, at_work, ordered, place, until_read, write_control};
use crate::support::binary::{harvester, run};
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{CONTROL, PRICE, entries, open_position, price, until};
use serde_json::json;

/// Incident 60: the ids of the control stream are two hours ahead.
#[test]
fn i60_a_kill_counts_when_it_is_read_whatever_its_id() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    let now_ms = server.now_ms();
    let ahead = format!("{}-0", now_ms + 7_200_000);
    server.cli(&["XADD", CONTROL, &ahead, "event_type", "history.gap", "payload", r#"{"stream":"elsewhere"}"#]);
    // Without the key of Redis: the entry alone has to be enough.
    let kill = write_control(&server, "kill.changed", &json!({"kill": true, "reason": "r"}));
    assert!(kill.starts_with(&(now_ms + 7_200_000).to_string()), "its id is ahead as well: {kill}");
    until("the group has it", || server.cli(&["XINFO", "GROUPS", CONTROL]).contains(&kill));
    price(&server, SYMBOL, "1.007");
    until("the decision is refused", || {
        entries(&server, CONTROL).iter().any(|(_, fields)| fields[1].1.contains(r#""reason":"killed""#))
    });
    assert_eq!(ordered(&server), [""; 0]);
    // A new process knows of it as well, before it sends anything.
    service.kill();
    let service = place.start();
    let id = price(&server, SYMBOL, "1.013");
    until_read(&server, PRICE, &id);
    service.stop();
    assert_eq!(ordered(&server), [""; 0]);
}

#[test]
fn i60_the_command_sets_the_key_and_names_the_services_that_obey() {
    let server = RedisServer::start();
    let command = |arguments: &[&str]| {
        run(harvester()
            .args(["control"])
            .args(arguments)
            .args(["--reason", "r", "--yes", "--json"])
            .env("REDIS_URL", server.url()))
        .json()
    };
    let alone = command(&["kill", "on"]);
    assert_eq!((&alone["service"], &alone["kill_key"]), (&json!("nobody"), &json!("1")), "{alone}");
    let place = place(&server, None);
    let service = at_work(&server, &place);
    let on = command(&["kill", "on"]);
    assert_eq!(on["service"], "read", "{on}");
    assert_eq!(server.cli(&["GET", "quantum:kill"]).trim(), "1");
    let off = command(&["kill", "off"]);
    assert_eq!(off["kill_key"], "0", "{off}");
    assert_eq!(server.cli(&["GET", "quantum:kill"]).trim(), "0");
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    price(&server, SYMBOL, "1.007");
    until("orders go out again", || ordered(&server) == [SYMBOL]);
    service.stop();
}

/// A service with a key refuses an unsigned entry: the command fails, and names the place that shows the reason.
#[test]
fn i60_a_kill_that_the_service_does_not_clear_is_exit_code_1() {
    let server = RedisServer::start();
    let mut place = place(&server, Some(KEY));
    place.listen = format!("127.0.0.1:{}", free_port());
    let service = at_work(&server, &place);
    let command = |switch: &str, key: Option<&str>| {
        let mut command = harvester();
        command.args([
            "control",
            "kill",
            switch,
            "--reason",
            "r",
            "--yes",
            "--url",
            &format!("http://{}", place.listen),
        ]);
        command.env("REDIS_URL", server.url()).envs(key.map(|key| ("HARVEST_SIGNING_KEY", key)));
        run(&mut command)
    };
    let on = command("on", None);
    assert_eq!(on.code, Some(0), "a kill needs no signature: {}", on.log);
    let unsigned = command("off", None);
    assert_eq!(unsigned.code, Some(1), "{}", unsigned.out);
    assert!(unsigned.log.contains("still killed") && unsigned.log.contains("harvester quarantine"), "{}", unsigned.log);
    let signed = command("off", Some(KEY));
    assert_eq!(signed.code, Some(0), "{}", signed.log);
    service.stop();
}

/// Incident 60, the messages: while the ids are ahead, each command prints a message that is true.
#[test]
fn i60_the_messages_of_commands_are_true_while_the_ids_are_ahead() {
    let server = RedisServer::start();
    let now_ms = server.now_ms();
    let ahead = format!("{}-0", now_ms + 7_200_000);
    server.cli(&["XADD", CONTROL, &ahead, "event_type", "history.gap", "payload", r#"{"stream":"elsewhere"}"#]);
    let command = |arguments: &[&str]| {
        let mut command = harvester();
        command.args(["control"]).args(arguments).args(["--reason", "r", "--yes"]).env("REDIS_URL", server.url());
        run(&mut command).out
    };
    let on = command(&["kill", "on"]);
    assert!(on.contains("refuses every order") && on.contains("Decisions are still made until then"), "{on}");
    let off = command(&["kill", "off"]);
    assert!(
        off.contains("What is killed stays killed until then") && off.contains("ahead of the server's clock"),
        "{off}"
    );
    let accepted = command(&["gap-accept", SYMBOL]);
    assert!(accepted.contains("Not before that"), "{accepted}");
    for messages in [&on, &off] {
        assert!(
            !messages.contains("decisions are made again") && !messages.contains("No decision is made"),
            "{messages}"
        );
    }
}
