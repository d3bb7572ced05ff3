//! Snapshots that a replay takes on its way.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::domain::engine::Engine;
use crate::domain::exit::policy::Policy;
use crate::drive::snapshots;
use crate::shell::history::History;

/// Snapshots that are taken during the replay.
pub(super) struct Snapshots<'a> {
    dir: PathBuf,
    every: Option<u64>,
    configured: &'a Policy,
    /// By file, the position of its first line, if the history is one journal.
    journal: Vec<Option<u64>>,
    entries: u64,
    position: Option<u64>,
}

impl<'a> Snapshots<'a> {
    pub(super) fn of(store: Option<&Path>, every: Option<u64>, history: &History, config: &'a Config) -> Self {
        Self {
            dir: store.map(snapshots::folder_of).unwrap_or_default(),
            every: every.filter(|_| store.is_some()),
            configured: &config.policy,
            journal: history.journal_firsts(),
            entries: 0,
            position: None,
        }
    }

    pub(super) fn after(&mut self, (file, number): (u32, u64), engine: &Engine) -> anyhow::Result<()> {
        let Some(every) = self.every else { return Ok(()) };
        self.entries += 1;
        if let Some(first) = self.journal[file as usize] {
            self.position = Some(first + number);
        }
        if self.entries.is_multiple_of(every) { self.take(engine) } else { Ok(()) }
    }

    pub(super) fn at_end(&self, engine: &Engine) -> anyhow::Result<()> {
        match self.every {
            Some(every) if !self.entries.is_multiple_of(every) => self.take(engine),
            Some(_) | None => Ok(()),
        }
    }

    fn take(&self, engine: &Engine) -> anyhow::Result<()> {
        snapshots::take(&self.dir, engine, self.configured, self.position)?;
        Ok(())
    }
}
