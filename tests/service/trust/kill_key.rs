//! The kill key: late answers, and values of another type.

use super::{KEY, SYMBOL, at_work, ordered, place, replay_is_the_same, until_read};
use crate::support::binary::{harvester, run};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{CONTROL, DECISION, PRICE, entries, open_position, price, until};

/// The service read the kill key before the operator cleared it, and gets the answer after the operator's entry.
#[test]
fn a_late_read_of_the_kill_key_does_not_kill_again_after_the_operator_cleared_it() {
    let server = RedisServer::start();
    let wire = Proxy::to(server.port());
    let mut place = place(&server, Some(KEY));
    place.url = wire.url();
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    server.cli(&["SET", "quantum:kill", "1"]);
    let kills = || -> Vec<bool> {
        let all = entries(&server, CONTROL).into_iter().filter(|(_, fields)| fields[0].1 == "kill.changed");
        all.map(|(_, fields)| fields[1].1.contains(r#""kill":true"#)).collect()
    };
    until("the kill is published", || kills() == [true]);
    let id = price(&server, SYMBOL, "1.001");
    until("the kill is folded", || place.journalled().concat().contains(&id));
    let ask = "GET\r\n$12\r\nquantum:kill";
    wire.hold_answer_to(ask);
    until("the key is asked for", || wire.is_holding());
    let off = ["control", "kill", "off", "--reason", "r", "--yes"];
    run(harvester().args(off).env("REDIS_URL", server.url()).env("HARVEST_SIGNING_KEY", KEY));
    price(&server, SYMBOL, "1.007");
    until("decisions continue", || ordered(&server) == [SYMBOL]);
    wire.hold_answer_to(ask);
    wire.release();
    until("the late answer is read, and the key is asked for again", || wire.is_holding());
    wire.release();
    for _ in 0..3 {
        let id = price(&server, SYMBOL, "1.008");
        until("the service continues", || place.journalled().concat().contains(&id));
    }
    service.stop();
    assert_eq!(kills(), [true, false]);
    replay_is_the_same(&place, Some(KEY));
}

/// The script refuses every order beside a kill key that is not a string, so status and log state that it kills.
#[test]
fn a_kill_key_of_another_type_kills_and_is_reported() {
    let server = RedisServer::start();
    let place = place(&server, None);
    let service = at_work(&server, &place);
    server.cli(&["RPUSH", "quantum:kill", "no"]);
    until("the kill is in the log", || {
        entries(&server, CONTROL).iter().any(|(_, fields)| fields[0].1 == "kill.changed")
    });
    open_position(&server, SYMBOL);
    let id = price(&server, SYMBOL, "1.007");
    until_read(&server, PRICE, &id);
    assert_eq!(ordered(&server), [""; 0]);
    service.stop();
}

/// The decision waits in the outbox when the key gets another type: it is written and expires, and only its order is
/// refused (docs/spec/emission.md, "Records without a request").
#[test]
fn a_decision_that_waits_is_written_and_expires_beside_a_kill_key_of_another_type() {
    const MEMORY: &str = "quantum:stream:harvest.decision:emitted";
    let server = RedisServer::start();
    let place = place(&server, None);
    let service = at_work(&server, &place);
    server.cli(&["RPUSH", MEMORY, "no"]);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1.007");
    service.until_logged(&["OUTPUT_REFUSED", MEMORY]);
    server.cli(&["RPUSH", "quantum:kill", "no"]);
    server.cli(&["DEL", MEMORY]);
    until("the decision is written", || entries(&server, DECISION).len() == 1);
    let expired = || {
        let all = entries(&server, CONTROL);
        let payloads = all.into_iter().filter(|(_, fields)| fields[0].1 == "decision.expired");
        payloads.map(|(_, fields)| fields[1].1.clone()).collect::<Vec<_>>()
    };
    until("it expires", || expired().len() == 1);
    assert!(expired()[0].contains("killed"), "{:?}", expired());
    service.stop();
    assert_eq!(ordered(&server), [""; 0]);
}
