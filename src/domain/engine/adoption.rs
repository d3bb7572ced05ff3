//! Decisions that take effect: ours, or those that the history has recorded (docs/spec/fold.md, "Recorded decisions").

use super::chain::ChainHead;
use super::decision::Decision;
use super::evaluation::NewDecision;
use super::{Decisions, Engine};
use crate::domain::book::counters::Count;
use crate::domain::book::position::Position;
use crate::domain::book::rung::{DecisionOutcome, DecisionRecord, RungState};
use crate::domain::event::ids::{EntryId, SortKey, StreamId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{DecisionFact, Entry};
use crate::domain::exit::RATE_WINDOW_MS;
use crate::domain::exit::policy::Mode;
use crate::domain::units::{Qty, RMultiple, Ratio};

impl Engine {
    /// Settles our decision, or none, against the decisions that the history contains. Returns the decision that takes
    /// effect, if there is one.
    pub(super) fn settle(
        &mut self,
        entry: &Entry,
        symbol: SymbolId,
        key: SortKey,
        ours: Option<NewDecision>,
    ) -> Option<Box<Decision>> {
        let recorded = self.recorded.caused_by(entry.stream, entry.id);
        let is_audited = self.decisions == Decisions::Audited;
        if is_audited && !recorded.is_empty() {
            for fact in &recorded {
                self.adopt(fact);
            }
            return ours.map(|(decision, _)| decision);
        }
        if !is_audited && (!recorded.is_empty() || self.recorded.cover(key)) {
            self.compare(ours.as_ref().map(|(decision, _)| &**decision), &recorded);
            for fact in &recorded {
                self.adopt(fact);
            }
            return None;
        }
        let (mut decision, record) = ours?;
        self.globals.chain.seq += 1;
        decision.seq = self.globals.chain.seq;
        self.counters.decisions += 1;
        self.record(symbol, DecisionRecord { seq: decision.seq, ..*record }, entry.id.ms, None);
        Some(decision)
    }

    fn compare(&mut self, ours: Option<&Decision>, recorded: &[DecisionFact]) {
        let comparison = &mut self.counters.comparison;
        if recorded.is_empty() {
            if let Some(ours) = ours {
                comparison.missing.insert(ours.decision_id.as_str().into());
            }
            return;
        }
        for fact in recorded {
            match ours {
                Some(ours) if *ours.decision_id == *fact.decision_id && ours.qty == fact.qty => comparison.agree += 1,
                Some(_) => comparison.differ += 1,
                None => comparison.unexpected += 1,
            }
        }
    }

    /// Adopts the decisions that were made before an entry and whose cause will not come. Adopting them at the place of
    /// their cause is better than at their own entry, because our decisions in between then take them into account.
    #[cold]
    pub(super) fn adopt_orphaned(&mut self, entry: &Entry) {
        let read_to = |stream: StreamId| self.cursors[usize::from(stream.0)];
        for fact in self.recorded.orphaned_by(entry.stream, entry.id, read_to) {
            if self.decisions == Decisions::Derived {
                continue;
            }
            let was_known = self.knows_decision(&fact);
            if !self.adopt(&fact) {
                self.counters.comparison.orphaned += 1;
            } else if !was_known && self.knows_decision(&fact) {
                self.counters.count(Count::DecisionWithoutCause);
            }
        }
    }

    /// Returns true if a position has a recorded decision.
    fn knows_decision(&self, fact: &DecisionFact) -> bool {
        let mut positions = self.slots[fact.symbol].symbol.positions();
        positions.any(|position| position.has_decision(&fact.decision_id))
    }

    /// Adopts a recorded decision, unless it is known already. Returns true if it found its position.
    pub(super) fn adopt(&mut self, fact: &DecisionFact) -> bool {
        if fact.seq > self.globals.chain.seq {
            self.globals.chain = ChainHead { seq: fact.seq, hash: fact.hash.clone() };
        }
        // A decision without a number takes its rungs, and no place in the chain.
        if fact.seq > 0 {
            self.note_link(fact.seq, &fact.hash);
        }
        if self.knows_decision(fact) {
            return true;
        }
        let symbol = &self.slots[fact.symbol].symbol;
        // Only a live decision has requested an order for a live position.
        if !fact.live && self.globals.policy.mode == Mode::Live {
            return true;
        }
        let named = symbol.positions().any(|i| i.id.with_symbol(&symbol.name) == *fact.position_id);
        let cause = self.streams.id_of(&fact.cause_stream).map(|stream| self.streams.kind(stream));
        let fits =
            symbol.hot.open.as_ref().is_some_and(|open| {
                open.direction.closing_side() == fact.side && was_open_at(open, cause, fact.cause_id)
            });
        if !named && !fits {
            return false;
        }
        let record = DecisionRecord {
            decision_id: fact.decision_id.clone(),
            plan_id: fact.plan_id.clone(),
            rungs: fact.rungs.clone(),
            share: fact.share,
            shares: Vec::new(),
            qty: fact.qty,
            attempt: fact.attempt,
            seq: fact.seq,
            cause: format!("{}/{}", fact.cause_stream, fact.cause_id).into(),
            state: if fact.live { RungState::Requested } else { RungState::Shadowed },
            last_outcome_ms: fact.cause_id.ms,
            expired: false,
            outcomes: Vec::new(),
        };
        let position_id = fact.position_id.clone();
        self.record(fact.symbol, record, fact.cause_id.ms, Some(&position_id))
    }
    /// Takes the rungs of a decision, in the named position or in the open one. Returns false if there is no position.
    fn record(&mut self, id: SymbolId, mut record: DecisionRecord, decided_ms: u64, position_id: Option<&str>) -> bool {
        // In the form in which it is read back from its entry, without trailing zeros. So the state is equal for the
        // instance that decided and for one that adopted the decision.
        record.qty = Qty::new(record.qty.get());
        record.share = Ratio::new(record.share.get());
        record.rungs.iter_mut().for_each(|r| *r = RMultiple::new(r.get()));
        let now_ms = self.globals.last.ms.max(decided_ms);
        let decided = &mut self.globals.decided_ms;
        while decided.front().is_some_and(|&ms| now_ms.saturating_sub(ms) >= RATE_WINDOW_MS) {
            decided.pop_front();
        }
        if now_ms.saturating_sub(decided_ms) < RATE_WINDOW_MS {
            decided.push_back(decided_ms);
        }
        let ladder = self.globals.policy.ladder.clone();
        let symbol = &mut self.slots[id].symbol;
        let name = symbol.name.clone();
        let named = position_id
            .and_then(|wanted| symbol.positions().position(|position| position.id.with_symbol(&name) == wanted));
        let position = match named {
            Some(key) => symbol.positions_mut().nth(key),
            None => symbol.hot.open.as_mut(),
        };
        let Some(position) = position else { return false };
        self.decision_plans.insert(record.plan_id.clone(), (id, record.decision_id.clone()));
        position.take(record, &ladder);
        self.invalidate(id);
        self.changes.touch_cold(id);
        self.after_positions(id);
        true
    }

    /// Counts a decision of ours as filled although no executor acts on it: what-if. Quantities stay those of the
    /// history.
    pub fn suppose_filled(&mut self, id: SymbolId, decision_id: &str, at: EntryId) {
        let policy = &self.globals.policy;
        let outcome = DecisionOutcome::Filled { is_final: true };
        for position in self.slots[id].symbol.positions_mut() {
            if position.apply_outcome(decision_id, outcome, at, Qty::ZERO, policy) {
                break;
            }
        }
        self.invalidate(id);
        self.after_positions(id);
    }
}

/// Returns true if an open position had begun when an entry of a kind came. If the kind is unknown, the millisecond
/// decides.
///
/// The position of a decision may be closed and forgotten by the time its entry is read. The next position of the
/// symbol is then a different one.
fn was_open_at(open: &Position, kind: Option<StreamKind>, at: EntryId) -> bool {
    let opened = (open.opened.id.ms, open.opened.kind, open.opened.id.seq);
    kind.map_or(opened.0 <= at.ms, |kind| opened <= (at.ms, kind, at.seq))
}
