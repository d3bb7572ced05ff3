//! A replica without the last writes takes over: lost entries are found and named, and no order is sent twice.

use super::night::{CELL, Night, PRICES};
use crate::support::cluster::RedisCluster;
use crate::support::service::{Place, until, until_leader};
use harvester::domain::event::ids::EntryId;
use rustix::process::Signal;

/// The decision and its order were acknowledged, and the replica has neither.
#[test]
fn a_decision_that_a_failover_lost_is_written_again_without_a_second_order() {
    let (mut night, place) = Night::new(RedisCluster::start(), true);
    let service = place.start();
    until_leader(&service);
    let (decision, plan) = (night.name("harvest.decision"), night.name("apply.plan"));
    night.open_known_position();
    // Data in flight to the replica would still reach it.
    night.cluster.nodes[CELL + 3].pause(true);
    night.cluster.nodes[CELL].cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    night.price("AAAUSDT", "1.008");
    let primary = &night.cluster.nodes[CELL];
    let length = |stream: &str| primary.cli(&["XLEN", stream]).trim().to_owned();
    until("the order is out", || length(&plan) == "1");
    assert_eq!(length(&decision), "1");
    night.cluster.nodes[CELL].kill();
    night.cluster.nodes[CELL + 3].pause(false);
    night.until_owned_by_another(&decision, CELL);
    until("the decision is written again", || !night.cluster.entries(&decision).is_empty());
    night.check_held();
    service.stop();
}

/// A fill was read, and the replica that takes over does not have it: the gap is published, and the position is held.
#[test]
fn an_entry_that_a_failover_lost_is_published_as_a_gap_and_holds_its_position() {
    let (mut night, place) = Night::new(RedisCluster::start(), true);
    let service = place.start();
    until_leader(&service);
    let (decision, result) = (night.name("harvest.decision"), night.name("apply.result"));
    night.open_known_position();
    night.cluster.nodes[CELL + 3].pause(true);
    night.cluster.nodes[CELL].cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    let fields = [("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", "50"), ("avgPrice", "1"), ("orderId", "c1")];
    let lost = night.cluster.add(&result, &[&fields[..], &[("status", "FILLED")]].concat());
    until("the fill is read", || night.is_read("apply.result"));
    night.cluster.nodes[CELL].kill();
    night.cluster.nodes[CELL + 3].pause(false);
    night.until_owned_by_another(&decision, CELL);
    let gaps = || -> Vec<serde_json::Value> {
        let payloads = night.field(&night.name("harvest.control"), "payload");
        let payloads = payloads.iter().filter_map(|payload| serde_json::from_str::<serde_json::Value>(payload).ok());
        payloads.filter(|payload| payload["stream"] == result.as_str()).collect()
    };
    until("the gap is published", || !gaps().is_empty());
    let id = |text: &str| text.parse::<EntryId>().expect("an id");
    let published = gaps();
    assert!(published[0]["after"].as_str().map(id) < Some(id(&lost)), "{published:?}");
    // The price reaches the first rung, and no decision is made.
    night.price("AAAUSDT", "1.008");
    service.until_logged(&["AAAUSDT", "hold=history_gap"]);
    assert!(night.decided().is_empty(), "nothing is decided");
    service.stop();
}

/// A primary is cut off from all other nodes, and a replica takes over on their side. The service is still connected
/// to the former primary, which still serves it: it accepts a decision and its order. Then the cut ends.
#[test]
fn no_order_is_sent_twice_if_a_cut_off_primary_still_serves() {
    let (night, place) = Night::new(RedisCluster::start(), true);
    let service = place.start();
    until_leader(&service);
    let (decision, plan) = (night.name("harvest.decision"), night.name("apply.plan"));
    night.open_known_position();
    let successor = CELL + 3;
    night.cluster.cut_off(CELL);
    night.cluster.nodes[successor].cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    until("the others follow the successor", || night.cluster.owner_seen_by(PRICES, &decision) == Some(successor));
    night.price("AAAUSDT", "1.008");
    let length = |node: usize, stream: &str| night.cluster.nodes[node].cli(&["XLEN", stream]).trim().to_owned();
    until("the order is out at the former primary", || length(CELL, &plan) == "1");
    assert_eq!(length(CELL, &decision), "1");
    assert_eq!(length(successor, &decision), "0", "no other node has it");
    night.cluster.heal(CELL);
    until("the former primary is a replica", || night.cluster.nodes[CELL].cli(&["ROLE"]).starts_with("slave"));
    until("the decision is written again", || length(successor, &decision) == "1");
    night.check_held();
    service.stop();
}

/// The lease is kept at the successor, while reader and emitter are still connected to the former primary. When it
/// has expired there, they look for the owner again.
#[test]
fn reader_and_emitter_follow_a_lease_that_is_kept_at_a_successor() {
    let (night, place) = Night::new(RedisCluster::start(), true);
    let service = place.start();
    until_leader(&service);
    let (decision, plan) = (night.name("harvest.decision"), night.name("apply.plan"));
    night.open_known_position();
    let (former, successor) = (&night.cluster.nodes[CELL], &night.cluster.nodes[CELL + 3]);
    night.cluster.cut_off(CELL);
    successor.cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    until("the others follow the successor", || night.cluster.owner_seen_by(PRICES, &decision) == Some(CELL + 3));
    // The lease task is the only connection whose last command is a script.
    let clients = former.cli(&["CLIENT", "LIST"]);
    let of_lease: Vec<&str> = clients.lines().filter(|client| client.contains("cmd=evalsha")).collect();
    assert_eq!(of_lease.len(), 1, "{clients}");
    let id = of_lease[0].split([' ', '=']).nth(1).expect("an id");
    former.cli(&["CLIENT", "KILL", "ID", id]);
    until("the lease has expired", || former.cli(&["EXISTS", &format!("{decision}:lease")]).trim() == "0");
    night.price("AAAUSDT", "1.008");
    until("the order is out at the successor", || successor.cli(&["XLEN", &plan]).trim() == "1");
    assert_eq!(former.cli(&["XLEN", &plan]).trim(), "0");
    night.cluster.heal(CELL);
    service.stop();
}

/// With `min-replicas-to-write`, a primary that is cut off accepts nothing, and a second process decides at its
/// successor, once.
#[test]
fn two_processes_on_both_sides_of_a_cut_send_one_order() {
    let (night, place) = Night::new(RedisCluster::start(), true);
    for node in &night.cluster.nodes {
        node.cli(&["CONFIG", "SET", "min-replicas-max-lag", "2", "min-replicas-to-write", "1"]);
    }
    let service = place.start();
    until_leader(&service);
    night.open_known_position();
    let decision = night.name("harvest.decision");
    let (successor, spare) = (CELL + 3, PRICES + 3);
    // A successor needs a replica as well.
    night.cluster.nodes[spare].cli(&["CLUSTER", "REPLICATE", &night.cluster.id(CELL)]);
    night.until_in_step(CELL, spare);
    night.cluster.nodes[PRICES].cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    night.cluster.cut_off(CELL);
    night.cluster.nodes[successor].cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    until("the others follow the successor", || night.cluster.owner_seen_by(PRICES, &decision) == Some(successor));
    until("the successor has a replica", || night.cluster.is_in_step(successor, spare));
    let refuses = || night.cluster.nodes[CELL].cli(&["SET", &format!("{decision}:try"), "1"]).contains("NOREPLICAS");
    until("the former primary takes nothing", refuses);
    // The first process is on the side of the former primary: it is stopped until the cut ends.
    service.signal(Signal::STOP);
    let mut other = Place::at(place.url.clone());
    other.settings.clone_from(&place.settings);
    other.consumer = "two".to_owned();
    let second = other.start();
    until_leader(&second);
    night.price("AAAUSDT", "1.008");
    let plan = night.name("apply.plan");
    let length = |node: usize, stream: &str| night.cluster.nodes[node].cli(&["XLEN", stream]).trim().to_owned();
    until("the order is out", || length(successor, &plan) == "1");
    // It continues with its connections and its lease, and makes the same decision.
    service.signal(Signal::CONT);
    service.until_logged(&["role changed", "is_leader=false"]);
    assert_eq!((length(CELL, &plan), length(CELL, &decision)), ("0".to_owned(), "0".to_owned()));
    night.cluster.heal(CELL);
    until("the former primary is a replica", || night.cluster.nodes[CELL].cli(&["ROLE"]).starts_with("slave"));
    night.open("BBBUSDT");
    night.price("BBBUSDT", "1.008");
    until("another order is out", || length(successor, &plan) == "2");
    assert_eq!(night.field(&decision, "symbol"), ["AAAUSDT", "BBBUSDT"]);
    assert!(night.field(&decision, "again").is_empty(), "nothing was lost");
    second.stop();
    service.stop();
}

impl Night {
    /// Opens a position that the service has read, and that the replica has.
    fn open_known_position(&self) {
        until("the policy is adopted", || !self.cluster.entries(&self.name("harvest.control")).is_empty());
        self.open("AAAUSDT");
        self.price("AAAUSDT", "1.001");
        until("the position is read", || self.is_read("apply.result"));
        self.until_in_step(CELL, CELL + 3);
    }

    /// Checks that the position whose order may have been executed is held, while another one is decided on.
    fn check_held(&self) {
        let (decision, plan) = (self.name("harvest.decision"), self.name("apply.plan"));
        self.open("BBBUSDT");
        self.price("BBBUSDT", "1.008");
        until("another order is out", || !self.cluster.entries(&plan).is_empty());
        assert_eq!(self.field(&decision, "symbol"), ["AAAUSDT", "BBBUSDT"]);
        assert_eq!(self.field(&decision, "again"), ["1"], "the lost decision is written again with that mark");
        let orders = self.field(&plan, "symbol");
        assert_eq!(orders, ["BBBUSDT"], "an order that may have been executed is not sent again");
    }
}
