//! An instance: its disk, and the event loop of the process that runs there. The loop has the steps of
//! `src/service/run/event_loop.rs`, without threads.

use std::sync::atomic::Ordering;

use harvester::codec::state;
use harvester::domain::delivery::Lease;
use harvester::domain::delivery::action::{Action, Notice, OfferAnswer};
use harvester::domain::delivery::fault::Fault;
use harvester::domain::delivery::gap::StreamGap;
use harvester::service::run::Message;
use harvester::service::run::processor::Processor;

use super::checks::Noticed;
use super::disk::Disk;
use super::process::{Checkpoint, Event, Process};
use super::promise::Promise;
use super::run::CONTROL;
use super::world::World;

/// Longest time between two checks of the role. [µs]
const REPORT_US: u64 = 250_000;

pub struct Instance {
    pub name: String,
    /// Grows with each start and each end of a process here.
    pub life: u64,
    pub disk: Disk,
    pub process: Option<Box<Process>>,
    pub paused_until_us: u64,
    /// Number of processes that began here. [1]
    pub starts: u64,
}

impl Instance {
    pub fn new(index: usize) -> Self {
        Self {
            name: ["one", "two", "three"][index].to_owned(),
            life: 0,
            disk: Disk::default(),
            process: None,
            paused_until_us: 0,
            starts: 0,
        }
    }

    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_deref_mut()
    }
}

impl World {
    /// Adds an event for the event loop of an instance, and wakes it.
    pub fn report(&mut self, instance: usize, event: Event) {
        if let Some(process) = self.instances[instance].process() {
            process.events.push_back(event);
            self.wake(instance);
        }
    }

    /// Wakes the event loop of an instance.
    pub fn wake(&mut self, instance: usize) {
        let us = self.rng.within(2, 60);
        let life = self.instances[instance].life;
        let Some(process) = self.instances[instance].process() else { return };
        if !std::mem::replace(&mut process.is_woken, true) {
            self.at_instance(instance, life, us, move |world| world.turn(instance));
        }
    }

    fn with<T>(&mut self, instance: usize, act: impl FnOnce(&mut Self, &mut Process) -> T) -> Option<T> {
        let life = self.instances[instance].life;
        let mut process = self.instances[instance].process.take()?;
        let done = act(self, &mut process);
        // The call can have ended the process.
        if self.instances[instance].life == life {
            self.instances[instance].process = Some(process);
        }
        Some(done)
    }

    /// Runs one turn of the event loop: handles what happened, and hands out what is asked for.
    fn turn(&mut self, instance: usize) {
        let is_over = self.with(instance, |world, process| {
            process.is_woken = false;
            if let Err(error) = world.wait(process) {
                return Some(error);
            }
            world.act(instance, process);
            None
        });
        if let Some(Some(error)) = is_over {
            self.violate(Promise::GoesOn, format!("{} ends: {error}", self.instances[instance].name));
        }
        self.set_timer(instance);
    }

    /// Handles one message, and all events that are there by then.
    fn wait(&mut self, process: &mut Process) -> anyhow::Result<()> {
        let takes_entries = process.takes_entries();
        if let Some(entries) = process.held.take_if(|_| takes_entries) {
            self.take(process, entries)?;
        } else {
            let takes_message = process.held.is_none() && !process.messages.is_empty();
            if takes_message && (process.events.is_empty() || self.rng.chance(500)) {
                let message = process.messages.try_recv()?;
                self.handle_or_defer(process, message)?;
            } else if let Some(event) = process.events.pop_front() {
                self.handle(process, event);
            }
        }
        while let Some(event) = process.events.pop_front() {
            self.handle(process, event);
        }
        Ok(())
    }

    fn handle_or_defer(&mut self, process: &mut Process, first: Message) -> anyhow::Result<()> {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            if matches!(message, Message::Entries(_)) {
                if process.takes_entries() {
                    return self.take(process, message);
                }
                process.held = Some(message);
                return Ok(());
            }
            self.take(process, message)?;
            next = process.messages.try_recv().ok();
        }
        Ok(())
    }

    fn take(&mut self, process: &mut Process, message: Message) -> anyhow::Result<()> {
        let now_ms = process.now_ms(self.now_us);
        let processor = &mut process.processor;
        match message {
            Message::Entries(mut batch) => {
                for (released, line) in batch.iter() {
                    processor.handle_entry(released, line, now_ms)?;
                }
                batch.clear();
                let _ = process.folded.try_send(batch);
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
            Message::Gap(gap) => {
                let name = &processor.driver.streams().get(gap.stream).name;
                self.trace.add(self.now_us, &process.owner, &format!("finds a gap of {name}: {gap:?}"));
                if gap.count.is_none() {
                    let waiting = processor.delivery.outbox().rows().filter(|row| row.written.is_none());
                    process.knows.extend(waiting.map(|row| row.decision_id.clone()));
                }
                processor.delivery.handle_gap(gap, &processor.driver.engine);
            }
            Message::StreamStats(..) => {}
            Message::Ended(error) => return Err(error),
        }
        Ok(())
    }

    fn handle(&mut self, process: &mut Process, event: Event) {
        let now_ms = process.now_ms(self.now_us);
        if let Event::KillKey { kill, began_us } = event {
            let began_ms = process.now_ms(began_us);
            let Processor { delivery, driver, .. } = &mut process.processor;
            return delivery.handle_kill_key(kill, began_ms, &driver.engine);
        }
        let Processor { delivery, driver, .. } = &mut process.processor;
        match event {
            Event::Synced { lines } => {
                process.is_syncing = false;
                delivery.handle_synced(lines as u64);
            }
            Event::Checkpointed => {
                let written = std::mem::replace(&mut process.checkpoint, Checkpoint::None);
                if matches!(written, Checkpoint::Writing { is_asked: true }) && !process.is_checkpoint_asked {
                    delivery.handle_checkpointed();
                }
            }
            Event::EmitterConnected => delivery.handle_connected(),
            Event::EmitterDisconnected => delivery.handle_disconnected(),
            Event::Offered { seq, answer } => {
                if let (OfferAnswer::Written { .. }, Some(row)) = (&answer, delivery.outbox().get(seq)) {
                    process.knows.insert(row.decision_id.clone());
                }
                delivery.handle_offered(seq, answer, now_ms);
            }
            Event::Appended { number, outcome } => delivery.handle_appended(number, outcome, now_ms, &driver.engine),
            Event::Recorded { number, outcome } => delivery.handle_recorded(number, outcome, now_ms),
            Event::Checked { looked } => delivery.handle_checked(&looked, &driver.engine),
            Event::Acknowledged => delivery.handle_acknowledged(),
            Event::Lease => self.follow_role(process),
            Event::KillKey { .. } => {}
        }
    }

    fn follow_role(&mut self, process: &mut Process) {
        let lease = process.lease.as_ref().filter(|(_, until_us)| self.now_us < *until_us);
        let lease = lease
            .map(|(value, until_us)| Lease { value: value.clone(), until_ms: (until_us - process.began_us) / 1000 });
        let (before, server_ms) =
            (process.processor.delivery.is_leader(), process.status.server_ms.load(Ordering::Relaxed));
        process.processor.delivery.handle_lease(lease, server_ms, &process.processor.driver.engine);
        let is_leader = process.processor.delivery.is_leader();
        if before != is_leader {
            let what = if is_leader { "leads" } else { "follows" };
            self.trace.add(self.now_us, &process.owner, what);
        }
    }

    /// Hands out lines, checkpoints and actions.
    fn act(&mut self, instance: usize, process: &mut Process) {
        if self.now_us - process.reported_us >= REPORT_US {
            process.reported_us = self.now_us;
            self.follow_role(process);
        }
        let server_ms = process.status.server_ms.load(Ordering::Relaxed);
        process.processor.delivery.handle_server_time(server_ms);
        self.hand_over_lines(instance, process);
        let now_ms = process.now_ms(self.now_us);
        while let Some(action) = process.processor.delivery.next_action(&process.processor.driver.engine, now_ms) {
            match action {
                Action::Checkpoint => process.is_checkpoint_asked = true,
                Action::Recall { from, to } => {
                    let store = &self.instances[instance].disk.store;
                    let lines = (from..to).filter_map(|seq| state::decision_one(store, seq).transpose());
                    let lines: Vec<String> = lines.collect::<Result<_, _>>().expect("the rows of decisions read");
                    process.processor.recall(&lines);
                }
                Action::Offer(offers) => {
                    for offer in &offers {
                        let engine = process.processor.engine();
                        let book = engine.book_of_decision(&offer.row.decision_id).map(|book| engine.book(book));
                        let is_covered = book.is_some_and(|book| book.covers(&offer.row.decision_id));
                        let control = engine.streams().id_of(CONTROL).and_then(|control| engine.cursor(control));
                        self.check_offer(&process.owner, offer, control, is_covered);
                    }
                    process.emitting.orders.push_back((process.emitting.connection, Action::Offer(offers)));
                }
                action => process.emitting.orders.push_back((process.emitting.connection, action)),
            }
        }
        while let Some(notice) = process.processor.delivery.next_notice() {
            if let Notice::Lost(gap) = &notice {
                let stream = process.processor.streams().get(gap.stream).name.clone();
                let is_from_start = process.began_at[usize::from(gap.stream.0)] == gap.after;
                let StreamGap { after, before, .. } = *gap;
                self.checks.noticed.push(Noticed { stream, after, before, is_from_start });
            }
            if let Notice::Doubtful { .. } | Notice::WrittenAgain { .. } = &notice {
                self.trace.add(self.now_us, &process.owner, &format!("{notice:?}"));
            }
        }
        self.keep_checkpoint(instance, process);
        self.hand_over_lines(instance, process);
        self.work(instance, process);
    }

    fn hand_over_lines(&mut self, instance: usize, process: &mut Process) {
        let is_waited_for = matches!(process.checkpoint, Checkpoint::Ready { .. });
        let now_ms = process.now_ms(self.now_us);
        let is_due = |due_ms: u64| is_waited_for || due_ms <= now_ms;
        if process.is_syncing || !process.processor.lines_due_ms().is_some_and(is_due) {
            return;
        }
        process.is_syncing = true;
        let lines = std::mem::take(&mut process.processor.journal);
        let text = String::from_utf8(lines.text).expect("lines are text");
        let disk = &mut self.instances[instance].disk;
        disk.lines.extend(text.lines().map(str::to_owned));
        let written = disk.lines.len();
        let life = self.instances[instance].life;
        let us = self.disk_us();
        self.at_instance(instance, life, us, move |world| {
            if world.now_us < world.instances[instance].disk.full_until_us {
                return world.end(instance, "the disk is full");
            }
            world.instances[instance].disk.sync(written);
            world.report(instance, Event::Synced { lines: written });
        });
    }

    fn disk_us(&mut self) -> u64 {
        match self.rng.within(0, 50) {
            0 => self.rng.within(5_000, 200_000),
            _ => self.rng.within(100, 3_000),
        }
    }

    fn keep_checkpoint(&mut self, instance: usize, process: &mut Process) {
        let (folded, durable) = process.processor.delivery.journal();
        if let Checkpoint::None = process.checkpoint {
            let (position, at_us) = process.checkpointed;
            let is_due = folded > position && self.now_us - at_us >= self.plan.checkpoint_us;
            let is_asked = std::mem::take(&mut process.is_checkpoint_asked);
            if is_asked || is_due {
                let (rows, knows) = (process.processor.checkpoint(), process.knows.clone());
                process.checkpoint = Checkpoint::Ready { rows, knows, is_asked };
                process.checkpointed = (folded, self.now_us);
            }
        }
        let is_early = self.request.faults.has(Fault::CheckpointBeforeSync);
        if matches!(&process.checkpoint, Checkpoint::Ready { rows, .. } if rows.journal <= durable || is_early)
            && let Checkpoint::Ready { rows, knows, is_asked } =
                std::mem::replace(&mut process.checkpoint, Checkpoint::None)
        {
            process.checkpoint = Checkpoint::Writing { is_asked };
            self.instances[instance].disk.begin_commit(rows.rows, knows);
            let (life, us) = (self.instances[instance].life, self.disk_us());
            self.at_instance(instance, life, us, move |world| {
                if world.now_us < world.instances[instance].disk.full_until_us {
                    return world.end(instance, "the disk is full");
                }
                world.instances[instance].disk.end_commit();
                world.report(instance, Event::Checkpointed);
                world.ambush_at_commit(instance);
            });
        }
    }

    /// Wakes the loop again for remaining work, and at the next time at which it has something to do.
    fn set_timer(&mut self, instance: usize) {
        let (life, now_us) = (self.instances[instance].life, self.now_us);
        let Some(process) = self.instances[instance].process() else { return };
        let takes_held = process.held.is_none() || process.takes_entries();
        if !process.events.is_empty() || (takes_held && (process.held.is_some() || !process.messages.is_empty())) {
            return self.wake(instance);
        }
        let now_ms = process.now_ms(now_us);
        let lines = process.processor.lines_due_ms().filter(|_| !process.is_syncing);
        let due = process.processor.delivery.poll_timeout(now_ms).into_iter().chain(lines).min();
        let due = due.map(|at| at.saturating_sub(now_ms) * 1000);
        let wait_us = due.unwrap_or(REPORT_US).clamp(1, REPORT_US);
        if process.timer_us > now_us && process.timer_us <= now_us + wait_us {
            return;
        }
        process.timer_us = now_us + wait_us;
        self.at_instance(instance, life, wait_us, move |world| world.wake(instance));
    }

    /// Ends a process at once. It is started again later.
    pub fn end(&mut self, instance: usize, why: &str) {
        let us = match self.rng.within(0, 4) {
            0 => self.rng.within(3_000_000, 7_000_000),
            _ => self.rng.within(10_000, 3_000_000),
        };
        self.end_for(instance, why, us);
    }

    /// Ends a process at once, and starts it again after some time.
    pub fn end_for(&mut self, instance: usize, why: &str, us: u64) {
        let at = &mut self.instances[instance];
        if at.process.is_none() {
            return;
        }
        at.life += 1;
        at.process = None;
        at.paused_until_us = 0;
        at.disk.crash(&mut self.rng);
        let (name, lines) = (at.name.clone(), at.disk.lines.len());
        self.note(&name, format!("ends: {why}; {lines} lines are left"));
        self.start_after(instance, us);
    }
}
