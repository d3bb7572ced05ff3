//! The two tasks that wait for the disk, each on a thread of its own: the journal, and the checkpoint.
//!
//! The event loop hands over lines or rows and goes on. Lines that arrive while the journal is busy go into its next
//! sync.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::event::{Event, JournalState};
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

/// Writes the journal until the event loop is gone, then closes it.
pub fn keep_journal(
    mut journal: Journal,
    tasks: &Receiver<JournalTask>,
    events: &Sender<Event>,
) -> Result<(), JournalError> {
    for task in tasks {
        match task {
            JournalTask::Write(mut lines) => {
                let began = Instant::now();
                journal.append_all(&lines.text, &lines.ends);
                lines.clear();
                let written = journal.commit();
                fail::point("journalled");
                let journal = written.map(|_| state(&journal));
                let _ = events.send(Event::Synced { lines, journal, took: began.elapsed() });
            }
            JournalTask::Retain { keep_from, older_than_ms } => match journal.retain(keep_from, Some(older_than_ms)) {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "old files of the journal are deleted"),
                Err(error) => tracing::warn!(%error, "old files of the journal stay"),
            },
        }
    }
    journal.close()
}

pub fn state(journal: &Journal) -> JournalState {
    JournalState { position: journal.position(), bytes: journal.bytes(), files: journal.files() }
}

/// The store, shared by the checkpoint task and the pages.
pub type SharedStore = Arc<Mutex<Store>>;

/// Writes checkpoints until the event loop is gone.
pub fn keep_checkpoints(store: &SharedStore, checkpoints: &Receiver<CheckpointRows>, events: &Sender<Event>) {
    for CheckpointRows { rows, .. } in checkpoints {
        let committed = store.lock().unwrap_or_else(PoisonError::into_inner).commit(rows.into_iter());
        fail::point("committed");
        let outcome = committed.map_err(anyhow::Error::new);
        let _ = events.send(Event::Checkpointed { outcome });
    }
}
