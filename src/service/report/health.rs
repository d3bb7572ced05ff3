//! Judgements about the report: is the service alive, is it ready, and does anything need an operator?

use serde::Serialize;

use super::facts::{ExchangeWait, InputReport, Past, Report, Role};
use crate::codec::plural::plural;
use crate::codec::time::{iso, span};
use crate::domain::exit::Hold;
use crate::service::exchange::of_account;

/// A cursor that has not moved for this time, with entries to read, is stuck. [ms]
pub const STUCK_AFTER_MS: u64 = 30_000;
/// An input is behind when its last entry is this much later than the last one consumed. [ms]
const BEHIND_MS: u64 = 60_000;
/// A standby is warm while no input is further behind than this. [ms]
const WARM_MS: u64 = 5_000;
/// Pending entries and rows of the outbox that are older than this need an operator. [ms]
const LEFT_BEHIND_MS: u64 = 60_000;
/// A service that has just begun may not have asked for the lease yet. [ms]
const LEADERLESS_MS: u64 = 10_000;
/// For this time an unreadable entry needs an operator. [ms]
const UNREADABLE_FOR_MS: u64 = 3_600_000;
/// For this time an entry that was not believed needs an operator. [ms]
const REFUSED_FOR_MS: u64 = 86_400_000;
/// A smaller share of open positions that can be evaluated needs an operator. [1]
const EVALUABLE_MIN: f64 = 0.9;

/// One named reason, with a text for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Concern {
    pub name: &'static str,
    /// The stream or the account that it is about, if there can be several.
    pub about: Option<String>,
    pub says: String,
}

impl Concern {
    fn new(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, about: None, says: says.into() }
    }

    fn of(name: &'static str, input: &InputReport, says: String) -> Self {
        Self { name, about: Some(input.stream.clone()), says }
    }
}

/// The answer to a probe, with its reasons if it is negative.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    pub ok: bool,
    pub reasons: Vec<Concern>,
}

impl Health {
    fn of(reasons: Vec<Concern>) -> Self {
        Self { ok: reasons.is_empty(), reasons }
    }

    /// Returns the HTTP status: 200 or 503.
    pub const fn status(&self) -> u16 {
        if self.ok { 200 } else { 503 }
    }
}

/// Judges whether the service is alive: the cursor moved, or there was nothing to read (incidents 12, 15). If it is not
/// alive, a restart can help.
///
/// While the server cannot be reached, the service is alive as long as it tries: a new process would not reach the
/// server, either.
pub fn alive(report: &Report) -> Health {
    let mut reasons = Vec::new();
    if report.published_age_ms > STUCK_AFTER_MS && !matches!(report.role, Role::Starting | Role::Stopping) {
        let says = format!("the service has not reported for {}", span(report.published_age_ms));
        reasons.push(Concern::new("not_speaking", says));
    }
    let reads = match report.role {
        Role::Rebuilding => true,
        Role::Leader | Role::Standby => report.redis.connected,
        Role::Starting | Role::Stopping => false,
    };
    if reads && report.progress_age_ms > STUCK_AFTER_MS {
        let says = format!("there are entries to read, and no cursor has moved for {}", span(report.progress_age_ms));
        reasons.push(Concern::new("cursor_standing", says));
    }
    Health::of(reasons)
}

/// Judges whether the service is ready: it owns the lease or is a warm standby, connected, without an open gap and not
/// rebuilding.
pub fn ready(report: &Report) -> Health {
    let mut reasons = alive(report).reasons;
    match report.role {
        Role::Leader => {}
        Role::Standby => reasons.extend(not_warm(report)),
        Role::Rebuilding => reasons.push(rebuilding()),
        Role::Starting => reasons.push(Concern::new("starting", "the service is starting")),
        Role::Stopping => reasons.push(Concern::new("stopping", "the service is stopping")),
    }
    reasons.extend(not_connected(report));
    reasons.extend(gap_open(report));
    Health::of(reasons)
}

/// Returns everything that needs an operator, the worst first.
pub fn concerns(report: &Report) -> Vec<Concern> {
    let mut concerns = alive(report).reasons;
    // A service that has just started has not tried to connect yet.
    let is_untried = report.uptime_ms <= LEADERLESS_MS && report.redis.last_error.is_none();
    concerns.extend(not_connected(report).filter(|_| !is_untried));
    concerns.extend(clocks_apart(report));
    concerns.extend(no_leader(report));
    if report.role == Role::Rebuilding {
        concerns.push(rebuilding());
    }
    if report.killed {
        concerns.push(Concern::new("killed", "the kill switch is on: no order is sent"));
    }
    concerns.extend(of_policy(report));
    concerns.extend(of_trust(report));
    concerns.extend(gap_open(report));
    concerns.extend(unreadable(report));
    concerns.extend(of_positions(report));
    concerns.extend(of_decisions(report));
    concerns.extend(report.inputs.iter().flat_map(|input| of_input(input, report.redis.silent_ms)));
    concerns.extend(of_exchange(report));
    concerns
}

fn not_warm(report: &Report) -> Option<Concern> {
    let furthest = report.inputs.iter().filter_map(|input| input.lag_ms).max().filter(|lag| *lag > WARM_MS)?;
    Some(Concern::new("not_warm", format!("the standby is {} behind", span(furthest))))
}

fn rebuilding() -> Concern {
    Concern::new("rebuilding", "the store is folded again: nothing is emitted until it is done")
}

fn not_connected(report: &Report) -> Option<Concern> {
    let redis = &report.redis;
    let is_up = redis.is_usable() || matches!(report.role, Role::Starting | Role::Stopping);
    let says = || {
        if redis.connected {
            return format!(
                "Redis has not answered for {}: nothing is read, and no order is sent; look at the network and at the server \
                 (harvester doctor)",
                span(redis.silent_ms)
            );
        }
        format!("Redis cannot be used: {}", redis.last_error.as_deref().unwrap_or("no connection"))
    };
    (!is_up).then(|| Concern::new("not_connected", says()))
}

/// If the clocks of the servers of a cluster differ by this much, that is a concern. From twice this difference on, no
/// order is sent. [ms]
pub const CLOCKS_APART_MS: u64 = 1_000;

fn clocks_apart(report: &Report) -> Option<Concern> {
    let apart_ms = report.redis.clocks_apart_ms;
    let says = || {
        format!(
            "the clocks of the Redis servers are {} apart: entries wait for the slowest one, and from 2 s on no order is sent; \
             correct them (NTP)",
            span(apart_ms)
        )
    };
    (apart_ms >= CLOCKS_APART_MS).then(|| Concern::new("clocks_apart", says()))
}

fn no_leader(report: &Report) -> Option<Concern> {
    let is_new = report.uptime_ms <= LEADERLESS_MS;
    let lease = &report.lease;
    let nobody = report.role == Role::Standby && (lease.holder.is_none() || lease.stuck.is_some()) && !is_new;
    let says = || match &lease.stuck {
        Some(why) => format!("no instance can take the lease, and nothing is emitted: {why}"),
        None => "no instance holds the lease: nothing is emitted".to_owned(),
    };
    nobody.then(|| Concern::new("no_leader", says()))
}

fn gap_open(report: &Report) -> Option<Concern> {
    let n = report.positions.gap_open;
    let says = || format!("{} held: entries of the history are missing", plural(n, "open position"));
    (n > 0).then(|| Concern::new("gap_open", says()))
}

/// Returns the concerns about entries that could not be read in the last hour. Each of them may have been a fill.
fn unreadable(report: &Report) -> Vec<Concern> {
    let recent = report.totals.unreadable.iter().filter(|(_, count)| count.last_age_ms <= UNREADABLE_FOR_MS);
    let concern = |(what, count): (&String, &Past)| {
        let (n, last) = (count.entries, span(count.last_age_ms));
        if what == "accounts" {
            let says = format!(
                "{} of accounts that nobody configured, the last {last} ago, quarantined: configure [accounts.NAME], or find \
                 who writes them",
                plural(n, "entry")
            );
            return Concern::new("unknown_account", says);
        }
        let says = match what.as_str() {
            "times" => format!(
                "{} cannot be read, the last {last} ago: prices with one are not used; their producers have changed how they \
                 write them",
                plural(n, "event time")
            ),
            _ => format!(
                "{} cannot be read, the last {last} ago: the symbols that may be concerned are held; the log and the \
                 quarantine stream name entry and reason",
                plural(n, what.strip_suffix('s').unwrap_or(what))
            ),
        };
        Concern { name: "unreadable", about: Some(what.clone()), says }
    };
    recent.map(concern).collect()
}

fn of_policy(report: &Report) -> Vec<Concern> {
    let policy = &report.policy;
    let mut concerns = Vec::new();
    if policy.pending {
        concerns.push(Concern::new("policy_pending", "the configured policy is not folded yet: no order is sent"));
    } else if !policy.mode_configured.is_empty() && !policy.mode.is_empty() && policy.mode != policy.mode_configured {
        let says = format!(
            "the policy in force says {}, the configuration {}: no order is sent",
            policy.mode, policy.mode_configured
        );
        concerns.push(Concern::new("mode_differs", says));
    }
    concerns
}

/// Returns the concerns about recent entries that were not believed. Their ages survive a restart.
fn of_trust(report: &Report) -> Vec<Concern> {
    let mut concerns = Vec::new();
    let policy = &report.policy;
    let is_known = !policy.hash.is_empty() && !policy.hash_configured.is_empty();
    if is_known && !policy.pending && policy.hash != policy.hash_configured {
        let says = format!(
            "the policy in force is {}, the configured one {}: no order is sent; a restart adopts the configured one",
            short(&policy.hash),
            short(&policy.hash_configured)
        );
        concerns.push(Concern::new("policy_differs", says));
    }
    let young = |name: &str| report.totals.refused.get(name).filter(|past| past.last_age_ms <= REFUSED_FOR_MS);
    if let Some(Past { entries, last_age_ms }) = young("bad_signature") {
        let says = format!(
            "{entries} control entries were refused, the last {} ago: they are not signed with our key. Find out who writes to \
             the control stream",
            span(*last_age_ms)
        );
        concerns.push(Concern::new("bad_signature", says));
    }
    if let Some(Past { entries, last_age_ms }) = young("decision_foreign") {
        let says = format!(
            "{} in the stream not made by us, the last {} ago: the symbols are held; find who writes them",
            plural(*entries, "decision"),
            span(*last_age_ms)
        );
        concerns.push(Concern::new("decision_foreign", says));
    }
    concerns
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn of_positions(report: &Report) -> Vec<Concern> {
    let positions = &report.positions;
    let mut concerns = Vec::new();
    if positions.unknown && report.role != Role::Starting {
        let says = "no source has stated a position yet, not even a flat one: check the snapshot stream and the credentials (harvester doctor)";
        concerns.push(Concern::new("positions_unknown", says));
    }
    if report.evaluable_share().is_some_and(|share| share < EVALUABLE_MIN) {
        let missing: Vec<String> = positions.missing.iter().map(|(field, n)| format!("{n} lack {field}")).collect();
        let says = format!(
            "{} of {} open positions can be evaluated: {}",
            positions.evaluable,
            positions.open,
            missing.join(", ")
        );
        concerns.push(Concern::new("evaluable_low", says));
    }
    let held = |hold: Hold| positions.held.get(hold.name()).copied().filter(|n| *n > 0);
    if let Some(n) = held(Hold::Diverged) {
        let says = format!(
            "held: {}, because the exchange states another quantity than the history; compare them (harvester reconcile)",
            plural(n, "position")
        );
        concerns.push(Concern::new("diverged", says));
    }
    if let Some(n) = held(Hold::StalePosition) {
        let says = format!(
            "held: {}, because neither look-up nor snapshot has confirmed it in time; look at the snapshot stream and at \
             the credentials (harvester doctor)",
            plural(n, "position")
        );
        concerns.push(Concern::new("stale_position", says));
    }
    concerns
}

fn of_decisions(report: &Report) -> Vec<Concern> {
    let in_state = |state: &str| report.positions.decisions_open.get(state).copied().unwrap_or(0);
    let mut concerns = Vec::new();
    let (unknown, failed) = (in_state("unknown"), in_state("failed"));
    if unknown > 0 {
        let says = format!("{} without a result in time, which may still be executed", plural(unknown, "decision"));
        concerns.push(Concern::new("decision_unknown", says));
    }
    if failed > 0 {
        concerns.push(Concern::new("decision_failed", format!("{} refused for good", plural(failed, "decision"))));
    }
    if report.outbox.doubtful > 0 {
        let says = "a decision is held, and all behind it: the memory of what was written names an entry that is not this \
                    decision; look at the executor whether it was carried out, then HDEL its id from the memory";
        concerns.push(Concern::new("decision_doubtful", says));
    }
    if !report.outbox.unnamed_executors.is_empty() {
        let says = format!(
            "groups read the order requests and are not in emit.executors: {}; no order is sent, because two executors of \
             one order close twice; remove them (XGROUP DESTROY), or name them and restart",
            report.outbox.unnamed_executors.join(", ")
        );
        concerns.push(Concern::new("executor_unknown", says));
    }
    for (key, why) in &report.outbox.refusing {
        let says = format!("nothing can be written to {key}: it {why}");
        concerns.push(Concern { name: "output_refused", about: Some(key.clone()), says });
    }
    if let Some(age) = report.outbox.oldest_ms.filter(|age| *age > LEFT_BEHIND_MS && report.outbox.waiting > 0) {
        let says = format!("{} not sent yet, the oldest for {}", plural(report.outbox.waiting, "decision"), span(age));
        concerns.push(Concern::new("outbox_waiting", says));
    }
    concerns
}

/// Returns the concerns about a stream. For `unanswered_ms` the server has not answered, which says nothing about the
/// stream. [ms]
fn of_input(input: &InputReport, unanswered_ms: u64) -> Vec<Concern> {
    let mut concerns = Vec::new();
    if let Some(fault) = input.fault {
        let stops = match input.kind.as_str() {
            "control" | "decision" => "; no order is sent until then",
            _ => "",
        };
        let says = format!("{} {}{stops}", input.stream, fault.says());
        concerns.push(Concern::of(fault.name(), input, says));
    }
    if input.is_silent(unanswered_ms) {
        let (silent, limit) = (span(input.silent_ms()), span(input.silent_after_ms.unwrap_or(0)));
        let says = format!("{} has been silent for {silent}, more than {limit}", input.stream);
        concerns.push(Concern::of("input_silent", input, says));
    }
    if let Some(lag) = input.lag_ms.filter(|lag| lag.saturating_sub(unanswered_ms) > BEHIND_MS) {
        let entries = input.lag_entries.map_or_else(String::new, |n| format!(", {}", plural(n, "entry")));
        concerns.push(Concern::of("input_behind", input, format!("{} is {} behind{entries}", input.stream, span(lag))));
    }
    if input.ids_not_time {
        let says = format!(
            "the ids of {} are not times: its entries are folded, prices are not used and nothing is evaluated on them; have them \
             written under ids of the server (XADD with *)",
            input.stream
        );
        concerns.push(Concern::of("ids_not_time", input, says));
    }
    if let Some(ahead) = input.ahead_ms {
        let says = format!(
            "the newest id of {} is {} ahead of the server's clock, and {} not used until then: find who writes such ids",
            input.stream,
            span(ahead),
            plural(input.ids_ahead, "entry")
        );
        concerns.push(Concern::of("ids_ahead", input, says));
    }
    if let Some(age) = input.pending_oldest_ms.filter(|age| *age > LEFT_BEHIND_MS && input.pending > 0) {
        let says =
            format!("{} of {} pending, the oldest for {}", plural(input.pending, "entry"), input.stream, span(age));
        concerns.push(Concern::of("pending_old", input, says));
    }
    concerns
}

/// Maximum number of accounts that are named one by one.
const ACCOUNTS_NAMED_MAX: usize = 10;

fn limited<T>(of_accounts: &[T]) -> impl Iterator<Item = &T> {
    of_accounts.iter().take(ACCOUNTS_NAMED_MAX)
}

/// Returns the account that a finding is about; `None` for the account without a name.
fn about(account: &str) -> Option<String> {
    (!account.is_empty()).then(|| account.to_owned())
}

/// A shorter wait is usual when the weight of a minute is spent. [ms]
const WAIT_MIN_MS: u64 = 60_000;
/// The HTTP status of a ban.
const BANNED: u16 = 418;

/// Returns true for a ban, and for another long wait.
const fn lasts(wait: &ExchangeWait) -> bool {
    wait.left_ms > WAIT_MIN_MS || wait.status == BANNED && wait.left_ms > 0
}

fn of_exchange(report: &Report) -> Vec<Concern> {
    let Some(backfill) = &report.backfill else { return Vec::new() };
    let mut concerns = Vec::new();
    concerns.extend(limited(&backfill.modes_differ).map(|mode| {
        let (exchange, entries) = (&mode.exchange, &mode.entries);
        let says = format!(
            "{}the exchange has {exchange} mode, the entries have {entries}: LONG, SHORT and positions without a side \
             are not told apart; correct the mode or the producers",
            of_account(&mode.account)
        );
        Concern { name: "position_mode", about: about(&mode.account), says }
    }));
    concerns.extend(limited(&backfill.refusals).map(|refusal| {
        let (whose, why) = (of_account(&refusal.account), &refusal.why);
        let says = format!(
            "{whose}the exchange does not return positions: {why}; correct key, address, permission or network (harvester \
             doctor)"
        );
        Concern { name: "exchange_refused", about: about(&refusal.account), says }
    }));
    if let Some(wait) = backfill.wait.filter(lasts) {
        let says = format!(
            "the exchange accepts no call until {}, {} from now (HTTP {}): positions, fills and prices are not asked for; wait, \
             find what calls it too often from this address, and do not restart to ask again",
            iso(wait.until_ms),
            span(wait.left_ms),
            wait.status
        );
        concerns.push(Concern::new("exchange_banned", says));
    }
    if backfill.circuit_open {
        let says = "too many calls of the exchange failed: it is not asked for a while";
        concerns.push(Concern::new("circuit_open", says));
    }
    concerns
}
