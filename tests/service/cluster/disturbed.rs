//! Owners of slots change while the service runs. No acknowledged write is lost, and nothing is missing or repeated.

use std::sync::atomic::{AtomicBool, Ordering};

use super::night::{CELL, Night, PRICES};
use crate::support::cluster::RedisCluster;
use crate::support::redis::clock_library;
use crate::support::service::{until, until_leader};
use harvester::shell::redis::slot_of;

/// A primary is killed and comes back as a replica; this one takes over by force; then the primary of the prices is
/// killed.
#[test]
fn failovers_of_the_cell_and_of_its_prices_lose_nothing_and_repeat_nothing() {
    let (mut night, place) = Night::new(RedisCluster::start(), false);
    let service = place.start();
    until_leader(&service);
    night.wave();
    night.check(&place, "undisturbed");

    let decision = night.name("harvest.decision");
    night.until_in_step(CELL, CELL + 3);
    night.cluster.nodes[CELL].kill();
    let owner = night.until_owned_by_another(&decision, CELL);
    night.wave();
    night.check(&place, "the primary of the cell was killed");

    night.cluster.nodes[CELL].restart();
    night.until_in_step(owner, CELL);
    night.cluster.nodes[CELL].cli(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
    assert_eq!(night.until_owned_by_another(&decision, owner), CELL);
    night.wave();
    night.check(&place, "a replica took over by force");

    night.until_in_step(PRICES, PRICES + 3);
    night.cluster.nodes[PRICES].kill();
    night.until_owned_by_another(&night.price_stream(), PRICES);
    night.wave();
    night.check(&place, "the primary of the prices was killed");
    service.stop();
}

/// The slot of the cell moves to an added node, key by key, while decisions are offered; and back, before that node
/// is removed.
#[test]
fn a_slot_that_moves_to_an_added_node_and_back_loses_nothing_and_repeats_nothing() {
    let (mut night, place) = Night::new(RedisCluster::start(), false);
    let added = night.cluster.add_node(None);
    night.cluster.meet(added);
    let service = place.start();
    until_leader(&service);
    night.wave();
    for (from, to) in [(CELL, added), (added, CELL)] {
        night.move_cell(from, to);
        assert_eq!(night.cluster.owner_of(&night.name("harvest.decision")), Some(to));
        night.wave();
        night.check(&place, &format!("from {from} to {to}"));
    }
    let id = night.cluster.id(added);
    for node in 0..added {
        night.cluster.nodes[node].cli(&["CLUSTER", "FORGET", &id]);
    }
    night.cluster.nodes[added].kill();
    night.wave();
    night.check(&place, "the node is removed");
    service.stop();
}

impl Night {
    /// Moves the slot of the cell, with prices between its keys.
    fn move_cell(&self, from: usize, to: usize) {
        let slot = slot_of(&self.name("harvest.decision")).to_string();
        let (source, target) = (&self.cluster.nodes[from], &self.cluster.nodes[to]);
        let (source_id, target_id) = (self.cluster.id(from), self.cluster.id(to));
        until("the added node is known", || source.cli(&["CLUSTER", "NODES"]).contains(&target_id));
        // A node that imports a slot before it knows the owner does not learn of the owner any more.
        until("the added node knows the owner", || {
            self.cluster.owner_seen_by(to, &self.name("harvest.decision")) == Some(from)
        });
        until("the added node takes keys", || target.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        target.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
        source.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
        let is_over = AtomicBool::new(false);
        let prices = self.price_stream();
        let count = || self.cluster.cli(&["XLEN", &prices]).trim().parse::<u64>().expect("a length");
        std::thread::scope(|scope| {
            let end = EndOnDrop(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    self.wave();
                }
            });
            let port = target.port().to_string();
            let moved = loop {
                let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
                let Some(key) = keys.lines().next().filter(|key| !key.is_empty()) else { break Ok(()) };
                let answer = source.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
                if !matches!(answer.trim(), "OK" | "NOKEY") {
                    break Err(answer);
                }
                // Entries come while some of the keys are on one node and some on the other.
                let before = count();
                until("a price is written", || count() > before);
            };
            drop(end);
            moved.expect("each key is moved");
        });
        for node in [target, source] {
            node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
        }
        until("all nodes know the owner", || self.cluster.owner_of(&self.name("harvest.decision")) == Some(to));
    }
}

/// Ends the waves of prices, also if the test fails between them.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A primary is stopped, and its replica takes over. When the primary continues, it runs the commands that were sent
/// to it, because it does not know yet that it is not the primary any more.
#[test]
fn a_primary_that_is_stopped_and_continued_repeats_nothing() {
    let (night, place) = Night::new(RedisCluster::start(), false);
    let service = place.start();
    until_leader(&service);
    night.wave();
    night.check(&place, "undisturbed");
    night.until_in_step(CELL, CELL + 3);
    let decision = night.name("harvest.decision");
    for symbol in ["AAAUSDT", "BBBUSDT"] {
        night.open(symbol);
        night.price(symbol, "1.003");
    }
    night.check(&place, "two positions");
    night.until_in_step(CELL, CELL + 3);
    night.cluster.nodes[CELL].pause(true);
    // These prices are on another node, and their decisions are offered to the stopped one.
    let last = ["AAAUSDT", "BBBUSDT"].map(|symbol| night.price(symbol, "1.008"));
    until("the prices are read", || place.journalled().concat().contains(&last[1]) || place.log().contains("failed"));
    night.until_owned_by_another(&decision, CELL);
    night.cluster.nodes[CELL].pause(false);
    until("it is a replica", || night.cluster.nodes[CELL].cli(&["ROLE"]).starts_with("slave"));
    night.wave();
    night.check(&place, "the primary went on");
    service.stop();
}

/// The clock of the prices is ahead, then behind: entries wait for the slowest clock, and the log names it.
#[test]
fn clocks_that_differ_delay_decisions_and_change_none() {
    if clock_library().is_none() {
        return eprintln!("skipped: there is no C compiler for a clock that differs");
    }
    for clock in ["+3", "-3"] {
        let cluster = RedisCluster::start_with(&[(PRICES, clock)]);
        let (night, place) = Night::new(cluster, false);
        let service = place.start();
        until_leader(&service);
        night.wave();
        night.check(&place, clock);
        service.until_logged(&["CLOCKS_APART"]);
        service.stop();
    }
}

/// A key of another server is not a stream: it is named, and all other streams are read.
#[test]
fn a_shared_input_that_is_not_a_stream_is_named_and_the_others_are_read() {
    let (night, place) = Night::new(RedisCluster::start(), false);
    let service = place.start();
    until_leader(&service);
    night.wave();
    night.check(&place, "undisturbed");
    let price = night.price_stream();
    night.cluster.cli(&["DEL", &price]);
    night.cluster.cli(&["SET", &price, "none"]);
    service.until_logged(&["NOT_A_STREAM", &price]);
    let last = night.open("AAAUSDT");
    until("the fill is read", || place.journalled().concat().contains(&last));
    night.cluster.cli(&["DEL", &price]);
    let last = night.price("AAAUSDT", "1.001");
    until("the price is read", || place.journalled().concat().contains(&last));
    service.stop();
}
