//! `[run]`: the service itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::cell::{CELLS_MAX, NO_CELL};
use super::error::ConfigError;
use super::table::{Sheet, Table};
use crate::codec::decode::is_account_name;
use crate::codec::moment::Moment;
use crate::codec::time::DAY_MS;
use crate::domain::event::ids::EntryId;
use crate::domain::event::selection::{NO_NAME, SHARDS_MAX, Selection, Shard};
use crate::domain::event::streams::{SYMBOLS_MAX, StreamKind};

/// The accepted forms of `run.from`.
const START_FORMS: &str = "want earliest, latest, an entry id or a time (2026-02-04T02:07Z, 02:07, 90m ago)";

/// The start of a new consumer group, as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartSetting {
    Earliest,
    Latest,
    /// After this entry, or with the first one at this time or later.
    At(Moment),
}

impl StartSetting {
    /// Returns true if the start depends on the present time.
    pub const fn needs_now(self) -> bool {
        matches!(self, Self::At(moment) if moment.needs_end())
    }

    /// Returns the start, at the time of the server.
    pub fn start(self, now_ms: u64) -> Start {
        match self {
            Self::Earliest => Start::Earliest,
            Self::Latest => Start::Latest,
            Self::At(Moment::Entry(id)) => Start::After(id),
            Self::At(moment) => match moment.since(now_ms).ms.checked_sub(1) {
                Some(ms) => Start::After(EntryId::new(ms, u64::MAX)),
                None => Start::Earliest,
            },
        }
    }
}

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
    /// Number of this cell; `None` for a service that is not a cell.
    pub cell: Option<u32>,
    /// Number of cells, where it is stated. It never changes. [1]
    pub cells: Option<u32>,
    /// The cells of `accounts_by_cell`.
    pub listed_cells: Vec<u32>,
    /// Accounts that a setting here names, of all cells.
    pub accounts_named: Vec<String>,
    pub group: String,
    /// Name of the consumer. It must not change: entries of a consumer that does not return stay pending until another
    /// one claims them.
    pub consumer: String,
    pub store: PathBuf,
    pub journal: PathBuf,
    pub from: StartSetting,
    /// Address that serves health, metrics and positions; `None` = not served.
    pub listen: Option<SocketAddr>,
    /// Additional host names for the pages.
    pub hosts: Vec<String>,
    /// Maximum number of entries per read of each stream. [1]
    pub read_count: usize,
    /// True if the group remembers what it has delivered until it is acknowledged.
    pub pending_list: bool,
    /// Maximum number of symbols that prices alone may introduce. [1]
    pub max_symbols: usize,
    /// Number of entries after which a checkpoint is due … [1]
    pub checkpoint_entries: u64,
    /// … or time after the last one. [ms]
    pub checkpoint_ms: u64,
    pub lease_ms: u64,
    /// Interval between two `HARVEST_TICK` lines. [ms]
    pub tick_ms: u64,
    /// Number of entries between two state snapshots. [1]
    pub snapshot_entries: u64,
    /// Group of the service that this one replaces. Live mode waits until that group has stopped reading.
    pub old_group: Option<String>,
    pub silent_after_ms: SilentAfter,
}

impl Run {
    /// Returns the fault of a store and a journal that are one folder, or one inside the other.
    pub fn folders_meet(&self) -> Option<String> {
        let absolute = |path: &Path| {
            path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
        };
        let (store, journal) = (absolute(&self.store), absolute(&self.journal));
        let how = match () {
            () if store == journal => "are one folder",
            () if store.starts_with(&journal) || journal.starts_with(&store) => "are one inside the other",
            () => return None,
        };
        Some(format!("the store {} and the journal {} {how}", store.display(), journal.display()))
    }
}

pub(super) fn read(sheet: &mut Sheet<'_>, cell: Option<u32>) -> Result<(Run, Selection), ConfigError> {
    let mut table = sheet.table("run")?;
    table.cell("cell", cell);
    let cells = table.whole("cells", 0, 0..=u64::from(CELLS_MAX))?;
    let (selection, accounts_named, listed_cells) = selection(&mut table, cell)?;
    let cells = u32::try_from(cells).ok().filter(|cells| *cells > 0);
    if let (Some(cells), Some(cell), Selection::Shard(shard)) = (cells, cell, &selection)
        && shard.index == cell
        && shard.of != cells
    {
        return Err(table.refused("cells", &format!("want {}, as run.shard says", shard.of)));
    }
    let run = Run {
        cell,
        cells,
        listed_cells,
        accounts_named,
        group: table.name("group", None, "harvester")?,
        consumer: table.name("consumer", None, &host_name())?,
        store: table.path("store", "state")?,
        journal: table.path("journal", "journal")?,
        from: table.parsed("from", "earliest", START_FORMS, start_of)?,
        listen: table.listen("listen", "127.0.0.1:9464")?,
        hosts: table.hosts("hosts")?,
        read_count: count(table.whole("read_count", 1000, 1..=100_000)?),
        pending_list: table.boolean("pending_list", true)?,
        max_symbols: count(table.whole("max_symbols", SYMBOLS_MAX as u64, 1..=1_000_000)?),
        checkpoint_entries: table.whole("checkpoint_entries", 100_000, 1..=10_000_000)?,
        checkpoint_ms: table.whole("checkpoint_ms", 1000, 1..=60_000)?,
        lease_ms: table.whole("lease_ms", 5000, 500..=600_000)?,
        tick_ms: table.milliseconds("tick_ms", "HARVEST_SCAN_INTERVAL_SEC", 5000, 100..=3_600_000)?,
        snapshot_entries: table.whole("snapshot_entries", 1_000_000, 1000..=1_000_000_000)?,
        old_group: Some(table.text("old_group", None, "")?).filter(|group| !group.is_empty()),
        silent_after_ms: silent_after(&mut table)?,
    };
    table.finish()?;
    Ok((run, selection))
}

const WANTED: &str = "want accounts: 1 to 64 letters, digits, _, - and ., or (none) for the account without a name";

/// Reads the accounts whose entries are read, all names of accounts that these settings have, and the cells that they
/// give accounts to.
fn selection(table: &mut Table<'_, '_>, cell: Option<u32>) -> Result<(Selection, Vec<String>, Vec<u32>), ConfigError> {
    let listed = table.texts("accounts", &[])?;
    let shard = table.text("shard", None, "")?;
    let by_cell = table.lists_by_number("accounts_by_cell")?;
    let is_name = |name: &String| is_account_name(name) || name == NO_NAME;
    if let Some(wrong) = listed.iter().find(|name| !is_name(name)) {
        return Err(table.refused("accounts", &format!("{WANTED}, not {wrong:?}")));
    }
    let mut owners: BTreeMap<&str, u32> = BTreeMap::new();
    for (of, names) in &by_cell {
        let refused =
            |want: String| table.refused_below("accounts_by_cell", &of.to_string(), &format!("{names:?}"), &want);
        if let Some(wrong) = names.iter().find(|name| !is_name(name)) {
            return Err(refused(format!("{WANTED}, not {wrong:?}")));
        }
        for name in names {
            if let Some(other) = owners.insert(name, *of) {
                return Err(refused(format!(
                    "{name} is an account of cell {other}, too: give each account to one cell"
                )));
            }
        }
    }
    let named = listed.iter().chain(by_cell.values().flatten()).filter(|name| *name != NO_NAME).cloned();
    let named: Vec<String> = named.collect();
    let selection = match (listed.is_empty(), shard.is_empty(), by_cell.is_empty()) {
        (true, true, true) => Selection::All,
        (false, true, true) => Selection::listed(listed.iter().map(String::as_str)),
        (true, false, true) => {
            let want = format!("want a part and the number of parts (at most {SHARDS_MAX}), as 3/16 or %cell%/16");
            Selection::Shard(Shard::parse(&shard).ok_or_else(|| table.refused("shard", &want))?)
        }
        (true, true, false) => {
            let refused = |want: &str| table.refused_below("accounts_by_cell", "", "…", want);
            let cell = cell.ok_or_else(|| refused(&format!("it gives accounts to cells, {NO_CELL}")))?;
            let want = format!("it has no accounts for cell {cell}: give it some, or another cell");
            Selection::listed(by_cell.get(&cell).ok_or_else(|| refused(&want))?.iter().map(String::as_str))
        }
        _ => {
            let key = if listed.is_empty() { "shard" } else { "accounts" };
            return Err(table.refused(key, "want one of accounts, shard and accounts_by_cell, not two of them"));
        }
    };
    Ok((selection, named, by_cell.into_keys().collect()))
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

fn start_of(text: &str) -> Option<StartSetting> {
    if text.eq_ignore_ascii_case("earliest") {
        return Some(StartSetting::Earliest);
    }
    if text.eq_ignore_ascii_case("latest") {
        return Some(StartSetting::Latest);
    }
    text.parse().ok().map(StartSetting::At)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_the_first_entry_at_its_time_and_relative_times_count_from_now() {
        let now_ms = 1_770_171_058_600;
        let before = |ms: u64| Start::After(EntryId::new(ms - 1, u64::MAX));
        for (text, needs_now, wanted) in [
            ("Earliest", false, Start::Earliest),
            ("latest", false, Start::Latest),
            ("1770170851400-3", false, Start::After(EntryId::new(1_770_170_851_400, 3))),
            ("2026-02-04T02:07:31.4Z", false, before(1_770_170_851_400)),
            ("02:07:31.400", true, before(1_770_170_851_400)),
            ("90m ago", true, before(now_ms - 5_400_000)),
            ("99999 days ago", true, Start::Earliest),
        ] {
            let setting = start_of(text).expect("a start");
            assert_eq!((setting.needs_now(), setting.start(now_ms)), (needs_now, wanted), "{text}");
        }
    }
}
