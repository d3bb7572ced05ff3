//! The time until which the exchange accepts no call, stored in a file for restarts and for other processes.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Maximum wait that is believed. A ban lasts three days at most. [ms]
const WAIT_MAX_MS: u64 = 3 * 24 * 3_600_000;

/// A wait that the exchange demands. Its times are those of the wall clock, which outlive the process. [ms since 1970]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ban {
    pub(super) until_ms: u64,
    /// The HTTP status that demanded it.
    pub(super) status: u16,
}

#[derive(Debug)]
pub(super) struct BanFile {
    path: Option<PathBuf>,
    base_url: String,
    /// The ban that this process received, stored in the file or not.
    own: Option<Ban>,
}

impl BanFile {
    pub(super) fn new(path: Option<PathBuf>, base_url: String) -> Self {
        Self { path, base_url, own: None }
    }

    /// Returns the ban in force, if any: received by us, by us before a restart, or by another process.
    pub(super) fn in_force(&self, now_ms: u64) -> Option<Ban> {
        let remembered = self.path.as_deref().and_then(|path| read(path, &self.base_url));
        let is_in_force = |ban: &Ban| now_ms < ban.until_ms && ban.until_ms - now_ms <= WAIT_MAX_MS;
        [self.own, remembered].into_iter().flatten().filter(is_in_force).max_by_key(|ban| ban.until_ms)
    }

    /// Stores a wait that begins now. Returns the ban in force, and an error if it could not be stored.
    pub(super) fn remember(&mut self, status: u16, wait_ms: u64, now_ms: u64) -> (Ban, io::Result<()>) {
        let received = Ban { until_ms: now_ms + wait_ms.clamp(1, WAIT_MAX_MS), status };
        // A later and shorter wait does not end a longer one.
        let ban = self.in_force(now_ms).filter(|ban| ban.until_ms > received.until_ms).unwrap_or(received);
        self.own = Some(ban);
        let written = self.path.as_deref().map_or(Ok(()), |path| write(path, ban, &self.base_url));
        (ban, written)
    }
}

/// Parses `until status base_url`. Returns `None` if the file is missing or damaged.
fn read(path: &Path, base_url: &str) -> Option<Ban> {
    let text = fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let ban = Ban { until_ms: words.next()?.parse().ok()?, status: words.next()?.parse().ok()? };
    // A ban applies to one exchange.
    (words.next()? == base_url).then_some(ban)
}

/// Writes to a temporary file and renames it, so a reader never sees a partial file.
fn write(path: &Path, ban: Ban, base_url: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{} {} {base_url}", ban.until_ms, ban.status)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i46_a_ban_outlives_the_process_and_is_of_one_exchange() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/exchange.wait");
        let file = |base: &str| BanFile::new(Some(path.clone()), base.to_owned());
        let (ban, written) = file("https://a").remember(418, 75 * 60_000, 1_000);
        written.unwrap();
        assert_eq!(ban, Ban { until_ms: 4_501_000, status: 418 });
        assert_eq!(file("https://a").in_force(4_500_999), Some(ban));
        assert_eq!(file("https://a").in_force(4_501_000), None);
        assert_eq!(file("https://b").in_force(2_000), None);
        let mut again = file("https://a");
        assert_eq!(again.remember(429, 1_000, 2_000).0, ban, "a shorter wait does not end a longer one");
        fs::write(&path, "nonsense").unwrap();
        assert_eq!(file("https://a").in_force(2_000), None);
        assert_eq!(again.in_force(2_000), Some(ban), "a ban that this process received needs no file");
        fs::write(&path, "99999999999999 418 https://a").unwrap();
        assert_eq!(file("https://a").in_force(2_000), None, "no ban takes thousands of years");
    }
}
