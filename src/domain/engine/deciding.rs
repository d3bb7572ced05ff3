//! The decision after the fold, and recorded decisions.

use super::shortcut::bands::{BandCache, PriceBand, Stability};
use super::{ChainHead, Decision, Decisions, Engine};
use crate::domain::book::counters::Count;
use crate::domain::book::plans::sha256_hex;
use crate::domain::book::position::Position;
use crate::domain::book::rung::{DecisionOutcome, DecisionRecord, RungState};
use crate::domain::book::symbol::Symbol;
use crate::domain::event::ids::{EntryId, SortKey, StreamId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{DecisionFact, Entry, Event, PriceFact};
use crate::domain::exit::policy::Mode;
use crate::domain::exit::{self, Choice, EntryTerms, EvalContext, Flag, Hold, RATE_WINDOW_MS, Valuation};
use crate::domain::units::{OutOfRange, Qty, RMultiple, Ratio};

/// A decision, and the record of it for its position. They are boxed because few evaluations return one.
type Made = (Box<Decision>, Box<DecisionRecord>);

impl Engine {
    fn circumstances(&self, now_ms: u64) -> EvalContext<'_> {
        EvalContext { now_ms, killed: self.globals.killed, decided_ms: &self.globals.decided_ms }
    }

    /// Returns the hold of a symbol's open position at a time, if there is one. It changes and counts nothing.
    pub fn hold_at(&self, symbol: &Symbol, now_ms: u64) -> Option<Hold> {
        let at = self.circumstances(now_ms);
        let policy = &self.globals.policy;
        let terms = EntryTerms::of(symbol.hot.open.as_ref()?, policy);
        let chosen = match exit::check_guards(symbol, policy, &terms, at) {
            Ok(Ok(gain)) => exit::select_rungs(symbol, policy, &gain, at),
            Ok(Err(hold)) => return Some(hold),
            Err(OutOfRange) => return Some(Hold::OutOfRange),
        };
        chosen.map_or(Some(Hold::OutOfRange), Result::err)
    }

    pub(super) fn decide(
        &mut self,
        entry: &Entry,
        symbol: SymbolId,
        key: SortKey,
    ) -> Result<Option<Box<Decision>>, OutOfRange> {
        let mut ours = None;
        if self.symbols[symbol.0 as usize].hot.open.is_some() {
            ours = self.evaluate(entry, symbol)?;
        }
        Ok(self.settle(entry, symbol, key, ours))
    }

    /// Settles our decision, or none, against the decisions that the history contains. Returns the decision that takes
    /// effect, if there is one.
    pub(super) fn settle(
        &mut self,
        entry: &Entry,
        symbol: SymbolId,
        key: SortKey,
        ours: Option<Made>,
    ) -> Option<Box<Decision>> {
        let facts = self.facts.caused_by(entry.stream, entry.id);
        let is_audited = self.decisions == Decisions::Audited;
        if is_audited && !facts.is_empty() {
            for fact in &facts {
                self.take_over(fact);
            }
            return ours.map(|(decision, _)| decision);
        }
        if !is_audited && (!facts.is_empty() || self.facts.cover(key)) {
            self.compare(ours.as_ref().map(|(decision, _)| &**decision), &facts);
            for fact in &facts {
                self.take_over(fact);
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

    /// Returns the outcome of an evaluation at a price of an accepted source, if it is known. `Some(None)`: no position
    /// is open.
    #[inline]
    pub(super) fn band_hold(&self, index: usize, fact: PriceFact, now_ms: u64) -> Option<Option<Hold>> {
        let hold = self.band[index].now()?.hold_at(fact.price, now_ms, self.globals.killed)?;
        // A price whose event time is too old or unreadable is not used.
        let max_age_ms = self.globals.policy.max_price_age_ms;
        fact.time.age_ms(now_ms).is_some_and(|age_ms| age_ms <= max_age_ms).then_some(hold)
    }

    /// Returns true if a fact of the exchange states our own quantity, as happens many times a minute. Folding such a
    /// fact fails before it changes anything.
    pub(super) fn is_known(&self, event: &Event, index: usize) -> bool {
        let symbol = &self.symbols[index];
        matches!(event, Event::Position(fact) if symbol.qty().same(fact.qty, symbol.step_size()))
    }

    /// Returns the bands that survive a confirming fact, if it changes nothing that an evaluation reads.
    pub(super) fn stability(&self, index: usize) -> Option<Stability> {
        let symbol = &self.symbols[index];
        if symbol.hot.diverged || symbol.hot.history_gap { None } else { Stability::new(self.band[index], symbol) }
    }

    /// Keeps the bands after the fact, and returns the outcome of the evaluation there. `None`: evaluate.
    pub(super) fn stay_in_band(&mut self, beside: Stability, index: usize, at: EntryId) -> Option<Option<Hold>> {
        let symbol = &self.symbols[index];
        let (bands, hold) = beside.after(symbol, &self.globals.policy, self.circumstances(at.ms))?;
        debug_assert_eq!(self.hold_at(symbol, at.ms), hold, "a fact was not quiet");
        self.band[index] = bands;
        Some(hold)
    }

    /// Returns to the band that the price came from, after a price of that band was taken into use. Also returns the
    /// outcome of its evaluation. `None`: evaluate.
    pub(super) fn go_back(&self, bands: BandCache, index: usize, at: EntryId) -> Option<(BandCache, Option<Hold>)> {
        let symbol = &self.symbols[index];
        // The former band does not know that the price is in doubt.
        let is_doubted = symbol.hot.open.as_ref().is_some_and(|open| open.price_doubted.is_some());
        let mark = symbol.hot.mark.filter(|mark| mark.entry == at && symbol.hot.held_price.is_none() && !is_doubted)?;
        let went = bands.went_back(mark.price, at.ms, self.globals.killed)?;
        debug_assert_eq!(self.hold_at(symbol, at.ms), went.1, "a price was not quiet in the former band");
        Some(went)
    }

    /// Returns the band in which the next price changes nothing, after a price that was evaluated.
    pub(super) fn band_around(&self, index: usize, at: EntryId) -> Option<PriceBand> {
        let symbol = &self.symbols[index];
        // A price that was not taken into use predicts nothing about the next one.
        symbol.hot.mark.filter(|mark| mark.entry == at)?;
        let hold = match &symbol.hot.open {
            Some(open) => Some(open.holds.last()?.hold?),
            None => None,
        };
        PriceBand::around(symbol, &self.globals.policy, self.terms[index].as_ref(), self.circumstances(at.ms), hold)
    }

    fn evaluate(&mut self, entry: &Entry, id: SymbolId) -> Result<Option<Made>, OutOfRange> {
        match self.choice_or_hold(entry, id)? {
            Ok(choice) => {
                let reading = exit::read(&self.symbols[id.0 as usize], &self.globals.policy)?;
                let reading = reading.expect("a choice is made by numbers that are there");
                self.counters.evaluations += 1;
                self.note(id, None, entry.id);
                Ok(Some(self.decision(entry, id, reading, choice)))
            }
            Err(hold) => {
                self.hold(id, hold, entry.id);
                Ok(None)
            }
        }
    }

    fn choice_or_hold(&mut self, entry: &Entry, id: SymbolId) -> Result<Result<Choice, Hold>, OutOfRange> {
        let index = id.0 as usize;
        let policy = &self.globals.policy;
        let symbol = &mut self.symbols[index];
        let Some(open) = &mut symbol.hot.open else { return Ok(Err(Hold::NoRung)) };
        let terms = self.terms[index].get_or_insert_with(|| EntryTerms::of(open, policy));
        debug_assert_eq!(*terms, EntryTerms::of(open, policy), "terms outlived what they were made of");
        let decided_ms = &self.globals.decided_ms;
        let at = EvalContext { now_ms: entry.id.ms, killed: self.globals.killed, decided_ms };
        let gain = match exit::check_guards(symbol, policy, terms, at)? {
            Ok(gain) => gain,
            Err(hold) => return Ok(Err(hold)),
        };
        if let Some(open) = &mut symbol.hot.open
            && open.skips_reached
        {
            open.skip(exit::reached(policy, &gain)?);
            open.skips_reached = false;
        }
        exit::select_rungs(symbol, policy, &gain, at)
    }

    /// Counts a hold, and notes it with the position if it differs from the last one.
    #[inline]
    pub(super) fn hold(&mut self, id: SymbolId, hold: Hold, at: EntryId) {
        self.counters.hold(hold, 1);
        self.note(id, Some(hold), at);
    }

    #[inline]
    pub(super) fn note(&mut self, id: SymbolId, hold: Option<Hold>, at: EntryId) {
        let open = &mut self.symbols[id.0 as usize].hot.open;
        if open.as_mut().is_some_and(|open| open.holds.note(hold, at)) {
            self.changes.touch_hot(id);
        }
    }

    fn decision(&self, entry: &Entry, id: SymbolId, reading: Valuation, choice: Choice) -> Made {
        let symbol = &self.symbols[id.0 as usize];
        let policy = &self.globals.policy;
        let open = symbol.hot.open.as_ref().expect("a choice is made for an open position only");
        let risk_fields = open.risk.clone().expect("a choice rests on risk fields");
        let position_id = open.id.with_symbol(&symbol.name);
        let decision_id = decision_id(&position_id, &choice.rungs, choice.attempt);
        let plan_id = decision_id[..16].to_owned();
        let state = match policy.mode {
            Mode::Shadow => RungState::Shadowed,
            Mode::Live => RungState::Requested,
        };
        let record = DecisionRecord {
            decision_id: decision_id.as_str().into(),
            plan_id: plan_id.as_str().into(),
            rungs: choice.rungs.clone(),
            share: choice.share,
            shares: Vec::new(),
            qty: choice.qty,
            attempt: choice.attempt,
            seq: 0,
            cause: format!("{}/{}", self.streams.get(entry.stream).name, entry.id).into(),
            state,
            heard_ms: entry.id.ms,
            expired: false,
            outcomes: Vec::new(),
        };
        let decision = Decision {
            decision_id,
            plan_id,
            position_id,
            symbol: id,
            side: open.direction.closing_side(),
            qty: choice.qty,
            share: choice.share,
            base: policy.base,
            rungs: choice.rungs,
            attempt: choice.attempt,
            reading,
            risk_fields,
            mode: policy.mode,
            policy_hash: policy.hash.clone(),
            flags: exit::flags(symbol, open, policy)
                .into_iter()
                .chain(choice.is_capped.then_some(Flag::Capped))
                .collect(),
            cause_stream: entry.stream,
            cause: entry.id,
            seq: 0,
        };
        (Box::new(decision), Box::new(record))
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
        let symbol = &mut self.symbols[id.0 as usize];
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
        self.touch(id);
        self.changes.touch_cold(id);
        self.after_positions(id);
        true
    }

    fn compare(&mut self, ours: Option<&Decision>, facts: &[DecisionFact]) {
        let comparison = &mut self.counters.comparison;
        if facts.is_empty() {
            if let Some(ours) = ours {
                comparison.missing.insert(ours.decision_id.as_str().into());
            }
            return;
        }
        for fact in facts {
            match ours {
                Some(ours) if *ours.decision_id == *fact.decision_id && ours.qty == fact.qty => comparison.agree += 1,
                Some(_) => comparison.differ += 1,
                None => comparison.unexpected += 1,
            }
        }
    }

    /// Counts a decision of ours as filled although no executor acts on it: what-if. Quantities stay those of the
    /// history.
    pub fn suppose_filled(&mut self, id: SymbolId, decision_id: &str, at: EntryId) {
        let policy = &self.globals.policy;
        let outcome = DecisionOutcome::Filled { is_final: true };
        for position in self.symbols[id.0 as usize].positions_mut() {
            if position.apply_outcome(decision_id, outcome, at, Qty::ZERO, policy) {
                break;
            }
        }
        self.touch(id);
        self.after_positions(id);
    }

    /// Adopts the decisions that were made before an entry and whose cause will not come. Adopting them at the place of
    /// their cause is better than at their own entry, because our decisions in between then take them into account.
    #[cold]
    pub(super) fn take_over_passed(&mut self, entry: &Entry) {
        let read_to = |stream: StreamId| self.cursors[usize::from(stream.0)];
        for fact in self.facts.passed_by(entry.stream, entry.id, read_to) {
            if self.decisions == Decisions::Derived {
                continue;
            }
            let was_known = self.knows_decision(&fact);
            if !self.take_over(&fact) {
                self.counters.comparison.orphaned += 1;
            } else if !was_known && self.knows_decision(&fact) {
                self.counters.count(Count::DecisionWithoutCause);
            }
        }
    }

    /// Returns true if a position has a recorded decision.
    fn knows_decision(&self, fact: &DecisionFact) -> bool {
        let mut positions = self.symbols[fact.symbol.0 as usize].positions();
        positions.any(|position| position.has_decision(&fact.decision_id))
    }

    /// Adopts a recorded decision, unless it is known already. Returns true if it found its position.
    pub(super) fn take_over(&mut self, fact: &DecisionFact) -> bool {
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
        let symbol = &self.symbols[fact.symbol.0 as usize];
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
            heard_ms: fact.cause_id.ms,
            expired: false,
            outcomes: Vec::new(),
        };
        let position_id = fact.position_id.clone();
        self.record(fact.symbol, record, fact.cause_id.ms, Some(&position_id))
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

/// Returns the first 32 hex digits of SHA-256 of `position_id|rungs joined by ","|attempt` (docs/spec/decision.md,
/// "Decision id").
pub fn decision_id(position_id: &str, rungs: &[RMultiple], attempt: u32) -> String {
    let rungs: Vec<String> = rungs.iter().map(RMultiple::to_string).collect();
    sha256_hex(format!("{position_id}|{}|{attempt}", rungs.join(",")).as_bytes())[..32].to_owned()
}
