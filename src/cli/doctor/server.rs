//! The server of the streams: version, role, persistence, memory, and the permissions of our user.

use super::check::{Check, found_or_said};
use crate::config::Config;
use crate::service::server::decision_stream;
use crate::shell::redis::{LeaseKeys, Server, ServerError, ServerInfo, claims_key, memory_of};

const AREA: &str = "redis";

pub async fn checks(server: &mut Server, config: &Config) -> Result<Vec<Check>, ServerError> {
    let info = server.info().await?;
    let mut checks = vec![version(&info), mode(&info, server.is_cluster()), role(&info)];
    checks.extend(persistence(&info));
    checks.push(memory(&info));
    let rights = rights(server, &info, config).await.map(|check| vec![check]);
    checks.extend(found_or_said(AREA, "rights", rights));
    let lease = lease(server, config).await.map(|check| vec![check]);
    checks.extend(found_or_said(AREA, "lease", lease));
    Ok(checks)
}

fn version(info: &ServerInfo) -> Check {
    let version = info.version().unwrap_or("unknown");
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match (major, minor) {
        (7.., _) => Check::ok(AREA, "version", version),
        (6, 2..) => {
            let next = "7.0 or newer counts entries that were added, which proves gaps after a trim";
            Check::warning(AREA, "version", format!("{version}: a trimmed gap cannot be proved"), next)
        }
        _ => Check::problem(AREA, "version", format!("{version} is older than 6.2"), "use 6.2 or newer, better 7.0"),
    }
}

/// Checks that the address names a single server or a cluster, according to the server.
fn mode(info: &ServerInfo, is_followed: bool) -> Check {
    match info.get("redis_mode") {
        Some("cluster") if is_followed => Check::ok(AREA, "mode", "cluster"),
        Some("cluster") => {
            let next =
                "give nodes of it as redis-cluster://host:port,host:port: the service does not start on this one";
            Check::problem(AREA, "mode", "cluster, and the address names one server", next)
        }
        Some("sentinel") => {
            let next = "give the server that it watches: the service does not start on this one";
            Check::problem(AREA, "mode", "sentinel: it has no streams", next)
        }
        mode => Check::ok(AREA, "mode", mode.unwrap_or("standalone")),
    }
}

fn role(info: &ServerInfo) -> Check {
    match info.get("role") {
        Some("master") | None => Check::ok(AREA, "role", "primary"),
        Some(role) => {
            let next = "point REDIS_URL at the primary: a consumer group writes when it reads";
            Check::problem(AREA, "role", format!("{role}: a replica"), next)
        }
    }
}

fn persistence(info: &ServerInfo) -> Vec<Check> {
    let is = |key: &str, value: &str| info.get(key) == Some(value);
    let mut checks = Vec::new();
    if is("aof_enabled", "0") && !info.saves() {
        let next = "set appendonly yes: with neither, a restart forgets streams, groups and what was emitted";
        checks.push(Check::warning(AREA, "persistence", "neither append-only file nor snapshots", next));
    }
    for (key, what) in [
        ("rdb_last_bgsave_status", "the last snapshot"),
        ("aof_last_write_status", "the last write of the append-only file"),
        ("aof_last_bgrewrite_status", "the last rewrite of the append-only file"),
    ] {
        if is(key, "err") {
            checks.push(Check::problem(
                AREA,
                "persistence",
                format!("{what} failed"),
                "look at the server's log and disk",
            ));
        }
    }
    if checks.is_empty() {
        let form = if is("aof_enabled", "1") { "append-only file" } else { "snapshots" };
        checks.push(Check::ok(AREA, "persistence", form));
    }
    checks
}

fn memory(info: &ServerInfo) -> Check {
    let number = |key: &str| info.get(key).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (used, max) = (number("used_memory"), number("maxmemory"));
    let policy = info.eviction.as_deref().or(info.get("maxmemory_policy")).unwrap_or("unknown");
    let found =
        format!("{} of {} MB, {policy}", used >> 20, if max == 0 { "any".to_owned() } else { (max >> 20).to_string() });
    match () {
        () if max > 0 && policy != "noeviction" => {
            let next = "set maxmemory-policy noeviction: otherwise whole streams vanish when memory is short";
            Check::problem(AREA, "memory", found, next)
        }
        () if max > 0 && used / 9 > max / 10 => {
            Check::warning(AREA, "memory", found, "trim streams, or allow more: appending fails when it is full")
        }
        () => Check::ok(AREA, "memory", found),
    }
}

/// Checks that instances can take the lease.
async fn lease(server: &mut Server, config: &Config) -> Result<Check, ServerError> {
    let keys = LeaseKeys::beside(&decision_stream(&config.streams));
    if let Some(kind) = server.other_kind_than("string", &keys.lease).await? {
        let next = format!("no instance can take it: find who wrote the key, and delete it (DEL {})", keys.lease);
        return Ok(Check::problem(AREA, "lease", format!("{} is a {kind}, not a text", keys.lease), &next));
    }
    let Some(held) = server.lease_at(&keys).await? else { return Ok(Check::ok(AREA, "lease", "free")) };
    Ok(match held.stuck(&keys) {
        Some(why) => {
            let next = "no instance can take it until then: nothing is emitted";
            Check::problem(AREA, "lease", why, next)
        }
        None => Check::ok(AREA, "lease", format!("held by {}", held.holder().unwrap_or(&held.value))),
    })
}

async fn rights(server: &mut Server, info: &ServerInfo, config: &Config) -> Result<Check, ServerError> {
    let Some(user) = info.user.clone() else {
        return Ok(Check::ok(AREA, "rights", "the server does not say which user we are"));
    };
    let observation = crate::service::fetch::observation_stream(&config.streams);
    let kill_key = config.emit.kill_key.as_str();
    let group = config.run.group.as_str();
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["XADD", observation, "*", "a", "b"],
        vec!["XTRIM", observation, "MINID", "1-0"],
        vec!["GET", kill_key],
        vec!["HMGET", "quantum:ticker:BTCUSDT", "markPrice"],
        vec!["SCRIPT", "LOAD", "return 1"],
        vec!["EVALSHA", "0000000000000000000000000000000000000000", "0"],
        vec!["TIME"],
    ];
    if server.is_cluster() {
        commands.extend([vec!["CLUSTER", "INFO"], vec!["CLUSTER", "SHARDS"], vec!["ASKING"]]);
    }
    for (_, stream) in config.streams.iter() {
        commands.push(vec!["XREADGROUP", "GROUP", group, "doctor", "STREAMS", &stream.name, ">"]);
        commands.push(vec!["XACK", &stream.name, group, "1-0"]);
    }
    let decisions = decision_stream(&config.streams);
    let (claims, memory) = (claims_key(&decisions), memory_of(&decisions));
    commands.extend([
        vec!["XADD", &decisions, "*", "a", "b"],
        vec!["HGET", &memory, "a"],
        vec!["HSET", &memory, "a", "b"],
    ]);
    if !config.scope().is_everything() {
        commands.extend([
            vec!["HGETALL", &claims],
            vec!["HSET", &claims, "a", "b"],
            vec!["HDEL", &claims, "a"],
            vec!["EVALSHA", "0000000000000000000000000000000000000000", "1", &claims],
        ]);
    }
    let commands: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
    Ok(match server.forbidden(&user, &commands).await? {
        None => Check::ok(AREA, "rights", format!("user {user}; the server cannot say what it may do")),
        Some(forbidden) if forbidden.is_empty() => {
            Check::ok(AREA, "rights", format!("user {user} may do what is needed"))
        }
        Some(forbidden) => {
            let found = format!("user {user} may not: {}", forbidden.join("; "));
            Check::problem(AREA, "rights", found, "grant it: ACL SETUSER")
        }
    })
}
