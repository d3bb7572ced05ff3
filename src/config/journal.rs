//! `[journal]`: our own record of everything consumed.

use super::error::ConfigError;
use super::table::Sheet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// A file is closed when it holds this much, and at the end of the day. [bytes]
    pub rotate_bytes: u64,
    /// How long files are kept, unless a rebuild needs them; 0 = for good. [days]
    pub retention_days: u64,
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Journal, ConfigError> {
    let mut table = sheet.table("journal")?;
    let journal = Journal {
        rotate_bytes: table.whole("rotate_bytes", 256 << 20, 65_536..=1 << 40)?,
        retention_days: table.whole("retention_days", 0, 0..=36_500)?,
    };
    table.finish()?;
    Ok(journal)
}
