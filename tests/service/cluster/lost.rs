//! A replica without the last writes takes over: what was lost is found and named, and no order goes out twice.

use super::night::{CELL, LIVE, Night};
use crate::support::cluster::RedisCluster;
use crate::support::service::{until, until_leader};

/// The decision and its order were acknowledged, and the replica has neither.
#[test]
fn a_replica_with_a_lost_tail_gets_the_decision_again_and_no_second_order() {
    assert!(LIVE.contains("mode = \"live\""));
    let (mut night, place) = Night::new(RedisCluster::start(), true);
    let service = place.start();
    until_leader(&service);
    let (decision, plan) = (night.name("harvest.decision"), night.name("apply.plan"));
    until("the policy is adopted", || !night.cluster.entries(&night.name("harvest.control")).is_empty());
    night.open("AAAUSDT");
    night.price("AAAUSDT", "1.001");
    until("the position is read", || night.is_read("apply.result"));
    night.until_in_step(CELL, CELL + 3);
    night.cluster.nodes[CELL + 3].stand_still(true);
    night.price("AAAUSDT", "1.008");
    let primary = &night.cluster.nodes[CELL];
    let length = |stream: &str| primary.cli(&["XLEN", stream]).trim().to_owned();
    until("the order is out", || length(&plan) == "1");
    assert_eq!(length(&decision), "1");
    night.cluster.nodes[CELL].kill();
    night.cluster.nodes[CELL + 3].stand_still(false);
    night.until_owned_by_another(&decision, CELL);
    until("the decision is written again", || !night.cluster.entries(&decision).is_empty());
    // A position that is not ours to decide on any more; another one goes on.
    night.open("BBBUSDT");
    night.price("BBBUSDT", "1.008");
    until("another decision is written", || night.decided().len() == 2);
    until("its order is out", || night.cluster.entries(&plan).len() == 1);
    let again = night.field(&decision, "again");
    assert_eq!(again, ["1"], "written again, and named so");
    let symbols = night.field(&decision, "symbol");
    assert_eq!(symbols, ["AAAUSDT", "BBBUSDT"]);
    let orders = night.field(&plan, "symbol");
    assert_eq!(orders, ["BBBUSDT"], "an order that may have been carried out is not sent again");
    service.stop();
}
