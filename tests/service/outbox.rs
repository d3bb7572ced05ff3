//! What stands between a decision and its order: the position of now, the server's memory, and what it has lost.

use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    self, CONTROL, DECISION, PLAN, PRICE, Place, RESULT, add, decisions, entries, field_of_all, is_read, open_position,
    price, until, until_leader,
};
use rustix::process::Signal;

const LIVE: &str = "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
    price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\nsnapshot_settle_ms = 0\n\
    [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\nmax_decision_age_ms = 600000\n";

fn live(server: &RedisServer) -> Place {
    let mut place = Place::new(server);
    place.settings = LIVE.to_owned();
    place
}

/// A service that leads, with LONG 100 @ 1, and has read all of it.
fn at_work(place: &Place, server: &RedisServer) {
    let service = place.start();
    until("the policy is adopted", || !entries(server, CONTROL).is_empty());
    open_position(server, "AAAUSDT");
    price(server, "AAAUSDT", "1.001");
    until("the position is read", || is_read(server, &[PRICE, RESULT]));
    service.stop();
    // What the next start says is looked for.
    std::fs::remove_file(place.folder.path().join("log")).expect("there is a log");
}

fn sell(server: &RedisServer, qty: &str, order: &str) {
    let fields =
        [("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", qty), ("avgPrice", "1.008"), ("orderId", order)];
    add(server, RESULT, &[&fields[..], &[("status", "FILLED")]].concat());
}

fn expired(server: &RedisServer) -> Vec<String> {
    let of = |payload: String| {
        Some(serde_json::from_str::<serde_json::Value>(&payload).ok()?["reason"].as_str()?.to_owned())
    };
    let kinds = field_of_all(server, CONTROL, "event_type");
    let payloads = field_of_all(server, CONTROL, "payload");
    let both = kinds.into_iter().zip(payloads);
    both.filter(|(kind, _)| kind == "decision.expired").filter_map(|(_, payload)| of(payload)).collect()
}

/// What happened since the price that reached the rung, and why the order may not go out, if it may not.
type Meanwhile = (&'static str, fn(&RedisServer), Option<&'static str>);

/// One that stops an order, and one that does not. All reasons: `tests/rules/delivery.rs`; all moments: the simulator.
const MEANWHILE: [Meanwhile; 2] = [
    ("closed", |server| sell(server, "100", "c1"), Some("position_changed")),
    ("reduced, and still enough", |server| sell(server, "50", "c1"), None),
];

fn check(server: &RedisServer, what: &str, reason: Option<&str>) {
    until("the decision is out", || entries(server, DECISION).len() == 1);
    if let Some(reason) = reason {
        until(what, || !expired(server).is_empty());
        assert_eq!(expired(server), [reason], "{what}");
        assert_eq!(entries(server, PLAN), [], "{what}");
    } else {
        until("the order is out", || entries(server, PLAN).len() == 1);
        assert!(expired(server).is_empty(), "{what}");
    }
}

/// A price causes a decision; the process ends between its commit and its offer.
fn ends_before_its_offer(server: &RedisServer, place: &mut Place, what: &str) {
    place.environment = vec![("HARVESTER_FAIL".to_owned(), "handed_over:1".to_owned())];
    price(server, "AAAUSDT", "1.008");
    let mut service = place.start();
    until("the process ends", || service.child.try_wait().unwrap().is_some());
    drop(service);
    assert_eq!(entries(server, DECISION), [], "{what}: it ended before");
    place.environment.clear();
}

/// The process ends between the commit of a decision and its offer; the position changes before the next start.
#[test]
fn a_row_of_the_outbox_is_offered_only_on_the_position_of_now() {
    for (what, happen, reason) in MEANWHILE {
        let server = RedisServer::start();
        let mut place = live(&server);
        at_work(&place, &server);
        ends_before_its_offer(&server, &mut place, what);
        happen(&server);
        let service = place.start();
        check(&server, what, reason);
        service.stop();
    }
}

/// A server that comes back with an older backup: what it lost is written again in its order, before anything newer, and
/// marked.
#[test]
fn decisions_of_a_restored_backup_are_written_again_in_order_and_before_newer_ones() {
    let mut server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    let symbols = ["AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT"];
    let reach = |server: &RedisServer, symbols: &[&str], mark: &str, all: usize| {
        symbols.iter().for_each(|symbol| _ = price(server, symbol, mark));
        until("the decisions are out", || entries(server, DECISION).len() == all && is_read(server, &[PRICE, RESULT]));
    };
    symbols.iter().for_each(|symbol| open_position(&server, symbol));
    reach(&server, &symbols[..2], "1.008", 2);
    server.cli(&["SAVE"]);
    reach(&server, &symbols[2..], "1.008", 4);
    reach(&server, &symbols, "1.013", 8);
    let before = decisions(&server);
    service.signal(Signal::STOP);
    server.restart();
    assert_eq!(entries(&server, DECISION).len(), 2, "an older backup");
    // What comes next is decided before the loss can be known of otherwise.
    symbols.iter().for_each(|symbol| _ = price(&server, symbol, "1.018"));
    service.signal(Signal::CONT);
    until("the lost decisions are there again", || entries(&server, DECISION).len() >= 8);
    service.stop();
    place.run_until_idle();
    let after = decisions(&server);
    assert_eq!(after[..8], before, "in their order, and before newer ones");
    let again: Vec<bool> = entries(&server, DECISION)
        .iter()
        .map(|(_, fields)| fields.contains(&("again".to_owned(), "1".to_owned())))
        .collect();
    assert_eq!(again[..8], [false, false, true, true, true, true, true, true]);
    assert!(!again[8..].contains(&true));
    assert_eq!(place.log().matches("the server has lost decisions").count(), 1, "said once");
}

/// Decisions that left the outbox long ago are written again as well: they stand in the store.
#[test]
fn decisions_of_hours_ago_that_the_server_lost_are_written_again() {
    let mut server = RedisServer::start();
    let place = Place::new(&server);
    let symbols = ["AAAUSDT", "BBBUSDT", "CCCUSDT"];
    let service = place.start();
    until_leader(&service);
    symbols.iter().for_each(|symbol| open_position(&server, symbol));
    until("the positions are read", || is_read(&server, &[PRICE, RESULT]));
    server.cli(&["SAVE"]);
    symbols.iter().for_each(|symbol| _ = price(&server, symbol, "1.008"));
    until("the decisions are out", || entries(&server, DECISION).len() == 3 && is_read(&server, &[PRICE, RESULT]));
    service.stop();
    let before = decisions(&server);
    outbox_forgets(&place);
    server.restart();
    assert_eq!(entries(&server, DECISION), [], "an older backup");
    let service = place.start();
    until("the decisions are there again", || entries(&server, DECISION).len() == 3);
    service.stop();
    assert_eq!(decisions(&server), before);
    assert!(field_of_all(&server, DECISION, "again").iter().all(|again| again == "1"));
}

/// Removes the rows of the outbox from a store, as an hour does.
fn outbox_forgets(place: &Place) {
    use harvester::codec::live;
    use harvester::codec::state::FORMAT_VERSION;
    use harvester::domain::delivery::row::RowChange;
    use harvester::shell::store::Store;
    let mut store = Store::open(&place.store(), FORMAT_VERSION).expect("the store opens");
    let streams = harvester::domain::event::streams::Streams::default();
    let rows: Vec<_> = live::outbox(&store)
        .expect("rows")
        .iter()
        .map(|row| live::change_row(&RowChange::OutboxRemoved(row.seq), &streams))
        .collect();
    assert_eq!(rows.len(), 3);
    store.commit(rows.into_iter()).expect("it is committed");
}

/// The answer to a write is lost on its way: what was written is not written a second time.
#[test]
fn what_was_written_before_its_answer_was_lost_is_not_written_again() {
    const QUARANTINE: &str = "quantum:stream:harvest.quarantine";
    let server = RedisServer::start();
    let wire = Proxy::to(server.port());
    let mut place = Place::new(&server);
    place.url = wire.url();
    wire.lose_answer_to("policy.adopted");
    let service = place.start();
    until("the policy is adopted", || wire.has_lost() && !entries(&server, CONTROL).is_empty());
    open_position(&server, "AAAUSDT");
    wire.lose_answer_to("\nharvest.decision\r");
    price(&server, "AAAUSDT", "1.008");
    until("the decision is out", || {
        wire.has_lost() && entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT])
    });
    wire.lose_answer_to("bad_json");
    add(&server, PRICE, &[("payload", "{not json")]);
    until("the record is told", || wire.has_lost() && entries(&server, QUARANTINE).len() == 1);
    // The next of each comes behind what was tried again.
    add(&server, PRICE, &[("payload", "{not json either")]);
    price(&server, "AAAUSDT", "1.013");
    until("more is out", || entries(&server, QUARANTINE).len() >= 2 && entries(&server, DECISION).len() >= 2);
    until("all is read", || is_read(&server, &[PRICE, RESULT]));
    service.stop();
    place.run_until_idle();
    assert_eq!(field_of_all(&server, CONTROL, "event_type"), ["policy.adopted"]);
    assert_eq!(decisions(&server).len(), 2);
    assert_eq!(entries(&server, service::SUGGESTIONS).len(), 2);
    assert_eq!(entries(&server, QUARANTINE).len(), 2);
}

/// A close stands in the stream of results with an id that is ahead of the server's clock.
#[test]
fn an_order_waits_for_a_result_whose_id_is_ahead_of_the_clock() {
    let server = RedisServer::start();
    let place = live(&server);
    at_work(&place, &server);
    let service = place.start();
    until_leader(&service);
    let mut client = server.client();
    let (seconds, _): (u64, u64) = redis::cmd("TIME").query(&mut client).expect("the server has a clock");
    let id = format!("{}-0", (seconds + 3) * 1000);
    let close =
        ["symbol", "AAAUSDT", "side", "SELL", "executedQty", "100", "avgPrice", "1.008", "orderId", "c1", "status"];
    let () = redis::cmd("XADD").arg(RESULT).arg(id).arg(&close).arg("FILLED").query(&mut client).expect("it is added");
    price(&server, "AAAUSDT", "1.008");
    check(&server, "closed by a result that is ahead", Some("position_changed"));
    service.stop();
}

/// A group that nobody configured begins to read the requests of a service at work.
#[test]
fn no_order_is_sent_while_a_group_reads_requests_that_is_no_executor() {
    let server = RedisServer::start();
    let mut place = live(&server);
    at_work(&place, &server);
    place.environment = vec![("RUST_LOG".to_owned(), "info".to_owned())];
    let service = place.start();
    until_leader(&service);
    let mut client = server.client();
    let () = redis::cmd("XGROUP")
        .arg(&["CREATE", PLAN, "second", "$", "MKSTREAM"])
        .query(&mut client)
        .expect("the group is made");
    let log = place.folder.path().join("log");
    let says = |word: &str| std::fs::read_to_string(&log).is_ok_and(|log| log.contains(word));
    until("the group is found", || says("EXECUTOR_UNKNOWN"));
    price(&server, "AAAUSDT", "1.008");
    until("the price is read", || is_read(&server, &[PRICE]));
    assert_eq!(entries(&server, PLAN), [], "two executors of one order close twice");
    let _: u64 = redis::cmd("XGROUP").arg(&["DESTROY", PLAN, "second"]).query(&mut client).expect("it is gone");
    until("the order is out", || entries(&server, PLAN).len() == 1);
    service.stop();
}
