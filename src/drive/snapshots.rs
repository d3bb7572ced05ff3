//! Takes, finds and restores state snapshots of a store.

use std::path::{Path, PathBuf};

use super::driver::is_under_configured;
use super::projection::close_to_others;
use crate::codec::causes::with_causes;
use crate::codec::snapshot::{self, BadSnapshot, Head, Snapshot};
use crate::codec::time;
use crate::config::Config;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;
use crate::domain::event::selection::Selection;
use crate::domain::exit::policy::Policy;
use crate::shell::snapshots::{self, SnapshotsError};

/// Snapshots that a message names. [1]
const NAMED_MAX: usize = 3;

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Unreadable(#[from] SnapshotsError),
    #[error(transparent)]
    Bad(#[from] BadSnapshot),
    #[error("it was made of {made_of}, and {wanted} are to be read now")]
    OtherAccounts { made_of: Selection, wanted: Selection },
    #[error("it was folded under another configured policy")]
    OtherPolicy,
    #[error("its name is not that of its latest entry, {last}")]
    OtherName { last: EntryId },
}

/// Returns the snapshot folder of a store.
pub fn folder_of(store: &Path) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".snapshots");
    store.with_file_name(name)
}

/// Writes a snapshot of an engine, durable on return. `journal` is the number of journal entries in the state;
/// `configured` is the policy that applies until one is adopted.
pub fn take(dir: &Path, engine: &Engine, configured: &Policy, journal: Option<u64>) -> Result<Head, SnapshotsError> {
    let (head, bytes) = snapshot::write(engine, configured, journal);
    close_to_others(dir);
    snapshots::write(dir, &snapshot::file_name(engine.globals().last), &bytes)?;
    tracing::info!(last = head.last, journal, state = head.state, bytes = bytes.len(), "a snapshot is taken");
    Ok(head)
}

/// Removes all but the newest `kept` snapshots, the newest of which is valid. The service keeps these for positions at
/// a past time.
pub fn keep(dir: &Path, kept: usize) -> Result<(), SnapshotsError> {
    let files = snapshots::list(dir, snapshot::last_of_name)?;
    for (_, path) in files.iter().take(files.len().saturating_sub(kept.max(1))) {
        snapshots::remove(path)?;
    }
    Ok(())
}

/// Returns the last entry of the newest snapshot of a folder.
pub fn newest(dir: &Path) -> Result<Option<EntryId>, SnapshotsError> {
    Ok(snapshots::list(dir, snapshot::last_of_name)?.pop().map(|(last, _)| last))
}

/// A state that was restored from a snapshot.
pub struct RestoredState {
    pub engine: Engine,
    pub snapshot: Snapshot,
    pub path: PathBuf,
}

/// Returns the newest snapshot of a folder that is valid, fits the configuration, and contains no entry later than
/// `at`.
///
/// The notices name the snapshots that were skipped for a reason other than their age.
pub fn nearest(
    dir: &Path,
    at: Option<EntryId>,
    config: &Config,
    notices: &mut Vec<String>,
) -> Result<Option<RestoredState>, SnapshotsError> {
    let files = snapshots::list(dir, snapshot::last_of_name)?;
    for (_, path) in files.into_iter().rev().filter(|(last, _)| at.is_none_or(|at| *last <= at)) {
        match restored(&path, config) {
            Ok((engine, snapshot)) => return Ok(Some(RestoredState { engine, snapshot, path })),
            Err(error) => notices.push(format!("the snapshot {} is not used: {}", path.display(), with_causes(&error))),
        }
    }
    Ok(None)
}

/// Describes the snapshots of a folder that contain no entry later than `at`, for a message: the newest ones, and their
/// use.
pub fn choice(dir: Option<&Path>, at: Option<EntryId>) -> Result<String, SnapshotsError> {
    let Some(dir) = dir else { return Ok(String::new()) };
    let mut files = snapshots::list(dir, snapshot::last_of_name)?;
    let total = files.len();
    files.retain(|(last, _)| at.is_none_or(|at| *last <= at));
    if files.is_empty() {
        let which = at.filter(|_| total > 0).map_or_else(String::new, |at| format!(" up to {at}"));
        return Ok(format!("; {} has no snapshot{which}", dir.display()));
    }
    let named = |(last, _): &(EntryId, PathBuf)| format!("{last} ({})", time::iso(last.ms));
    let newest: Vec<String> = files.iter().rev().take(NAMED_MAX).map(named).collect();
    let more = match files.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} older"),
    };
    Ok(format!(
        ". It can start from these snapshots of {}: {}{more}. The id of a snapshot as the time needs no history",
        dir.display(),
        newest.join(", ")
    ))
}

/// Loads a snapshot and verifies it.
pub fn restored(path: &Path, config: &Config) -> Result<(Engine, Snapshot), RestoreError> {
    let snapshot = snapshot::read(&snapshots::read(path)?)?;
    let made_with = snapshot.made_with()?;
    if made_with.selection() != config.streams.selection() {
        return Err(RestoreError::OtherAccounts {
            made_of: made_with.selection().clone(),
            wanted: config.streams.selection().clone(),
        });
    }
    let engine = snapshot.engine(&config.streams, &config.policy)?;
    if !is_under_configured(&engine, config) {
        return Err(RestoreError::OtherPolicy);
    }
    if path.file_name().and_then(|name| name.to_str()) != Some(&*snapshot::file_name(engine.globals().last)) {
        return Err(RestoreError::OtherName { last: engine.globals().last });
    }
    Ok((engine, snapshot))
}
