//! `[journal]`: our own record of every consumed entry.

use super::error::ConfigError;
use super::table::Sheet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Size at which a file is closed. It is also closed at the end of the day. [bytes]
    pub rotate_bytes: u64,
    /// Time for which files are kept, unless a rebuild needs them; 0 = without limit. [days]
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
