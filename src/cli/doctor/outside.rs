//! Checks outside of the streams: the store, and the clocks.

use std::path::Path;
use std::time::UNIX_EPOCH;

use super::check::Check;
use crate::codec::causes::with_causes;
use crate::codec::plural::plural;
use crate::codec::time::span;
use crate::domain::engine::RULES_VERSION;
use crate::drive::projection::{self, ProjectionError};
use crate::service::report::CLOCKS_APART_MS;
use crate::shell::exchange::wall_ms;
use crate::shell::journal::Journal;
use crate::shell::store::OpenError;

/// Checks a store folder: version, size, age of the last flush.
pub fn store(dir: &Path, now_ms: u64) -> Vec<Check> {
    const AREA: &str = "store";
    let name = dir.display().to_string();
    if !dir.exists() {
        // The folder will be created in its nearest existing parent.
        let above = dir.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
        let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if let Err(error) = rustix::fs::access(above, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
            let found = format!("it cannot be made in {}: {error}", above.display());
            return vec![Check::problem(AREA, name, found, "give the user of the service a folder that it may write")];
        }
        return vec![Check::ok(AREA, name, "there is none yet")];
    }
    let (bytes, flushed_ms) = size_and_change(dir);
    let flushed =
        flushed_ms.map_or_else(String::new, |ms| format!(", flushed {} ago", span(now_ms.saturating_sub(ms))));
    let size = format!("{:.1} MB{flushed}", bytes as f64 / 1e6);
    match projection::read(dir) {
        Ok((engine, _)) => {
            let found = format!("rules {RULES_VERSION}, {size}, as of {}", engine.globals().last);
            let gaps = engine.globals().gaps.len();
            let mut checks = vec![Check::ok(AREA, &name, found)];
            if gaps > 0 {
                let next = "fill them from another history: harvester backfill --gap";
                checks.push(Check::warning(AREA, &name, format!("{} in its history", plural(gaps, "gap")), next));
            }
            checks
        }
        Err(ProjectionError::Open(OpenError::InUse { .. })) => {
            vec![Check::ok(AREA, name, format!("{size}, in use by a running service"))]
        }
        // No command folds anything into it, or moves it.
        Err(error @ ProjectionError::Open(OpenError::Foreign { .. })) => {
            let next = "name another folder in [run] store, which does not exist yet or holds a store of harvester";
            vec![Check::problem(AREA, name, with_causes(&error), next)]
        }
        Err(error) => {
            let error = with_causes(&error);
            let next = "fold it anew from the journal: harvester replay JOURNAL --store DIR moves the old one aside";
            vec![Check::problem(AREA, name, format!("{size}: {error}"), next)]
        }
    }
}

/// Compares the files of a journal with what was written. The service looks at the newest ones only, and after a crash
/// only.
pub fn journal(dir: &Path) -> Vec<Check> {
    const AREA: &str = "journal";
    if !dir.is_dir() {
        return Vec::new();
    }
    let name = dir.display().to_string();
    let report = match Journal::verify(dir) {
        Ok(report) => report,
        Err(error) => {
            let next = "give the journal's folder and its files to the user of the service";
            return vec![Check::problem(AREA, name, with_causes(&error), next)];
        }
    };
    if report.findings.is_empty() {
        if report.files.is_empty() {
            return Vec::new();
        }
        return vec![Check::ok(AREA, name, format!("{} as written", plural(report.files.len() as u64, "file")))];
    }
    let next = "stop the service, and put back a copy of the file: a replay or a rebuild needs it";
    let found = report.findings.into_iter();
    found.map(|finding| Check::problem(AREA, finding.file.display().to_string(), finding.what, next)).collect()
}

/// Returns the size of all files of a folder [bytes], and when the last of them changed [ms since 1970].
fn size_and_change(dir: &Path) -> (u64, Option<u64>) {
    let (mut bytes, mut changed) = (0, None);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if data.is_dir() {
            let (more, at) = size_and_change(&entry.path());
            (bytes, changed) = (bytes + more, changed.max(at));
        } else {
            let at = data.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            bytes += data.len();
            changed = changed.max(at.and_then(|at| u64::try_from(at.as_millis()).ok()));
        }
    }
    (bytes, changed)
}

/// Compares the clock of this machine with the clock of the streams' server.
pub fn clock(redis_ms: u64) -> Check {
    let apart_ms = wall_ms().abs_diff(redis_ms);
    let found = format!("{apart_ms} ms apart from that of Redis");
    if apart_ms > CLOCKS_APART_MS {
        return Check::warning("clock", "this machine", found, "synchronise both machines (chrony, systemd-timesyncd)");
    }
    Check::ok("clock", "this machine", found)
}
