//! The event loop: passes to the processor what happened, and hands out what delivery asks for.
//!
//! Nothing here waits for a disk or a server. The line that caused a decision goes to the journal as soon as the journal
//! is free; other lines go with it, or after a moment. What arrives while the journal is busy goes into its next sync, so
//! batches grow under load. The checkpoint follows by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use tokio::sync::watch;

use super::disk::{JournalOrder, SharedStore};
use super::emitter::Order;
use super::event::{Event, JournalState};
use super::fail;
use super::fetching::{Fetched, Lacking};
use super::lines::Batch;
use super::message::{LeaseState, Message};
use super::processor::{CheckpointRows, JournalLines, Processor};
use super::publish::{Publisher, State};
use super::reader_status::ReaderStatus;
use super::snapshots::Snapshots;
use crate::codec::state;
use crate::config::Config;
use crate::domain::delivery::Lease;
use crate::domain::delivery::action::{Action, Notice};
use crate::domain::engine::needs::Needs;
use crate::domain::event::streams::StreamKind;
use crate::service::fetch::Tick;
use crate::service::pages::Question;
use crate::service::write_back::goals;
use crate::shell::journal::JournalError;

/// The most bytes of lines that wait for the journal while more entries are taken. [byte]
const LINES_BYTES_MAX: usize = 2 << 20;
/// The longest time that the emission of decisions may take at the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// A processor with at most this lag knows what the projection lacks. [ms]
const CAUGHT_UP_MS: u64 = 2_000;
/// The longest time between two reports, and between two looks at the flag that ends the process.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// The channels between the event loop and the other parts.
pub struct Channels {
    /// From the reader.
    pub messages: Receiver<Message>,
    /// Batches that were folded, for the reader to fill again.
    pub folded: Sender<Batch>,
    /// From all other parts.
    pub events: Receiver<Event>,
    pub emitter: Sender<Order>,
    pub journal: Sender<JournalOrder>,
    pub checkpoints: Sender<CheckpointRows>,
    pub role: watch::Receiver<LeaseState>,
    pub holder: watch::Receiver<Option<String>>,
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

/// The checkpoint that is being made.
enum Checkpoint {
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

/// The running service.
pub struct EventLoop {
    processor: Processor,
    channels: Channels,
    store: SharedStore,
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
    /// Empty lines for the journal, while it is not busy with them.
    spare: JournalLines,
    checkpoint: Checkpoint,
    checkpoint_entries: u64,
    checkpoint_interval: Duration,
    /// Position and time of the last checkpoint.
    checkpointed: (u64, Instant),
    /// Delivery waits for a checkpoint.
    is_checkpoint_asked: bool,
    /// Entries that came while a checkpoint had to be written before them.
    held: Option<Message>,
    busy: Instant,
    published: Instant,
}

impl EventLoop {
    pub fn new(
        processor: Processor,
        channels: Channels,
        store: SharedStore,
        journal: JournalState,
        config: &Config,
        publisher: Publisher,
        until_idle: Option<Duration>,
    ) -> Self {
        Self {
            snapshots: Snapshots::of(config, journal.position),
            state: State { journal, ..State::default() },
            processor,
            channels,
            store,
            began: Instant::now(),
            until_idle,
            lease_lasts: Duration::from_millis(config.run.lease_ms),
            publisher,
            writes_back: config.backfill.write_back,
            connection: 0,
            is_syncing: false,
            spare: JournalLines::default(),
            checkpoint: Checkpoint::None,
            checkpoint_entries: config.run.checkpoint_entries,
            checkpoint_interval: Duration::from_millis(config.run.checkpoint_ms),
            checkpointed: (journal.position, Instant::now()),
            is_checkpoint_asked: false,
            held: None,
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

    /// Waits for one thing to happen, and handles everything that has happened by then.
    fn wait(&mut self) -> anyhow::Result<()> {
        let takes_entries = self.takes_entries();
        if let Some(entries) = self.held.take_if(|_| takes_entries) {
            self.take(entries)?;
        } else {
            let timeout = self.timeout();
            let never = crossbeam_channel::never();
            let messages = if self.held.is_none() { &self.channels.messages } else { &never };
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
                Some(Ok(message)) => self.take_or_hold(message)?,
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

    /// Returns true if entries may be folded. While the disk does not keep up, or a checkpoint must come before any
    /// further entry, they wait.
    fn takes_entries(&self) -> bool {
        self.processor.journal.text.len() < LINES_BYTES_MAX
            && !self.snapshots.is_waiting()
            && !self.processor.delivery.waits_for_checkpoint()
    }

    /// Takes messages up to the first entries. Everything else is quick, and one checkpoint serves for all of it.
    fn take_or_hold(&mut self, first: Message) -> anyhow::Result<()> {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            if matches!(message, Message::Entries(_)) {
                if self.takes_entries() {
                    return self.take(message);
                }
                self.held = Some(message);
                return Ok(());
            }
            self.take(message)?;
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

    fn take(&mut self, message: Message) -> anyhow::Result<()> {
        if matches!(message, Message::Entries(_) | Message::Lost(_) | Message::Begin { .. } | Message::KillRead { .. })
        {
            self.busy = Instant::now();
        }
        let now_ms = self.now_ms();
        let processor = &mut self.processor;
        match message {
            Message::Entries(mut batch) => {
                for (released, line) in batch.iter() {
                    processor.take(released, line, now_ms)?;
                }
                fail::point("folded");
                batch.clear();
                // A reader that has enough of them takes no more.
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
            Message::ReadTo { ms } => processor.delivery.handle_read_to(ms),
            Message::FactsAhead(are_ahead) => processor.delivery.handle_facts_ahead(are_ahead),
            Message::Lost(gap) => processor.delivery.handle_gap(gap, &processor.driver.engine),
            Message::Surveyed(surveys, ahead) => self.publisher.surveyed(surveys, ahead),
            Message::Ended(error) => return Err(error),
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        let now_ms = self.now_ms();
        let Processor { delivery, driver, .. } = &mut self.processor;
        match event {
            Event::Synced { lines, journal, took } => {
                let journal = journal?;
                self.publisher.committed(took);
                (self.is_syncing, self.spare, self.state.journal) = (false, lines, journal);
                delivery.handle_synced(journal.position);
            }
            Event::Checkpointed { outcome } => {
                outcome?;
                let written = std::mem::replace(&mut self.checkpoint, Checkpoint::None);
                if matches!(written, Checkpoint::Writing { is_asked: true }) && !self.is_checkpoint_asked {
                    delivery.handle_checkpointed();
                }
            }
            Event::EmitterConnected(connection) => {
                self.connection = connection;
                delivery.handle_connected();
            }
            Event::EmitterDisconnected => delivery.handle_disconnected(),
            Event::Offered { seq, answer, took } => {
                self.publisher.emitted(took);
                delivery.handle_offered(seq, answer, now_ms);
            }
            Event::Appended { number, outcome } => delivery.handle_appended(number, outcome, now_ms, &driver.engine),
            Event::Recorded { number, outcome } => delivery.handle_recorded(number, outcome, now_ms),
            Event::Checked { lost } => delivery.handle_checked(&lost, &driver.engine),
            Event::Acknowledged => delivery.handle_acknowledged(),
            Event::Output { key, refusal } => self.state.output(key, refusal),
            Event::Lease => self.follow_role(),
            Event::KillKey { kill, began } => {
                let began_ms = began.saturating_duration_since(self.began).as_millis() as u64;
                delivery.handle_kill_key(kill, began_ms, &driver.engine);
            }
            Event::UnnamedExecutors(groups) => {
                delivery.handle_unnamed_executors(!groups.is_empty());
                self.state.unnamed_executors = groups;
            }
            Event::Stop => {}
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
        self.hand_over_lines();
        let now_ms = self.now_ms();
        while let Some(action) = self.processor.delivery.next_action(&self.processor.driver.engine, now_ms) {
            match action {
                Action::Checkpoint => self.is_checkpoint_asked = true,
                Action::Recall { from, to } => self.recall(from, to)?,
                action => {
                    if matches!(action, Action::Record(_)) {
                        fail::point("put_aside");
                    }
                    fail::point("handed_over");
                    let _ = self.channels.emitter.send(Order { connection: self.connection, action });
                }
            }
        }
        self.log_notices();
        self.keep_checkpoint();
        self.hand_over_lines();
        Ok(())
    }

    /// Hands the lines to the journal if it is free and something waits for them, or if they have waited long enough.
    fn hand_over_lines(&mut self) {
        let is_waited_for = matches!(self.checkpoint, Checkpoint::Ready { .. }) || self.snapshots.is_waiting();
        let now_ms = self.now_ms();
        let is_due = |due_ms: u64| is_waited_for || due_ms <= now_ms;
        if !self.is_syncing && self.processor.lines_due_ms().is_some_and(is_due) {
            let lines = std::mem::replace(&mut self.processor.journal, std::mem::take(&mut self.spare));
            self.is_syncing = self.channels.journal.send(JournalOrder::Write(lines)).is_ok();
        }
    }

    /// Makes a checkpoint if one is asked for or due, and writes it once the journal is on disk up to its position.
    fn keep_checkpoint(&mut self) {
        let (folded, durable) = self.processor.delivery.journal();
        if let Checkpoint::None = self.checkpoint {
            let (position, at) = self.checkpointed;
            let is_due = folded > position
                && (folded - position >= self.checkpoint_entries || at.elapsed() >= self.checkpoint_interval);
            let is_asked = std::mem::take(&mut self.is_checkpoint_asked);
            if is_asked || is_due {
                self.checkpoint = Checkpoint::Ready { rows: self.processor.checkpoint(), is_asked };
                self.checkpointed = (folded, Instant::now());
                self.snapshots.passed(folded);
            }
        }
        if matches!(&self.checkpoint, Checkpoint::Ready { rows, .. } if rows.journal <= durable)
            && let Checkpoint::Ready { rows, is_asked } = std::mem::replace(&mut self.checkpoint, Checkpoint::None)
        {
            self.checkpoint = Checkpoint::Writing { is_asked };
            let _ = self.channels.checkpoints.send(rows);
        }
        if self.snapshots.is_waiting() && folded == durable && self.processor.journal.is_empty() {
            let engine = &self.processor.driver.engine;
            if let Some((keep_from, older_than_ms)) = self.snapshots.take(engine, folded) {
                let _ = self.channels.journal.send(JournalOrder::Retain { keep_from, older_than_ms });
            }
        }
    }

    /// Loads old decisions from the store.
    fn recall(&mut self, from: u64, to: u64) -> anyhow::Result<()> {
        let lines = {
            let store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let lines = (from..to).filter_map(|seq| state::decision_one(&*store, seq).transpose());
            lines.collect::<Result<Vec<String>, _>>()?
        };
        self.processor.recall(&lines);
        Ok(())
    }

    fn log_notices(&mut self) {
        while let Some(notice) = self.processor.delivery.next_notice() {
            match notice {
                Notice::Emitted { seq, entry: _, refusal, is_new } => {
                    let line = self.processor.take_line(seq).filter(|_| refusal.is_none());
                    if is_new {
                        self.state.emitted += 1;
                        if let Some(refusal) = &refusal {
                            tracing::warn!(refusal, "a decision was written and not sent");
                        }
                        if let Some(row) = self.processor.delivery.outbox().get(seq) {
                            self.publisher.decision_written(row, line.as_ref());
                        }
                    }
                }
                Notice::Lost(gap) => tracing::error!(
                    stream = %self.processor.streams().get(gap.stream).name,
                    after = gap.after.map(|id| id.to_string()),
                    before = gap.before.map(|id| id.to_string()),
                    count = gap.count,
                    why = gap.why.text(),
                    "entries are lost: positions are held until they are confirmed"
                ),
                Notice::Doubtful { seq, decision_id, known } => tracing::error!(
                    seq,
                    decision_id,
                    known,
                    "the memory of what was written names an entry that is not this decision: it is held, and all behind \
                     it; look for the order at the executor, then HDEL the decision's id from the memory"
                ),
                Notice::WrittenAgain { count, first, last } => {
                    tracing::error!(count, first, last, "the server has lost decisions: they are written again");
                }
            }
        }
    }

    fn answer(&self, question: Question) {
        let store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.publisher.answer(&self.processor, &store, question);
    }

    fn publish(&mut self) {
        if self.published.elapsed() >= PUBLISH_INTERVAL {
            self.published = Instant::now();
            // A lease that was not renewed ends by itself.
            self.follow_role();
            self.state.checkpoint = self.checkpointed.0;
            let holder = self.channels.holder.borrow().clone();
            let role = self.channels.role.borrow().clone();
            let fetched = self.channels.fetched.borrow().clone();
            let status = &self.channels.status;
            self.publisher.publish(&self.processor, &self.state, status, &role, holder, &fetched);
            self.ask_for_what_is_lacking();
        }
    }

    fn ask_for_what_is_lacking(&self) {
        if !self.processor.delivery.is_leader() {
            return;
        }
        let engine = &self.processor.driver.engine;
        let server_ms = self.channels.status.server_ms.load(Ordering::Relaxed);
        // What is still unread in the streams need not be fetched.
        let is_behind = server_ms.saturating_sub(engine.globals().last.ms) > CAUGHT_UP_MS;
        if is_behind && !self.channels.status.is_drained.load(Ordering::Relaxed) {
            return;
        }
        let observed = engine.streams().iter().find(|(_, stream)| stream.kind == StreamKind::Observation);
        let journalled = observed.and_then(|(stream, _)| engine.cursor(stream));
        let goals = if self.writes_back { goals(engine) } else { Vec::new() };
        let tick = Tick { needs: Needs::of(engine, server_ms), journalled };
        self.channels.lacking.send_replace(Lacking { tick, goals });
    }

    /// Returns true if everything is on disk, published, offered and acknowledged.
    fn is_settled(&self) -> bool {
        self.processor.delivery.is_settled() && matches!(self.checkpoint, Checkpoint::None)
    }

    /// Returns true if nothing was pending or new for the requested time. A follower waits until it could have become
    /// the leader.
    fn is_idle_enough(&mut self) -> bool {
        let Some(limit) = self.until_idle else { return false };
        if !self.is_settled() || !self.channels.status.is_drained.load(Ordering::Relaxed) {
            self.busy = Instant::now();
            return false;
        }
        let limit = if self.processor.delivery.is_leader() { limit } else { limit.max(self.lease_lasts * 3 / 2) };
        self.busy.elapsed() >= limit
    }

    /// Writes everything, emits the remaining decisions, and closes journal and store.
    fn finish(mut self, threads: DiskThreads) -> anyhow::Result<()> {
        self.publisher.stopping();
        let until = Instant::now() + DRAIN_LIMIT;
        loop {
            self.act()?;
            let (folded, durable) = self.processor.delivery.journal();
            let is_on_disk = folded == durable && matches!(self.checkpoint, Checkpoint::None);
            // Our own entries may come back later. This process reads no more.
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
        let Self { processor, channels, store, mut snapshots, .. } = self;
        let _ = channels.checkpoints.send(rows);
        if let Some((keep_from, older_than_ms)) = snapshots.at_end(&processor.driver.engine, position) {
            let _ = channels.journal.send(JournalOrder::Retain { keep_from, older_than_ms });
        }
        let events = channels.events.clone();
        drop(channels);
        let panicked = |_| anyhow::anyhow!("a task that waits for the disk panicked");
        threads.journal.join().map_err(panicked)??;
        threads.checkpoints.join().map_err(panicked)?;
        for event in events.try_iter() {
            if let Event::Checkpointed { outcome, .. } = event {
                outcome?;
            }
        }
        drop(store);
        processor.crash_guard.finish();
        Ok(())
    }
}
