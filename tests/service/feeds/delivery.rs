//! Delivery by the socket and by REST: a silent socket, and trades that it did not send.

use super::{Lab, OBSERVATIONS, POSITIONS, TRADES};
use crate::support::exchange::{Fault, account_event};
use serde_json::json;

#[test]
fn i69_rest_finds_a_silent_socket_and_delivers_instead() {
    let mut lab = Lab::new();
    // The address of an earlier version: the listen key in the path. The socket connects, answers pings, and sends no
    // event.
    lab.user_path = "/ws";
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    let sockets = lab.exchange.open_sockets();
    assert!(sockets.len() == 1 && sockets[0].starts_with("/ws/pqia91ma19a5s61cv6a8"), "{sockets:?}");
    lab.wait_until("looks at REST", |lab| lab.exchange.calls(POSITIONS).len() >= 2);
    let event = lab.trade("ADAUSDT", 7, "BUY", ("10", "0.3"));
    lab.exchange.world().set_position("ADAUSDT", "10", "0.3");
    lab.exchange.push_user(&event);
    lab.wait_until("a finding", |lab| {
        lab.health().is_some_and(|(status, body)| {
            status == 503 && body.contains("delivers nothing: ADAUSDT changed at the exchange and no event came")
        })
    });
    lab.wait_until("a new connection", |lab| lab.exchange.world().sockets_opened >= 2);
    lab.wait_until("the events that the socket did not send", |lab| lab.length(OBSERVATIONS) >= 2);
    let observations = lab.observations();
    let kinds: Vec<&str> = observations.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds[..2], ["exchange.trade", "exchange.position"], "the cause first");
    assert_eq!((&observations[0].1["id"], &observations[1].1["positionAmt"]), (&json!("7"), &json!("10")));
    assert_eq!(lab.metric("harvester_feed_undelivered"), Some(1.0), "connected again, and still undelivered");
    assert!(lab.metric("harvester_feed_endings_total{why=\"not_delivering\"}").is_some_and(|n| n >= 1.0));
    // A position that is gone is a change too, and REST continues to deliver.
    lab.trade("ADAUSDT", 8, "SELL", ("10", "0.31"));
    lab.exchange.world().positions.clear();
    lab.wait_until("the closing", |lab| {
        lab.observations().iter().any(|(kind, p)| kind == "exchange.position" && p["positionAmt"] == "0")
    });
    assert_eq!(lab.trade_ids(), ["7", "8"]);
    lab.stop();
    assert!(lab.log.contains("not_delivering"), "{}", lab.log);

    // With the new form of the address the same events come, and the feed is healthy.
    lab.user_path = "/private/ws";
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    lab.wait_until("looks at REST", |lab| lab.metric("harvester_feed_compare_age_seconds").is_some());
    let event = lab.trade("ADAUSDT", 9, "BUY", ("5", "0.32"));
    let now_ms = lab.exchange.world().now_ms();
    lab.exchange.push_user(&event);
    lab.exchange.push_user(&account_event("ADAUSDT", "5", "0.32", now_ms));
    lab.exchange.world().set_position("ADAUSDT", "5", "0.32");
    lab.wait_until("the trade", |lab| lab.trade_ids() == ["7", "8", "9"]);
    let looks = lab.exchange.calls(POSITIONS).len();
    lab.wait_until("looks that agree", |lab| lab.exchange.calls(POSITIONS).len() >= looks + 4);
    assert_eq!(lab.health().map(|(status, _)| status), Some(200), "{:?}", lab.health());
    assert_eq!(lab.metric("harvester_feed_undelivered_changes_total"), Some(0.0));
    assert_eq!(lab.metric("harvester_feed_reconnects_total"), Some(0.0));
    lab.stop();
}

#[test]
fn i69_the_old_testnet_takes_the_key_in_the_path() {
    let mut lab = Lab::new();
    lab.user_path = "/ws";
    lab.exchange.world().takes_key_in_path = true;
    lab.start("user", &[], "");
    lab.wait_connected();
    let event = lab.trade("ADAUSDT", 7, "BUY", ("10", "0.3"));
    lab.exchange.push_user(&event);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["7"]);
    lab.stop();
}

#[test]
fn i69_a_missing_trade_is_found_even_if_it_left_no_position() {
    let mut lab = Lab::new();
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    let first = lab.trade("ADAUSDT", 1, "BUY", ("10", "0.3"));
    lab.exchange.push_user(&first);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["1"]);
    // Bought and sold between two checks; the socket sends neither.
    lab.trade("ADAUSDT", 2, "BUY", ("5", "0.3"));
    lab.trade("ADAUSDT", 3, "SELL", ("5", "0.31"));
    lab.wait_until("both from REST", |lab| lab.trade_ids() == ["1", "2", "3"]);
    assert_eq!(lab.metric("harvester_feed_undelivered"), Some(1.0));
    // An event proves that the socket delivers again.
    let last = lab.trade("ADAUSDT", 4, "SELL", ("5", "0.31"));
    lab.wait_until("a connection", |lab| lab.exchange.open_sockets().len() == 1);
    lab.exchange.push_user(&last);
    lab.wait_connected();
    lab.stop();
}

#[test]
fn i69_a_liquidation_is_a_fill_and_logged_as_one() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    let mut event = lab.trade("ADAUSDT", 7, "SELL", ("10", "0.2"));
    event["o"]["x"] = json!("CALCULATED");
    event["o"]["c"] = json!("autoclose-1770163396495");
    lab.exchange.push_user(&event);
    lab.wait_until("the fill", |lab| lab.trade_ids() == ["7"]);
    assert_eq!(lab.observations()[0].1["forced"], "liquidation");
    assert_eq!(lab.metric("harvester_feed_forced_total{kind=\"liquidation\"}"), Some(1.0));
    lab.stop();
    assert!(lab.log.contains("FEED_USER_FORCED") && lab.log.contains("liquidation"), "{}", lab.log);
}

#[test]
fn i69_a_gap_is_filled_only_after_all_symbols_were_fetched() {
    let mut lab = Lab::new();
    lab.lose_the_socket_after_a_trade();
    lab.wait_until("a feed that reports it", |lab| lab.health().is_some_and(|(status, _)| status == 503));
    let of_gone =
        |lab: &Lab| lab.exchange.calls(TRADES).iter().filter(|c| c.parameter("symbol") == Some("ADAUSDT")).count();
    let asked = of_gone(&lab);
    // Without a connection a position in a new symbol opens, and one symbol is delisted.
    lab.trade("NEWUSDT", 7, "BUY", ("1", "2"));
    lab.exchange.world().set_position("NEWUSDT", "1", "2");
    lab.exchange.world().delisted.insert("ADAUSDT".to_owned());
    // The first answer about positions fails: the traded symbols are unknown, and the gap stays open.
    lab.exchange.fail(POSITIONS, [Fault::Status(500, vec![], String::new())]);
    lab.exchange.world().refuses_sockets = false;
    lab.wait_until("an open gap", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("trades of a gap are not read yet"))
    });
    lab.exchange.close_sockets(false);
    lab.wait_until("the trade that only REST knew of", |lab| lab.trade_ids() == ["1", "7"]);
    lab.wait_connected();
    assert_eq!(of_gone(&lab), asked + 1, "i46: a delisted symbol is fetched once");
    // Changes without a connection are no fault of the socket.
    let looks = lab.exchange.calls(POSITIONS).len();
    lab.wait_until("looks that agree", |lab| lab.exchange.calls(POSITIONS).len() >= looks + 4);
    assert_eq!(lab.metric("harvester_feed_undelivered_changes_total"), Some(0.0));
    lab.exchange.close_sockets(false);
    lab.wait_until("a new connection", |lab| lab.metric("harvester_feed_reconnects_total").is_some_and(|n| n >= 3.0));
    lab.wait_connected();
    assert_eq!(of_gone(&lab), asked + 1, "no further call");
    lab.stop();
}
