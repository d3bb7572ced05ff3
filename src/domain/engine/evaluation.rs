//! The evaluation of a symbol after an entry: a decision, or the hold that applies.

use super::Engine;
use super::decision::{Decision, decision_id};
use crate::domain::book::rung::{DecisionRecord, RungState};
use crate::domain::book::symbol::Symbol;
use crate::domain::event::Entry;
use crate::domain::event::ids::{EntryId, SortKey, SymbolId};
use crate::domain::exit::policy::Mode;
use crate::domain::exit::{self, Choice, EntryTerms, EvalContext, Flag, Hold, Valuation};
use crate::domain::units::OutOfRange;

/// A decision, and the record of it for its position. They are boxed because few evaluations return one.
pub(super) type NewDecision = (Box<Decision>, Box<DecisionRecord>);

impl Engine {
    pub(super) fn eval_context(&self, now_ms: u64) -> EvalContext<'_> {
        EvalContext { now_ms, killed: self.globals.killed, decided_ms: &self.globals.decided_ms }
    }

    /// Returns the hold of a symbol's open position at a time, if there is one. It changes and counts nothing.
    pub fn hold_at(&self, symbol: &Symbol, now_ms: u64) -> Option<Hold> {
        let at = self.eval_context(now_ms);
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
        let ours = self.evaluate(entry, symbol)?;
        Ok(self.settle(entry, symbol, key, ours))
    }

    /// Evaluates the open position, if there is one. Returns a decision of ours, if no hold applies.
    fn evaluate(&mut self, entry: &Entry, id: SymbolId) -> Result<Option<NewDecision>, OutOfRange> {
        if let Some(hold) = self.recall(id, entry.id.ms) {
            self.hold(id, hold, entry.id);
            return Ok(None);
        }
        let Some(open) = &self.slots[id].symbol.hot.open else { return Ok(None) };
        let terms = EntryTerms::of(open, &self.globals.policy);
        let outcome = self.choice_or_hold(entry, id, &terms);
        let hold = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().err());
        self.remember(id, hold.map(|hold| (*hold, terms)));
        match outcome? {
            Ok(choice) => {
                let valuation = Valuation::of(&self.slots[id].symbol, &self.globals.policy)?;
                let valuation = valuation.expect("a choice is made by numbers that are there");
                self.counters.evaluations += 1;
                self.note(id, None, entry.id);
                Ok(Some(self.decision(entry, id, valuation, choice)))
            }
            Err(hold) => {
                self.hold(id, hold, entry.id);
                Ok(None)
            }
        }
    }

    fn choice_or_hold(
        &mut self,
        entry: &Entry,
        id: SymbolId,
        terms: &EntryTerms,
    ) -> Result<Result<Choice, Hold>, OutOfRange> {
        let policy = &self.globals.policy;
        let symbol = &mut self.slots[id].symbol;
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
    #[inline(always)]
    pub(super) fn hold(&mut self, id: SymbolId, hold: Hold, at: EntryId) {
        self.counters.hold(hold, 1);
        self.note(id, Some(hold), at);
    }

    #[inline(always)]
    pub(super) fn note(&mut self, id: SymbolId, hold: Option<Hold>, at: EntryId) {
        let open = &mut self.slots[id].symbol.hot.open;
        if open.as_mut().is_some_and(|open| open.holds.note(hold, at)) {
            self.changes.touch_hot(id);
        }
    }

    fn decision(&self, entry: &Entry, id: SymbolId, valuation: Valuation, choice: Choice) -> NewDecision {
        let symbol = &self.slots[id].symbol;
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
            last_outcome_ms: entry.id.ms,
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
            valuation,
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
}
