//! `[backfill]`: what is fetched when the log does not say it.

use super::error::ConfigError;
use super::table::Sheet;

/// Where a fact that is missing may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Redis,
    Api,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Between two looks at the exchange's positions; 0 = none. [ms]
    pub position_poll_ms: u64,
    pub tick_ms: u64,
    /// Calls of the exchange in one tick. [1]
    pub max_api_calls: u64,
    /// Whether the hashes of the old service are written to.
    pub write_back: bool,
    /// What the keys of those hashes begin with.
    pub hash_prefix: String,
    /// In the order in which they are asked.
    pub sources: Vec<Source>,
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Backfill, ConfigError> {
    let mut table = sheet.table("backfill")?;
    let backfill = Backfill {
        position_poll_ms: table.whole("position_poll_ms", 60_000, 0..=86_400_000)?,
        tick_ms: table.whole("tick_ms", 5000, 100..=3_600_000)?,
        max_api_calls: table.whole("max_api_calls", 10, 0..=1000)?,
        write_back: table.boolean("write_back", false)?,
        hash_prefix: table.name("hash_prefix", None, "quantum:position:")?,
        sources: table.words("sources", &[("redis", Source::Redis), ("api", Source::Api)])?,
    };
    table.finish()?;
    Ok(backfill)
}
