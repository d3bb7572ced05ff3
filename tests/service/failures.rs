//! What happens to a service when the server fails: it goes on as soon as it can, loses nothing that still exists, and
//! names what is lost.

use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    self, CONTROL, DECISION, PLAN, PRICE, Place, RESULT, Service, decisions, entries, field_of_all, gaps_told, is_read,
    open_position, price, until, until_leader,
};
use rustix::process::Signal;

/// A service with an open position and its first decision out.
fn at_work<'a>(server: &RedisServer, place: &'a Place) -> Service<'a> {
    let service = place.start();
    until_leader(&service);
    open_position(server, "AAAUSDT");
    price(server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(server, DECISION).len() == 1 && is_read(server, &[PRICE, RESULT]));
    service
}

/// The next rung is reached, and decided once.
fn goes_on(server: &RedisServer, service: Service<'_>, place: &Place) {
    price(server, "AAAUSDT", "1.013");
    until("the second decision is out", || entries(server, DECISION).len() == 2 && is_read(server, &[PRICE, RESULT]));
    service.stop();
    place.run_until_idle();
    assert_eq!(decisions(server).len(), 2);
}

#[test]
fn i12_a_server_that_restarts_and_loads_its_data_is_waited_for() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    // So much that loading takes a while: until then the server answers LOADING.
    server.cli(&["DEBUG", "POPULATE", "1000000"]);
    server.cli(&["BGREWRITEAOF"]);
    until("the data is written", || server.cli(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:0"));
    server.restart();
    until("the data is loaded", || server.cli(&["PING"]).contains("PONG"));
    goes_on(&server, service, &place);
    assert_eq!(gaps_told(&server), 0, "{}", place.log());
    assert!(place.log().contains("trying again"), "{}", place.log());
}

#[test]
fn i12_a_server_that_does_not_answer_for_seconds_is_waited_for() {
    let server = RedisServer::start();
    let wire = Proxy::to(server.port());
    let mut place = Place::new(&server);
    place.url = wire.url();
    let service = at_work(&server, &place);
    wire.lead_to(None);
    price(&server, "AAAUSDT", "1.009");
    service.until_logged(&["reading failed"]);
    service.until_logged(&["the lease could not be kept"]);
    wire.lead_to(Some(server.port()));
    goes_on(&server, service, &place);
    assert_eq!(gaps_told(&server), 0);
}

#[test]
fn scripts_that_were_flushed_are_loaded_again() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    server.cli(&["SCRIPT", "FLUSH"]);
    goes_on(&server, service, &place);
}

#[test]
fn a_group_that_was_deleted_is_made_again_where_we_stand() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    for stream in [PRICE, RESULT] {
        server.cli(&["XGROUP", "DESTROY", stream, "harvester"]);
    }
    price(&server, "AAAUSDT", "1.009");
    until("the group is there again", || server.cli(&["XINFO", "GROUPS", PRICE]).contains("harvester"));
    goes_on(&server, service, &place);
    assert_eq!(gaps_told(&server), 0, "{}", place.log());
}

#[test]
fn a_server_without_memory_is_waited_for_and_nothing_is_acknowledged_before() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    service.signal(Signal::STOP);
    price(&server, "AAAUSDT", "1.013");
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    service.signal(Signal::CONT);
    // A transaction is refused as a whole: nothing is read before it can be emitted.
    service.until_logged(&["reading failed", "OOM"]);
    assert_eq!(entries(&server, DECISION).len(), 1);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    until("the second decision is out", || entries(&server, DECISION).len() == 2 && is_read(&server, &[PRICE, RESULT]));
    service.stop();
    assert_eq!(decisions(&server).len(), 2);
}

/// What cannot be told of entries that were put aside waits; nothing waits for it (docs/spec/streams.md, *Quarantine*).
#[test]
fn i10_a_quarantine_stream_that_cannot_be_written_holds_back_no_decision() {
    let server = RedisServer::start();
    let quarantine = "quantum:stream:harvest.quarantine";
    server.cli(&["SET", quarantine, "something else"]);
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    price(&server, "AAAUSDT", "no number");
    service.until_logged(&["OUTPUT_REFUSED", quarantine]);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT]));
    server.cli(&["DEL", quarantine]);
    until("the record is told", || entries(&server, quarantine).len() == 1);
    goes_on(&server, service, &place);
    assert_eq!(entries(&server, quarantine).len(), 1);
}

#[test]
fn a_server_that_became_a_replica_is_waited_for() {
    let server = RedisServer::start();
    let other = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    // A replica of a server that it cannot reach keeps what it has, and takes no writes.
    let port = other.port().to_string();
    drop(other);
    server.cli(&["REPLICAOF", "127.0.0.1", &port]);
    service.until_logged(&["the lease could not be kept", "ReadOnly"]);
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    goes_on(&server, service, &place);
    assert_eq!(gaps_told(&server), 0, "{}", place.log());
}

/// The stream of results is gone, and with it what was written and not read.
#[test]
fn i11_a_stream_that_was_deleted_is_a_gap_and_the_service_goes_on() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    server.cli(&["DEL", RESULT]);
    until("the gap is told", || gaps_told(&server) == 1);
    price(&server, "AAAUSDT", "1.013");
    until("the price is read", || is_read(&server, &[PRICE, RESULT]));
    service.stop();
    assert_eq!(place.positions()[0]["hold"], "history_gap");
    assert_eq!(entries(&server, DECISION).len(), 1, "held");
    assert!(place.log().contains("forgotten"), "{}", place.log());
}

#[test]
fn after_flushall_positions_are_held_and_lost_decisions_are_written_again() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    let before = decisions(&server);
    server.cli(&["FLUSHALL"]);
    let is_gap_of_results = |payload: &String| payload.contains(RESULT);
    until("the gap of the results is told", || field_of_all(&server, CONTROL, "payload").iter().any(is_gap_of_results));
    until("the decision is written again", || entries(&server, DECISION).len() == 1);
    until("the gap is read", || is_read(&server, &[CONTROL]));
    service.stop();
    assert_eq!(decisions(&server), before, "the same bytes");
    assert_eq!(place.positions()[0]["hold"], "history_gap");
}

/// The replica that takes over lacks the last entries: what we had emitted, and what we had read.
#[test]
fn after_a_failover_to_a_replica_that_lags_what_is_lost_is_named() {
    let server = RedisServer::start();
    let (replica, wire, place) = service::with_replica(&server);
    let service = place.start();
    until_leader(&service);
    open_position(&server, "AAAUSDT");
    until("the position is read", || {
        is_read(&server, &[PRICE, RESULT]) && replica.cli(&["XLEN", RESULT]).trim() == "1"
    });
    until("the replica has it", || is_read(&replica, &[RESULT]));
    // From here on the replica lags for ever.
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    price(&server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT]));
    let before = decisions(&server);
    wire.lead_to(Some(replica.port()));
    until("the decision is written again", || entries(&replica, DECISION).len() == 1);
    assert_eq!(decisions(&replica), before);
    until("the gap is told", || gaps_told(&replica) >= 1);
    service.stop();
}

/// Everything that remembers a sent order is gone: its record is written again, and nothing is armed or sent again.
#[test]
fn an_order_whose_record_was_lost_is_not_sent_again() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.settings =
        "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
        price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n\
        [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\n"
            .to_owned();
    let service = place.start();
    until("the policy is adopted", || !entries(&server, CONTROL).is_empty());
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the order is out", || entries(&server, PLAN).len() == 1 && is_read(&server, &[PRICE, RESULT]));
    let before = decisions(&server);
    server.cli(&["DEL", DECISION, "quantum:stream:harvest.decision:emitted"]);
    until("the record is written again", || entries(&server, DECISION).len() == 1);
    price(&server, "AAAUSDT", "1.009");
    until("the price is read", || is_read(&server, &[PRICE, RESULT]));
    service.stop();
    place.run_until_idle();
    assert_eq!(decisions(&server), before);
    assert_eq!(entries(&server, PLAN).len(), 1, "one order");
    let kinds = field_of_all(&server, CONTROL, "event_type");
    assert!(!kinds.contains(&"decision.expired".to_owned()), "{kinds:?}");
    assert_eq!(place.positions()[0]["rungs"][0]["state"], "requested");
}

#[test]
fn i13_what_the_group_was_made_to_skip_is_read_by_its_ids() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    service.signal(Signal::STOP);
    let fields = [("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", "80"), ("avgPrice", "1")];
    let more = [("orderId", "s1"), ("status", "FILLED"), ("reduceOnly", "true")];
    service::add(&server, RESULT, &[&fields[..], &more].concat());
    server.cli(&["XGROUP", "SETID", RESULT, "harvester", "$"]);
    service.signal(Signal::CONT);
    until("the fill is in the journal", || {
        let lines = std::fs::read_dir(place.journal()).unwrap().filter_map(|file| {
            let mut text = Vec::new();
            let file = std::fs::File::open(file.ok()?.path()).ok()?;
            let _ = zstd::Decoder::new(file).and_then(|mut reader| std::io::Read::read_to_end(&mut reader, &mut text));
            Some(String::from_utf8_lossy(&text).contains("\"s1\""))
        });
        lines.into_iter().any(|has| has)
    });
    service.stop();
    assert_eq!(gaps_told(&server), 0, "{}", place.log());
    assert_eq!(place.positions()[0]["qty"], "20");
}

/// The process ends between finding a gap and saying so.
#[test]
fn i11_a_gap_that_could_not_be_said_is_found_again() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    at_work(&server, &place).stop();
    for n in 0..4 {
        service::add(
            &server,
            RESULT,
            &[("symbol", "BBBUSDT"), ("executed", "false"), ("error", "no"), ("n", &n.to_string())],
        );
    }
    server.cli(&["XTRIM", RESULT, "MAXLEN", "1"]);
    for nth in 1..=3 {
        let ended =
            place.command().args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", format!("committed:{nth}")).status();
        if ended.unwrap().success() {
            break;
        }
    }
    place.run_until_idle();
    assert_eq!(gaps_told(&server), 1, "{}", place.log());
    assert_eq!(place.positions()[0]["hold"], "history_gap");
}

/// An operator's policy outlasts a lapse of the lease: the configured one is adopted at the start of a process only.
#[test]
fn i34_a_lapse_of_the_lease_adopts_nothing() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.settings = "[run]\nlease_ms = 600\n".to_owned();
    let service = place.start();
    until("the policy is adopted", || !entries(&server, CONTROL).is_empty());
    service::add(&server, CONTROL, &[("event_type", "policy.adopted"), ("payload", "{\"policy\":{\"min_r\":\"3\"}}")]);
    service.signal(Signal::STOP);
    until("the lease has ended", || server.cli(&["EXISTS", "quantum:stream:harvest.decision:lease"]).trim() == "0");
    service.signal(Signal::CONT);
    until("the lease is held again", || server.cli(&["EXISTS", "quantum:stream:harvest.decision:lease"]).trim() == "1");
    price(&server, "AAAUSDT", "1");
    until("the price is read", || is_read(&server, &[PRICE, RESULT]));
    service.stop();
    let kinds = field_of_all(&server, CONTROL, "event_type");
    assert_eq!(kinds.iter().filter(|kind| *kind == "policy.adopted").count(), 2, "{kinds:?}");
}
