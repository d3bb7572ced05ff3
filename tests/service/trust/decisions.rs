//! Entries of others in the decision stream.

use super::{KEY, SYMBOL, at_work, ordered, place, replay_is_the_same, skipped, sold, until_read, write_control};
use crate::support::redis::RedisServer;
use crate::support::service::{DECISION, PRICE, RESULT, add, entries, open_position, price, until};
use serde_json::{Value, json};

/// A forged decision changes neither rungs nor the chain, and holds its symbol; a forged expiry arms no rung.
#[test]
fn a_forged_decision_changes_nothing() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    price(&server, SYMBOL, "1.007");
    until("the first order", || ordered(&server) == [SYMBOL]);
    let (_, first) = entries(&server, DECISION).remove(0);
    let of = |name: &str| first.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default();
    let decision_id = of("decision_id");
    write_control(&server, "decision.expired", &json!({"decision_id": decision_id, "reason": "killed"}));
    let payload = of("payload").replace(r#""0.5""#, r#""1""#).replace("live", "shadow");
    let next = harvester::codec::seal::chained(&of("hash"), &payload);
    let mut forged = Vec::new();
    for (seq, hash) in [("2", next.as_str()), ("2", "deadbeef"), ("900", next.as_str())] {
        let fields = [
            ("event_type", "harvest.decision"),
            ("schema", "1"),
            ("decision_id", "00112233445566778899aabbccddeeff"),
            ("symbol", SYMBOL),
            ("mode", "shadow"),
            ("seq", seq),
            ("prev", &of("hash")),
            ("hash", hash),
            ("payload", &payload),
        ];
        forged.push(add(&server, DECISION, &fields));
    }
    for id in &forged {
        service.until_logged(&["decision_foreign", id]);
    }
    until("each is answered", || skipped(&server).len() == 4);
    let id = price(&server, SYMBOL, "1.013");
    until_read(&server, PRICE, &id);
    service.stop();
    assert_eq!(ordered(&server), [SYMBOL], "neither armed again nor sent again");
    let positions = place.positions();
    assert!(positions[0]["flags"].to_string().contains("history_gap"), "{positions:#}");
    let rungs = positions[0]["rungs"].as_array().expect("rungs");
    let states: Vec<&Value> = rungs.iter().map(|rung| &rung["state"]).collect();
    assert_eq!(states, ["requested", "armed", "armed"], "{positions:#}");
    for key in [None, Some(KEY)] {
        replay_is_the_same(&place, key);
    }
}

/// An entry that is not a decision, two hours ahead of the clock: it stops nothing, neither now nor after a start,
/// nor when the state is folded again.
#[test]
fn an_unreadable_decision_entry_stops_nothing() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    price(&server, SYMBOL, "1.007");
    until("the first order", || ordered(&server) == [SYMBOL]);
    sold(&server);
    until_read(&server, RESULT, &entries(&server, RESULT).last().unwrap().0);
    service.stop();
    let now_ms = server.now_ms();
    let ahead = format!("{}-0", now_ms + 7_200_000);
    server.cli(&["XADD", DECISION, &ahead, "event_type", "harvest.decision", "symbol", SYMBOL, "payload", "{"]);
    let service = place.start();
    service.until_logged(&["does not read", "decision_foreign", &ahead]);
    price(&server, SYMBOL, "1.013");
    until("the second order", || ordered(&server).len() == 2);
    service.stop();
    for key in [None, Some(KEY)] {
        replay_is_the_same(&place, key);
    }
    std::fs::remove_dir_all(place.store()).expect("there is a store");
    let service = place.start();
    open_position(&server, "OTHERUSDT");
    let id = price(&server, "OTHERUSDT", "1.007");
    until_read(&server, PRICE, &id);
    service.stop();
    assert_eq!(ordered(&server).len(), 2, "no rung is sold twice");
}
