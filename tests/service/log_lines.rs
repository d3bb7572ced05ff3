//! What the log says of single entries: what could not be read, and which policy was adopted.

use crate::run::live_place;
use crate::support::config;
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, PLAN, PRICE, Place, RESULT, add, is_read, open_position, price, until, until_leader,
};
use harvester::codec::policy::from_json;

const SNAPSHOT: &str = "quantum:stream:position.snapshot";
const OBSERVATION: &str = "quantum:stream:harvest.observation";

#[test]
fn what_cannot_be_read_is_one_line_each() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    open_position(&server, "AAAUSDT");
    let unreadable = [
        (RESULT, "bad_json", add(&server, RESULT, &[("payload", "{'symbol': 'AAAUSDT'")])),
        (SNAPSHOT, "bad_number", add(&server, SNAPSHOT, &[("symbol", "AAAUSDT"), ("positionAmt", "many")])),
        (
            OBSERVATION,
            "bad_json",
            add(&server, OBSERVATION, &[("event_type", "exchange.position"), ("payload", "AAAUSDT")]),
        ),
    ];
    // A price that cannot be read moves nothing, and is in the quarantine stream.
    add(&server, PRICE, &[("symbol", "AAAUSDT"), ("price", "much")]);
    price(&server, "AAAUSDT", "1.001");
    until("all is read", || is_read(&server, &[RESULT, SNAPSHOT, OBSERVATION, PRICE]));
    for (stream, reason, id) in &unreadable {
        service.until_logged(&["UNREADABLE", stream, id, &format!("reason=\"{reason}\"")]);
    }
    // The finding has the same word, and a kind in place of an entry.
    service.until_logged(&["UNREADABLE", "snapshots: 1 snapshot cannot be read"]);
    service.stop();
    let log = place.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("UNREADABLE") && line.contains(" id=")).collect();
    assert_eq!(lines.len(), unreadable.len(), "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("WARN") && !line.contains(PRICE)), "{lines:#?}");
}

/// Both hashes, of the policy that is adopted and of the configured one, whether they are the same or not.
#[test]
fn each_adoption_is_said_with_both_hashes() {
    let server = RedisServer::start();
    let place = live_place(&server, "apply_plan", PLAN);
    let service = place.start();
    until_leader(&service);
    let configured = config(Some(&place.folder.path().join("harvester.toml"))).policy.hash;
    let ordinary = [format!("adopted={configured}"), format!("configured={configured}"), "policy adopted".to_owned()];
    service.until_logged(&ordinary.each_ref().map(String::as_str));
    let policy = r#"{"mode":"shadow","ladder":"0.5:0.5"}"#;
    let foreign = from_json(policy).expect("a policy").hash;
    assert_ne!(foreign, configured);
    let id = add(
        &server,
        CONTROL,
        &[("event_type", "policy.adopted"), ("payload", &format!(r#"{{"policy":{policy},"reason":"r"}}"#))],
    );
    let said = [
        format!("adopted={foreign}"),
        format!("configured={configured}"),
        format!("before=\"{configured}\""),
        format!("entry={id}"),
        "policy adopted that is not the configured one: no order is sent".to_owned(),
    ];
    service.until_logged(&said.each_ref().map(String::as_str));
    service.stop();
    let log = place.log();
    let of = |words: &[String]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!((of(&ordinary), of(&said)), (1, 1), "{log}");
    let is_warning = |line: &&str| line.contains("not the configured one") && line.contains(&id);
    assert!(log.lines().filter(is_warning).all(|line| line.contains("WARN")), "{log}");
}
