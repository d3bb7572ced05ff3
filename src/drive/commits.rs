//! The commits of a projection: the rows that wait, and the store that gets them.

use std::time::{Duration, Instant};

use super::driver::Folded;
use crate::codec::line;
use crate::codec::seal::Sealed;
use crate::codec::state::{self, Quarantined, Row};
use crate::domain::engine::{Disposition, Engine};
use crate::domain::event::Entry;
use crate::domain::event::streams::StreamKind;
use crate::shell::store::{Rebuild, Store};

/// Maximum number of entries between two commits of a replay. [1]
const COMMIT_ENTRIES: u64 = 100_000;
/// Maximum time between two commits of a replay.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of the rows that wait for a commit. [bytes]
const COMMIT_BYTES: usize = 8 << 20;

/// The place where the projection is kept.
pub(super) enum Backing {
    /// In memory only, without a store.
    Memory,
    Store(Store),
    /// A new store beside the one in use, which it replaces at the end.
    Rebuild(Rebuild),
}

/// The rows of the next commit, and where it goes.
pub(super) struct Commits {
    pub(super) backing: Backing,
    names_written: usize,
    waiting: Vec<Row>,
    waiting_bytes: usize,
    entries_waiting: u64,
    committed: Instant,
}

/// The half of a projection that folds, while the other decodes.
pub struct Folding<'a> {
    pub engine: &'a mut Engine,
    pub(super) commits: &'a mut Commits,
}

impl Commits {
    /// Creates it for a state whose symbols are written up to a number.
    pub(super) fn to(backing: Backing, names_written: usize) -> Self {
        let (waiting, committed) = (Vec::new(), Instant::now());
        Self { backing, names_written, waiting, waiting_bytes: 0, entries_waiting: 0, committed }
    }

    pub(super) fn wait(&mut self, row: Row) {
        self.waiting_bytes += row.0.len() + row.1.as_ref().map_or(0, Vec::len);
        self.waiting.push(row);
    }

    fn is_due(&self) -> bool {
        self.entries_waiting >= COMMIT_ENTRIES
            || self.waiting_bytes >= COMMIT_BYTES
            || (self.entries_waiting.is_multiple_of(1024) && self.committed.elapsed() >= COMMIT_INTERVAL)
    }
}

impl Folding<'_> {
    /// Folds one entry, and commits if enough has accumulated. Returns the sealed decision if the entry caused one.
    pub fn step(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> anyhow::Result<Option<Sealed>> {
        let folded = self.fold(entry, raw);
        if !matches!(self.commits.backing, Backing::Memory) && self.commits.is_due() {
            self.commit()?;
        }
        Ok(folded.decided.map(|(_, sealed)| sealed))
    }

    pub(super) fn fold(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> Folded {
        let folded = Folded::by(self.engine, entry);
        if matches!(self.commits.backing, Backing::Memory) {
            return folded;
        }
        if let Some((_, sealed)) = &folded.decided {
            let line = decision_line(self.engine, sealed, entry);
            self.commits.wait(state::decision_row(sealed.seq, &line));
        }
        if let Disposition::Quarantined(reason) = folded.disposition {
            let stream = self.engine.streams().get(entry.stream).name.clone();
            let quarantined = Quarantined { stream, id: entry.id, reason: reason.name().to_owned(), line: raw() };
            self.commits.wait(state::quarantine_row(&quarantined));
        }
        self.commits.entries_waiting += 1;
        folded
    }

    /// Writes every change in one batch: state, cursors and decisions.
    pub(super) fn commit(&mut self) -> anyhow::Result<()> {
        let store = match &mut self.commits.backing {
            Backing::Memory => return Ok(()),
            Backing::Store(store) => store,
            Backing::Rebuild(rebuild) => rebuild.store(),
        };
        let changes = self.engine.take_changes();
        let mut rows = std::mem::take(&mut self.commits.waiting);
        rows.extend(state::changed_rows(self.engine, &changes, &mut self.commits.names_written));
        store.commit(rows.into_iter())?;
        (self.commits.waiting_bytes, self.commits.entries_waiting) = (0, 0);
        self.commits.committed = Instant::now();
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
