//! Publishes the state of the service in the report of the pages, in the operator log, and to the service manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::event::JournalState;
use super::fetching::Fetched;
use super::message::{LeaseHolder, LeaseState};
use super::processor::Processor;
use super::reader_status::ReaderStatus;
use crate::codec::checksum::state_checksum_hex;
use crate::config::{Config, SilentAfter};
use crate::domain::delivery::action::OfferAnswer;
use crate::domain::delivery::row::OutboxRow;
use crate::domain::engine::{Engine, FIRST_TIME_MS, IDS_AHEAD_MAX_MS, RULES_VERSION};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::drive::sheet::Sheet;
use crate::service::operator_log::{self, Line};
use crate::service::pages::Question;
use crate::service::report::{self, Change, ExchangeWait, GapProof, InputReport, Report, SharedReport, Watch};
use crate::shell::exchange::wall_ms;
use crate::shell::redis::StreamStats;
use crate::shell::store::Store;
use crate::shell::systemd::Manager;

/// The time by which each report of progress extends the start timeout.
const START_EXTENSION: Duration = Duration::from_secs(60);

/// Maximum number of accounts without a configuration that are logged, each once. [1]
const ACCOUNTS_SAID_MAX: usize = 100;

/// The state of the event loop, for the report.
#[derive(Debug, Default)]
pub struct State {
    /// Decisions emitted since the process began. [1]
    pub emitted: u64,
    /// Streams and keys that refuse our writes, with the reason.
    pub refusing: BTreeMap<String, String>,
    /// Groups that read order requests and are not configured as executors.
    pub unnamed_executors: Vec<String>,
    /// Numbers of the decisions that the emitter is offering.
    pub in_flight: BTreeSet<u64>,
    /// Numbers of the decisions of which an offer was not answered, or that an earlier process may have offered.
    pub doubtful: BTreeSet<u64>,
    pub journal: JournalState,
    /// Entries of the journal that the last checkpoint contains. [1]
    pub checkpoint: u64,
}

impl State {
    /// Notes the answer to an offer. After some answers it is certain that this offer wrote nothing.
    pub fn answered(&mut self, seq: u64, answer: &OfferAnswer) {
        self.in_flight.remove(&seq);
        match answer {
            OfferAnswer::Written { .. } => {
                self.doubtful.remove(&seq);
            }
            OfferAnswer::Stale | OfferAnswer::Halted | OfferAnswer::Behind | OfferAnswer::Unfit => {}
            OfferAnswer::Lost | OfferAnswer::Doubtful { .. } => {
                self.doubtful.insert(seq);
            }
        }
    }

    /// Notes that the offers in flight will not be answered.
    pub fn disconnected(&mut self) {
        self.doubtful.append(&mut self.in_flight);
    }

    /// Returns true if an offer of this decision may have been carried out without our knowledge.
    fn may_be_sent(&self, seq: u64) -> bool {
        self.in_flight.contains(&seq) || self.doubtful.contains(&seq)
    }

    /// Notes that a stream or key refuses writes, or accepts them again. Logs each change.
    pub fn output(&mut self, key: String, refusal: Option<String>) {
        match refusal {
            Some(why) => {
                if self.refusing.get(&key) != Some(&why) {
                    tracing::error!(key, why, "nothing can be written");
                    self.refusing.insert(key, why);
                }
            }
            None => {
                if self.refusing.remove(&key).is_some() {
                    tracing::info!(key, "can be written again");
                }
            }
        }
    }
}

/// The publisher: the data of the report, and its destinations.
pub struct Publisher {
    shared: SharedReport,
    manager: Manager,
    stats: Vec<StreamStats>,
    /// For each stream, whether its next entry has an id ahead of the server's clock.
    ahead: Vec<bool>,
    /// How often the statistics of the streams were read. [1]
    stats_read: u64,
    watch: Watch,
    silent_after: SilentAfter,
    watchdog_fed: Instant,
    ticked: Instant,
    tick_interval: Duration,
    /// Decisions emitted up to the last tick. [1]
    emitted_before: u64,
    /// Calls to the exchange up to the last tick. [1]
    calls_before: u64,
    /// The server's time in the last report. [ms since 1970]
    server_ms: u64,
    /// Accounts that the configuration names.
    configured: BTreeSet<String>,
    /// True if the account without a name has credentials.
    has_unnamed: bool,
    /// Accounts of the engine that were compared with them. The first one has no name. [1]
    accounts_seen: usize,
    /// Accounts that were logged. [1]
    accounts_said: usize,
}

impl Publisher {
    pub fn new(config: &Config) -> Self {
        let report = Report {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            rules_version: RULES_VERSION.to_owned(),
            settings_hash: config.hash(),
            group: config.run.group.clone(),
            consumer: config.run.consumer.clone(),
            cell: Some(config.scope()).filter(|scope| !scope.is_everything()).map(|scope| scope.to_string()),
            policy: report::PolicyReport {
                mode_configured: config.policy.mode.name().to_owned(),
                ..report::PolicyReport::default()
            },
            ..Report::default()
        };
        Self {
            shared: SharedReport::new(report),
            manager: Manager::of_member(config.run.cell.unwrap_or_default()),
            stats: Vec::new(),
            ahead: Vec::new(),
            stats_read: 0,
            watch: Watch::default(),
            silent_after: config.run.silent_after_ms,
            watchdog_fed: Instant::now(),
            ticked: Instant::now(),
            tick_interval: Duration::from_millis(config.run.tick_ms),
            emitted_before: 0,
            calls_before: 0,
            server_ms: 0,
            configured: config.account_names().into_iter().map(str::to_owned).collect(),
            has_unnamed: config.exchange.credentials().is_ok(),
            accounts_seen: 1,
            accounts_said: 0,
        }
    }

    pub fn shared(&self) -> &SharedReport {
        &self.shared
    }

    /// Notes the connected server, with its version if it is known.
    pub fn speaks_to(&self, version: Option<&str>) {
        self.shared.publish(|report| {
            report.redis.connected = true;
            report.redis.version = version.unwrap_or("unknown").to_owned();
        });
    }

    /// Publishes that the journal is folded: from the checkpoint on, or for a rebuild from its first entry on.
    pub fn catching_up(&self, is_rebuild: bool, entries: u64) {
        self.shared.publish(|report| {
            report.role = if is_rebuild { report::Role::Rebuilding } else { report::Role::Starting };
            report.totals.entries = entries;
        });
        self.manager.extend_start(START_EXTENSION);
    }

    pub fn started(&self, processor: &Processor) {
        let in_force = &processor.driver.engine.globals().policy;
        let report = self.shared.read();
        operator_log::start(operator_log::Start {
            build: &report.build,
            rules: RULES_VERSION,
            settings: &report.settings_hash,
            mode: &report.policy.mode_configured,
            policy: &processor.order_settings.policy,
            in_force: (in_force.mode.name(), &in_force.hash),
            group: &report.group,
            consumer: &report.consumer,
        })
        .log();
        self.manager.ready("reading");
    }

    pub fn role_changed(&self, is_leader: bool) {
        tracing::info!(is_leader, "role changed");
        self.manager.status(if is_leader { "leader" } else { "standby" });
    }

    pub fn stream_stats(&mut self, stats: Vec<StreamStats>, ahead: Vec<bool>) {
        (self.stats, self.ahead) = (stats, ahead);
        self.stats_read += 1;
    }

    pub fn committed(&self, took: Duration) {
        self.shared.commit_seconds.observe(took.as_secs_f64());
    }

    pub fn emitted(&self, took: Duration) {
        self.shared.emit_seconds.observe(took.as_secs_f64());
    }

    pub fn decision_written(&self, row: &OutboxRow, line: Option<&Line>) {
        if let Some(line) = line {
            line.log();
        }
        if let Some(written) = row.written {
            let latency_ms = written.ms.saturating_sub(row.cause_ms);
            self.shared.price_to_decision_seconds.observe(latency_ms as f64 / 1000.0);
        }
    }

    pub fn answer(&self, processor: &Processor, store: &Store, question: Question) {
        let engine = &processor.driver.engine;
        // The holds are the same as in the report: a price that stopped coming is stale on all pages.
        let now_ms = self.server_ms.max(engine.evaluated_ms());
        match question {
            Question::Positions { symbol, all, answer } => {
                match Sheet::of_at(engine, store, symbol.as_deref(), all, now_ms) {
                    Ok(sheet) => {
                        let _ = answer.send(sheet);
                    }
                    // The question is dropped. The page reports that it was not answered.
                    Err(error) => tracing::error!(%error, "positions could not be read"),
                }
            }
        }
    }

    pub fn stopping(&mut self) {
        self.manager.stopping();
        self.shared.publish(|report| report.role = report::Role::Stopping);
    }

    /// Logs accounts that are read but not configured. In live mode they are not read, and are a finding.
    fn log_accounts(&mut self, engine: &Engine) {
        let accounts = engine.accounts();
        for (id, account) in accounts.ids().zip(accounts.iter()).skip(self.accounts_seen) {
            if accounts.is_elsewhere(id) {
                continue;
            }
            let is_read = !self.configured.contains(&*account.name) && !engine.policy().refuses_account(&account.name);
            if is_read && self.accounts_said < ACCOUNTS_SAID_MAX {
                self.accounts_said += 1;
                tracing::warn!(
                    account = %account.name,
                    "ACCOUNT_UNKNOWN nobody configured it: its entries are read in shadow mode, and refused in live mode"
                );
            }
        }
        self.accounts_seen = accounts.iter().len();
    }

    /// Publishes the present state.
    pub fn publish(
        &mut self,
        processor: &Processor,
        state: &State,
        status: &ReaderStatus,
        role: &LeaseState,
        holder: LeaseHolder,
        fetched: &Fetched,
    ) {
        let (server_ms, silent_ms) = (status.clock_ms(), status.silent().as_millis() as u64);
        self.server_ms = server_ms;
        let inputs = self.inputs(processor, server_ms, silent_ms);
        let findings = processor.findings();
        let engine = &processor.driver.engine;
        let no_accounts = report::has_no_accounts(engine, &self.configured, self.has_unnamed);
        self.shared.publish(|report| {
            report.take_from(engine, server_ms, &unsent(processor, state));
            report.positions.no_accounts = no_accounts;
            report.take_findings(findings, server_ms);
            report.totals.emitted = state.emitted;
            report.inputs = inputs;
            report.role = if processor.delivery.is_leader() { report::Role::Leader } else { report::Role::Standby };
            report.redis.connected = status.is_connected.load(Ordering::Relaxed);
            report.redis.silent_ms = silent_ms;
            report.redis.reconnects = status.reconnects.load(Ordering::Relaxed);
            report.redis.last_error = status.last_error();
            report.redis.surveys = self.stats_read;
            report.redis.group_shared = status.is_group_shared();
            report.redis.clocks_apart_ms = status.clocks_apart_ms.load(Ordering::Relaxed);
            report.backfill = Some(fetched.into());
            report.policy.pending = processor.delivery.has_policy_pending();
            report.policy.hash_configured = processor.order_settings.policy.to_string();
            // A kill key that is set refuses every order, whatever the log contains.
            report.killed |= processor.kill_gate.is_killed() || processor.delivery.kills().seen == Some(true);
            put_outbox(report, processor, state, server_ms);
            report.journal.bytes = state.journal.bytes;
            report.journal.files = state.journal.files;
            report.journal.damaged = state.journal.damaged;
            report.journal.position = state.checkpoint;
            put_lease(report, role, holder);
        });
        self.log_accounts(&processor.driver.engine);
        self.log_changes();
        self.feed_watchdog();
        if self.ticked.elapsed() >= self.tick_interval {
            self.tick(&processor.driver.engine, state.emitted, fetched.api_calls);
        }
    }

    /// Logs the lines that are due at intervals, and publishes the checksum of the state.
    fn tick(&mut self, engine: &Engine, emitted: u64, api_calls: u64) {
        self.ticked = Instant::now();
        let emitted_since = emitted - std::mem::replace(&mut self.emitted_before, emitted);
        let calls_since = api_calls - std::mem::replace(&mut self.calls_before, api_calls);
        let checksum =
            report::StateChecksum { last: engine.globals().last.to_string(), sha256: state_checksum_hex(engine) };
        self.shared.publish(|report| report.state_checksum = Some(checksum));
        for line in operator_log::tick(engine, self.server_ms, emitted_since, calls_since) {
            line.log();
        }
    }

    /// Logs each concern that begins or ends, once.
    fn log_changes(&mut self) {
        for change in self.watch.look(&self.shared.read()) {
            match &change {
                Change::Came(_) => tracing::warn!("{change}"),
                Change::Went(_) => tracing::info!("{change}"),
            }
        }
    }

    fn feed_watchdog(&mut self) {
        let Some(interval) = self.manager.watchdog_interval() else { return };
        if self.watchdog_fed.elapsed() >= interval / 2 && report::alive(&self.shared.read()).ok {
            self.watchdog_fed = Instant::now();
            self.manager.alive();
        }
    }

    fn inputs(&self, processor: &Processor, server_ms: u64, silent_ms: u64) -> Vec<InputReport> {
        let engine = &processor.driver.engine;
        let describe = |(stream, named): (StreamId, &crate::domain::event::streams::Stream)| {
            let stream_stats = self.stats.get(usize::from(stream.0)).cloned().unwrap_or_default();
            let place = processor.delivery.position(stream);
            let cursor = engine.cursor(stream);
            let last = Some(stream_stats.last_id).filter(|id| *id != EntryId::default());
            let unread = stream_stats.entries_added.map(|added| added.saturating_sub(place.seen));
            // If the next entry is ahead of the clock, all later ones are, too.
            let is_ahead = self.ahead.get(usize::from(stream.0)).copied().unwrap_or(false);
            let lag_ms = last.zip(cursor).map(|(last, cursor)| last.ms.min(server_ms).saturating_sub(cursor.ms));
            InputReport {
                stream: named.name.clone(),
                kind: named.kind.name().to_owned(),
                entries_added: stream_stats.entries_added,
                lag_entries: if is_ahead { unread.map(|_| 0) } else { unread },
                lag_ms: if is_ahead { Some(0) } else { lag_ms }.map(|lag_ms| lag_ms.saturating_add(silent_ms)),
                ids_not_time: last.is_some_and(|last| last.ms < FIRST_TIME_MS),
                ids_ahead: if is_ahead { unread.unwrap_or(1) } else { 0 },
                // Before the first round, the server's clock is unknown.
                ahead_ms: last
                    .filter(|_| server_ms > 0)
                    .map(|last| last.ms.saturating_sub(server_ms))
                    .filter(|ms| *ms > IDS_AHEAD_MAX_MS),
                cursor: cursor.map(|id| id.to_string()),
                age_ms: last.map(|last| server_ms.saturating_sub(last.ms)),
                watched_ms: 0,
                pending: stream_stats.pending,
                pending_oldest_ms: stream_stats.pending_first.map(|first| server_ms.saturating_sub(first.ms)),
                gap_proof: if stream_stats.exists && stream_stats.entries_added.is_none() {
                    GapProof::Weak
                } else {
                    GapProof::Counted
                },
                silent_after_ms: self.silent_after.of(named.kind),
                fault: stream_stats.fault,
            }
        };
        engine.streams().iter().map(describe).collect()
    }
}

fn put_outbox(report: &mut Report, processor: &Processor, state: &State, server_ms: u64) {
    let outbox = processor.delivery.outbox();
    report.outbox.waiting = outbox.unwritten() as u64;
    report.outbox.doubtful = processor.delivery.doubtful() as u64;
    report.outbox.refusing.clone_from(&state.refusing);
    report.outbox.unnamed_executors.clone_from(&state.unnamed_executors);
    let oldest = outbox.rows().find(|row| row.written.is_none());
    report.outbox.oldest_ms = oldest.map(|row| server_ms.saturating_sub(row.cause_ms));
}

/// Returns the ids of the decisions that were certainly never sent: they are not in the stream, and no offer of theirs
/// is without an answer.
fn unsent<'a>(processor: &'a Processor, state: &State) -> BTreeSet<&'a str> {
    let rows = processor.delivery.outbox().rows();
    let unsent = rows.filter(|row| row.written.is_none() && !state.may_be_sent(row.seq));
    unsent.map(|row| &*row.decision_id).collect()
}

/// Puts the lease into the report. If the lease is no longer ours, the last fencing token stays in the report.
fn put_lease(report: &mut Report, role: &LeaseState, holder: LeaseHolder) {
    report.lease.holder = holder.name;
    report.lease.stuck = holder.stuck;
    report.lease.left_ms = None;
    if let LeaseState::Ours { lease, until } = role {
        report.lease.fencing_token = lease.split(' ').next().and_then(|token| token.parse().ok()).unwrap_or(0);
        report.lease.left_ms = Some(until.saturating_duration_since(Instant::now()).as_millis() as u64);
    }
}

impl From<&Fetched> for report::Backfill {
    fn from(fetched: &Fetched) -> Self {
        Self {
            api_calls: fetched.api_calls,
            circuit_open: fetched.is_circuit_open,
            wait: fetched.wait.map(|(status, until_ms)| ExchangeWait {
                status,
                until_ms,
                left_ms: until_ms.saturating_sub(wall_ms()),
            }),
            weight_used: fetched.weight_used,
            last_error: fetched.last_error.clone(),
            refusals: fetched.refusals.clone(),
            modes_differ: fetched.modes_differ.clone(),
            accounts_late: fetched.accounts_late,
        }
    }
}
