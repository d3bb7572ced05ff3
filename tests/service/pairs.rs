//! Two instances of one group: one emits, the other follows with a warm projection and takes over.

use crate::support::redis::RedisServer;
use crate::support::service::{
    DECISION, PRICE, Place, RESULT, Service, add, decisions, entries, is_read, open_position, price, until,
};
use rustix::process::Signal;

const LEASE: &str = "quantum:stream:harvest.decision:lease";

fn place(server: &RedisServer, consumer: &str) -> Place {
    let mut place = Place::new(server);
    place.consumer = consumer.to_owned();
    place.settings = "[run]\nlease_ms = 1000\n".to_owned();
    place
}

/// A rung is reached, and decided once.
fn decides(server: &RedisServer, mark: &str, all: usize) {
    price(server, "AAAUSDT", mark);
    until(&format!("decision {all} is out"), || {
        entries(server, DECISION).len() == all && is_read(server, &[PRICE, RESULT])
    });
}

/// A leader that was paused for longer than its lease goes on: it is refused by the server, not by its own clock. Then the new
/// leader is killed, and the first one takes over again. At last another process comes under its name, which it says.
#[test]
fn i14_i34_leaders_that_are_paused_killed_or_doubled_emit_nothing_twice() {
    let server = RedisServer::start();
    let (first, second) = (place(&server, "one"), place(&server, "two"));
    let one = first.start();
    one.until_logged(&["role changed", "is_leader=true"]);
    let two = second.start();
    two.until_logged(&["HARVEST_START"]);
    open_position(&server, "AAAUSDT");
    decides(&server, "1.008", 1);

    one.signal(Signal::STOP);
    price(&server, "AAAUSDT", "1.013");
    two.until_logged(&["role changed", "is_leader=true"]);
    until("the second decision is out", || entries(&server, DECISION).len() == 2);
    one.signal(Signal::CONT);
    decides(&server, "1.018", 3);
    one.until_logged(&["role changed", "is_leader=false"]);

    two.kill();
    // It will begin anew, without a store.
    std::fs::remove_dir_all(second.store()).unwrap();
    std::fs::remove_dir_all(second.journal()).unwrap();
    let close = [("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", "100"), ("avgPrice", "1.018")];
    add(&server, RESULT, &[&close[..], &[("orderId", "c1"), ("status", "FILLED")]].concat());
    open_position(&server, "BBBUSDT");
    price(&server, "BBBUSDT", "1.008");
    until("the first one leads again", || server.cli(&["GET", LEASE]).contains(" one "));
    until("the fourth decision is out", || entries(&server, DECISION).len() == 4 && is_read(&server, &[PRICE, RESULT]));
    is_named(&server, &one);
    one.stop();

    assert_eq!(decisions(&server).len(), 4);
    first.run_until_idle();
    second.run_until_idle();
    assert_eq!(first.positions(), second.positions(), "to the last hold of a position that is closed");
    assert_eq!(first.positions().as_array().map(Vec::len), Some(2));
    assert_eq!(decisions(&server).len(), 4, "nothing was emitted twice");
    let tokens: u64 = server.cli(&["GET", "quantum:stream:harvest.decision:token"]).trim().parse().unwrap();
    assert!(tokens >= 3, "the lease changed hands");
}

/// Another process under the consumer name of the leader takes its lease: the leader says so.
fn is_named(server: &RedisServer, leader: &Service<'_>) {
    let double = place(server, "one");
    let other = double.start();
    leader.until_logged(&["another process runs under this consumer name", "give each a name of its own"]);
    other.stop();
}
