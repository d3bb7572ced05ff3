//! The event loop: passes each event to the processor, and hands out the actions of delivery.
//!
//! It waits for no server. It waits for a disk in these cases: it writes the lines of a decision itself if there is
//! nothing else to do; a question about positions and a look at old decisions read the store, and wait for a commit
//! that is under way; it writes a state snapshot itself.
//!
//! The line that caused a decision goes to the journal as soon as the journal is free. Other lines go with it, or after
//! a moment. Lines that arrive while the journal is busy go into its next sync, so batches grow under load. The
//! checkpoint follows in time.
//!
//! In reading order: this file (one event after the other), `disk` (lines and checkpoints), `report`, `end`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use crossbeam_channel::{Receiver, Sender, select};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::disk::{JournalTask, SharedJournal, SharedStore};
use super::emitter::EmitterTask;
use super::event::{JournalState, LoopEvent};
use super::fail;
use super::fetching::{Fetched, Lacking};
use super::lines::Batch;
use super::message::{LeaseHolder, LeaseState, Message};
use super::processor::{CheckpointRows, JournalLines, Processor};
use super::publish::{Publisher, State};
use super::reader_status::ReaderStatus;
use super::snapshots::Snapshots;
use crate::codec::shown::masked_url;
use crate::config::Config;
use crate::domain::delivery::Lease;
use crate::domain::delivery::action::Action;
use crate::service::pages::Question;
use crate::shell::journal::JournalError;
use disk::CheckpointStage;

mod disk;
mod end;
mod report;

/// Maximum size of the lines that wait for the journal while more entries are taken. [byte]
const LINES_BYTES_MAX: usize = 512 << 10;
/// Maximum time between two reports, and between two looks at the flag that ends the process.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// The channels between the event loop and the other parts of the service.
pub struct Channels {
    /// From the reader.
    pub messages: Receiver<Message>,
    /// Batches that were folded, for the reader to fill again.
    pub folded: Sender<Batch>,
    /// From all other parts.
    pub events: Receiver<LoopEvent>,
    pub emitter: Sender<EmitterTask>,
    pub journal: Sender<JournalTask>,
    pub checkpoints: Sender<CheckpointRows>,
    pub role: watch::Receiver<LeaseState>,
    pub holder: watch::Receiver<LeaseHolder>,
    pub questions: Receiver<Question>,
    pub lacking: watch::Sender<Lacking>,
    pub fetched: watch::Receiver<Fetched>,
    pub status: Arc<ReaderStatus>,
    pub stop: Arc<AtomicBool>,
    pub give_up: Arc<AtomicBool>,
}

/// The threads that wait for the disk. They end when their channels close.
pub struct DiskThreads {
    pub journal: JoinHandle<Result<(), JournalError>>,
    pub checkpoints: JoinHandle<()>,
}

/// Returns the decisions that an earlier process may have offered. [numbers]
fn of_earlier_processes(processor: &Processor) -> BTreeSet<u64> {
    processor.delivery.outbox().rows().filter(|row| row.written.is_none()).map(|row| row.seq).collect()
}

/// The running service.
pub struct EventLoop {
    processor: Processor,
    journal: SharedJournal,
    channels: Channels,
    store: SharedStore,
    /// Address of the server, without its password, for messages.
    server: String,
    /// Folder of the store, for messages.
    folder: String,
    began: Instant,
    until_idle: Option<Duration>,
    lease_lasts: Duration,
    publisher: Publisher,
    writes_back: bool,
    snapshots: Snapshots,
    state: State,
    /// The number of the emitter's connection.
    connection: u64,
    is_syncing: bool,
    /// Empty lines, ready for use, unless the journal has them.
    spare: JournalLines,
    checkpoint: CheckpointStage,
    checkpoint_entries: u64,
    checkpoint_interval: Duration,
    /// Position and time of the last checkpoint.
    checkpointed: (u64, Instant),
    /// True if delivery waits for a checkpoint.
    is_checkpoint_asked: bool,
    /// Entries that came while a checkpoint had to be written before them.
    deferred: Option<Message>,
    busy: Instant,
    published: Instant,
}

impl EventLoop {
    pub fn new(
        processor: Processor,
        channels: Channels,
        store: SharedStore,
        (shared, journal): (SharedJournal, JournalState),
        config: &Config,
        publisher: Publisher,
        until_idle: Option<Duration>,
    ) -> Self {
        Self {
            snapshots: Snapshots::of(config, journal.position),
            state: State { journal, doubtful: of_earlier_processes(&processor), ..State::default() },
            processor,
            journal: shared,
            channels,
            store,
            server: masked_url(config.redis.url.expose_secret()),
            folder: config.run.store.display().to_string(),
            began: Instant::now(),
            until_idle,
            lease_lasts: Duration::from_millis(config.run.lease_ms),
            publisher,
            writes_back: config.backfill.write_back,
            connection: 0,
            is_syncing: false,
            spare: JournalLines::default(),
            checkpoint: CheckpointStage::None,
            checkpoint_entries: config.run.checkpoint_entries,
            checkpoint_interval: Duration::from_millis(config.run.checkpoint_ms),
            checkpointed: (journal.position, Instant::now()),
            is_checkpoint_asked: false,
            deferred: None,
            busy: Instant::now(),
            published: Instant::now(),
        }
    }

    /// Works until it is stopped, or until it is idle if that was asked for.
    pub fn run(mut self, threads: DiskThreads) -> anyhow::Result<()> {
        self.publisher.started(&self.processor);
        while !self.channels.stop.load(Ordering::Relaxed) && !self.is_idle_enough() {
            self.wait()?;
            self.act()?;
            self.publish();
        }
        self.finish(threads)
    }

    /// Waits for one event, and handles all events that have come by then.
    fn wait(&mut self) -> anyhow::Result<()> {
        let takes_entries = self.takes_entries();
        if let Some(entries) = self.deferred.take_if(|_| takes_entries) {
            self.handle_message(entries)?;
        } else {
            let timeout = self.timeout();
            let never = crossbeam_channel::never();
            let messages = if self.deferred.is_none() { &self.channels.messages } else { &never };
            let message = select! {
                recv(self.channels.events) -> event => {
                    self.handle(event.context("all parts ended")?)?;
                    None
                }
                recv(messages) -> message => Some(message),
                recv(self.channels.questions) -> question => {
                    question.into_iter().for_each(|question| self.answer(question));
                    None
                }
                default(timeout) => None,
            };
            match message {
                Some(Ok(message)) => self.handle_or_defer(message)?,
                Some(Err(_)) if self.channels.stop.load(Ordering::Relaxed) => {}
                Some(Err(_)) => bail!("the reader ended by itself"),
                None => {}
            }
        }
        while let Ok(event) = self.channels.events.try_recv() {
            self.handle(event)?;
        }
        Ok(())
    }

    /// Returns true if entries may be folded. They wait while the disk does not keep up, or while a checkpoint has to
    /// be written before further entries.
    fn takes_entries(&self) -> bool {
        self.processor.journal.text.len() < LINES_BYTES_MAX
            && !self.snapshots.is_waiting()
            && !self.processor.delivery.waits_for_checkpoint()
    }

    /// Handles messages up to the first entries, and defers these while they may not be folded. All other messages are
    /// quick, and one checkpoint serves all of them.
    fn handle_or_defer(&mut self, first: Message) -> anyhow::Result<()> {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            if matches!(message, Message::Entries(_)) {
                if self.takes_entries() {
                    return self.handle_message(message);
                }
                self.deferred = Some(message);
                return Ok(());
            }
            self.handle_message(message)?;
            next = self.channels.messages.try_recv().ok();
        }
        Ok(())
    }

    fn timeout(&self) -> Duration {
        let now_ms = self.now_ms();
        let lines = self.processor.lines_due_ms().filter(|_| !self.is_syncing);
        let due = self.processor.delivery.poll_timeout(now_ms).into_iter().chain(lines).min();
        let due = due.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        let idle = self.until_idle.map(|limit| limit.min(PUBLISH_INTERVAL) / 4);
        let report = PUBLISH_INTERVAL.saturating_sub(self.published.elapsed());
        due.into_iter().chain(idle).fold(report, Duration::min)
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn handle_message(&mut self, message: Message) -> anyhow::Result<()> {
        if matches!(message, Message::Entries(_) | Message::Gap(_) | Message::Begin { .. } | Message::KillRead { .. }) {
            self.busy = Instant::now();
        }
        let now_ms = self.now_ms();
        let processor = &mut self.processor;
        match message {
            Message::Entries(mut batch) => {
                for (released, line) in batch.iter() {
                    processor.handle_entry(released, line, now_ms)?;
                }
                fail::point("folded");
                batch.clear();
                // If the reader has enough batches already, this one is dropped.
                let _ = self.channels.folded.try_send(batch);
            }
            Message::Begin { stream, cursor, position } => processor.begin(stream, cursor, position),
            Message::KillRead { stream, id } => processor.kill_is_read(stream, id),
            Message::Delivered(all) => {
                for (stream, ids) in all {
                    processor.delivery.handle_delivered(stream, ids);
                }
            }
            Message::DeliveredAnew => processor.delivery.handle_delivered_anew(&processor.driver.engine),
            Message::Watermark { ms } => processor.delivery.handle_watermark(ms),
            Message::FactsAhead(are_ahead) => processor.delivery.handle_facts_ahead(are_ahead),
            Message::Gap(gap) => processor.delivery.handle_gap(gap, &processor.driver.engine),
            Message::StreamStats(stats, ahead) => self.publisher.stream_stats(stats, ahead),
            Message::Ended(error) => return Err(error),
        }
        Ok(())
    }

    fn handle(&mut self, event: LoopEvent) -> anyhow::Result<()> {
        let now_ms = self.now_ms();
        let Processor { delivery, driver, .. } = &mut self.processor;
        match event {
            LoopEvent::Synced { lines, journal, took } => {
                let journal = journal?;
                self.publisher.committed(took);
                (self.is_syncing, self.spare, self.state.journal) = (false, lines, journal);
                delivery.handle_synced(journal.position);
            }
            LoopEvent::Checkpointed { outcome } => {
                outcome?;
                let written = std::mem::replace(&mut self.checkpoint, CheckpointStage::None);
                if matches!(written, CheckpointStage::Writing { is_asked: true }) && !self.is_checkpoint_asked {
                    delivery.handle_checkpointed();
                }
            }
            LoopEvent::EmitterConnected(connection) => {
                self.connection = connection;
                delivery.handle_connected();
            }
            LoopEvent::EmitterDisconnected => {
                self.state.disconnected();
                delivery.handle_disconnected();
            }
            LoopEvent::Offered { seq, answer, took } => {
                self.publisher.emitted(took);
                self.state.answered(seq, &answer);
                delivery.handle_offered(seq, answer, now_ms);
            }
            LoopEvent::Appended { number, outcome } => {
                delivery.handle_appended(number, outcome, now_ms, &driver.engine)
            }
            LoopEvent::Recorded { number, outcome } => delivery.handle_recorded(number, outcome, now_ms),
            LoopEvent::Checked { looked } => delivery.handle_checked(&looked, &driver.engine),
            LoopEvent::Acknowledged => delivery.handle_acknowledged(),
            LoopEvent::Output { key, refusal } => self.state.output(key, refusal),
            LoopEvent::Lease => self.follow_role(),
            LoopEvent::KillKey { kill, began } => {
                let began_ms = began.saturating_duration_since(self.began).as_millis() as u64;
                delivery.handle_kill_key(kill, began_ms, &driver.engine);
            }
            LoopEvent::UnnamedExecutors(groups) => {
                delivery.handle_unnamed_executors(!groups.is_empty());
                self.state.unnamed_executors = groups;
            }
            LoopEvent::Stop => {}
        }
        Ok(())
    }

    fn follow_role(&mut self) {
        let lease = match &*self.channels.role.borrow() {
            LeaseState::Ours { lease, until } if Instant::now() < *until => {
                let until_ms = until.saturating_duration_since(self.began).as_millis() as u64;
                Some(Lease { value: lease.clone(), until_ms })
            }
            LeaseState::Ours { .. } | LeaseState::NotOurs => None,
        };
        let was_leader = self.processor.delivery.is_leader();
        let server_ms = self.channels.status.server_ms.load(Ordering::Relaxed);
        self.processor.delivery.handle_lease(lease, server_ms, &self.processor.driver.engine);
        let is_leader = self.processor.delivery.is_leader();
        if is_leader != was_leader {
            self.publisher.role_changed(is_leader);
        }
    }

    /// Hands out lines, checkpoints and actions.
    fn act(&mut self) -> anyhow::Result<()> {
        let server_ms = self.channels.status.server_ms.load(Ordering::Relaxed);
        self.processor.delivery.handle_server_time(server_ms);
        self.write_lines()?;
        let now_ms = self.now_ms();
        while let Some(action) = self.processor.delivery.next_action(&self.processor.driver.engine, now_ms) {
            match action {
                Action::Checkpoint => self.is_checkpoint_asked = true,
                Action::Recall { from, to } => self.recall(from, to)?,
                action => {
                    if let Action::Offer(offers) = &action {
                        self.state.in_flight.extend(offers.iter().map(|offer| offer.row.seq));
                    }
                    if matches!(action, Action::Record(_)) {
                        fail::point("quarantined");
                    }
                    fail::point("handed_over");
                    let _ = self.channels.emitter.send(EmitterTask { connection: self.connection, action });
                }
            }
        }
        self.log_notices();
        self.keep_checkpoint();
        // A checkpoint that is ready by now waits for its lines.
        self.hand_over_lines();
        Ok(())
    }
}
