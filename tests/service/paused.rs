//! A live service that stands still, or is cut off, while somebody closes its position: what it decides on going on is no
//! order.

use rustix::process::Signal;

use crate::run::live_place;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, PLAN, PRICE, Place, RESULT, Service, add, entries, gaps_reported, is_read, open_position, price,
    until, until_leader,
};
use serde_json::Value;

pub(crate) const SYMBOL: &str = "AAAUSDT";

/// A live service with an open position, which leads.
pub(crate) fn at_work<'a>(server: &RedisServer, place: &'a Place) -> Service<'a> {
    let service = place.start();
    until_leader(&service);
    until("the policy is adopted", || !entries(server, CONTROL).is_empty());
    open_position(server, SYMBOL);
    price(server, SYMBOL, "1.001");
    until("the position is read", || is_read(server, &[PRICE, RESULT, CONTROL]));
    service
}

/// A price at which rung 0.5 is sold, and then the position is closed.
fn reach_and_close(server: &RedisServer) {
    price(server, SYMBOL, "1.008");
    // In one millisecond results are applied before prices.
    server.until_later_ms();
    let close = [("symbol", SYMBOL), ("side", "SELL"), ("executedQty", "100"), ("avgPrice", "1.008")];
    add(server, RESULT, &[&close[..], &[("orderId", "close"), ("status", "FILLED")]].concat());
}

fn expired(server: &RedisServer) -> Vec<Value> {
    let all = entries(server, CONTROL).into_iter().filter(|(_, fields)| fields[0].1 == "decision.expired");
    all.map(|(_, fields)| serde_json::from_str(&fields[1].1).expect("a payload")).collect()
}

/// The decision is written and withdrawn, and no order goes out.
fn withdrawn(server: &RedisServer, what: &str) {
    until("the decision is withdrawn", || expired(server).len() == 1 && is_read(server, &[PRICE, RESULT, CONTROL]));
    let reason = expired(server)[0]["reason"].as_str().expect("a reason").to_owned();
    // On a machine that stands still for half a minute it is too old as well, which is looked at first.
    assert!(["position_changed", "max_decision_age"].contains(&&*reason), "{what}: {reason}");
    assert_eq!((entries(server, PLAN), entries(server, DECISION).len()), (Vec::new(), 1), "{what}");
}

#[test]
fn a_live_leader_that_stood_still_while_its_position_was_closed_sends_nothing() {
    let server = RedisServer::start();
    let place = live_place(&server, "apply_plan", PLAN);
    let service = at_work(&server, &place);
    service.signal(Signal::STOP);
    reach_and_close(&server);
    service.signal(Signal::CONT);
    withdrawn(&server, "paused");
    // It goes on with the next position.
    open_position(&server, "BBBUSDT");
    price(&server, "BBBUSDT", "1.008");
    until("the next order goes out", || entries(&server, PLAN).len() == 1);
    service.stop();
}

/// The result that closes the position is gone before anybody could read it. The gap is reported within a second, and the
/// order would go out before that.
#[test]
fn a_live_leader_sends_no_order_while_a_result_is_gone_that_it_has_not_read() {
    let server = RedisServer::start();
    let place = live_place(&server, "apply_plan", PLAN);
    let service = at_work(&server, &place);
    let mut at_once = redis::pipe();
    at_once.atomic();
    at_once.cmd("XADD").arg(RESULT).arg("*").arg("symbol").arg(SYMBOL).arg("side").arg("SELL");
    at_once.arg("executedQty").arg("100").arg("avgPrice").arg("1.001").arg("orderId").arg("close");
    at_once.cmd("XTRIM").arg(RESULT).arg("MAXLEN").arg(0);
    at_once.cmd("XADD").arg(PRICE).arg("*").arg("symbol").arg(SYMBOL).arg("price").arg("1.008");
    at_once.exec(&mut server.client()).expect("the server takes them");
    until("the decision is withdrawn", || expired(&server).len() == 1);
    let reason = expired(&server)[0]["reason"].clone();
    assert!(reason == "history_gap" || reason == "max_decision_age", "{reason}");
    assert_eq!((entries(&server, PLAN), entries(&server, DECISION).len()), (Vec::new(), 1));
    // The gap is folded and accepted, so nothing is missing any more.
    add(&server, CONTROL, &[("event_type", "gap.accepted"), ("payload", "{}")]);
    server.until_later_ms();
    price(&server, SYMBOL, "1.008");
    until("the next order goes out", || entries(&server, PLAN).len() == 1);
    service.stop();
}

/// Another process reads the result that closes the position, in our group. The entry is read by its id within a second,
/// and the order would go out before that.
#[test]
fn i34_a_live_leader_sends_no_order_while_another_reader_of_its_group_has_a_result() {
    let server = RedisServer::start();
    let place = live_place(&server, "apply_plan", PLAN);
    let service = at_work(&server, &place);
    let mut at_once = redis::pipe();
    at_once.atomic();
    at_once
        .cmd("XADD")
        .arg(RESULT)
        .arg("*")
        .arg("symbol")
        .arg(SYMBOL)
        .arg("side")
        .arg("SELL")
        .arg("status")
        .arg("FILLED");
    at_once.arg("executedQty").arg("100").arg("avgPrice").arg("1.001").arg("orderId").arg("close");
    at_once.cmd("XREADGROUP").arg("GROUP").arg("harvester").arg("thief").arg("STREAMS").arg(RESULT).arg(">");
    at_once.cmd("XADD").arg(PRICE).arg("*").arg("symbol").arg(SYMBOL).arg("price").arg("1.008");
    at_once.exec(&mut server.client()).expect("the server takes them");
    withdrawn(&server, "taken");
    service.until_logged(&["group_shared", RESULT]);
    assert_eq!(gaps_reported(&server), 0, "what was taken is read all the same");
    service.stop();
}

#[test]
fn a_live_leader_that_was_cut_off_while_its_position_was_closed_sends_nothing() {
    let server = RedisServer::start();
    let wire = Proxy::to(server.port());
    let mut place = live_place(&server, "apply_plan", PLAN);
    place.url = wire.url();
    let service = at_work(&server, &place);
    wire.lead_to(None);
    reach_and_close(&server);
    wire.lead_to(Some(server.port()));
    withdrawn(&server, "cut off");
    service.stop();
}

/// Another instance takes over meanwhile, and the former leader goes on after that.
#[test]
fn a_live_position_that_was_closed_during_a_takeover_is_not_sold() {
    let server = RedisServer::start();
    let mut first = live_place(&server, "apply_plan", PLAN);
    first.settings.push_str("[run]\nlease_ms = 1000\n");
    let mut second = Place::new(&server);
    second.consumer = "two".to_owned();
    second.settings.clone_from(&first.settings);
    let leader = at_work(&server, &first);
    let follower = second.start();
    follower.until_logged(&["HARVEST_START"]);
    leader.signal(Signal::STOP);
    reach_and_close(&server);
    until_leader(&follower);
    withdrawn(&server, "taken over");
    leader.signal(Signal::CONT);
    leader.until_logged(&["role changed", "is_leader=false"]);
    let id = price(&server, SYMBOL, "1.009");
    for place in [&first, &second] {
        until("both go on", || place.journalled().concat().contains(&id));
    }
    withdrawn(&server, "both");
    follower.stop();
    leader.stop();
    assert_eq!(first.positions(), second.positions());
}
