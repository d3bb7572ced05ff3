//! The state at a past time: the nearest valid snapshot, and the entries that were applied since.

use std::path::PathBuf;

use super::driver::Driver;
use super::keys::KeyError;
use super::pipeline::PassError;
use super::scope::{self, ScopesDiffer};
use super::snapshots::{self, RestoredState};
use crate::codec::state::{BadRow, Rows, StoredRow};
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::ids::EntryId;
use crate::shell::history::{History, HistoryError, Input, Options};
use crate::shell::journal::{Journal, JournalError};
use crate::shell::snapshots::SnapshotsError;

/// A past state that cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum StateAtError {
    #[error(transparent)]
    Scope(#[from] ScopesDiffer),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error("reading on from the snapshot")]
    Journal(#[from] JournalError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Pass(#[from] PassError),
    /// `choice` describes the snapshots that there are, as [`snapshots::choice`] returns it.
    #[error("a state of the past is made from a history: give --journal DIR or --history HISTORY{choice}")]
    NoHistory { choice: String },
}

/// The inputs from which a past state can be computed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub journal: Option<PathBuf>,
    pub histories: Vec<PathBuf>,
    /// Folder of state snapshots of this history.
    pub snapshots: Option<PathBuf>,
}

/// A state of the past.
pub struct PastState {
    pub engine: Engine,
    /// The snapshot on which it is based; `None` if the history was folded from its start.
    pub snapshot: Option<PathBuf>,
    /// Number of folded entries. [1]
    pub entries: u64,
    pub notices: Vec<String>,
}

/// Returns the state after the last entry whose id is at or before `at`; the state at the end if `at` is `None`.
pub fn state_at(sources: &Sources, at: Option<EntryId>, config: &Config) -> Result<PastState, StateAtError> {
    let mut notices = Vec::new();
    let stated: Vec<Input> = sources.histories.iter().chain(&sources.journal).cloned().map(Input::from).collect();
    let config = &*scope::over(config, &stated)?;
    let restored = match &sources.snapshots {
        Some(dir) => snapshots::nearest(dir, at, config, &mut notices)?,
        None => None,
    };
    if sources.journal.is_none() && sources.histories.is_empty() {
        return without_history(sources, restored, at, notices);
    }
    let inputs = inputs(sources, restored.as_ref())?;
    let (mut driver, snapshot) = match restored {
        Some(RestoredState { engine, path, .. }) => {
            (Driver::going_on(engine, config, Decisions::Recorded)?, Some(path))
        }
        None => (Driver::new(config, Decisions::Recorded)?, None),
    };
    driver.engine.ignore_changes();
    let mut history = History::open(&inputs, &config.streams, Options { until: at, ..Options::default() })?;
    driver.look_ahead(&history, at);
    let mut entries = 0;
    driver.fold_all(&mut history, |_, _, _, _| entries += 1)?;
    notices.extend(history.notices());
    Ok(PastState { engine: driver.engine, snapshot, entries, notices })
}

/// Returns the inputs after a snapshot. Journal files that end before its position are left out. Other histories are
/// read completely; the entries that the snapshot already contains have no effect.
fn inputs(sources: &Sources, restored: Option<&RestoredState>) -> Result<Vec<Input>, JournalError> {
    let mut inputs: Vec<Input> = sources.histories.iter().cloned().map(Input::from).collect();
    if let Some(journal) = &sources.journal {
        match restored.and_then(|restored| restored.snapshot.head.journal) {
            Some(position) => {
                let files = Journal::files_from(journal, position)?;
                inputs.extend(files.into_iter().map(Input::Path));
            }
            None => inputs.push(Input::Path(journal.clone())),
        }
    }
    Ok(inputs)
}

/// Returns the state of a snapshot alone, if it ends exactly at the requested entry. Otherwise the error names the
/// snapshots to which a history could be applied.
fn without_history(
    sources: &Sources,
    restored: Option<RestoredState>,
    at: Option<EntryId>,
    mut notices: Vec<String>,
) -> Result<PastState, StateAtError> {
    match restored {
        Some(RestoredState { engine, path, .. }) if at == Some(engine.globals().last) => {
            notices.push(format!(
                "no history is read: the state is that of {}. Entries with smaller ids that came later are not in it",
                path.display()
            ));
            Ok(PastState { engine, snapshot: Some(path), entries: 0, notices })
        }
        Some(_) | None => Err(StateAtError::NoHistory { choice: snapshots::choice(sources.snapshots.as_deref(), at)? }),
    }
}

/// Rows of a state without a store: there are none.
pub struct NoRows;

impl Rows for NoRows {
    type Error = BadRow;

    fn scan(&self, _: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
        Ok(Vec::new())
    }
}
