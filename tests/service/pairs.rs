//! Two instances of one group: one emits, the other follows with a warm projection and takes over.

use crate::support;
use crate::support::binary::{harvester, name, run};
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    self, DECISION, PRICE, Place, RESULT, Service, decisions, entries, is_read, open_position, price, until,
};
use harvester::cli::replay::Request;
use rustix::process::Signal;

const SETTINGS: &str = "[run]\nlease_ms = 1000\n";

fn pair(server: &RedisServer, first_url: &str) -> (Place, Place) {
    let mut first = Place::new(server);
    first.url = first_url.to_owned();
    let mut second = Place::new(server);
    second.consumer = "two".to_owned();
    for place in [&mut first, &mut second] {
        place.settings = SETTINGS.to_owned();
    }
    (first, second)
}

/// The first one leads, the second one follows.
fn started<'a>(first: &'a Place, second: &'a Place) -> (Service<'a>, Service<'a>) {
    let leader = first.start();
    leader.until_logged(&["role changed", "is_leader=true"]);
    let follower = second.start();
    follower.until_logged(&["HARVEST_START"]);
    (leader, follower)
}

/// A position is opened and reaches its first rung.
fn first_decision(server: &RedisServer) {
    open_position(server, "AAAUSDT");
    price(server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(server, DECISION).len() == 1 && is_read(server, &[PRICE, RESULT]));
}

/// The third rung is reached after the leader is back, which then follows; both end in order.
fn ends_as_follower(
    server: &RedisServer,
    (first, leader): (&Place, Service<'_>),
    (second, follower): (&Place, Service<'_>),
) {
    price(server, "AAAUSDT", "1.018");
    until("the third decision is out", || entries(server, DECISION).len() == 3);
    until("all is acknowledged", || is_read(server, &[PRICE, RESULT]));
    leader.until_logged(&["role changed", "is_leader=false"]);
    leader.stop();
    follower.stop();
    check(server, first, second, 3);
}

/// Both end with the same positions, and a decision for each rung, once.
fn check(server: &RedisServer, first: &Place, second: &Place, wanted: usize) {
    assert_eq!(decisions(server).len(), wanted);
    first.run_until_idle();
    second.run_until_idle();
    assert_eq!(first.positions(), second.positions());
    assert_eq!(decisions(server).len(), wanted, "nothing was emitted twice");
    let tokens: u64 = server.cli(&["GET", "quantum:stream:harvest.decision:token"]).trim().parse().unwrap();
    assert!(tokens >= 2, "the lease changed hands");
}

#[test]
fn a_follower_takes_over_from_a_leader_that_was_killed() {
    let server = RedisServer::start();
    let (first, second) = pair(&server, &server.url());
    let (leader, follower) = started(&first, &second);
    first_decision(&server);
    leader.kill();
    price(&server, "AAAUSDT", "1.013");
    follower.until_logged(&["role changed", "is_leader=true"]);
    until("the second decision is out", || entries(&server, DECISION).len() == 2 && is_read(&server, &[PRICE, RESULT]));
    follower.stop();
    check(&server, &first, &second, 2);
}

/// A leader that was paused for longer than its lease goes on: it is refused by the server, not by its own clock.
#[test]
fn a_leader_that_was_paused_emits_nothing_late() {
    let server = RedisServer::start();
    let (first, second) = pair(&server, &server.url());
    let (leader, follower) = started(&first, &second);
    first_decision(&server);
    leader.signal(Signal::STOP);
    price(&server, "AAAUSDT", "1.013");
    follower.until_logged(&["role changed", "is_leader=true"]);
    until("the second decision is out", || entries(&server, DECISION).len() == 2);
    leader.signal(Signal::CONT);
    ends_as_follower(&server, (&first, leader), (&second, follower));
}

/// Both are cut off again and again while positions open, reach rungs and close, one of them is killed and starts with an empty
/// store: at the end the state of both is the same, to the last hold of a closed position, and that of a replay.
#[test]
fn two_instances_under_network_faults_come_to_the_same_state() {
    let server = RedisServer::start();
    let (first_wire, second_wire) = (Proxy::to(server.port()), Proxy::to(server.port()));
    let (mut first, mut second) = pair(&server, &first_wire.url());
    second.url = second_wire.url();
    for place in [&mut first, &mut second] {
        place.settings = "[run]\nlease_ms = 500\n[policy]\nmax_actions_per_min = 1000\n".to_owned();
    }
    let (leader, follower) = started(&first, &second);
    let mut chance = fastrand::Rng::with_seed(0);
    let mut follower = Some(follower);
    for n in 0..12 {
        let symbol = format!("S{n:02}USDT");
        open_position(&server, &symbol);
        for reached in ["1.003", "1.008", "1.009", "1.013", "1.012", "1.018", "1.019"] {
            price(&server, &symbol, reached);
            if chance.u8(..20) == 0 {
                let wire = if chance.bool() { &first_wire } else { &second_wire };
                wire.lead_to(None);
                wire.lead_to(Some(server.port()));
            }
        }
        // In one millisecond results are applied before prices.
        server.until_later_ms();
        let close = [("symbol", symbol.as_str()), ("side", "SELL"), ("executedQty", "100"), ("avgPrice", "1.019")];
        let order = format!("close-{symbol}");
        service::add(&server, RESULT, &[&close[..], &[("orderId", &order), ("status", "FILLED")]].concat());
        if n == 6 {
            follower.take().expect("it follows").kill();
            std::fs::remove_dir_all(second.store()).expect("there is a store");
            std::fs::remove_dir_all(second.journal()).expect("there is a journal");
            std::fs::remove_file(second.folder.path().join("log")).expect("there is a log");
            let again = second.start();
            again.until_logged(&["HARVEST_START"]);
            follower = Some(again);
        }
    }
    leader.stop();
    follower.expect("it was started again").stop();
    first.run_until_idle();
    second.run_until_idle();
    assert_eq!(first.positions(), second.positions());
    assert_eq!(decisions(&server).len(), 36);
    let replayed = first.folder.path().join("replayed.jsonl");
    let store = first.folder.path().join("replayed");
    let streams = support::config(None).streams;
    server.dump(&replayed, streams.iter().map(|(_, stream)| stream.name.as_str()));
    let request = Request { histories: vec![replayed], store: Some(store.clone()), ..Request::default() };
    support::replayed(&request, &support::config(None));
    let shown = run(harvester().args(["positions", "--json", "--all", "--store", name(&store)])).json();
    assert_eq!(shown, first.positions());
}
