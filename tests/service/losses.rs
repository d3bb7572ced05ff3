//! What a stream has lost is reported, with a gap that every lost entry lies in, and holds positions; what the server has lost of
//! ours is written again.

use std::collections::BTreeSet;

use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, INTENT, PRICE, Place, RESULT, Service, add, decisions, entries, field_of_all, gaps_reported,
    is_read, open_position, price, until, until_leader,
};
use harvester::codec::live;
use harvester::codec::state::FORMAT_VERSION;
use harvester::domain::delivery::row::RowChange;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::Streams;
use harvester::shell::store::Store;
use rustix::process::Signal;
use serde_json::Value;

/// A gap as it was reported.
#[derive(Debug)]
struct ReportedGap {
    after: Option<EntryId>,
    before: Option<EntryId>,
}

impl ReportedGap {
    fn holds(&self, id: EntryId) -> bool {
        self.after.is_none_or(|after| after < id) && self.before.is_none_or(|before| id < before)
    }
}

fn gaps(server: &RedisServer, stream: &str) -> Vec<ReportedGap> {
    let gap_of = |fields: &[(String, String)]| {
        let get = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let payload: Value = serde_json::from_str(get("payload")?).ok()?;
        let id = |name: &str| payload[name].as_str().map(|id| id.parse().expect("an id"));
        let is_it = get("event_type") == Some("history.gap") && payload["stream"] == stream;
        is_it.then(|| ReportedGap { after: id("after"), before: id("before") })
    };
    entries(server, CONTROL).iter().filter_map(|(_, fields)| gap_of(fields)).collect()
}

/// A service with an open position and its first decision out.
fn at_work<'a>(server: &RedisServer, place: &'a Place) -> Service<'a> {
    let service = place.start();
    until_leader(&service);
    open_position(server, "AAAUSDT");
    price(server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(server, DECISION).len() == 1 && is_read(server, &[PRICE, RESULT]));
    service
}

/// Stops the process for a while, and waits until the server has answered what it asked before.
fn stand_still(server: &RedisServer, service: &Service<'_>) {
    service.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", service.child.id());
    until("the process is stopped", || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")));
    // A round that is on its way is taken at the next turn of the server at the latest.
    for _ in 0..2 {
        server.cli(&["PING"]);
    }
}

/// Adds entries that change nothing. Returns their ids.
fn some(server: &RedisServer, stream: &str, count: usize) -> Vec<EntryId> {
    let mut pipeline = redis::pipe();
    for _ in 0..count {
        pipeline
            .cmd("XADD")
            .arg(stream)
            .arg("*")
            .arg("symbol")
            .arg("BBBUSDT")
            .arg("price")
            .arg("1")
            .arg("side")
            .arg("BUY");
    }
    let ids: Vec<String> = pipeline.query(&mut server.client()).expect("the server takes them");
    ids.iter().map(|text| text.parse().expect("an id")).collect()
}

/// Every lost entry lies in the one gap of its stream.
fn are_reported(server: &RedisServer, stream: &str, lost: &[EntryId]) {
    until(&format!("the gap of {stream} is reported"), || !gaps(server, stream).is_empty());
    let reported = gaps(server, stream);
    assert_eq!(reported.len(), 1, "{stream}: {reported:?}");
    let outside: Vec<&EntryId> = lost.iter().filter(|id| !reported[0].holds(**id)).collect();
    assert!(outside.is_empty(), "{stream}: {outside:?} are not in {reported:?}");
}

/// Streams are trimmed, deleted in the middle, skipped by the group and deleted as a whole, while the service works and while
/// it is away; and the process ends between finding a gap and reporting it.
#[test]
fn i11_i13_what_can_never_be_read_is_reported_once_and_holds_positions() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    stand_still(&server, &service);
    let prices = some(&server, PRICE, 300);
    server.cli(&["XTRIM", PRICE, "MAXLEN", "50"]);
    let intents = some(&server, INTENT, 30);
    let texts: Vec<String> = intents[10..22].iter().map(EntryId::to_string).collect();
    let deleted = [&["XDEL", INTENT][..], &texts.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    assert_eq!(server.cli(&deleted).trim(), "12");
    let fields = [("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", "80"), ("avgPrice", "1")];
    add(&server, RESULT, &[&fields[..], &[("orderId", "s1"), ("status", "FILLED"), ("reduceOnly", "true")]].concat());
    server.cli(&["XGROUP", "SETID", RESULT, "harvester", "$"]);
    service.signal(Signal::CONT);
    are_reported(&server, PRICE, &prices[..250]);
    are_reported(&server, INTENT, &intents[10..22]);
    service.until_logged(&["entries are lost", PRICE, "count=250"]);
    service.until_logged(&["entries are lost", INTENT, "count=12"]);
    until("what the group has skipped is read by its id", || {
        place.journalled().iter().any(|line| line.contains("\"s1\""))
    });
    assert!(gaps(&server, RESULT).is_empty(), "{}", place.log());
    service.stop();
    assert_eq!(place.positions()[0]["qty"], "20");

    let refused = |n: usize| {
        let n = n.to_string();
        add(&server, RESULT, &[("symbol", "BBBUSDT"), ("executed", "false"), ("error", "no"), ("n", &n)]);
    };
    (0..4).for_each(refused);
    server.cli(&["XTRIM", RESULT, "MAXLEN", "1"]);
    let mut is_over = false;
    for nth in 1..=3 {
        let step = format!("committed:{nth}");
        is_over |=
            place.command().args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", step).status().unwrap().success();
    }
    place.run_until_idle();
    assert_eq!(gaps(&server, RESULT).len(), 1, "over before: {is_over}: {}", place.log());
    assert_eq!(place.positions()[0]["hold"], "history_gap");

    let length = place.log().len();
    let service = place.start();
    service.until_logged_behind(length, &["role changed", "is_leader=true"]);
    server.cli(&["DEL", RESULT]);
    until("the stream that is gone is reported", || gaps(&server, RESULT).len() == 2);
    service.until_logged_behind(length, &[RESULT, "forgotten"]);
    price(&server, "AAAUSDT", "1.013");
    until("the price is read", || is_read(&server, &[PRICE, RESULT]));
    service.stop();
    assert_eq!(entries(&server, DECISION).len(), 1, "held");
    assert_eq!(gaps_reported(&server), 4);
}

/// A server that comes back with an older backup, twice, and one that was flushed: what it has lost of ours is written again,
/// the same bytes, in its order, marked, and before anything newer. What it has lost of others is reported.
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
    let backup: BTreeSet<EntryId> = ids(&server, PRICE);
    reach(&server, &symbols[2..], "1.008", 4);
    reach(&server, &symbols, "1.013", 8);
    let before = decisions(&server);
    let read: Vec<EntryId> = ids(&server, PRICE).difference(&backup).copied().collect();
    stand_still(&server, &service);
    let unread = some(&server, PRICE, 20);
    server.restart();
    assert_eq!(entries(&server, DECISION).len(), 2, "an older backup");
    // What comes next is decided before the loss can be known of otherwise.
    symbols.iter().for_each(|symbol| _ = price(&server, symbol, "1.018"));
    service.signal(Signal::CONT);
    until("the lost decisions are there again", || entries(&server, DECISION).len() >= 8);
    are_reported(&server, PRICE, &[read, unread].concat());
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

    // They have left the outbox, as after an hour: they are in the store.
    outbox_forgets(&place);
    server.restart();
    assert_eq!(entries(&server, DECISION).len(), 2, "the same backup");
    let service = place.start();
    until("the decisions are there again", || entries(&server, DECISION).len() == after.len());
    assert_eq!(decisions(&server), after);

    server.cli(&["FLUSHALL"]);
    until("the gap of the results is reported", || !gaps(&server, RESULT).is_empty());
    until("the decisions are written again", || entries(&server, DECISION).len() == after.len());
    until("the gap is read", || is_read(&server, &[CONTROL]));
    service.stop();
    assert_eq!(decisions(&server), after);
    assert!(field_of_all(&server, DECISION, "again").iter().all(|again| again == "1"));
    assert_eq!(place.positions()[0]["hold"], "history_gap");
}

fn ids(server: &RedisServer, stream: &str) -> BTreeSet<EntryId> {
    entries(server, stream).iter().map(|(id, _)| id.parse().expect("an id")).collect()
}

/// Removes the rows of the outbox from a store, as an hour does.
fn outbox_forgets(place: &Place) {
    let mut store = Store::open(&place.store(), FORMAT_VERSION).expect("the store opens");
    let rows = live::outbox(&store).expect("rows");
    assert!(rows.len() >= 8);
    let gone = rows.iter().map(|row| live::change_row(&RowChange::OutboxRemoved(row.seq), &Streams::default()));
    let gone: Vec<_> = gone.collect();
    store.commit(gone.into_iter()).expect("it is committed");
}
