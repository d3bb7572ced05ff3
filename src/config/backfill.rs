//! `[backfill]`: look-ups of facts that the log does not contain.

use super::error::ConfigError;
use super::table::Sheet;

/// A source from which a missing fact may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Redis,
    Api,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Interval between two look-ups of the exchange's positions; 0 = none. [ms]
    pub position_poll_ms: u64,
    pub tick_ms: u64,
    /// Maximum number of calls to the exchange per tick. [1]
    pub max_api_calls: u64,
    /// True if the hashes of the old service are updated.
    pub write_back: bool,
    /// Prefix of the keys of those hashes.
    pub hash_prefix: String,
    /// Sources in the order in which they are tried.
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
