//! The event loop: takes messages, commits, hands over to the emitter, publishes the report, and ends in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::fail;
use super::fetching::{Fetched, Lacking};
use super::kill_key::KeyRead;
use super::lines::Batch;
use super::message::{Done, EmitBatch, Message, Role};
use super::processor::{OwnEntry, Processor};
use super::publish::Publisher;
use super::reader_status::ReaderStatus;
use super::snapshots::Snapshots;
use crate::codec::policy;
use crate::config::Config;
use crate::domain::engine::needs::Needs;
use crate::domain::event::streams::StreamKind;
use crate::domain::exit::policy::Policy;
use crate::drive::look_ahead::CONFIGURED;
use crate::service::fetch::Tick;
use crate::service::pages::Question;
use crate::service::write_back::goals;

/// The longest wait for an event.
const WAIT: Duration = Duration::from_millis(20);
/// When this many emit batches wait for the emitter, no more entries are taken. [1]
const WORK_WAITING: usize = 64;
/// The longest time that the emission of decisions may take at the end.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// A processor with at most this lag knows what the projection lacks. [ms]
const CAUGHT_UP_MS: u64 = 2_000;
/// A processor with more lag than this works off a backlog. More entries are sure to come, and its decisions are so
/// late that a short wait changes nothing. [ms]
const BACKLOG_MS: u64 = 1000;
/// How long a commit of a backlog waits for more entries.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(50);
/// The longest time between two reports.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// The channels between the processor and the other parts.
pub struct Channels {
    pub messages: Receiver<Message>,
    /// Batches that were folded, for the reader to fill again.
    pub folded: SyncSender<Batch>,
    pub work: mpsc::Sender<EmitBatch>,
    pub done: Receiver<Done>,
    pub role: watch::Receiver<Role>,
    pub holder: watch::Receiver<Option<String>>,
    pub kill: watch::Receiver<Option<KeyRead>>,
    pub questions: mpsc::Receiver<Question>,
    pub lacking: watch::Sender<Lacking>,
    pub fetched: watch::Receiver<Fetched>,
    pub status: Arc<ReaderStatus>,
    pub stop: Arc<AtomicBool>,
    pub give_up: Arc<AtomicBool>,
}

/// The running service.
pub struct EventLoop {
    fold: Processor,
    wires: Channels,
    policy: Policy,
    /// Hash of the policy in force when the process began.
    policy_before: Box<str>,
    has_adopted: bool,
    /// The server's clock at the first round that was read with the lease; `None` before it. [ms since 1970]
    led_from_ms: Option<u64>,
    /// The server's clock at the last round before that one. [ms since 1970]
    led_behind_ms: u64,
    commit_entries: usize,
    commit_interval: Duration,
    lease_lasts: Duration,
    until_idle: Option<Duration>,
    publisher: Publisher,
    writes_back: bool,
    snapshots: Snapshots,
    waiting: VecDeque<EmitBatch>,
    /// Emit batches that the emitter has. [1]
    handed_over: usize,
    busy: Instant,
    published: Instant,
}

impl EventLoop {
    pub fn new(
        fold: Processor,
        wires: Channels,
        config: &Config,
        publisher: Publisher,
        until_idle: Option<Duration>,
    ) -> Self {
        let snapshots = Snapshots::of(config, fold.checkpoint.journal);
        let policy_before = fold.projection.engine.globals().policy.hash.clone();
        Self {
            fold,
            wires,
            policy: config.policy.clone(),
            policy_before,
            has_adopted: false,
            led_from_ms: None,
            led_behind_ms: 0,
            commit_entries: config.run.commit_entries,
            commit_interval: Duration::from_millis(config.run.commit_interval_ms),
            lease_lasts: Duration::from_millis(config.run.lease_ms),
            until_idle,
            publisher,
            writes_back: config.backfill.write_back,
            snapshots,
            waiting: VecDeque::new(),
            handed_over: 0,
            busy: Instant::now(),
            published: Instant::now(),
        }
    }

    /// Works until it is stopped, or until it is idle if that was asked for.
    pub fn run(mut self) -> anyhow::Result<()> {
        self.publisher.started(&self.fold);
        while !self.wires.stop.load(Ordering::Relaxed) && !self.is_idle_enough() {
            self.follow_role();
            self.apply_outcome();
            self.take_messages()?;
            self.see_whether_caught_up();
            self.hand_over()?;
            self.answer();
            self.tell();
        }
        self.finish()
    }

    fn follow_role(&mut self) {
        let is_leader = self.wires.role.borrow().lease().is_some();
        if is_leader == self.fold.is_leader {
            return;
        }
        self.fold.lead(is_leader);
        (self.led_from_ms, self.led_behind_ms) = (None, self.wires.status.server_ms.load(Ordering::Relaxed));
        if is_leader && !std::mem::replace(&mut self.has_adopted, true) {
            self.adopt_policy();
        }
        self.publisher.role_changed(is_leader);
    }

    /// Notes when we have caught up: orders wait until all entries are folded that were in the streams when we became
    /// the leader.
    fn see_whether_caught_up(&mut self) {
        if self.fold.is_caught_up || !self.fold.is_leader {
            return;
        }
        let server_ms = self.wires.status.server_ms.load(Ordering::Relaxed);
        let led_from_ms = self.led_from_ms.or(Some(server_ms).filter(|ms| *ms > self.led_behind_ms));
        self.led_from_ms = led_from_ms;
        self.fold.is_caught_up = led_from_ms.is_some_and(|from_ms| self.fold.folded_to_ms() >= from_ms);
    }

    /// Writes the configured policy as an entry, unless the log has it already
    /// (docs/spec/decision.md, "Policy in force").
    fn adopt_policy(&mut self) {
        let globals = self.fold.projection.engine.globals();
        // If another policy was adopted since this process began, that one counts.
        if *globals.policy.hash != *self.policy_before {
            return;
        }
        let is_in_force = globals.policy.hash == self.policy.hash;
        if (globals.policy_adopted && is_in_force) || self.fold.own.has_policy() {
            return;
        }
        let why = if is_in_force { OwnEntry::Other } else { OwnEntry::Policy };
        let payload = format!(r#"{{"policy":{},"reason":"{CONFIGURED}"}}"#, policy::to_json(&self.policy));
        self.fold.stage_entry(why, "policy.adopted", &payload);
    }

    fn apply_outcome(&mut self) {
        while let Ok(done) = self.wires.done.try_recv() {
            match &done {
                Done::Finished => self.handed_over -= 1,
                Done::Emitted { took, refusal, .. } => self.publisher.emitted(*took, refusal.as_deref()),
                Done::NotEmitted { .. }
                | Done::Appended { .. }
                | Done::NotAppended { .. }
                | Done::AppendRefused { .. }
                | Done::Output { .. }
                | Done::Checked { .. }
                | Done::Aside { .. } => {}
            }
            if let Some((row, line)) = self.fold.done(done) {
                self.publisher.decision_written(&row, line.as_ref());
            }
        }
        if self.wires.kill.has_changed().unwrap_or(false) {
            let read = *self.wires.kill.borrow_and_update();
            if let Some(read) = read {
                self.fold.kill_key_is_read(read);
            }
        }
    }

    /// Folds the entries that are there. Commits when a commit is due, or when there are no more entries at the moment.
    fn take_messages(&mut self) -> anyhow::Result<()> {
        if self.waiting.len() >= WORK_WAITING {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(());
        }
        loop {
            let message = match self.fold.uncommitted() {
                Some((entries, _)) if entries >= self.commit_entries => return self.commit(),
                Some((_, since)) => {
                    let left = self.longest_wait().saturating_sub(since.elapsed());
                    if left.is_zero() {
                        return self.commit();
                    }
                    match self.next_message(left) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout) => return self.commit(),
                        Err(RecvTimeoutError::Disconnected) => {
                            return self.commit().and_then(|()| self.reader_is_gone());
                        }
                    }
                }
                None => match self.wires.messages.recv_timeout(WAIT) {
                    Ok(message) => message,
                    Err(RecvTimeoutError::Timeout) => return Ok(()),
                    Err(RecvTimeoutError::Disconnected) => return self.reader_is_gone(),
                },
            };
            let is_news = matches!(
                message,
                Message::Entries(_) | Message::Lost(_) | Message::Begin { .. } | Message::KillRead { .. }
            );
            self.take(message)?;
            if is_news {
                self.busy = Instant::now();
            } else if self.fold.uncommitted().is_none() {
                return Ok(());
            }
        }
    }

    /// Returns true if entries are being read and the last folded ones are old.
    fn is_behind(&self) -> bool {
        let status = &self.wires.status;
        let folded = self.fold.projection.engine.globals().last;
        !status.is_drained.load(Ordering::Relaxed)
            && status.server_ms.load(Ordering::Relaxed).saturating_sub(folded.ms) > BACKLOG_MS
    }

    /// Returns how long the first entry of a commit may wait for the last one.
    fn longest_wait(&self) -> Duration {
        if self.is_behind() { self.commit_interval.max(BACKLOG_INTERVAL) } else { self.commit_interval }
    }

    /// Returns the next message that is there. In a backlog it also waits for one, until the time is over.
    fn next_message(&self, left: Duration) -> Result<Message, RecvTimeoutError> {
        if self.is_behind() {
            return self.wires.messages.recv_timeout(left);
        }
        self.wires.messages.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    fn reader_is_gone(&self) -> anyhow::Result<()> {
        if self.wires.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        anyhow::bail!("the reader ended by itself")
    }

    fn take(&mut self, message: Message) -> anyhow::Result<()> {
        match message {
            Message::Entries(mut batch) => {
                for (released, line) in batch.iter() {
                    self.fold.take(released, line)?;
                }
                batch.clear();
                // A reader that has enough of them takes no more.
                let _ = self.wires.folded.try_send(batch);
            }
            Message::Begin { stream, cursor, position } => self.fold.begin(stream, cursor, position),
            Message::KillRead { stream, id } => self.fold.kill_is_read(stream, id),
            Message::Delivered(all) => {
                for (stream, ids) in all {
                    self.fold.delivered(stream, ids);
                }
            }
            Message::ReadTo { ms } => self.fold.folded_to(ms),
            Message::Lost(loss) => {
                // The server may have lost what we wrote as well.
                self.fold.doubt_written();
                self.fold.lose(loss);
            }
            Message::Surveyed(surveys, ahead) => self.publisher.surveyed(surveys, ahead),
            Message::Ended(error) => return Err(error),
        }
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.fold.commit()?;
        self.publisher.committed(began.elapsed());
        self.snapshots.after_commit(&mut self.fold);
        Ok(())
    }

    /// Hands over to the emitter what the commit has made due.
    fn hand_over(&mut self) -> anyhow::Result<()> {
        if self.fold.uncommitted().is_none() {
            let work = self.fold.work()?;
            if !work.is_empty() {
                self.waiting.push_back(work);
            }
        }
        while let Some(work) = self.waiting.pop_front() {
            match self.wires.work.try_send(work) {
                Ok(()) => {
                    self.handed_over += 1;
                    fail::point("handed_over");
                }
                Err(TrySendError::Full(work) | TrySendError::Closed(work)) => {
                    self.waiting.push_front(work);
                    break;
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self) {
        while let Ok(question) = self.wires.questions.try_recv() {
            self.publisher.answer(&self.fold, question);
        }
    }

    fn tell(&mut self) {
        if self.published.elapsed() >= PUBLISH_INTERVAL {
            self.published = Instant::now();
            let holder = self.wires.holder.borrow().clone();
            let role = self.wires.role.borrow().clone();
            let fetched = self.wires.fetched.borrow().clone();
            self.publisher.publish(&mut self.fold, &self.wires.status, &role, holder, &fetched);
            self.say_what_is_lacking();
        }
    }

    fn say_what_is_lacking(&self) {
        if !self.fold.is_leader {
            return;
        }
        let engine = &self.fold.projection.engine;
        let server_ms = self.wires.status.server_ms.load(Ordering::Relaxed);
        // What is still unread in the streams need not be fetched.
        let is_behind = server_ms.saturating_sub(engine.globals().last.ms) > CAUGHT_UP_MS;
        if is_behind && !self.wires.status.is_drained.load(Ordering::Relaxed) {
            return;
        }
        let observed = engine.streams().iter().find(|(_, stream)| stream.kind == StreamKind::Observation);
        let journalled = observed.and_then(|(stream, _)| engine.cursor(stream));
        let goals = if self.writes_back { goals(engine) } else { Vec::new() };
        self.wires
            .lacking
            .send_replace(Lacking { tick: Tick { needs: Needs::of(engine, server_ms), journalled }, goals });
    }

    fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.handed_over == 0 && self.fold.is_settled()
    }

    /// Returns true if nothing was pending or new for the requested time. A follower waits until it could have become
    /// the leader.
    fn is_idle_enough(&mut self) -> bool {
        let Some(limit) = self.until_idle else { return false };
        if !self.is_settled() || !self.wires.status.is_drained.load(Ordering::Relaxed) {
            self.busy = Instant::now();
            return false;
        }
        let limit = if self.fold.is_leader { limit } else { limit.max(self.lease_lasts * 3 / 2) };
        self.busy.elapsed() >= limit
    }

    /// Commits, emits the remaining decisions, and closes journal and store.
    fn finish(mut self) -> anyhow::Result<()> {
        self.publisher.stopping();
        let until = Instant::now() + DRAIN_LIMIT;
        if self.fold.uncommitted().is_some() {
            self.commit()?;
        }
        while Instant::now() < until {
            self.apply_outcome();
            if self.fold.uncommitted().is_some() {
                self.commit()?;
            }
            self.hand_over()?;
            // Our own entries may come back later. This process reads no more.
            let is_out = self.fold.is_told() || !self.fold.is_leader;
            if self.waiting.is_empty() && self.handed_over == 0 && is_out {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.wires.give_up.store(true, Ordering::Relaxed);
        if self.fold.uncommitted().is_none() {
            self.snapshots.at_end(&mut self.fold);
        }
        let Processor { projection, journal, crash_guard, .. } = self.fold;
        journal.close()?;
        projection.finish()?;
        crash_guard.finish();
        Ok(())
    }
}
