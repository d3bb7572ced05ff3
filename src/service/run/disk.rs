//! The two tasks that wait for the disk, each on a thread of its own: the journal, and the checkpoint.
//!
//! The event loop hands over lines or rows and continues. Lines that arrive while the journal is busy go into its next
//! sync. If there is nothing else to do, the event loop writes a few lines itself: then a decision waits only for the
//! disk and not for the wake-up of two threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::event::{JournalState, LoopEvent};
use super::fail;
use super::processor::{CheckpointRows, JournalLines};
use crate::shell::journal::{Journal, JournalError};
use crate::shell::store::Store;

/// A task for the journal.
#[derive(Debug)]
pub enum JournalTask {
    /// Append these lines and make them durable.
    Write(JournalLines),
    /// Delete old files whose entries are all before a position and have ids before a time. [ms since 1970]
    Retain { keep_from: u64, older_than_ms: u64 },
}

/// The journal. Its task and the event loop share it; while one of them writes, the other has no lines for it.
pub type SharedJournal = Arc<Mutex<Journal>>;

/// Writes the journal until the event loop is gone, then closes it.
pub fn keep_journal(
    shared: SharedJournal,
    tasks: &Receiver<JournalTask>,
    events: &Sender<LoopEvent>,
) -> Result<(), JournalError> {
    for task in tasks {
        let mut journal = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match task {
            JournalTask::Write(lines) => {
                let _ = events.send(write(&mut journal, lines));
            }
            JournalTask::Retain { keep_from, older_than_ms } => match journal.retain(keep_from, Some(older_than_ms)) {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "old files of the journal are deleted"),
                Err(error) => tracing::warn!(%error, "old files of the journal stay"),
            },
        }
    }
    // After a panic of the event loop, the journal is in the same state as after a crash.
    Arc::into_inner(shared)
        .map_or(Ok(()), |journal| journal.into_inner().unwrap_or_else(PoisonError::into_inner).close())
}

/// Appends lines and makes them durable.
pub fn write(journal: &mut Journal, mut lines: JournalLines) -> LoopEvent {
    let began = Instant::now();
    journal.append_all(&mut lines.text, &mut lines.ends);
    let written = journal.commit();
    fail::point("journalled");
    LoopEvent::Synced { lines, journal: written.map(|_| state(journal)), took: began.elapsed() }
}

pub fn state(journal: &Journal) -> JournalState {
    JournalState {
        position: journal.position(),
        bytes: journal.bytes(),
        files: journal.files(),
        damaged: journal.damaged(),
    }
}

/// The store, shared by the checkpoint task and the pages.
pub type SharedStore = Arc<Mutex<Store>>;

/// Writes checkpoints until the event loop is gone.
pub fn keep_checkpoints(store: &SharedStore, checkpoints: &Receiver<CheckpointRows>, events: &Sender<LoopEvent>) {
    for CheckpointRows { rows, .. } in checkpoints {
        let committed = store.lock().unwrap_or_else(PoisonError::into_inner).commit(rows.into_iter());
        fail::point("committed");
        let outcome = committed.map_err(anyhow::Error::new);
        let _ = events.send(LoopEvent::Checkpointed { outcome });
    }
}
