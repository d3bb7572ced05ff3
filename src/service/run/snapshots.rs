//! State snapshots of a running service, and the journal files that they replace.

use std::path::PathBuf;

use crate::codec::causes::with_causes;
use crate::codec::time::DAY_MS;
use crate::config::Config;
use crate::domain::engine::Engine;
use crate::domain::exit::policy::Policy;
use crate::drive::snapshots;

/// Snapshots that are kept. [1]
const KEPT: usize = 64;

/// Takes a snapshot after every so many journal entries, and at the end.
pub struct Snapshots {
    dir: PathBuf,
    every: u64,
    configured: Policy,
    /// How long files of the journal are kept; `None` for ever. [ms]
    retention_ms: Option<u64>,
    /// Position of the journal at the last snapshot.
    last: u64,
    is_due: bool,
}

impl Snapshots {
    /// Creates the schedule for a service whose journal is at `position`.
    pub fn of(config: &Config, position: u64) -> Self {
        Self {
            dir: snapshots::folder_of(&config.run.store),
            every: config.run.snapshot_entries,
            configured: config.policy.clone(),
            retention_ms: Some(config.journal.retention_days * DAY_MS).filter(|ms| *ms > 0),
            last: position,
            is_due: false,
        }
    }

    /// Notes a checkpoint at a position of the journal. [1]
    pub fn reached(&mut self, position: u64) {
        self.is_due |= position.saturating_sub(self.last) >= self.every;
    }

    /// Returns true if a snapshot is due. It waits until all folded entries are on disk.
    pub const fn is_waiting(&self) -> bool {
        self.is_due
    }

    /// Takes the last snapshot of a service.
    pub fn at_end(&mut self, engine: &Engine, position: u64) -> Option<(u64, u64)> {
        (position > self.last).then(|| self.take(engine, position))?
    }

    /// Takes a snapshot at a position of the journal. Returns a position and a time: files of the journal may be
    /// deleted if they end before the position and all their ids are before the time. [ms since 1970]
    ///
    /// A failure does not stop the service, because store and journal contain everything.
    pub fn take(&mut self, engine: &Engine, position: u64) -> Option<(u64, u64)> {
        (self.last, self.is_due) = (position, false);
        let taken = snapshots::take(&self.dir, engine, &self.configured, Some(position));
        if let Err(error) = taken.and_then(|_| snapshots::keep(&self.dir, KEPT)) {
            tracing::warn!("no snapshot: {}", with_causes(&error));
            return None;
        }
        Some((position, engine.globals().last.ms.saturating_sub(self.retention_ms?)))
    }
}
