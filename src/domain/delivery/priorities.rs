//! The next action, by numbered priorities.

use super::action::{Action, Append, FactsFolded, GapNotice, Needed, Notice, Offer, Record};
use super::fault::Fault;
use super::gap::StreamGap;
use super::row::{OutboxRow, RowChange};
use super::{CaughtUp, Checkpointing, Delivery, StreamPosition};
use crate::domain::engine::Engine;
use crate::domain::event::ids::{AccountId, StreamId};
use crate::domain::exit::Hold;

/// The most decisions in one pipeline. [1]
const OFFERS_MAX: usize = 64;

impl Delivery {
    /// Returns the next thing to do; `None` if there is nothing to do before the next event or [`Self::poll_timeout`].
    ///
    /// In order of priority: checkpoint, our own control entries, the check of what was written, decisions,
    /// acknowledgements, quarantine records.
    pub fn next_action(&mut self, engine: &Engine, now_ms: u64) -> Option<Action> {
        match self.checkpoint {
            Checkpointing::Due => {
                self.checkpoint = Checkpointing::Running;
                return Some(Action::Checkpoint);
            }
            Checkpointing::Running => return None,
            Checkpointing::Idle if !self.is_connected => return None,
            Checkpointing::Idle => {}
        }
        self.append(engine, now_ms)
            .or_else(|| self.check(engine))
            .or_else(|| self.offer(engine, now_ms))
            .or_else(|| self.acknowledge(engine))
            .or_else(|| self.record(now_ms))
    }

    fn append(&mut self, engine: &Engine, now_ms: u64) -> Option<Action> {
        self.lease_at(now_ms)?;
        let super::control_outbox::Due { number, entry, tried } = self.control.due(now_ms)?;
        let gap = entry.clone().into_gap().map(|gap| self.gap_notice(gap, engine));
        Some(Action::Append(Box::new(Append { number, entry, tried, gap })))
    }

    fn gap_notice(&self, gap: StreamGap, engine: &Engine) -> GapNotice {
        let streams = engine.streams();
        let folded = streams.id_of(&self.settings.control).and_then(|control| engine.cursor(control));
        let stream = streams.get(gap.stream).name.as_str().into();
        GapNotice { stream, gap, folded: folded.unwrap_or_default() }
    }

    fn offer(&mut self, engine: &Engine, now_ms: u64) -> Option<Action> {
        let lease = self.lease_at(now_ms)?.value.clone();
        if !self.gate.may_offer() || self.gate.waits_for_outputs(now_ms) {
            return None;
        }
        let is_caught_up = self.caught_up == CaughtUp::Yes;
        let may_order = is_caught_up && self.gate.may_order();
        let may_go = |row: &OutboxRow| {
            (is_caught_up || !row.live) && (may_order || !row.is_order()) && !self.gate.is_doubtful(row.seq, now_ms)
        };
        let mut offers: Vec<Offer> = Vec::new();
        for (row, after) in self.outbox.waiting().take_while(|(row, _)| may_go(row)).take(OFFERS_MAX) {
            let is_order = row.is_order();
            let before = offers.last();
            offers.push(Offer {
                row: row.clone(),
                lease: lease.clone(),
                refusal: if is_order { self.refusal(row, engine) } else { None },
                age_max_ms: if is_order { self.settings.age_max_ms } else { 0 },
                watermark_ms: if is_order { self.gate.watermark_ms } else { 0 },
                facts: if is_order { self.facts_folded(engine) } else { Vec::new() },
                kill_was_set: self.kills.was_set(),
                after: after.filter(|after| before.is_none() && !self.gate.is_checked(*after)),
                needs: before.map(|before| Needed {
                    decision_id: before.row.decision_id.clone(),
                    hash: before.row.field("hash").to_owned(),
                }),
            });
        }
        if offers.is_empty() {
            return None;
        }
        self.outbox.offering(offers.iter().map(|offer| offer.row.seq));
        Some(Action::Offer(offers))
    }

    fn facts_folded(&self, engine: &Engine) -> Vec<FactsFolded> {
        let facts = engine.streams().iter().filter(|(_, stream)| stream.kind.is_of_positions());
        facts
            .map(|(stream, _)| FactsFolded {
                stream,
                after: engine.cursor(stream).unwrap_or_default(),
                seen: self.position(stream).seen,
            })
            .collect()
    }

    /// Returns the reason why an order is not sent now.
    fn refusal(&self, row: &OutboxRow, engine: &Engine) -> Option<&'static str> {
        let account = engine.accounts().find(&row.account).unwrap_or(AccountId::NONE);
        let is_ignored = self.settings.faults.has(Fault::IgnoreKillOfAccount);
        let killed = if is_ignored { AccountId::NONE } else { account };
        if engine.is_killed(killed) || self.kills.has_unfolded() {
            return Some("killed");
        }
        if let Some(why) = self.control.refusal() {
            return Some(why);
        }
        let configured = self.settings.policy_of(&row.account);
        if *row.policy != *configured || *engine.policy_of(account).hash != *configured {
            return Some("policy_differs");
        }
        if !self.settings.sends_orders {
            return Some("configured_shadow");
        }
        // Since the decision, the position was closed, was reduced by another service, or became uncertain.
        let book = engine.book_of_decision(&row.decision_id).map(|book| engine.book(book));
        let is_covered = self.settings.faults.has(Fault::OfferWithoutPosition)
            || book.is_some_and(|book| book.covers(&row.decision_id));
        let is_uncertain = || book.and_then(|book| book.uncertain()).map(Hold::name);
        (!is_covered).then_some("position_changed").or_else(is_uncertain)
    }

    fn check(&mut self, engine: &Engine) -> Option<Action> {
        if let Some((from, to)) = self.recall.take() {
            return Some(Action::Recall { from, to });
        }
        if !self.gate.is_check_due() || self.outbox.is_in_flight() {
            return None;
        }
        self.gate.begin_check();
        let written = self.outbox.all_written();
        if !written.is_empty() {
            return Some(Action::Check(written));
        }
        let oldest = self.outbox.rows().next().map(|row| row.seq);
        self.recall_before(oldest.unwrap_or(engine.globals().chain.seq + 1), engine);
        self.recall.take().map(|(from, to)| Action::Recall { from, to })
    }

    fn acknowledge(&mut self, engine: &Engine) -> Option<Action> {
        let is_early = self.settings.faults.has(Fault::AcknowledgeBeforeSync);
        let durable = if is_early { self.folded } else { self.durable };
        let due = self.acks.take(self.folded, durable, |stream| engine.cursor(stream));
        due.map(Action::Acknowledge)
    }

    fn record(&mut self, now_ms: u64) -> Option<Action> {
        self.lease_at(now_ms)?;
        let due: Vec<Record> = self.records.due(self.durable, now_ms);
        (!due.is_empty()).then_some(Action::Record(due))
    }

    /// Returns the next time at which [`Self::next_action`] may return something without an event. [ms]
    pub fn poll_timeout(&self, now_ms: u64) -> Option<u64> {
        let stale = Some(self.not_before_ms).filter(|at| *at > now_ms);
        [self.gate.timeout(now_ms), self.control.timeout(now_ms), self.records.timeout(now_ms), stale]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the next notice for the operator.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Takes the changes that a checkpoint has to write. `last_ms` is the time of the last folded entry.
    pub fn take_changes(&mut self, last_ms: u64) -> Vec<RowChange> {
        // A decision that is being looked for must still be there when it turns out to be lost.
        if self.gate.may_offer() {
            self.outbox.forget(last_ms);
        }
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(self.outbox.take_changes());
        if self.settings.faults.has(Fault::CursorBeforeOutbox) {
            changes.retain(|change| !matches!(change, RowChange::Outbox(row) if row.written.is_none()));
        }
        changes
    }

    /// Takes the stream positions that changed.
    pub fn take_positions(&mut self) -> Vec<(StreamId, StreamPosition)> {
        let moved =
            self.moved.iter_mut().enumerate().filter_map(|(index, moved)| std::mem::take(moved).then_some(index));
        moved.map(|index| (StreamId(index as u16), self.positions[index])).collect()
    }
}
