//! The conditions under which the service may send orders.

use std::collections::BTreeSet;

use anyhow::bail;

use crate::config::Config;
use crate::config::Live;
use crate::service::server::check_slots;
use crate::shell::redis::{Address, GroupInfo, Server, ServerError};

/// A consumer of the old group that was active within this time counts as active. [ms]
const OLD_GROUP_IDLE_MS: u64 = 60_000;

/// Checks that a live start is safe: every group that reads requests is configured as an executor, and the old service
/// is not active (docs/spec/emission.md, "Executors").
pub async fn check(config: &Config, server: &mut Server) -> anyhow::Result<()> {
    no_trust_in_the_future(config, server.time_ms().await?)?;
    let Some(live) = config.live()? else { return Ok(()) };
    if let Some(group) = unnamed_executors(&live, &config.groups(), server).await?.first() {
        bail!(
            "the group {group:?} reads {}, where orders are written, and emit.executors does not name it: two executors of \
             one order close twice",
            live.stream
        );
    }
    let Some(old) = &config.run.old_group else { return Ok(()) };
    for (_, stream) in config.streams.iter() {
        let groups = groups(server, &stream.name).await?;
        let mut consumers = groups.iter().filter(|group| group.name == *old).flat_map(|group| &group.consumers);
        if let Some(consumer) = consumers.find(|consumer| consumer.idle_ms < OLD_GROUP_IDLE_MS) {
            bail!(
                "the consumer {:?} of the old group {old:?} was at work on {} {} s ago: stop the old service first",
                consumer.name,
                stream.name,
                consumer.idle_ms / 1000
            );
        }
    }
    Ok(())
}

/// Returns the groups that read order requests, do not belong to us, and are not configured as executors.
pub async fn unnamed_executors(
    live: &Live,
    own: &BTreeSet<String>,
    server: &mut Server,
) -> Result<Vec<String>, ServerError> {
    let names = groups(server, &live.stream).await?.into_iter().map(|group| group.name);
    Ok(names.filter(|name| !own.contains(name) && !live.executors.contains(name)).collect())
}

/// Checks that one script may touch all names that it needs (docs/spec/emission.md, "In a cluster").
pub fn names_share_a_slot(config: &Config, address: &Address) -> anyhow::Result<()> {
    check_slots(config, address).map_err(|differ| {
        anyhow::anyhow!(
            "{} (streams.decision, streams.control, outputs.suggestions, emit.stream, emit.kill_key)",
            differ.says()
        )
    })
}

/// Checks that unsigned entries are accepted only up to a time in the past. Otherwise a writer would not need a key.
pub fn no_trust_in_the_future(config: &Config, now_ms: u64) -> anyhow::Result<()> {
    for (key, until) in config.emit.trusted_until() {
        if until.ms > now_ms {
            bail!(
                "{key} names {until}, which is later than the server's clock ({now_ms}): set it to the last id that was \
                 written before the key"
            );
        }
    }
    Ok(())
}

/// Returns the groups of a stream; none if it does not exist.
async fn groups(server: &mut Server, stream: &str) -> Result<Vec<GroupInfo>, ServerError> {
    match server.stream_info(stream).await? {
        Some(_) => server.groups(stream).await,
        None => Ok(Vec::new()),
    }
}
