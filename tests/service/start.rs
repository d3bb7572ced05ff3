//! How a service begins where something stands in its way, and what it says of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use crate::run::live_place;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, INTENT, PLAN, PRICE, Place, RESULT, entries, field_of_all, is_read, open_position, price, until,
    until_leader,
};

/// The exit code of a start, which ends by itself.
fn refused(place: &Place) -> Option<i32> {
    place.command().args(["--until-idle", "0.3"]).status().expect("the service runs").code()
}

/// The stream of decisions holds more entries ahead of the clock than one page of the start, and there is no key to verify
/// them: the start leaves them to the reader.
#[test]
fn a_page_of_decisions_ahead_of_the_clock_does_not_keep_a_start() {
    let server = RedisServer::start();
    let mut client = server.client();
    let ahead_ms = server.now_ms() + 7_200_000;
    let mut pipeline = redis::pipe();
    for seq in 0..1_001 {
        let id = format!("{ahead_ms}-{seq}");
        pipeline.cmd("XADD").arg(DECISION).arg(id).arg("event_type").arg("something.else").ignore();
    }
    pipeline.query::<()>(&mut client).expect("the server takes them");
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    service.stop();
}

/// The connection is cut while the decisions of the past are looked through: the start goes on with another one.
#[test]
fn a_connection_that_is_cut_during_a_start_is_made_again() {
    let server = RedisServer::start();
    let mut client = server.client();
    let mut pipeline = redis::pipe();
    let bulk = "x".repeat(1000);
    for _ in 0..20_000 {
        pipeline
            .cmd("XADD")
            .arg(DECISION)
            .arg("*")
            .arg("event_type")
            .arg("something.else")
            .arg("bulk")
            .arg(&bulk)
            .ignore();
    }
    pipeline.query::<()>(&mut client).expect("the server takes them");
    let wire = Proxy::to(server.port());
    // After so much of an answer the wire is cut, twice.
    wire.cut_after(&[3_000_000, 5_000_000]);
    let mut place = Place::new(&server);
    place.url = wire.url();
    let service = place.start();
    service.until_logged(&["starting failed, trying again"]);
    until_leader(&service);
    service.stop();
    assert_eq!(place.log().matches("starting failed, trying again").count(), 2, "{}", place.log());
}

/// A server that is too old, or one of a cluster, is refused at once, with what to do.
#[test]
fn a_server_that_cannot_be_worked_with_is_refused_with_the_next_step() {
    let cases = [
        ("redis_version:6.0.16\r\nredis_mode:standalone\r\n", "6.2 is the oldest that can be worked with: upgrade it"),
        ("redis_version:7.2.4\r\nredis_mode:cluster\r\n", "redis-cluster://host:port"),
    ];
    for (info, wanted) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                answer(client, info);
            }
        });
        let server = RedisServer::start();
        let mut place = Place::new(&server);
        place.url = format!("redis://127.0.0.1:{port}");
        assert_eq!(refused(&place), Some(2), "{}", place.log());
        assert!(place.log().contains(wanted), "{}", place.log());
    }
}

/// A server that answers everything with OK, and `INFO` with what it is given.
fn answer(client: std::net::TcpStream, info: &str) {
    let mut writer = client.try_clone().expect("a second hand");
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    while let Some(count) = lines.next().and_then(|line| line.strip_prefix('*')?.parse::<usize>().ok()) {
        let words: Vec<String> = (0..count).filter_map(|_| lines.nth(1)).collect();
        let answered = match words.first().map(String::as_str) {
            Some("INFO") => write!(writer, "${}\r\n{info}\r\n", info.len()),
            _ => write!(writer, "+OK\r\n"),
        };
        if answered.is_err() {
            return;
        }
    }
}

#[test]
fn an_address_of_a_cluster_is_refused_with_the_next_step() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.url = "redis://127.0.0.1:7000,127.0.0.1:7001".to_owned();
    assert_eq!(refused(&place), Some(2), "{}", place.log());
    assert!(place.log().contains("nodes of a cluster (redis-cluster://"), "{}", place.log());
}

/// A store that knows decisions of one stream begins no chain in another unless told to; what was sold stays sold.
#[test]
fn a_renamed_decision_stream_is_refused_without_a_word_for_it() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT]));
    service.stop();
    let renamed = "quantum:stream:harvest.decision.new";
    place.settings = format!("[streams]\ndecision = [\"{renamed}\"]\n");
    assert_eq!(refused(&place), Some(2), "{}", place.log());
    assert!(place.log().contains("--new-chain"), "{}", place.log());
    price(&server, "AAAUSDT", "1.009");
    price(&server, "AAAUSDT", "1.013");
    let ended = place.command().args(["--new-chain", "--until-idle", "0.5"]).status().expect("the service runs");
    assert!(ended.success(), "{}", place.log());
    assert_eq!(field_of_all(&server, renamed, "seq"), ["1"], "a chain of its own");
    let payload = field_of_all(&server, renamed, "payload").pop().unwrap_or_default();
    assert!(payload.contains(r#""rungs":["1"]"#), "rung 0.5 was sold before: {payload}");
    assert_eq!(entries(&server, DECISION).len(), 1);
    // From then on it is the stream of the store.
    place.run_until_idle();
}

/// Without a store nothing but the orders themselves shows that they were decided elsewhere.
#[test]
fn a_new_store_beside_our_orders_and_an_empty_decision_stream_is_refused() {
    for (format, stream) in [("apply_plan", PLAN), ("trade_intent", INTENT)] {
        let server = RedisServer::start();
        let place = live_place(&server, format, stream);
        let service = place.start();
        until("the policy is adopted", || !entries(&server, CONTROL).is_empty());
        open_position(&server, "AAAUSDT");
        price(&server, "AAAUSDT", "1.008");
        until("the decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT]));
        service.stop();
        let mut other = Place::new(&server);
        other.settings = format!("{}[streams]\ndecision = [\"quantum:stream:harvest.decision.new\"]\n", place.settings);
        assert_eq!(refused(&other), Some(2), "{}", other.log());
        assert!(other.log().contains("--new-chain") && other.log().contains(stream), "{}", other.log());
        // Under the name in which it was decided, it is known.
        let mut fresh = Place::new(&server);
        fresh.settings.clone_from(&place.settings);
        fresh.run_until_idle();
        assert_eq!(entries(&server, DECISION).len(), 1);
    }
}

#[test]
fn two_processes_under_one_consumer_name_say_so() {
    let server = RedisServer::start();
    let first = Place::new(&server);
    let second = Place::new(&server);
    let one = first.start();
    one.until_logged(&["role changed", "is_leader=true"]);
    let other = second.start();
    one.until_logged(&["another process runs under this consumer name", "give each a name of its own"]);
    other.stop();
    one.stop();
}
