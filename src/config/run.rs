//! `[run]`: the service itself.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::error::ConfigError;
use super::table::{Sheet, Table};
use crate::codec::time;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::{SYMBOLS_MAX, StreamKind};

/// One day, the maximum of every interval here. [ms]
const DAY_MS: u64 = 86_400_000;

/// The start of a new consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Earliest,
    Latest,
    /// Entries after this one.
    After(EntryId),
}

/// Time without an entry after which a stream counts as silent; 0 = never. [ms]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SilentAfter {
    pub intent: u64,
    pub plan: u64,
    pub result: u64,
    pub snapshot: u64,
    pub price: u64,
}

impl SilentAfter {
    /// Returns the time for a kind of stream; `None` if its silence has no meaning. [ms]
    pub fn of(&self, kind: StreamKind) -> Option<u64> {
        let ms = match kind {
            StreamKind::Intent => self.intent,
            StreamKind::Plan => self.plan,
            StreamKind::Result => self.result,
            StreamKind::Snapshot => self.snapshot,
            StreamKind::Price => self.price,
            StreamKind::Control | StreamKind::Observation | StreamKind::Decision => 0,
        };
        (ms > 0).then_some(ms)
    }
}

/// Settings of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub group: String,
    /// Name of the consumer. It must not change: entries of a consumer that does not return stay pending until another
    /// one claims them.
    pub consumer: String,
    pub store: PathBuf,
    pub journal: PathBuf,
    pub from: Start,
    /// Address that serves health, metrics and positions; `None` = not served.
    pub listen: Option<SocketAddr>,
    /// Additional host names for the pages.
    pub hosts: Vec<String>,
    /// Maximum number of entries per read of each stream. [1]
    pub read_count: usize,
    /// Maximum number of symbols that prices alone may introduce. [1]
    pub max_symbols: usize,
    /// Number of entries after which a commit is due … [1]
    pub commit_entries: usize,
    /// … or time after the first of them. [ms]
    pub commit_interval_ms: u64,
    pub lease_ms: u64,
    /// Interval between two `HARVEST_TICK` lines. [ms]
    pub tick_ms: u64,
    /// Number of entries between two state snapshots. [1]
    pub snapshot_entries: u64,
    /// Group of the service that this one replaces. Live mode waits until that group has stopped reading.
    pub old_group: Option<String>,
    pub silent_after_ms: SilentAfter,
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Run, ConfigError> {
    let mut table = sheet.table("run")?;
    let run = Run {
        group: table.name("group", None, "harvester")?,
        consumer: table.name("consumer", None, &host_name())?,
        store: table.path("store", "state")?,
        journal: table.path("journal", "journal")?,
        from: table.parsed("from", "earliest", "want earliest, latest, an entry id or a time", start_of)?,
        listen: table.listen("listen", "127.0.0.1:9464")?,
        hosts: table.hosts("hosts")?,
        read_count: count(table.whole("read_count", 1000, 1..=100_000)?),
        max_symbols: count(table.whole("max_symbols", SYMBOLS_MAX as u64, 1..=1_000_000)?),
        commit_entries: count(table.whole("commit_entries", 10_000, 1..=1_000_000)?),
        commit_interval_ms: table.whole("commit_interval_ms", 5, 0..=60_000)?,
        lease_ms: table.whole("lease_ms", 5000, 500..=600_000)?,
        tick_ms: table.milliseconds("tick_ms", "HARVEST_SCAN_INTERVAL_SEC", 5000, 100..=3_600_000)?,
        snapshot_entries: table.whole("snapshot_entries", 1_000_000, 1000..=1_000_000_000)?,
        old_group: Some(table.text("old_group", None, "")?).filter(|group| !group.is_empty()),
        silent_after_ms: silent_after(&mut table)?,
    };
    table.finish()?;
    Ok(run)
}

fn silent_after(table: &mut Table<'_, '_>) -> Result<SilentAfter, ConfigError> {
    let mut table = table.below("silent_after_ms")?;
    let silent_after = SilentAfter {
        intent: table.whole("intent", 0, 0..=7 * DAY_MS)?,
        plan: table.whole("plan", 0, 0..=7 * DAY_MS)?,
        result: table.whole("result", 600_000, 0..=7 * DAY_MS)?,
        snapshot: table.whole("snapshot", 300_000, 0..=7 * DAY_MS)?,
        price: table.whole("price", 30_000, 0..=7 * DAY_MS)?,
    };
    table.finish()?;
    Ok(silent_after)
}

fn start_of(text: &str) -> Option<Start> {
    if text.eq_ignore_ascii_case("earliest") {
        return Some(Start::Earliest);
    }
    if text.eq_ignore_ascii_case("latest") {
        return Some(Start::Latest);
    }
    if let Ok(id) = text.parse() {
        return Some(Start::After(id));
    }
    // A time includes all entries at that time or later.
    let ms = time::business_ms(text)?;
    Some(Start::After(EntryId::new(ms.checked_sub(1)?, u64::MAX)))
}

/// Converts a number whose range is small.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Returns the name of this host, which is independent of the process.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().trim().to_owned();
    if name.is_empty() { "harvester".to_owned() } else { name }
}
