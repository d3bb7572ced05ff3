//! The plain data that the running service publishes about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::exchange::AccountMode;
use crate::domain::named;
use crate::shell::redis::StreamFault;

named! {
    /// The present work of an instance.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Role {
        /// Connecting, opening the store, folding the tail of the journal.
        #[default]
        Starting => "starting",
        /// The store is folded again; nothing is emitted.
        Rebuilding => "rebuilding",
        /// Follows with a warm projection; another instance has the lease.
        Standby => "standby",
        /// Owns the lease: reads with the group and emits.
        Leader => "leader",
        Stopping => "stopping",
    }
}

/// How the loss of entries from a stream can be detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapProof {
    /// `entries-added − length > seen`: Redis 7.0 and newer.
    Counted,
    /// Only the hint that the first id is after the cursor: Redis 6.2.
    #[default]
    Weak,
}

/// One input stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputReport {
    pub stream: String,
    pub kind: String,
    /// Entries ever added to the stream, as the server counts them. [1]
    pub entries_added: Option<u64>,
    /// `entries-added − seen`: entries that are still to be consumed. [1]
    pub lag_entries: Option<u64>,
    /// Distance by ids between the last entry of the stream and the last one consumed; entries whose ids are ahead of
    /// the server's clock do not count. While the server does not answer, the time without an answer is added. [ms]
    pub lag_ms: Option<u64>,
    /// Entries that wait because their ids are ahead of the server's clock. [1]
    pub ids_ahead: u64,
    /// True if the newest id is not a time: it is before 2010.
    pub ids_not_time: bool,
    /// How far the newest id is ahead of the server's clock, if that is more than clocks may differ. [ms]
    pub ahead_ms: Option<u64>,
    /// Id of the last entry consumed: the cursor.
    pub cursor: Option<String>,
    /// Age of the last entry of the stream, by the server's clock. [ms]
    pub age_ms: Option<u64>,
    /// How long the service has been watching the stream. [ms]
    pub watched_ms: u64,
    /// Entries that were delivered to the group and are not acknowledged. [1]
    pub pending: u64,
    /// Age of the oldest of them. [ms]
    pub pending_oldest_ms: Option<u64>,
    pub gap_proof: GapProof,
    /// From this age on the input counts as silent; `None`: it may be silent without limit. [ms]
    pub silent_after_ms: Option<u64>,
    /// Why the stream can be neither read nor written: its key contains something else, or its ids are exhausted.
    pub fault: Option<StreamFault>,
}

impl InputReport {
    /// Returns true if nothing has been written to the stream for longer than is allowed. `unanswered_ms` is the time
    /// for which the server has not answered: then nobody knows what was written. [ms]
    pub fn is_silent(&self, unanswered_ms: u64) -> bool {
        self.silent_after_ms.is_some_and(|limit| self.silent_ms().saturating_sub(unanswered_ms) > limit)
    }

    /// Returns the time since the last entry; for a stream without entries, the time since the service began to watch
    /// it. [ms]
    pub fn silent_ms(&self) -> u64 {
        self.age_ms.unwrap_or(self.watched_ms)
    }

    /// Returns true if every entry is consumed. If the server does not count entries, ids are compared.
    pub fn is_consumed(&self) -> bool {
        self.lag_entries.or(self.lag_ms) == Some(0)
    }
}

/// Entries and decisions since the process began. The findings about entries also survive the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunTotals {
    /// `applied + duplicates + quarantined`. [1]
    pub entries: u64,
    pub applied: u64,
    pub duplicates: u64,
    pub quarantined: BTreeMap<String, u64>,
    /// By kind, then shape. [1]
    pub shapes: BTreeMap<String, BTreeMap<String, u64>>,
    /// `late_order`, `fills_repeated`, … [1]
    pub counts: BTreeMap<String, u64>,
    /// `results`, `snapshots` and `times` that cannot be read.
    pub unreadable: BTreeMap<String, Past>,
    /// Entries that the service did not believe: `bad_signature`, `decision_foreign`.
    pub refused: BTreeMap<String, Past>,
    /// Evaluations that ended in a hold, by reason. [1]
    pub holds: BTreeMap<String, u64>,
    pub evaluations: u64,
    /// Decisions made. [1]
    pub decided: u64,
    /// Decisions that reached the output stream. [1]
    pub emitted: u64,
}

/// Entries with the same finding, since the store began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// [1]
    pub entries: u64,
    /// Age of the last one. [ms]
    pub last_age_ms: u64,
}

/// Open positions and the states of decisions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Positions {
    pub open: u64,
    /// Open, nothing missing, a price known. [1]
    pub evaluable: u64,
    pub missing: BTreeMap<String, u64>,
    /// Open positions by the hold that they have now. [1]
    pub held: BTreeMap<String, u64>,
    /// Open positions whose history has a gap. [1]
    pub gap_open: u64,
    /// Symbols without a position whose history has a gap. [1]
    pub gap_flat: u64,
    /// Symbols with a quantity from one snapshot that is not confirmed yet.
    pub unconfirmed: Vec<String>,
    /// True if no source has reported any position so far, not even a flat one. This is not the same as flat.
    pub unknown: bool,
    /// True if the service is a cell without an account: none of its accounts is configured, and no entry has named one.
    pub no_accounts: bool,
    /// Age of the price in use of each open position; those without a price are not listed. [ms]
    pub mark_age_ms: BTreeMap<String, u64>,
    /// Decisions of open positions by state. [1]
    pub decisions_open: BTreeMap<String, u64>,
    /// Decisions of recently closed positions, by state. Orders are kept for a limited time. [1]
    pub decisions_closed: BTreeMap<String, u64>,
    /// Open positions by account, `""` for the account without a name; empty if no account with a name has one.
    pub accounts: BTreeMap<String, AccountTotals>,
}

/// Totals of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountTotals {
    pub open: u64,
    /// Open, nothing missing, a price known. [1]
    pub evaluable: u64,
    /// Open positions whose history has a gap. [1]
    pub gap_open: u64,
}

impl AccountTotals {
    pub fn add(&mut self, other: Self) {
        self.open += other.open;
        self.evaluable += other.evaluable;
        self.gap_open += other.gap_open;
    }
}

/// Decisions that were committed and are not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboxReport {
    pub waiting: u64,
    /// Age of the oldest, by its cause. [ms]
    pub oldest_ms: Option<u64>,
    /// In doubt: Redis remembers an entry id for it, but that entry is not this decision. [1]
    pub doubtful: u64,
    /// Streams and keys that reject our writes, with the reason.
    pub refusing: BTreeMap<String, String>,
    /// Groups that read order requests and are not configured as executors.
    pub unnamed_executors: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JournalReport {
    /// [bytes]
    pub bytes: u64,
    pub files: u64,
    /// Closed files that were found damaged when the service started after a crash. [1]
    pub damaged: u64,
    /// Entries in it, or another position that only grows. [1]
    pub position: u64,
}

/// The lease by which one instance emits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// The holder; `None` if there is none, or it is not known.
    pub holder: Option<String>,
    /// Why no instance can take the lease, with the next step.
    pub stuck: Option<String>,
    pub fencing_token: u64,
    /// [ms]
    pub left_ms: Option<u64>,
}

/// The rules and settings in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyReport {
    /// Hash of the policy in force.
    pub hash: String,
    /// Hash of the configured policy. An order is sent only under this policy.
    pub hash_configured: String,
    /// Mode of the policy in force: `shadow` or `live`.
    pub mode: String,
    /// Mode of the running configuration.
    pub mode_configured: String,
    /// True if the configured policy was written to the control stream and is not folded yet.
    pub pending: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisReport {
    pub connected: bool,
    pub version: String,
    pub last_error: Option<String>,
    /// How long the server has not answered; 0 while it answers in a usual time. [ms]
    pub silent_ms: u64,
    pub reconnects: u64,
    /// How often the statistics of the streams were read. It does not grow while the reader hangs. [1]
    pub surveys: u64,
    /// The largest difference between the clocks of the servers that the service reads from. [ms]
    pub clocks_apart_ms: u64,
    /// True if another process took entries of our consumer group within the last minute.
    pub group_shared: bool,
}

/// The server cannot be used if it has not answered for longer than this. [ms]
const SILENT_MAX_MS: u64 = 5_000;

impl RedisReport {
    /// Returns true if there is a connection and the server answers on it.
    pub const fn is_usable(&self) -> bool {
        self.connected && !self.is_silent()
    }

    /// Returns true if the server has not answered for too long.
    pub const fn is_silent(&self) -> bool {
        self.silent_ms > SILENT_MAX_MS
    }
}

/// The requests to the exchange.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backfill {
    pub api_calls: u64,
    /// True after too many failures: nothing is requested for a while.
    pub circuit_open: bool,
    /// A wait that the exchange demands.
    pub wait: Option<ExchangeWait>,
    /// Weight used in this minute, as the exchange counts it. [1]
    pub weight_used: Option<u64>,
    pub last_error: Option<String>,
    /// Why the exchange returns no positions: for each account for which it refuses to, or has failed more than once in
    /// a row.
    pub refusals: Vec<AccountRefusal>,
    /// Accounts whose position mode at the exchange is not that of their entries.
    pub modes_differ: Vec<PositionMode>,
    /// Accounts whose positions were not looked up for much longer than the configured interval, because the calls are
    /// too few for all. [1]
    pub accounts_late: u64,
}

/// A wait that the exchange demands: until its end no call is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExchangeWait {
    /// The HTTP status that demanded it: 418 is a ban of the address.
    pub status: u16,
    /// By the clock of this machine. [ms since 1970]
    pub until_ms: u64,
    /// [ms]
    pub left_ms: u64,
}

/// Why the exchange returns no positions of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountRefusal {
    /// Empty for the account without a name.
    pub account: String,
    pub why: String,
}

/// The position mode of an account, at the exchange and in its entries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PositionMode {
    /// Empty for the account without a name.
    pub account: String,
    pub exchange: String,
    pub entries: String,
}

impl PositionMode {
    pub fn of(account: &str, exchange: AccountMode, entries: AccountMode) -> Self {
        let (exchange, entries) = (exchange.name().to_owned(), entries.name().to_owned());
        Self { account: account.to_owned(), exchange, entries }
    }
}

/// Checksum of the state, with the position in the journal that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateChecksum {
    /// Id of the entry that was applied last.
    pub last: String,
    pub sha256: String,
}

/// Entries and decisions per second, over the last seconds. [1/s]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// Entries written to the input streams; `None` if the server does not count.
    pub added: Option<f64>,
    pub applied: f64,
    pub emitted: f64,
}

/// Everything that the service reports about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Version and build.
    pub build: String,
    pub rules_version: String,
    /// Hash of the effective settings.
    pub settings_hash: String,
    pub group: String,
    pub consumer: String,
    /// The cell and its accounts; absent for a service that is not a cell and reads all accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<String>,
    pub role: Role,
    pub uptime_ms: u64,
    /// Id of the entry that was applied last.
    pub last: Option<String>,
    pub inputs: Vec<InputReport>,
    pub totals: RunTotals,
    pub rates: Rates,
    pub positions: Positions,
    /// True if all accounts are killed.
    pub killed: bool,
    /// Accounts that are killed by an entry of their own, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub killed_accounts: Vec<String>,
    pub policy: PolicyReport,
    pub outbox: OutboxReport,
    pub journal: JournalReport,
    pub lease: Lease,
    pub redis: RedisReport,
    pub state_checksum: Option<StateChecksum>,
    pub backfill: Option<Backfill>,
    /// Time since the cursor last moved, or since the streams last had nothing to read. [ms]
    pub progress_age_ms: u64,
    /// Time since the service last published the report. [ms]
    pub published_age_ms: u64,
}

impl Report {
    /// Returns the share of open positions that can be evaluated; `None` if none is open. [1]
    pub fn evaluable_share(&self) -> Option<f64> {
        (self.positions.open > 0).then(|| self.positions.evaluable as f64 / self.positions.open as f64)
    }

    /// Returns true if, by the last statistics, there is nothing to read: every lag is known and zero.
    pub fn is_idle(&self) -> bool {
        self.redis.connected && self.inputs.iter().all(InputReport::is_consumed)
    }

    /// Returns the values that change whenever the service makes progress: its role, its connection, the entries
    /// folded, the cursors.
    ///
    /// Duplicates do not count: to read the same entries again and again is not progress.
    pub fn progress(&self) -> (Role, bool, u64, Vec<Option<String>>) {
        let cursors = self.inputs.iter().map(|input| input.cursor.clone()).collect();
        let folded = self.totals.entries.saturating_sub(self.totals.duplicates);
        (self.role, self.redis.connected, folded, cursors)
    }
}
