//! Folds with rows, for users with a store (a service, and a projection): the rows of the next commit, and their
//! destination.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::driver::Stepped;
use crate::codec::line;
use crate::codec::seal::Sealed;
use crate::codec::state::{self, Quarantined, Row};
use crate::domain::engine::{Disposition, Engine};
use crate::domain::event::Entry;
use crate::domain::event::streams::StreamKind;
use crate::shell::store::{OpenError, Rebuild, Store, StoreError};

/// Maximum number of entries between two commits of a replay. [1]
const COMMIT_ENTRIES: u64 = 100_000;
/// Maximum time between two commits of a replay.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of the rows that wait for a commit. [bytes]
const COMMIT_BYTES: usize = 8 << 20;

/// The place where a projection is stored.
pub enum Backing {
    /// In memory only, without a store.
    Memory,
    Store(Store),
    /// A new store next to the one in use. It replaces that one at the end.
    Rebuild(Rebuild),
}

impl Backing {
    /// Writes rows as one commit.
    pub fn commit(&mut self, rows: Vec<Row>) -> Result<(), StoreError> {
        match self {
            Self::Memory => {}
            Self::Store(store) => store.commit(rows.into_iter())?,
            Self::Rebuild(rebuild) => rebuild.store().commit(rows.into_iter())?,
        }
        Ok(())
    }

    /// Replaces the old store with a rebuilt one. Returns the new path of the old store.
    pub fn finish(self) -> Result<Option<PathBuf>, OpenError> {
        match self {
            Self::Rebuild(rebuild) => Ok(rebuild.swap()?),
            Self::Memory | Self::Store(_) => Ok(None),
        }
    }

    pub const fn is_rebuild(&self) -> bool {
        matches!(self, Self::Rebuild(_))
    }
}

/// The rows of the next commit.
pub struct PendingRows {
    /// Symbols whose names are written. [1]
    names_written: usize,
    rows: Vec<Row>,
    bytes: usize,
    entries: u64,
}

impl PendingRows {
    /// Creates it for a state whose first `names_written` symbols are in the store already.
    pub const fn new(names_written: usize) -> Self {
        Self { names_written, rows: Vec::new(), bytes: 0, entries: 0 }
    }

    /// Makes a row part of the next commit.
    pub fn stage(&mut self, row: Row) {
        self.bytes += row.0.len() + row.1.as_ref().map_or(0, Vec::len);
        self.rows.push(row);
    }

    /// Folds one entry. `raw` returns its history line, if the quarantine needs it.
    pub fn fold(&mut self, engine: &mut Engine, entry: &Entry, raw: impl FnOnce() -> String) -> Stepped {
        let folded = Stepped::by(engine, entry);
        for (_, sealed) in &folded.decided {
            self.stage(state::decision_row(sealed.seq, &decision_line(engine, sealed, entry)));
        }
        if let Disposition::Quarantined(reason) = folded.disposition {
            let stream = engine.streams().get(entry.stream).name.clone();
            let quarantined = Quarantined { stream, id: entry.id, reason: reason.name().to_owned(), line: raw() };
            self.stage(state::quarantine_row(&quarantined));
        }
        self.entries += 1;
        folded
    }

    /// Takes all rows: those that were added, then those of the state that changed.
    pub fn take(&mut self, engine: &mut Engine) -> Vec<Row> {
        let changes = engine.take_changes();
        let mut rows = std::mem::take(&mut self.rows);
        rows.extend(state::changed_rows(engine, &changes, &mut self.names_written));
        (self.bytes, self.entries) = (0, 0);
        rows
    }
}

/// The rows of the next commit, and their destination.
pub(super) struct Commits {
    pub(super) backing: Backing,
    pub(super) pending: PendingRows,
    committed: Instant,
}

/// The half of a projection that folds while the other half decodes.
pub struct Folding<'a> {
    pub engine: &'a mut Engine,
    pub(super) commits: &'a mut Commits,
}

impl Commits {
    /// Creates it for a state whose first `names_written` symbols are in the store already.
    pub(super) fn to(backing: Backing, names_written: usize) -> Self {
        Self { backing, pending: PendingRows::new(names_written), committed: Instant::now() }
    }

    fn is_due(&self) -> bool {
        let PendingRows { bytes, entries, .. } = self.pending;
        entries >= COMMIT_ENTRIES
            || bytes >= COMMIT_BYTES
            || (entries.is_multiple_of(1024) && self.committed.elapsed() >= COMMIT_INTERVAL)
    }
}

impl Folding<'_> {
    /// Folds one entry, and commits if enough has accumulated. Returns the sealed decisions that the entry caused.
    pub fn step(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> Result<Vec<Sealed>, StoreError> {
        let folded = self.fold(entry, raw);
        if !matches!(self.commits.backing, Backing::Memory) && self.commits.is_due() {
            self.commit()?;
        }
        Ok(folded.decided.into_iter().map(|(_, sealed)| sealed).collect())
    }

    pub(super) fn fold(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> Stepped {
        match self.commits.backing {
            Backing::Memory => Stepped::by(self.engine, entry),
            Backing::Store(_) | Backing::Rebuild(_) => self.commits.pending.fold(self.engine, entry, raw),
        }
    }

    /// Writes every change in one batch: state, cursors and decisions.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        if !matches!(self.commits.backing, Backing::Memory) {
            let rows = self.commits.pending.take(self.engine);
            self.commits.backing.commit(rows)?;
            self.commits.committed = Instant::now();
        }
        Ok(())
    }
}

/// Returns a decision as a history line, with the time of its cause and after the decisions of the same millisecond.
pub fn decision_line(engine: &Engine, sealed: &Sealed, cause: &Entry) -> String {
    let stream = engine
        .streams()
        .iter()
        .find(|(_, stream)| stream.kind == StreamKind::Decision)
        .map_or(StreamKind::Decision.default_stream(), |(_, stream)| stream.name.as_str());
    line::write(stream, &format!("{}-{}", cause.id.ms, sealed.seq), &sealed.fields())
}
