//! The cluster: its state, the owner of our slot and its replicas, and the clocks of the servers that have our streams.

use std::collections::BTreeMap;

use super::check::Check;
use crate::config::Config;
use crate::service::report::CLOCKS_APART_MS;
use crate::service::server::names_of_script;
use crate::shell::redis::{SLOTS, Server, ServerError, one_slot};

const AREA: &str = "cluster";

/// Runs the checks of a cluster; none if there is one server.
pub async fn checks(server: &mut Server, config: &Config) -> Result<Vec<Check>, ServerError> {
    let Some((slot, shard)) = server.home() else { return Ok(Vec::new()) };
    let replicas: Vec<String> = shard.iter().flat_map(|shard| &shard.replicas).map(|node| node.name()).collect();
    let owner = shard.map(|shard| shard.primary.name());
    let mut checks = vec![state(server), names(config), of_slot(slot, owner.as_deref())];
    checks.push(of_replicas(&replicas, server.info().await?.get("connected_slaves")));
    checks.push(acknowledged(server.setting("min-replicas-to-write").await.as_deref()));
    checks.push(lease(config.run.lease_ms, server.setting("cluster-node-timeout").await.as_deref()));
    checks.push(clocks(server, config).await?);
    Ok(checks)
}

fn state(server: &Server) -> Check {
    let (is_up, owned) = server.view().map_or((false, 0), |view| (view.is_up, view.slots_owned()));
    let found = format!("{owned} of {SLOTS} slots have an owner, {} primaries", server.primaries().len());
    if is_up && owned == u64::from(SLOTS) {
        return Check::ok(AREA, "state", found);
    }
    let state = if is_up { "up" } else { "down" };
    let next = "look at `redis-cli --cluster check`: nothing is read or written where a slot has no owner";
    Check::problem(AREA, "state", format!("{state}: {found}"), next)
}

/// Checks that one script may touch all names that it needs.
fn names(config: &Config) -> Check {
    let names = names_of_script(config);
    match one_slot(names.iter().map(String::as_str)) {
        Ok(()) => Check::ok(AREA, "names", format!("{} names share a slot", names.len())),
        Err(differ) => {
            let next = "name them with one tag in [streams] and [emit]: the service does not start";
            Check::problem(AREA, "names", differ.says(), next)
        }
    }
}

fn of_slot(slot: u16, owner: Option<&str>) -> Check {
    match owner {
        Some(owner) => Check::ok(AREA, "slot", format!("{slot} of the decision stream, at {owner}")),
        None => {
            let next = "give it an owner: `redis-cli --cluster fix`";
            Check::problem(AREA, "slot", format!("{slot} of the decision stream has no owner"), next)
        }
    }
}

fn of_replicas(replicas: &[String], connected: Option<&str>) -> Check {
    let connected: usize = connected.and_then(|number| number.parse().ok()).unwrap_or(0);
    let found = format!("{connected} of {} connected: {}", replicas.len(), replicas.join(", "));
    match (replicas.len(), connected) {
        (0, 0) => {
            let next = "add one: without a replica nothing takes over when the owner fails";
            Check::warning(AREA, "replicas", "the owner of the slot has no replica", next)
        }
        // A node may not know a new replica of another node yet.
        (known, connected) if known < connected => {
            Check::ok(AREA, "replicas", format!("{connected} connected; the cluster names {known} of them yet"))
        }
        (known, connected) if connected < known => Check::warning(
            AREA,
            "replicas",
            found,
            "look at the replicas: one that takes over lacks what it was not sent",
        ),
        _ => Check::ok(AREA, "replicas", found),
    }
}

/// Checks the limit for unacknowledged writes. A primary that is cut off serves until it notices; without the limit it
/// accepts writes that are lost later.
fn acknowledged(replicas: Option<&str>) -> Check {
    match replicas {
        None => Check::ok(AREA, "min-replicas-to-write", "our user may not read it"),
        Some("0") => {
            let next = "set min-replicas-to-write 1 and min-replicas-max-lag 2 at all nodes, with two replicas for each primary: one \
                        that is cut off from its replicas then refuses writes that a failover would lose";
            Check::warning(AREA, "min-replicas-to-write", "0: a primary without replicas takes writes", next)
        }
        Some(replicas) => Check::ok(AREA, "min-replicas-to-write", replicas),
    }
}

/// Checks that a successor gets the lease only after a cut-off primary has stopped serving.
fn lease(lease_ms: u64, node_timeout_ms: Option<&str>) -> Check {
    let Some(node_timeout_ms) = node_timeout_ms.and_then(|text| text.parse::<u64>().ok()) else {
        return Check::ok(AREA, "lease", "our user may not read cluster-node-timeout");
    };
    let found = format!("run.lease_ms {lease_ms}, cluster-node-timeout {node_timeout_ms}");
    if lease_ms > node_timeout_ms {
        return Check::ok(AREA, "lease", found);
    }
    let next = "make run.lease_ms longer than cluster-node-timeout: a successor on the other side of a cut then begins only after \
                the primary that is cut off has stopped to serve";
    Check::warning(AREA, "lease", found, next)
}

async fn clocks(server: &mut Server, config: &Config) -> Result<Check, ServerError> {
    let home = crate::service::server::decision_stream(&config.streams);
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for name in config.streams.iter().map(|(_, stream)| stream.name.clone()).chain([home.clone()]) {
        if let Some(owner) = server.owner_of(&name) {
            names.entry(owner).or_insert(name);
        }
    }
    let mut leads: Vec<(String, i128)> = Vec::new();
    for (owner, name) in names {
        // The clock of the home node is read before and after; the middle of both is compared with the other clock.
        let before = server.time_ms_at(&home).await?;
        let time = server.time_ms_at(&name).await?;
        let after = server.time_ms_at(&home).await?;
        leads.push((owner, i128::from(time) - (i128::from(before) + i128::from(after)) / 2));
    }
    let lead = |pick: fn(i128, i128) -> i128| leads.iter().map(|(_, lead)| *lead).reduce(pick).unwrap_or(0);
    let apart_ms = (lead(i128::max) - lead(i128::min)).unsigned_abs();
    let each: Vec<String> = leads.iter().map(|(owner, lead)| format!("{owner} {lead:+} ms")).collect();
    let found = format!("{apart_ms} ms apart: {}", each.join(", "));
    if apart_ms < u128::from(CLOCKS_APART_MS) {
        return Ok(Check::ok(AREA, "clocks", found));
    }
    let next =
        "let all servers follow one time service: entries wait for the slowest clock, and from 2 s on no order is sent";
    Ok(Check::problem(AREA, "clocks", found, next))
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;

    #[test]
    fn a_replica_that_is_lacking_and_a_lease_that_is_too_short_are_warnings() {
        let two = ["a:1".to_owned(), "b:1".to_owned()];
        assert_eq!(of_replicas(&two, Some("2")).verdict, Verdict::Ok);
        assert_eq!(of_replicas(&two, Some("1")).verdict, Verdict::Warning);
        assert_eq!(of_replicas(&[], Some("0")).verdict, Verdict::Warning);
        let unknown = of_replicas(&[], Some("1"));
        assert_eq!((unknown.verdict, &*unknown.found), (Verdict::Ok, "1 connected; the cluster names 0 of them yet"));
        assert_eq!(lease(5_000, Some("5000")).verdict, Verdict::Warning);
        assert_eq!(lease(5_001, Some("5000")).verdict, Verdict::Ok);
        assert_eq!(acknowledged(Some("0")).verdict, Verdict::Warning);
        assert_eq!(of_slot(7, None).verdict, Verdict::Problem);
    }
}
