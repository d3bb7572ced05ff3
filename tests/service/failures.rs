//! What happens to a service when the server or the wire to it fails: it goes on as soon as it can, loses nothing, and
//! repeats nothing.

use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, PRICE, Place, RESULT, SUGGESTIONS, Service, add, decisions, entries, field_of_all,
    gaps_reported, is_read, open_position, price, until, until_leader,
};
use rustix::process::Signal;

const QUARANTINE: &str = "quantum:stream:harvest.quarantine";

/// A server that takes its time to load what it has kept, and answers meanwhile.
const LOADS_SLOWLY: [&str; 8] = [
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--key-load-delay",
    "100",
    "--loading-process-events-interval-bytes",
    "1024",
];

/// A service at work, and the decisions that it has made.
struct Work<'a> {
    server: RedisServer,
    place: &'a Place,
    service: Service<'a>,
    made: usize,
}

impl Work<'_> {
    /// A position is opened, reaches its first rung, and is decided once. No symbol serves twice.
    fn decides(&mut self, failure: &str) {
        let symbol = format!("S{}USDT", self.made);
        open_position(&self.server, &symbol);
        price(&self.server, &symbol, "1.008");
        self.has_decided(failure);
    }

    fn has_decided(&mut self, failure: &str) {
        self.made += 1;
        until(&format!("after {failure}, decision {} is out", self.made), || {
            entries(&self.server, DECISION).len() == self.made && is_read(&self.server, &[PRICE, RESULT])
        });
    }

    /// Something is done, and the log names what it leads to.
    fn is_logged(&mut self, words: &[&str], fails: impl FnOnce(&mut RedisServer)) {
        let length = self.place.log().len();
        fails(&mut self.server);
        self.service.until_logged_behind(length, words);
    }
}

/// So much in the control stream that a start looks through it for a while.
fn fill_control_stream(server: &RedisServer) {
    let bulk = "x".repeat(1000);
    let mut pipeline = redis::pipe();
    for _ in 0..4_000 {
        let fields = [("event_type", "gap.accepted"), ("payload", "{}"), ("bulk", &bulk)];
        pipeline.cmd("XADD").arg(CONTROL).arg("*").arg(&fields).ignore();
    }
    pipeline.query::<()>(&mut server.client()).expect("the server takes them");
}

#[test]
fn i12_a_server_that_fails_is_waited_for_and_nothing_is_lost_or_repeated() {
    let server = RedisServer::start_with(&LOADS_SLOWLY);
    fill_control_stream(&server);
    let wire = Proxy::to(server.port());
    let mut place = Place::new(&server);
    place.url = wire.url();
    // After so much of an answer the wire is cut, twice; and one answer is lost.
    wire.cut_after(&[600_000, 2_000_000]);
    wire.lose_answer_to("policy.adopted");
    let service = place.start();
    until_leader(&service);
    assert_eq!(place.log().matches("starting failed, trying again").count(), 2, "{}", place.log());
    let is_adopted = || field_of_all(&server, CONTROL, "event_type").contains(&"policy.adopted".to_owned());
    until("the policy is adopted", || wire.has_lost() && is_adopted());
    let mut work = Work { place: &place, service, made: 0, server };
    work.decides("a start through a wire that was cut");

    wire.lose_answer_to("\nharvest.decision\r");
    work.decides("a lost answer");
    assert!(wire.has_lost());
    wire.lose_answer_to("bad_json");
    add(&work.server, PRICE, &[("payload", "{not json")]);
    until("the record is published", || wire.has_lost() && entries(&work.server, QUARANTINE).len() == 1);
    work.decides("a lost answer to a record");

    let length = place.log().len();
    wire.lead_to(None);
    price(&work.server, "S0USDT", "1.009");
    work.service.until_logged_behind(length, &["reading failed"]);
    work.service.until_logged_behind(length, &["the lease could not be kept"]);
    wire.lead_to(Some(work.server.port()));
    work.decides("a wire that was cut for seconds");

    work.server.cli(&["SCRIPT", "FLUSH"]);
    work.decides("scripts that were flushed");

    for stream in [PRICE, RESULT] {
        work.server.cli(&["XGROUP", "DESTROY", stream, "harvester"]);
    }
    price(&work.server, "S0USDT", "1.01");
    until("the group is there again", || work.server.cli(&["XINFO", "GROUPS", PRICE]).contains("harvester"));
    work.decides("a group that was deleted");

    // A transaction is refused as a whole: nothing is read before it can be emitted.
    work.service.signal(Signal::STOP);
    price(&work.server, "S0USDT", "1.013");
    work.server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    work.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let length = place.log().len();
    work.service.signal(Signal::CONT);
    work.service.until_logged_behind(length, &["reading failed", "OOM"]);
    assert_eq!(entries(&work.server, DECISION).len(), work.made);
    work.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    work.has_decided("a server without memory");

    // A replica of a server that it cannot reach keeps what it has, and takes no writes.
    work.is_logged(&["the lease could not be kept", "ReadOnly"], |server| {
        server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    });
    work.server.cli(&["REPLICAOF", "NO", "ONE"]);
    work.decides("a server that became a replica");

    work.server.cli(&["DEBUG", "POPULATE", "3000"]);
    work.server.cli(&["BGREWRITEAOF"]);
    until("the data is written", || work.server.cli(&["INFO", "persistence"]).contains("aof_rewrite_in_progress:0"));
    work.is_logged(&["reading failed", "loading the dataset"], RedisServer::restart);
    until("the data is loaded", || work.server.cli(&["PING"]).contains("PONG"));
    work.decides("a server that was restarted");

    let Work { server, service, made, .. } = work;
    service.stop();
    place.run_until_idle();
    assert_eq!((decisions(&server).len(), entries(&server, SUGGESTIONS).len()), (made, made));
    assert_eq!(entries(&server, QUARANTINE).len(), 1);
    let kinds = field_of_all(&server, CONTROL, "event_type");
    assert_eq!(kinds.iter().filter(|kind| *kind == "policy.adopted").count(), 1);
    assert_eq!(gaps_reported(&server), 0, "{}", place.log());
    keeps_no_start(&server, &place);
}

/// The stream of decisions holds more entries ahead of the clock than one page of the start, and there is no key to verify
/// them: the start leaves them to the reader.
fn keeps_no_start(server: &RedisServer, place: &Place) {
    let ahead_ms = server.now_ms() + 7_200_000;
    let mut pipeline = redis::pipe();
    for seq in 0..1_001 {
        let id = format!("{ahead_ms}-{seq}");
        pipeline.cmd("XADD").arg(DECISION).arg(id).arg("event_type").arg("something.else").ignore();
    }
    pipeline.query::<()>(&mut server.client()).expect("the server takes them");
    let length = place.log().len();
    let service = place.start();
    service.until_logged_behind(length, &["role changed", "is_leader=true"]);
    service.stop();
}
