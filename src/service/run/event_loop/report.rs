//! The reports of the event loop: log lines, the report of the service, and the needs for the fetcher.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{EventLoop, PUBLISH_INTERVAL};
use crate::domain::delivery::action::Notice;
use crate::domain::delivery::gap::GapReason;
use crate::domain::engine::needs::Needs;
use crate::domain::event::streams::StreamKind;
use crate::service::fetch::Tick;
use crate::service::pages::Question;
use crate::service::run::fetching::Lacking;
use crate::service::write_back::goals;

/// The likely cause if the server has lost entries, with the next step.
const OTHER_SERVER: &str = ". Is this another server than before? Then stop the service and correct REDIS_URL (--redis, \
                            [redis] url); for a new server, start with another --store and --journal";

/// A processor with at most this lag knows what the projection lacks. [ms]
const CAUGHT_UP_MS: u64 = 2_000;

impl EventLoop {
    pub(super) fn log_notices(&mut self) {
        while let Some(notice) = self.processor.delivery.next_notice() {
            match notice {
                Notice::Emitted { seq, entry: _, refusal, is_new } => {
                    let line = self.processor.take_operator_line(seq).filter(|_| refusal.is_none());
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
                Notice::Lost(gap) if gap.why == GapReason::NotFromBeginning => tracing::warn!(
                    stream = %self.processor.streams().get(gap.stream).name,
                    before = gap.before.map(|id| id.to_string()),
                    count = gap.count,
                    "entries before the start (run.from) are not read: positions are held until they are confirmed"
                ),
                Notice::Lost(gap) => tracing::error!(
                    stream = %self.processor.streams().get(gap.stream).name,
                    after = gap.after.map(|id| id.to_string()),
                    before = gap.before.map(|id| id.to_string()),
                    count = gap.count,
                    why = gap.why.text(),
                    server = self.server,
                    store = self.folder,
                    "entries are lost: positions are held until they are confirmed{}",
                    if gap.why == GapReason::Forgotten { OTHER_SERVER } else { "" }
                ),
                Notice::Doubtful { seq, decision_id, known } => tracing::error!(
                    seq,
                    decision_id,
                    known,
                    "the memory of written ids names an entry that is not this decision: this decision and all later ones wait. \
                     Look for its order at the executor, then HDEL the decision id from the memory"
                ),
                Notice::WrittenAgain { count, first, last } => {
                    tracing::error!(
                        count,
                        first,
                        last,
                        server = self.server,
                        store = self.folder,
                        "the server has lost decisions: they are written again{OTHER_SERVER}"
                    );
                }
            }
        }
    }

    pub(super) fn answer(&self, question: Question) {
        let store = self.store.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.publisher.answer(&self.processor, &store, question);
    }

    pub(super) fn publish(&mut self) {
        if self.published.elapsed() >= PUBLISH_INTERVAL {
            self.published = Instant::now();
            // A lease that was not renewed ends without an event.
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
        // Entries that are still unread in the streams need not be fetched.
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
}
