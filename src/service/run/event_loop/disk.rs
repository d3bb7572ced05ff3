//! The traffic between the event loop and the disk: lines for the journal, checkpoints, snapshots, old decisions.
//!
//! ```text
//!            asked or due               journal durable up to the rows            written
//!  (None) ─────────────────▶ (Ready) ──────────────────────────────▶ (Writing) ───────────▶ (None)
//! ```

use std::time::Instant;

use super::EventLoop;
use crate::codec::state;
use crate::service::run::disk::{self, JournalTask};
use crate::service::run::processor::{CheckpointRows, JournalLines};

/// Maximum size of the lines that the event loop writes itself. To write more takes longer than to wake a thread.
/// [byte]
const OWN_LINES_BYTES: usize = 32 << 10;

/// The checkpoint that is being made.
pub(super) enum CheckpointStage {
    None,
    /// Its rows are ready, and wait until the journal is on disk up to their position.
    Ready {
        rows: CheckpointRows,
        is_asked: bool,
    },
    Writing {
        is_asked: bool,
    },
}

impl EventLoop {
    /// Hands the lines to the journal if it is free and something waits for them, or if they have waited long enough.
    pub(super) fn hand_over_lines(&mut self) {
        if let Some(lines) = self.take_due_lines() {
            self.is_syncing = self.channels.journal.send(JournalTask::Write(lines)).is_ok();
        }
    }

    /// Does the same. If a decision waits for a few lines and there is nothing else to do, writes them itself.
    pub(super) fn write_lines(&mut self) -> anyhow::Result<()> {
        let is_alone = self.channels.messages.is_empty() && self.channels.events.is_empty();
        let are_few = self.processor.journal.text.len() <= OWN_LINES_BYTES;
        if !(is_alone && are_few && self.processor.delivery.waits_for_sync()) {
            self.hand_over_lines();
            return Ok(());
        }
        let Some(lines) = self.take_due_lines() else { return Ok(()) };
        let written = match self.journal.try_lock() {
            Ok(mut journal) => disk::write(&mut journal, lines),
            // Old files are being deleted.
            Err(_) => {
                self.is_syncing = self.channels.journal.send(JournalTask::Write(lines)).is_ok();
                return Ok(());
            }
        };
        self.handle(written)
    }

    fn take_due_lines(&mut self) -> Option<JournalLines> {
        let is_waited_for = matches!(self.checkpoint, CheckpointStage::Ready { .. }) || self.snapshots.is_waiting();
        let now_ms = self.now_ms();
        let is_due = |due_ms: u64| is_waited_for || due_ms <= now_ms;
        if self.is_syncing || !self.processor.lines_due_ms().is_some_and(is_due) {
            return None;
        }
        Some(std::mem::replace(&mut self.processor.journal, std::mem::take(&mut self.spare)))
    }

    /// Makes a checkpoint if one is asked for or due, and writes it once the journal is on disk up to its position.
    pub(super) fn keep_checkpoint(&mut self) {
        let (folded, durable) = self.processor.delivery.journal();
        if let CheckpointStage::None = self.checkpoint {
            let (position, at) = self.checkpointed;
            let is_due = folded > position
                && (folded - position >= self.checkpoint_entries || at.elapsed() >= self.checkpoint_interval);
            let is_asked = std::mem::take(&mut self.is_checkpoint_asked);
            if is_asked || is_due {
                self.checkpoint = CheckpointStage::Ready { rows: self.processor.checkpoint(), is_asked };
                self.checkpointed = (folded, Instant::now());
                self.snapshots.reached(folded);
            }
        }
        if matches!(&self.checkpoint, CheckpointStage::Ready { rows, .. } if rows.journal <= durable)
            && let CheckpointStage::Ready { rows, is_asked } =
                std::mem::replace(&mut self.checkpoint, CheckpointStage::None)
        {
            self.checkpoint = CheckpointStage::Writing { is_asked };
            let _ = self.channels.checkpoints.send(rows);
        }
        if self.snapshots.is_waiting() && folded == durable && self.processor.journal.is_empty() {
            let engine = &self.processor.driver.engine;
            if let Some((keep_from, older_than_ms)) = self.snapshots.take(engine, folded) {
                let _ = self.channels.journal.send(JournalTask::Retain { keep_from, older_than_ms });
            }
        }
    }

    /// Loads old decisions from the store.
    pub(super) fn recall(&mut self, from: u64, to: u64) -> anyhow::Result<()> {
        let lines = {
            let store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let lines = (from..to).filter_map(|seq| state::decision_one(&*store, seq).transpose());
            lines.collect::<Result<Vec<String>, _>>()?
        };
        self.processor.recall(&lines);
        Ok(())
    }
}
