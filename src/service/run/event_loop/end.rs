//! The end of a service: when it counts as idle, and how it writes and emits the rest.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use super::disk::CheckpointStage;
use super::{DiskThreads, EventLoop};
use crate::service::run::disk::JournalTask;
use crate::service::run::event::LoopEvent;

/// The longest time that the emission of decisions may take at the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

impl EventLoop {
    /// Returns true if everything is on disk, published, offered and acknowledged.
    fn is_settled(&self) -> bool {
        self.processor.delivery.is_settled() && matches!(self.checkpoint, CheckpointStage::None)
    }

    /// Returns true if nothing was new or pending for the requested time. A standby waits until it could have become
    /// the leader.
    pub(super) fn is_idle_enough(&mut self) -> bool {
        let Some(limit) = self.until_idle else { return false };
        if !self.is_settled() || !self.channels.status.is_drained.load(Ordering::Relaxed) {
            self.busy = Instant::now();
            return false;
        }
        let limit = if self.processor.delivery.is_leader() { limit } else { limit.max(self.lease_lasts * 3 / 2) };
        self.busy.elapsed() >= limit
    }

    /// Writes everything, emits the remaining decisions, and closes journal and store.
    pub(super) fn finish(mut self, threads: DiskThreads) -> anyhow::Result<()> {
        self.publisher.stopping();
        let until = Instant::now() + DRAIN_LIMIT;
        loop {
            self.act()?;
            let (folded, durable) = self.processor.delivery.journal();
            let is_on_disk = folded == durable && matches!(self.checkpoint, CheckpointStage::None);
            // Our own entries may come back later. This process reads no more entries.
            let is_out = self.processor.delivery.is_published() || !self.processor.delivery.is_leader();
            let is_over = is_on_disk && Instant::now() >= until;
            if is_over || (is_on_disk && is_out && self.processor.delivery.is_idle()) {
                break;
            }
            match self.channels.events.recv_timeout(Duration::from_millis(20)) {
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.channels.give_up.store(true, Ordering::Relaxed);
        // The last checkpoint has the outcomes of the last offers, too.
        let rows = self.processor.checkpoint();
        let position = rows.journal;
        let Self { processor, channels, store, mut snapshots, journal, .. } = self;
        // The task closes the journal.
        drop(journal);
        let _ = channels.checkpoints.send(rows);
        if let Some((keep_from, older_than_ms)) = snapshots.at_end(&processor.driver.engine, position) {
            let _ = channels.journal.send(JournalTask::Retain { keep_from, older_than_ms });
        }
        let events = channels.events.clone();
        drop(channels);
        let panicked = |_| anyhow::anyhow!("a task that waits for the disk panicked");
        threads.journal.join().map_err(panicked)??;
        threads.checkpoints.join().map_err(panicked)?;
        for event in events.try_iter() {
            if let LoopEvent::Checkpointed { outcome, .. } = event {
                outcome?;
            }
        }
        drop(store);
        processor.crash_guard.finish();
        Ok(())
    }
}
