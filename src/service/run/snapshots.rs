//! State snapshots of a running service, and the journal files that they replace.

use std::path::PathBuf;

use super::processor::Processor;
use crate::config::Config;
use crate::domain::exit::policy::Policy;
use crate::drive::snapshots;

/// Snapshots that are kept. [1]
const KEPT: usize = 64;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Takes a snapshot after a number of journal entries, and at the end.
pub struct Snapshots {
    dir: PathBuf,
    every: u64,
    configured: Policy,
    /// How long files of the journal are kept; `None`: for ever. [ms]
    retention_ms: Option<u64>,
    /// Position of the journal at the last snapshot.
    taken: u64,
}

impl Snapshots {
    /// Creates the schedule for a service whose journal is at `position`.
    pub fn of(config: &Config, position: u64) -> Self {
        Self {
            dir: snapshots::folder_of(&config.run.store),
            every: config.run.snapshot_entries,
            configured: config.policy.clone(),
            retention_ms: Some(config.journal.retention_days * DAY_MS).filter(|ms| *ms > 0),
            taken: position,
        }
    }

    /// Takes a snapshot after a commit if one is due: state and journal are then at the same position.
    pub fn after_commit(&mut self, fold: &mut Processor) {
        if fold.checkpoint.journal.saturating_sub(self.taken) >= self.every {
            self.take(fold);
        }
    }

    /// Takes a snapshot after the last commit of a service.
    pub fn at_end(&mut self, fold: &mut Processor) {
        if fold.checkpoint.journal > self.taken {
            self.take(fold);
        }
    }

    /// Takes a snapshot. A failure does not stop the service, because store and journal have everything.
    fn take(&mut self, fold: &mut Processor) {
        let position = fold.checkpoint.journal;
        self.taken = position;
        let taken = snapshots::take(&self.dir, &fold.projection.engine, &self.configured, Some(position));
        if let Err(error) = taken.and_then(|_| snapshots::keep(&self.dir, KEPT)) {
            tracing::warn!("no snapshot: {error:#}");
            return;
        }
        let Some(retention_ms) = self.retention_ms else { return };
        let older_than_ms = fold.projection.engine.globals().last.ms.saturating_sub(retention_ms);
        match fold.journal.retain(position, Some(older_than_ms)) {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "old files of the journal are given up"),
            Err(error) => tracing::warn!(%error, "old files of the journal stay"),
        }
    }
}
