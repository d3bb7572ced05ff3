//! Takeovers of a backlog in which something is killed once more: a store that is folded again from its journal, and a
//! young standby beside a living leader.

use std::os::unix::process::ExitStatusExt as _;

use crate::support::proxy::Proxy;
use crate::support::service::{DECISION, Place, entries, until};
use crate::takeover::{Backlog, LIVE, SETTINGS, killed_at};
use serde_json::Value;

/// Places of a takeover of each kind. More of them: `HARVESTER_KILLS`.
fn places() -> u64 {
    std::env::var("HARVESTER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// The ids of the journalled entries of others, in their order.
fn journalled_ids(place: &Place) -> Vec<String> {
    let lines = place.journalled().into_iter().map(|line| serde_json::from_str::<Value>(&line).expect("a line"));
    let others = lines.filter(|line| !line["stream"].as_str().expect("a stream").contains("harvest."));
    others.map(|line| line["id"].as_str().expect("an id").to_owned()).collect()
}

/// The leader is killed, its store is removed, and it is killed once more while it folds the store again from its journal.
#[test]
fn a_store_that_is_folded_again_is_killed_in_the_middle_of_it() {
    let mut chance = fastrand::Rng::with_seed(20_261_201);
    let live = format!("{SETTINGS}{LIVE}");
    for settings in [SETTINGS, &live] {
        for _ in 0..places() {
            let backlog = Backlog::under(settings);
            killed_at(&backlog.first, &format!("offered:{}", chance.u32(3..9)));
            let ids = journalled_ids(&backlog.first);
            assert!(ids.len() > 20, "it has come into the backlog: {}", ids.len());
            let known = entries(&backlog.server, DECISION).len();
            assert!(known > 2 && known < backlog.wanted.len(), "{known} decisions are written");
            let place = &ids[chance.usize(1..ids.len())];
            let what = format!("live={}: {place}, of {}", settings != SETTINGS, ids.len());
            std::fs::remove_dir_all(backlog.first.store()).expect("there is a store");
            let mut again = backlog.first.command();
            let ended = again.args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", format!("entry {place}:1")).status();
            assert_eq!(ended.expect("the service runs").signal(), Some(6), "{what}: it ends in the middle");
            assert!(backlog.first.log().contains("folding the journal beyond the store"), "{what}");
            backlog.first.run_until_idle();
            backlog.check(&backlog.first, &what);
        }
    }
}

/// The leader stands still in the middle of the backlog, and lives. An instance without a store stands by, is killed once, and
/// starts again; then the leader is killed.
#[test]
fn a_young_standby_that_was_killed_takes_over_from_a_living_leader() {
    let mut chance = fastrand::Rng::with_seed(20_261_202);
    let live = format!("{SETTINGS}{LIVE}");
    for settings in [SETTINGS, &live] {
        for _ in 0..places() {
            let mut backlog = Backlog::under(settings);
            let wire = Proxy::to(backlog.server.port());
            backlog.first.url = wire.url();
            // The answer to one of its offers, each made by itself, is held.
            let (place, step) = (chance.usize(2..8), chance.u32(2..8));
            let held: Value = serde_json::from_str(&backlog.wanted[place]).expect("a payload");
            wire.hold_answer_to(held["decision_id"].as_str().expect("a decision has an id"));
            let child = backlog.first.command().env("HARVESTER_FAIL", "offered:1000000").spawn();
            let mut leader = backlog.first.service(child.expect("the service starts"));
            until("the leader stands still", || wire.is_holding());
            let known = entries(&backlog.server, DECISION).len();
            let what = format!("live={}: {known} known, killed at {step}", settings != SETTINGS);
            assert!(known > place && known < backlog.wanted.len(), "{what}");

            let standby = backlog.another();
            let killed = standby.command().env("HARVESTER_FAIL", format!("folded:{step}")).status();
            assert_eq!(killed.expect("the service runs").signal(), Some(6), "{what}: {}", standby.log());
            let service = standby.start();
            until("it stands by again", || standby.log().matches("HARVEST_START").count() == 2);
            assert_eq!(leader.child.try_wait().expect("it is a child"), None, "{what}: the leader lives");
            leader.kill();
            wire.lead_to(None);
            wire.release();
            until("the standby makes the rest", || entries(&backlog.server, DECISION).len() >= backlog.wanted.len());
            service.stop();
            standby.run_until_idle();
            backlog.check(&standby, &what);
        }
    }
}
