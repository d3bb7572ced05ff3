//! What goes to the disk and comes from it: lines for the journal, checkpoints, snapshots, old decisions.
//!
//! ```text
//!            asked or due               journal durable up to the rows            written
//!  (None) ─────────────────▶ (Ready) ──────────────────────────────▶ (Writing) ───────────▶ (None)
//! ```

use std::time::Instant;

use super::EventLoop;
use crate::codec::state;
use crate::service::run::disk::JournalTask;
use crate::service::run::processor::CheckpointRows;

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
        let is_waited_for = matches!(self.checkpoint, CheckpointStage::Ready { .. }) || self.snapshots.is_waiting();
        let now_ms = self.now_ms();
        let is_due = |due_ms: u64| is_waited_for || due_ms <= now_ms;
        if !self.is_syncing && self.processor.lines_due_ms().is_some_and(is_due) {
            let lines = std::mem::replace(&mut self.processor.journal, std::mem::take(&mut self.spare));
            self.is_syncing = self.channels.journal.send(JournalTask::Write(lines)).is_ok();
        }
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
