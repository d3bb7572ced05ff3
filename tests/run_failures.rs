//! What happens to a service when the server fails: it goes on as soon as it can, loses nothing that still exists, and
//! names what is lost.

#[path = "support/proxy.rs"]
mod proxy;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/service.rs"]
mod service;
mod support;

use proxy::Proxy;
use redis_server::RedisServer;
use rustix::process::Signal;
use service::{
    CONTROL, DECISION, PRICE, Place, RESULT, Service, decisions, entries, field_of_all, open_position, price, until,
};

fn is_read(server: &RedisServer) -> bool {
    [PRICE, RESULT].iter().all(|stream| server.cli(&["XPENDING", stream, "harvester"]).starts_with('0'))
}

/// A service with an open position and its first decision out.
fn at_work<'a>(server: &RedisServer, place: &'a Place) -> Service<'a> {
    let service = place.start();
    service.until_logged(&["role changed", "is_leader=true"]);
    open_position(server, "AAAUSDT");
    price(server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(server, DECISION).len() == 1 && is_read(server));
    service
}

/// The next rung is reached, and decided once.
fn goes_on(server: &RedisServer, service: Service<'_>, place: &Place) {
    price(server, "AAAUSDT", "1.013");
    until("the second decision is out", || entries(server, DECISION).len() == 2 && is_read(server));
    service.stop();
    place.run_until_idle();
    assert_eq!(decisions(server).len(), 2);
}

fn gaps(server: &RedisServer) -> usize {
    field_of_all(server, CONTROL, "event_type").iter().filter(|kind| *kind == "history.gap").count()
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
    assert_eq!(gaps(&server), 0, "{}", place.log());
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
    assert_eq!(gaps(&server), 0);
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
    assert_eq!(gaps(&server), 0, "{}", place.log());
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
    service.until_logged(&["reading failed"]);
    assert_eq!(entries(&server, DECISION).len(), 1);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    until("the second decision is out", || entries(&server, DECISION).len() == 2 && is_read(&server));
    service.stop();
    assert_eq!(decisions(&server).len(), 2);
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
    assert_eq!(gaps(&server), 0, "{}", place.log());
}

/// The stream of results is gone, and with it what was written and not read.
#[test]
fn i11_a_stream_that_was_deleted_is_a_gap_and_the_service_goes_on() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    server.cli(&["DEL", RESULT]);
    until("the gap is told", || gaps(&server) == 1);
    price(&server, "AAAUSDT", "1.013");
    until("the price is read", || is_read(&server));
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
    until("the gaps are told", || gaps(&server) >= 2);
    until("the decision is written again", || entries(&server, DECISION).len() == 1);
    service.stop();
    assert_eq!(decisions(&server), before, "the same bytes");
    assert_eq!(place.positions()[0]["hold"], "history_gap");
}

/// The replica that takes over lacks the last entries: what we had emitted, and what we had read.
#[test]
fn after_a_failover_to_a_replica_that_lags_what_is_lost_is_named() {
    let server = RedisServer::start();
    let replica = RedisServer::start();
    let wire = Proxy::to(server.port());
    let mut place = Place::new(&server);
    place.url = wire.url();
    replica.cli(&["REPLICAOF", "127.0.0.1", &server.port().to_string()]);
    until("the replica is in step", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
    let service = place.start();
    service.until_logged(&["role changed", "is_leader=true"]);
    open_position(&server, "AAAUSDT");
    until("the position is read", || is_read(&server) && replica.cli(&["XLEN", RESULT]).trim() == "1");
    until("the replica has it", || replica.cli(&["XPENDING", RESULT, "harvester"]).starts_with('0'));
    // From here on the replica lags for ever.
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    price(&server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server));
    let before = decisions(&server);
    wire.lead_to(Some(replica.port()));
    until("the decision is written again", || entries(&replica, DECISION).len() == 1);
    assert_eq!(decisions(&replica), before);
    until("the gap is told", || gaps(&replica) >= 1);
    service.stop();
}
