//! The report for Prometheus, in its text format.
//!
//! Names begin with `harvester_` and contain the unit. Counters end in `_total` and count since the process began.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::facts::{AccountTotals, GapProof, InputReport, Report, Role};
use super::health::{alive, ready};
use super::shared::SharedReport;

/// The content type of the answer.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Returns all metrics of this moment.
pub fn text(shared: &SharedReport) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("harvester");
    registry.register("commit_seconds", "One write of the journal, until it is on disk", shared.commit_seconds.clone());
    registry.register("emit_seconds", "One decision through the emission script", shared.emit_seconds.clone());
    registry.register(
        "price_to_decision_seconds",
        "From the entry that caused a decision to the decision in the output stream, by ids",
        shared.price_to_decision_seconds.clone(),
    );
    registry.register_collector(Box::new(Scrape(shared.read())));
    let mut text = String::with_capacity(16 << 10);
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The report of one scrape. All of its numbers are from one moment.
#[derive(Debug)]
struct Scrape(Report);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        of_service(&self.0, &mut page)?;
        of_inputs(&self.0, &mut page)?;
        of_entries(&self.0, &mut page)?;
        of_positions(&self.0, &mut page)?;
        of_output(&self.0, &mut page)?;
        of_surroundings(&self.0, &mut page)
    }
}

/// Labels of a number.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The page, metric by metric. A metric without a value is left out.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.write(name, help, ConstGauge::new, [(Vec::new(), value)])
    }

    fn gauges<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        self.write(name, help, ConstGauge::new, values)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.write(name, help, ConstCounter::new, [(Vec::new(), value)])
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        self.write(name, help, ConstCounter::new, values)
    }

    fn write<'a, N, M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        metric: impl Fn(N) -> M,
        values: impl IntoIterator<Item = (Labels<'a>, N)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().map(|(labels, value)| (labels, metric(value))).peekable();
        let Some((_, first)) = values.peek() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, value) in values {
            value.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

fn by<'a, N: Copy>(
    label: &'static str,
    counts: &'a BTreeMap<String, N>,
) -> impl Iterator<Item = (Labels<'a>, N)> + use<'a, N> {
    counts.iter().map(move |(name, n)| (vec![(label, name.as_str())], *n))
}

fn of_service(report: &Report, page: &mut Page<'_>) -> fmt::Result {
    let policy = &report.policy;
    let info = Info::new(vec![
        ("build", report.build.clone()),
        ("rules", report.rules_version.clone()),
        ("settings", report.settings_hash.clone()),
        ("policy", policy.hash.clone()),
        ("mode", policy.mode.clone()),
        ("mode_configured", policy.mode_configured.clone()),
        ("group", report.group.clone()),
        ("consumer", report.consumer.clone()),
    ]);
    let help = "What is running, by which rules, settings and policy; always 1";
    info.encode(page.0.encode_descriptor("build", help, None, info.metric_type())?)?;
    page.gauge("uptime_seconds", "Time since the process began", seconds(report.uptime_ms))?;
    page.gauge("alive", "1 if the cursor moves or there is nothing to read (/healthz)", flag(alive(report).ok))?;
    page.gauge("ready", "1 if it leads or stands by warm, without gap or rebuild (/readyz)", flag(ready(report).ok))?;
    let roles = Role::ALL.map(|role| (vec![("role", role.name())], flag(report.role == role)));
    page.gauges("role", "1 for what the instance is doing", roles)?;
    page.gauge(
        "cursor_standing_seconds",
        "Time since the cursor moved, or since there was last nothing to read",
        seconds(report.progress_age_ms),
    )?;
    page.gauge(
        "report_age_seconds",
        "Time since the service last spoke about itself",
        seconds(report.published_age_ms),
    )?;
    page.gauge("killed", "1 while the kill switch is on", flag(report.killed))?;
    page.gauge("policy_pending", "1 while the configured policy is not folded yet", flag(policy.pending))?;
    let differs = !policy.pending && !policy.hash_configured.is_empty() && policy.hash != policy.hash_configured;
    page.gauge(
        "policy_differs",
        "1 while the policy in force is not the configured one: no order is sent",
        flag(differs),
    )
}

fn labels_of(input: &InputReport) -> Labels<'_> {
    vec![("stream", input.stream.as_str()), ("kind", input.kind.as_str())]
}

fn of_inputs(report: &Report, page: &mut Page<'_>) -> fmt::Result {
    let mut of = |name: &str, help: &str, value: &dyn Fn(&InputReport) -> Option<f64>| {
        page.gauges(
            name,
            help,
            report.inputs.iter().filter_map(|input| value(input).map(|value| (labels_of(input), value))),
        )
    };
    of("input_lag_entries", "Entries of the stream that are still to be consumed", &|input| {
        input.lag_entries.map(|n| n as f64)
    })?;
    of("input_lag_seconds", "Distance by ids from the last entry of the stream to the last one consumed", &|input| {
        input.lag_ms.map(seconds)
    })?;
    of("input_ids_ahead", "Entries that wait because their ids are ahead of the server's clock", &|input| {
        Some(input.ids_ahead as f64)
    })?;
    of("input_age_seconds", "Age of the last entry of the stream", &|input| input.age_ms.map(seconds))?;
    of("input_silent", "1 if the stream has been silent for longer than it may be", &|input| {
        Some(flag(input.is_silent(report.redis.silent_ms)))
    })?;
    of("input_pending_entries", "Entries that were delivered and are not acknowledged", &|input| {
        Some(input.pending as f64)
    })?;
    of("input_pending_oldest_seconds", "Age of the oldest entry that is not acknowledged", &|input| {
        input.pending_oldest_ms.map(seconds)
    })?;
    of("input_fault", "1 if nothing can be read from the stream or added to it", &|input| {
        Some(flag(input.fault.is_some()))
    })?;
    of("input_gap_proof", "1 if trimmed entries are counted, 0 if only the first id can tell", &|input| {
        Some(flag(input.gap_proof == GapProof::Counted))
    })
}

fn of_entries(report: &Report, page: &mut Page<'_>) -> fmt::Result {
    let totals = &report.totals;
    page.counters(
        "entries",
        "Entries by what became of them",
        [
            (vec![("outcome", "applied")], totals.applied),
            (vec![("outcome", "duplicate")], totals.duplicates),
            (vec![("outcome", "quarantined")], totals.quarantined.values().sum()),
        ],
    )?;
    let shapes = totals.shapes.iter().flat_map(|(kind, shapes)| {
        shapes.iter().map(move |(shape, n)| (vec![("kind", kind.as_str()), ("shape", shape.as_str())], *n))
    });
    page.counters("entries_by_shape", "Entries by kind and shape", shapes)?;
    page.counters("quarantined", "Entries put aside, by reason", by("reason", &totals.quarantined))?;
    let unreadable = totals.unreadable.iter().map(|(what, count)| (vec![("what", what.as_str())], count.entries));
    page.counters("unreadable", "Results, snapshots, observations and event times that cannot be read", unreadable)?;
    let refused = totals.refused.iter().map(|(what, past)| (vec![("what", what.as_str())], past.entries));
    page.counters("refused", "Control entries and decisions that were not believed", refused)?;
    let help = "Things that happened to entries: late_order, fills_repeated and others";
    page.counters("remarks", help, by("what", &totals.counts))?;
    page.counter("evaluations", "Evaluations of open positions", totals.evaluations)?;
    page.counters("holds", "Evaluations that ended in a hold, by reason", by("reason", &totals.holds))?;
    if let Some(added) = report.rates.added {
        page.gauge("input_rate_per_second", "Entries written to the input streams, over ten seconds", added)?;
    }
    page.gauge("applied_rate_per_second", "Entries applied, over ten seconds", report.rates.applied)?;
    page.gauge("emitted_rate_per_second", "Decisions emitted, over ten seconds", report.rates.emitted)
}

fn of_positions(report: &Report, page: &mut Page<'_>) -> fmt::Result {
    let positions = &report.positions;
    let counted = |counts| by("reason", counts).map(|(labels, n): (_, u64)| (labels, n as f64));
    page.gauge("positions_open", "Open positions", positions.open as f64)?;
    page.gauge("positions_evaluable", "Open positions that lack nothing", positions.evaluable as f64)?;
    let missing = by("field", &positions.missing).map(|(labels, n)| (labels, n as f64));
    page.gauges("positions_missing", "Open positions that lack a field", missing)?;
    page.gauges("positions_held", "Open positions by the hold that they have now", counted(&positions.held))?;
    let help = "Symbols with a position that only one snapshot has reported";
    page.gauge("positions_unconfirmed", help, positions.unconfirmed.len() as f64)?;
    page.gauge(
        "positions_unknown",
        "1 while no position, not even a flat one, was ever seen: not the same as flat",
        flag(positions.unknown),
    )?;
    page.gauge("gap_open", "Open positions whose history has a gap", positions.gap_open as f64)?;
    page.gauge("gap_flat", "Symbols without a position whose history has a gap", positions.gap_flat as f64)?;
    page.gauges(
        "mark_age_seconds",
        "Age of the price in use of an open position",
        by("symbol", &positions.mark_age_ms).map(|(labels, ms)| (labels, seconds(ms))),
    )?;
    let accounts = by_account(&positions.accounts);
    let totals = |of: fn(&AccountTotals) -> u64| {
        accounts.iter().map(move |(account, totals)| (vec![("account", *account)], of(totals) as f64))
    };
    page.gauges("account_positions_open", "Open positions by account", totals(|totals| totals.open))?;
    let help = "Open positions that lack nothing, by account";
    page.gauges("account_positions_evaluable", help, totals(|totals| totals.evaluable))?;
    let help = "Open positions whose history has a gap, by account";
    page.gauges("account_gap_open", help, totals(|totals| totals.gap_open))?;
    let decisions = [("open", &positions.decisions_open), ("closed", &positions.decisions_closed)];
    let decisions = decisions.into_iter().flat_map(|(position, states)| {
        let labels = move |state| vec![("state", state), ("position", position)];
        states.iter().map(move |(state, n)| (labels(state.as_str()), *n as f64))
    });
    page.gauges("decisions", "Decisions of positions that are open or remembered, by state", decisions)
}

/// Maximum number of accounts with series of their own. [1]
const ACCOUNTS_MAX: usize = 100;
/// The label of all other accounts, which no account can have as its name.
const OTHER_ACCOUNTS: &str = "(others)";

/// Returns the totals of the accounts with the most open positions, and those of all others together.
fn by_account(accounts: &BTreeMap<String, AccountTotals>) -> Vec<(&str, AccountTotals)> {
    let mut all: Vec<(&str, AccountTotals)> = accounts.iter().map(|(name, totals)| (name.as_str(), *totals)).collect();
    if all.len() > ACCOUNTS_MAX {
        all.sort_by_key(|(_, totals)| std::cmp::Reverse(totals.open));
        let mut others = AccountTotals::default();
        all.drain(ACCOUNTS_MAX..).for_each(|(_, totals)| others.add(totals));
        all.push((OTHER_ACCOUNTS, others));
    }
    all
}

fn of_output(report: &Report, page: &mut Page<'_>) -> fmt::Result {
    page.counter("decided", "Decisions made", report.totals.decided)?;
    page.counter("emitted", "Decisions that reached the output stream", report.totals.emitted)?;
    page.gauge("outbox_waiting", "Decisions that are committed and not sent", report.outbox.waiting as f64)?;
    page.gauge("outbox_doubtful", "Decisions that are held in doubt", report.outbox.doubtful as f64)?;
    let refusing = report.outbox.refusing.len() as f64;
    page.gauge("outputs_refused", "Streams and keys that are written to and take nothing", refusing)?;
    page.gauge("outbox_oldest_seconds", "Age of the oldest of them", seconds(report.outbox.oldest_ms.unwrap_or(0)))?;
    page.gauge("journal_bytes", "Size of the journal", report.journal.bytes as f64)?;
    page.gauge("journal_files", "Files of the journal", report.journal.files as f64)?;
    page.gauge("journal_position", "Entries in the journal", report.journal.position as f64)?;
    let Some(checksum) = &report.state_checksum else { return Ok(()) };
    let info = Info::new(vec![("last", checksum.last.clone()), ("sha256", checksum.sha256.clone())]);
    let help = "Checksum of the state behind an entry: the same in every instance that applied the same; always 1";
    info.encode(page.0.encode_descriptor("state", help, None, info.metric_type())?)
}

fn of_surroundings(report: &Report, page: &mut Page<'_>) -> fmt::Result {
    page.gauge("redis_connected", "1 while the server can be used", flag(report.redis.is_usable()))?;
    page.counter("redis_reconnects", "Connections that had to be made again", report.redis.reconnects)?;
    page.gauge(
        "redis_clocks_apart_seconds",
        "Difference of the clocks of the servers of a cluster",
        report.redis.clocks_apart_ms as f64 / 1000.0,
    )?;
    page.gauge("lease_held", "1 if anybody is known to hold the lease", flag(report.lease.holder.is_some()))?;
    page.gauge("fencing_token", "Number of the lease by which decisions are sent", report.lease.fencing_token as f64)?;
    if let Some(left) = report.lease.left_ms {
        page.gauge("lease_left_seconds", "Time until the lease ends", seconds(left))?;
    }
    if let Some(backfill) = &report.backfill {
        page.counter("api_calls", "Calls of the exchange", backfill.api_calls)?;
        page.gauge("circuit_open", "1 while the exchange is not asked after failures", flag(backfill.circuit_open))?;
        let wait_ms = backfill.wait.map_or(0, |wait| wait.left_ms);
        page.gauge("api_wait_seconds", "Time until the exchange accepts calls again", seconds(wait_ms))?;
        if let Some(weight) = backfill.weight_used {
            page.gauge("api_weight_used", "Weight used in this minute, as the exchange counts it", weight as f64)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_by_account_are_bounded() {
        let of = |open: u64| AccountTotals { open, evaluable: 1, gap_open: 0 };
        let few: BTreeMap<String, AccountTotals> = [(String::new(), of(3)), ("main".to_owned(), of(2))].into();
        assert_eq!(by_account(&few), [("", of(3)), ("main", of(2))]);
        let many: BTreeMap<String, AccountTotals> = (0..150).map(|n| (format!("a{n:03}"), of(n))).collect();
        let shown = by_account(&many);
        assert_eq!((shown.len(), shown[0]), (101, ("a149", of(149))));
        let others = AccountTotals { open: (0..50).sum(), evaluable: 50, gap_open: 0 };
        assert_eq!(shown[100], (OTHER_ACCOUNTS, others));
    }
}
