//! Every stream: does it exist and grow, which shapes do its entries have, how far back does it reach, and who reads
//! it?

use std::collections::BTreeMap;

use super::check::{Check, found_or_said};
use crate::codec::line::Fields;
use crate::codec::plural::plural;
use crate::codec::time::{self, span};
use crate::config::Config;
use crate::domain::engine::{FIRST_TIME_MS, IDS_AHEAD_MAX_MS};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{Stream, StreamKind};
use crate::drive::driver::Driver;
use crate::shell::redis::{GroupInfo, Server, ServerError, StreamInfo};

const AREA: &str = "streams";
/// Entries whose shape is checked.
const LOOKED_AT: usize = 50;
/// A consumer that has read nothing for this time does not return by itself. [ms]
const DEAD_MS: u64 = 600_000;
/// A history shorter than this may be trimmed before an operator can react. [ms]
const SHORT_HISTORY_MS: u64 = 24 * 3_600_000;

pub async fn checks(server: &mut Server, config: &Config, now_ms: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut driver = Driver::as_written(config, None);
    for (id, stream) in config.streams.iter() {
        let of_stream = of_stream(server, config, now_ms, &mut driver, id).await;
        checks.extend(found_or_said(AREA, &stream.name, of_stream));
    }
    for name in [&config.outputs.suggestions, &config.outputs.quarantine] {
        checks.extend(found_or_said(AREA, name, of_output(server, name).await));
    }
    checks
}

/// Checks a stream that only we write to, for faults that would prevent a write.
async fn of_output(server: &mut Server, name: &str) -> Result<Vec<Check>, ServerError> {
    if let Some(kind) = server.other_kind(name).await? {
        let next = "find who writes it, and name another stream in [streams]";
        return Ok(vec![Check::problem(AREA, name, format!("this key is a {kind}, not a stream"), next)]);
    }
    let info = server.stream_info(name).await?;
    Ok(info.and_then(|info| exhausted(name, &info)).into_iter().collect())
}

/// Checks for a stream whose last id is the greatest possible one.
fn exhausted(name: &str, info: &StreamInfo) -> Option<Check> {
    let found = "ids_exhausted: its last id is the greatest there is, and it can take no more entries";
    let next = "find who wrote that id; no command takes it back: give the stream a new name, at its producer and in [streams]";
    (info.last.max(info.last_generated) == Some(EntryId::MAX)).then(|| Check::problem(AREA, name, found, next))
}

async fn of_stream(
    server: &mut Server,
    config: &Config,
    now_ms: u64,
    driver: &mut Driver,
    id: StreamId,
) -> Result<Vec<Check>, ServerError> {
    let stream = config.streams.get(id);
    let Some(info) = server.stream_info(&stream.name).await? else {
        return Ok(vec![absent(server, stream).await?]);
    };
    let mut checks = vec![age(stream, &info, config, now_ms)];
    checks.extend(times(stream, &info, now_ms));
    let newest = server.newest(&stream.name, LOOKED_AT).await?;
    if !newest.is_empty() {
        let decoded = newest.iter().map(|entry| {
            let decoded = driver.decode(id, entry.id, &Fields::from_bytes(entry.pairs()));
            (decoded.shape, decoded.content.err().map(|unreadable| unreadable.reason.name()))
        });
        checks.push(shapes(stream, decoded.collect()));
    }
    checks.extend(reach(stream, &info, now_ms));
    let groups = server.groups(&stream.name).await?;
    checks.extend(groups.iter().flat_map(|group| group_checks(stream, &info, group, now_ms)));
    checks.extend(readers(stream, &groups, config));
    Ok(checks)
}

/// Checks for ids that differ from the times at which their entries were added: order and ages depend on ids only.
fn times(stream: &Stream, info: &StreamInfo, now_ms: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    let newest = info.last.max(info.last_generated);
    if let Some(exhausted) = exhausted(&stream.name, info) {
        return vec![exhausted];
    }
    if let Some(last) = newest.filter(|last| last.ms > now_ms.saturating_add(IDS_AHEAD_MAX_MS)) {
        let ahead = span(last.ms.saturating_sub(now_ms));
        let found = format!("ids_ahead: its newest id {last} is {ahead} ahead of the server's clock");
        let next = "find who writes explicit ids, or whose clock went back. Entries wait until the clock has reached their ids, and \
                    new entries get ids after these; a stream with a new name starts without them";
        checks.push(Check::problem(AREA, &stream.name, found, next));
    }
    if let Some(first) = info.first.filter(|first| first.ms < FIRST_TIME_MS) {
        let found = format!("ids_not_time: its first id {first} is not a time (before 2010)");
        let next = "let the producer write ids of the server (XADD *): prices with such ids are not used, and nothing is \
                    evaluated by them";
        checks.push(Check::problem(AREA, &stream.name, found, next));
    }
    checks
}

async fn absent(server: &mut Server, stream: &Stream) -> Result<Check, ServerError> {
    if let Some(kind) = server.other_kind(&stream.name).await? {
        let found = format!("this key is a {kind}, not a stream");
        return Ok(Check::problem(
            AREA,
            &stream.name,
            found,
            "find who writes it, and name the right stream in [streams]",
        ));
    }
    Ok(match stream.kind {
        StreamKind::Control | StreamKind::Observation | StreamKind::Decision => {
            Check::ok(AREA, &stream.name, "does not exist yet: we create it")
        }
        StreamKind::Snapshot => {
            let next = "if no service writes it, positions come from the exchange: set credentials";
            Check::warning(AREA, &stream.name, "there is no such stream", next)
        }
        StreamKind::Intent | StreamKind::Plan | StreamKind::Result | StreamKind::Price => {
            let next = "start its producer, or name the right stream in [streams]";
            Check::problem(AREA, &stream.name, "there is no such stream", next)
        }
    })
}

fn age(stream: &Stream, info: &StreamInfo, config: &Config, now_ms: u64) -> Check {
    // A stream that was created empty (by XGROUP CREATE … MKSTREAM) has 0-0 as its last generated id.
    let newest = info.last.or(info.last_generated).filter(|id| *id > EntryId::default());
    let Some(last) = newest else {
        return match stream.kind {
            StreamKind::Control | StreamKind::Observation | StreamKind::Decision => {
                Check::ok(AREA, &stream.name, "no entries yet: we write them")
            }
            StreamKind::Intent | StreamKind::Plan | StreamKind::Result | StreamKind::Snapshot | StreamKind::Price => {
                Check::warning(AREA, &stream.name, "no entries yet", "start its producer")
            }
        };
    };
    let age_ms = now_ms.saturating_sub(last.ms);
    let rate = match (info.first, info.last) {
        (Some(first), Some(last)) if last.ms > first.ms && info.length > 1 => {
            let per_day = (info.length - 1).saturating_mul(86_400_000) / (last.ms - first.ms);
            if per_day > 86_400 { format!(", {} a second", per_day / 86_400) } else { format!(", {per_day} a day") }
        }
        _ => String::new(),
    };
    let found = format!("{}{rate}, the last {} ago", plural(info.length, "entry"), span(age_ms));
    match config.run.silent_after_ms.of(stream.kind) {
        Some(limit_ms) if age_ms > limit_ms => {
            let next = "its producer is silent, whatever its systemd unit says: look at its log, restart it";
            Check::problem(AREA, &stream.name, found, next)
        }
        _ => Check::ok(AREA, &stream.name, found),
    }
}

fn shapes(stream: &Stream, decoded: Vec<(&'static str, Option<&'static str>)>) -> Check {
    let mut shapes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for (shape, reason) in &decoded {
        *shapes.entry(shape).or_default() += 1;
        if let Some(reason) = reason {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    let list = |counts: &BTreeMap<&str, u64>| -> String {
        counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
    };
    let found = format!("of the newest {}: {}", decoded.len(), list(&shapes));
    if reasons.is_empty() {
        return Check::ok(AREA, &stream.name, found);
    }
    let found = format!("{found}; not readable: {}", list(&reasons));
    let next = "show one: harvester quarantine show; then correct its producer: harvester schema";
    if reasons.values().sum::<u64>() * 2 > decoded.len() as u64 {
        Check::problem(AREA, &stream.name, found, next)
    } else {
        Check::warning(AREA, &stream.name, found, next)
    }
}

/// Returns how far back the stream reaches, if it was trimmed.
fn reach(stream: &Stream, info: &StreamInfo, now_ms: u64) -> Option<Check> {
    let first = info.first?;
    let reach_ms = now_ms.saturating_sub(first.ms);
    let gone = info.gone().filter(|gone| *gone > 0);
    let trimmed = gone
        .map_or_else(|| "nothing is known to be trimmed".to_owned(), |gone| format!("{} gone", plural(gone, "entry")));
    let found = format!("reaches back {} to {}; {trimmed}", span(reach_ms), time::iso(first.ms));
    let matters = matches!(stream.kind, StreamKind::Intent | StreamKind::Plan | StreamKind::Result);
    if gone.is_some() && matters && reach_ms < SHORT_HISTORY_MS {
        let next = "keep a journal (harvester run), let the producer trim by time (MINID), and fill the gap: harvester backfill";
        return Some(Check::warning(AREA, &stream.name, found, next));
    }
    Some(Check::ok(AREA, &stream.name, found))
}

fn group_checks(stream: &Stream, info: &StreamInfo, group: &GroupInfo, now_ms: u64) -> Vec<Check> {
    let subject = format!("{} group {}", stream.name, group.name);
    let mut checks = Vec::new();
    let behind_ms = match (group.last_delivered, info.last) {
        (Some(delivered), Some(last)) if delivered < last => {
            now_ms.saturating_sub(delivered.ms.max(info.first.unwrap_or_default().ms))
        }
        _ => 0,
    };
    let lag = group.lag.map_or_else(|| "lag unknown".to_owned(), |lag| format!("lag {lag}"));
    let found = format!("{lag}, {} pending, {}", group.pending, plural(group.consumers.len(), "consumer"));
    let alive = group.consumers.iter().any(|consumer| consumer.idle_ms < DEAD_MS);
    let behind = format!("{found}; {} behind", span(behind_ms));
    if behind_ms > DEAD_MS && !alive {
        let next = "no consumer reads for this group: start its service, or remove the group if it is no longer used";
        checks.push(Check::problem(AREA, &subject, behind, next));
    } else if behind_ms > DEAD_MS {
        let next = "it reads, and is late: look again in a minute; if the lag grows, its service does not keep up";
        checks.push(Check::warning(AREA, &subject, behind, next));
    } else {
        checks.push(Check::ok(AREA, &subject, found));
    }
    if let Some(lost) = lost(info, group) {
        let found = format!("{} trimmed before this group had read them", plural(lost, "entry"));
        let next = "let the producer keep more (MINID); fill the gap from an archive: harvester backfill --gap";
        checks.push(Check::problem(AREA, &subject, found, next));
    }
    let dead: Vec<_> = group.consumers.iter().filter(|consumer| consumer.idle_ms >= DEAD_MS).collect();
    let stuck: u64 = dead.iter().map(|consumer| consumer.pending).sum();
    if stuck > 0 {
        let names: Vec<&str> = dead.iter().filter(|c| c.pending > 0).map(|c| c.name.as_str()).take(5).collect();
        let found = format!("{} left with consumers that are gone: {}", plural(stuck, "entry"), names.join(", "));
        let next = "let a living consumer claim them (XAUTOCLAIM; harvester run does); never DELCONSUMER before";
        checks.push(Check::problem(AREA, &subject, found, next));
    } else if dead.len() > 3 {
        let next = "give consumers a stable name, without process ids; remove the dead ones";
        checks.push(Check::warning(AREA, &subject, format!("{} dead consumers", dead.len()), next));
    }
    if let Some(first) = group.first_pending.as_ref().filter(|first| stuck == 0 && first.idle_ms >= DEAD_MS) {
        let held = format!("{} has held an entry for {}, and reads on", first.consumer, span(first.idle_ms));
        let next = "its service never reads its own pending entries: let it read them (XREADGROUP … 0) before new ones";
        checks.push(Check::warning(AREA, &subject, held, next));
    }
    checks
}

/// Returns the number of entries that the server trimmed before it delivered them to the group, if it counts (since
/// 7.0).
fn lost(info: &StreamInfo, group: &GroupInfo) -> Option<u64> {
    let delivered = group.last_delivered?;
    // The server's count for a group that has read beyond the gap is no longer correct.
    let is_before_what_is_left = match info.first {
        Some(first) => delivered < first,
        None => info.last_generated.is_some_and(|last| delivered < last),
    };
    let lost = info.gone()?.saturating_sub(group.entries_read?);
    Some(lost).filter(|lost| is_before_what_is_left && *lost > 0)
}

/// Lists the other readers. If two groups read one stream, both get every entry.
fn readers(stream: &Stream, groups: &[GroupInfo], config: &Config) -> Vec<Check> {
    let own = config.groups();
    let others: Vec<&str> =
        groups.iter().map(|group| group.name.as_str()).filter(|name| !own.contains(*name)).collect();
    if matches!(stream.kind, StreamKind::Plan) && others.len() > 1 {
        let found = format!("{} executors read the requests: {}", others.len(), others.join(", "));
        let next = "one of them has to go: each carries out every request. Name the one that stays in emit.executors";
        return vec![Check::problem(AREA, &stream.name, found, next)];
    }
    let unnamed: Vec<&str> =
        others.iter().copied().filter(|name| config.emit.executors.iter().all(|executor| executor != name)).collect();
    if matches!(stream.kind, StreamKind::Plan) && !config.emit.executors.is_empty() && !unnamed.is_empty() {
        let found = format!("groups that emit.executors does not name: {}", unnamed.join(", "));
        return vec![Check::problem(
            AREA,
            &stream.name,
            found,
            "name them, or find out what they do: live will not start",
        )];
    }
    // Each cell of one configuration applies the entries of its own accounts.
    let is_ours = groups.iter().any(|group| own.contains(&group.name));
    if others.len() + usize::from(is_ours) > 1 {
        let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        let found = format!("{} groups read it, each gets every entry: {}", names.len(), names.join(", "));
        let next = "if two of them do the same work, one service too many is running";
        return vec![Check::warning(AREA, &stream.name, found, next)];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use crate::shell::redis::ConsumerInfo;

    const NOW_MS: u64 = 100_000_000;

    fn found(consumers: &[(&str, u64, u64)], delivered_ms: u64) -> Vec<(Verdict, String)> {
        let stream = Stream { kind: StreamKind::Result, name: "results".to_owned(), account: None };
        let id = |ms| Some(EntryId::new(ms, 0));
        let info =
            StreamInfo { length: 9, first: id(1), last: id(NOW_MS), last_generated: id(NOW_MS), entries_added: None };
        let consumer =
            |&(name, pending, idle_ms): &(&str, u64, u64)| ConsumerInfo { name: name.to_owned(), pending, idle_ms };
        let group = GroupInfo {
            name: "harvest".to_owned(),
            pending: consumers.iter().map(|(_, pending, _)| pending).sum(),
            last_delivered: id(delivered_ms),
            entries_read: None,
            lag: None,
            consumers: consumers.iter().map(consumer).collect(),
            first_pending: None,
        };
        group_checks(&stream, &info, &group, NOW_MS).into_iter().map(|check| (check.verdict, check.found)).collect()
    }

    #[test]
    fn i13_i14_what_dead_consumers_hold_is_a_problem_and_many_of_them_a_warning() {
        let alive = ("harvest-1", 0, 10);
        assert_eq!(found(&[alive], NOW_MS).len(), 1);
        let held = found(&[alive, ("harvest-31337", 32_469, DEAD_MS)], NOW_MS);
        assert_eq!(
            held[1],
            (Verdict::Problem, "32469 entries left with consumers that are gone: harvest-31337".to_owned())
        );
        let dead: Vec<_> = ["a", "b", "c", "d"].map(|name| (name, 0, DEAD_MS)).into();
        assert_eq!(found(&[vec![alive], dead].concat(), NOW_MS)[1], (Verdict::Warning, "4 dead consumers".to_owned()));
    }

    #[test]
    fn a_stream_without_entries_has_no_age() {
        let config = Config::from_parts(None, BTreeMap::new()).expect("the defaults");
        let empty =
            |last_generated| StreamInfo { length: 0, first: None, last: None, last_generated, entries_added: None };
        let check = |kind, info: &StreamInfo| {
            let check = age(&Stream { kind, name: "a".to_owned(), account: None }, info, &config, NOW_MS);
            (check.verdict, check.found)
        };
        for never in [None, Some(EntryId::new(0, 0))] {
            let none = (Verdict::Warning, "no entries yet".to_owned());
            assert_eq!(check(StreamKind::Result, &empty(never)), none, "{never:?}");
            let ours = (Verdict::Ok, "no entries yet: we write them".to_owned());
            assert_eq!(check(StreamKind::Observation, &empty(never)), ours, "{never:?}");
        }
        let trimmed = empty(Some(EntryId::new(NOW_MS - 60_000, 0)));
        let found = (Verdict::Ok, "0 entries, the last 60s ago".to_owned());
        assert_eq!(check(StreamKind::Control, &trimmed), found);
    }

    #[test]
    fn i11_a_group_that_nobody_reads_for_is_a_problem() {
        let behind = found(&[("harvest-1", 0, DEAD_MS)], NOW_MS - 2 * DEAD_MS);
        assert_eq!(behind[0], (Verdict::Problem, "lag unknown, 0 pending, 1 consumer; 20m behind".to_owned()));
        assert_eq!(
            found(&[("harvest-1", 0, 10)], NOW_MS - 2 * DEAD_MS)[0].0,
            Verdict::Warning,
            "it is at work, and late"
        );
        assert_eq!(found(&[("harvest-1", 0, 10)], NOW_MS)[0].0, Verdict::Ok);
    }
}
