//! Fills: from a result to its order, and from the new part of the order to the position.

use super::order_of::Resolved;
use super::overtaken::{Placement, ReportedPart};
use super::{Fold, risk_of};
use crate::domain::book::change::{Cause, EntryPrice, PositionChange};
use crate::domain::book::counters::Count;
use crate::domain::book::order::{Delta, OrderKey, Part};
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::position::{Position, RiskFields};
use crate::domain::book::rung::DecisionOutcome;
use crate::domain::book::symbol::{INTENT_MEMORY_MS, Symbol};
use crate::domain::event::ids::{EntryRef, PositionId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Direction, EventTime, FillFact, Intent, Outcome, Reason, ResultFact, Side, Trade};
use crate::domain::exit::policy::{EntrySource, RiskSource};
use crate::domain::units::{Price, Qty};

/// A part of an order that is new.
#[derive(Clone, Copy)]
pub(super) struct NewPart<'a> {
    pub key: &'a OrderKey,
    /// Its number within the order.
    pub part: u32,
    pub side: Side,
    pub time: EventTime,
    /// The trade that brings it, if it does not come from a result.
    pub trade: Option<&'a Trade>,
}

impl Fold<'_> {
    /// Folds a result. `decision_id` is the decision that its plan id belongs to.
    ///
    /// On an error the symbol is left half changed, and the caller restores it.
    pub fn result(
        &mut self,
        symbol: &mut Symbol,
        fact: &ResultFact,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Result<(), Reason> {
        match &fact.outcome {
            Outcome::Fills(fills) => {
                if fact.time == EventTime::Unreadable {
                    self.count_unreadable_time();
                }
                for fill in fills {
                    let Some(resolved) = self.resolve(symbol, fact, fill, plan)? else { continue };
                    self.fill(symbol, fact, fill, &resolved, decision_id)?;
                }
            }
            Outcome::Accepted { order } => {
                self.accepted_order(symbol, order, fact.plan_id.as_deref(), plan, decision_id);
                self.apply_outcome(symbol, decision_id, DecisionOutcome::Accepted, Qty::ZERO);
            }
            Outcome::Refused { duplicate: true, .. } => {}
            Outcome::Refused { permanent, order, .. } => {
                self.refused_order(symbol, order, fact.plan_id.as_deref(), plan, decision_id);
                self.apply_outcome(symbol, decision_id, DecisionOutcome::Refused { permanent: *permanent }, Qty::ZERO);
            }
        }
        Ok(())
    }

    pub(super) fn apply_outcome(
        &self,
        symbol: &mut Symbol,
        decision_id: Option<&str>,
        outcome: DecisionOutcome,
        qty: Qty,
    ) {
        let Some(decision_id) = decision_id else { return };
        for position in symbol.positions_mut() {
            if position.apply_outcome(decision_id, outcome, self.entry.id, qty, self.policy) {
                return;
            }
        }
    }

    fn fill(
        &mut self,
        symbol: &mut Symbol,
        fact: &ResultFact,
        fill: &FillFact,
        resolved: &Resolved,
        decision_id: Option<&str>,
    ) -> Result<(), Reason> {
        let step = symbol.step_size();
        let Resolved { found, is_known, side, reduce_only, plan } = resolved;
        let order = self.named_order(symbol, found, fact.plan_id.as_deref(), *side, decision_id);
        let decision = order.decision_id.clone();
        order.reduce_only = fill.reduce_only.or(order.reduce_only);
        let (delta, priced) = order.take_result(fill.cumulative, fill.average, step)?;
        if fact.time == EventTime::Unreadable && !is_known {
            symbol.hot.history_gap = true;
        }
        if fill.ordered.is_some_and(|ordered| fill.cumulative < ordered && !fill.cumulative.same(ordered, step)) {
            self.counters.count(Count::FilledShort);
            symbol.hot.history_gap = true;
        }
        match delta {
            Delta::Repeated => self.counters.count(Count::FillsRepeated),
            Delta::Contradictory => self.counters.count(Count::FillsContradictory),
            Delta::New { part } => {
                if let Some(side) = *side {
                    let part = NewPart { key: &found.key, part, side, time: fact.time, trade: None };
                    self.new_part(symbol, part, *reduce_only, plan.as_ref())?;
                }
            }
        }
        self.reprice(symbol, &found.key, &priced)?;
        self.apply_outcome(
            symbol,
            decision.as_deref(),
            DecisionOutcome::Filled { is_final: fill.is_final },
            fill.cumulative,
        );
        Ok(())
    }

    /// Lets a new part of an order move the position, unless a look-up has already shown it.
    pub(super) fn new_part(
        &mut self,
        symbol: &mut Symbol,
        new: NewPart<'_>,
        reduce_only: bool,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let NewPart { key, part, side, time, trade } = new;
        let taken = symbol.cold.orders[key].part(part);
        let delta = side.opens().signed(taken.qty);
        let reported = ReportedPart { key, part, delta, price: taken.price, time, trade };
        match self.place_fill(symbol, reported, plan)? {
            Placement::Add => self.part(symbol, new, reduce_only, plan),
            Placement::Contained => Ok(()),
        }
    }

    /// Applies a new part of an order to the position.
    fn part(
        &mut self,
        symbol: &mut Symbol,
        new: NewPart<'_>,
        reduce_only: bool,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let NewPart { key, part, side, .. } = new;
        let rescaled = self.rescaled_part(symbol, new)?;
        let taken = rescaled.unwrap_or_else(|| symbol.cold.orders[key].part(part));
        let step = symbol.step_size();
        let held = symbol.qty();
        let wanted = side.opens().signed(taken.qty);
        symbol.hot.filled_ms = Some(self.now_ms());
        symbol.hot.diverged = false;
        symbol.hot.disagreement = None;
        let cause = |part| Cause::Fill { order: key.clone(), part };
        let traded = taken.price.map(|price| EntryPrice { price, source: EntrySource::Fill, entry: self.entry });
        let opposite = !held.is_zero() && held.is_negative() != wanted.is_negative();
        if !opposite {
            if reduce_only {
                let ignored = if held.is_zero() { Count::ReduceOnlyFlat } else { Count::ReduceOnlySameSide };
                self.counters.count(ignored);
                symbol.hot.history_gap = true;
                return Ok(());
            }
            let price = traded.or_else(|| self.planned_entry(symbol, side.opens(), plan));
            if held.is_zero() {
                self.open(symbol, side.opens());
                self.take_risk(symbol, plan);
            }
            return self.grow(symbol, PositionChange::new(cause(part), wanted, price, self.entry));
        }
        let reduction = |delta| PositionChange::new(cause(part), delta, traded, self.entry);
        if taken.qty.same(held.abs(), step) {
            return self.close(symbol, reduction(held.negated()));
        }
        if taken.qty < held.abs() {
            return self.grow(symbol, reduction(wanted));
        }
        self.close(symbol, reduction(held.negated()))?;
        if reduce_only {
            self.counters.count(Count::ReduceOnlyExcess);
            return Ok(());
        }
        let price = traded.or_else(|| self.planned_entry(symbol, side.opens(), plan));
        self.open(symbol, side.opens());
        self.take_risk(symbol, plan);
        let delta = wanted.plus(held)?;
        let opening = match symbol.cold.orders.get_mut(key).filter(|_| rescaled.is_none()) {
            Some(order) => order.split_last(held.abs())?,
            None => part,
        };
        self.grow(symbol, PositionChange::new(cause(opening), delta, price, self.entry))
    }

    /// Returns a part in the present unit of the contract, if its order is from before a rescale. The symbol is flagged
    /// where the unit is in doubt.
    fn rescaled_part(&self, symbol: &mut Symbol, new: NewPart<'_>) -> Result<Option<Part>, Reason> {
        let Some(open) = symbol.hot.open.as_ref() else { return Ok(None) };
        let Some(last) = open.rescales.last() else { return Ok(None) };
        let rescaled = open.rescaled_part(new.key, symbol.cold.orders[new.key].part(new.part))?;
        let is_before = new.time.ms().is_some_and(|time_ms| time_ms < last.entry.id.ms);
        symbol.hot.history_gap |= rescaled.is_some() || is_before;
        Ok(rescaled)
    }

    pub(super) fn grow(&mut self, symbol: &mut Symbol, change: PositionChange) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        if let Some(open) = &mut symbol.hot.open {
            open.apply(change)?;
            open.confirmed_ms = now_ms;
            if open.changes.len() == 1 {
                self.hold_price_far_from_entry(symbol)?;
            }
        }
        Ok(())
    }

    pub(super) fn close(&mut self, symbol: &mut Symbol, change: PositionChange) -> Result<(), Reason> {
        self.grow(symbol, change)?;
        if let Some(mut closed) = symbol.hot.open.take() {
            closed.closed = Some(self.entry);
            closed.totals.qty = Qty::ZERO;
            symbol.closed.push(closed);
        }
        Ok(())
    }

    pub(super) fn open(&self, symbol: &mut Symbol, direction: Direction) {
        let nth = match symbol.hot.last_opening {
            Some((id, nth)) if id == self.entry.id => nth + 1,
            _ => 1,
        };
        symbol.hot.last_opening = Some((self.entry.id, nth));
        let id = PositionId { opened: self.entry.id, nth };
        symbol.hot.open = Some(Position::new(id, direction, self.entry));
    }

    /// Returns the entry price of a fill without a price: that of the plan, or else that of the matched intent.
    fn planned_entry(&self, symbol: &Symbol, direction: Direction, plan: Option<&KnownPlan>) -> Option<EntryPrice> {
        if let Some(known) = plan
            && let Some(price) = known.plan.entry_price
        {
            let entry = EntryRef::new(StreamKind::Plan, known.plan.id);
            return Some(EntryPrice { price, source: EntrySource::Plan, entry });
        }
        let intent = self.matched_intent(symbol, direction, plan, self.now_ms())?;
        let entry = EntryRef::new(StreamKind::Intent, intent.id);
        Some(EntryPrice { price: intent.entry_price?, source: EntrySource::Intent, entry })
    }

    /// Returns the intent joined through the plan, or else the latest entry intent in the direction that is not too
    /// old.
    fn matched_intent<'s>(
        &self,
        symbol: &'s Symbol,
        direction: Direction,
        plan: Option<&'s KnownPlan>,
        at_ms: u64,
    ) -> Option<&'s Intent> {
        plan.and_then(|known| known.intent.as_ref())
            .filter(|intent| intent.direction == direction)
            .or_else(|| symbol.cold.matching_intent(direction, at_ms, self.policy.intent_max_age_ms))
    }

    /// Takes the risk fields of a new position from the plan, the matched intent, or the nearest intent before it, in
    /// this order.
    fn take_risk(&self, symbol: &mut Symbol, plan: Option<&KnownPlan>) {
        let Some(direction) = symbol.hot.open.as_ref().map(|open| open.direction) else { return };
        let risk = self
            .ordered_risk(symbol, direction, plan, self.now_ms())
            .or_else(|| risk_of(symbol.cold.latest_with_risk(direction)?, RiskSource::IntentNearest));
        if let Some(open) = &mut symbol.hot.open {
            open.risk = risk;
        }
    }

    /// Returns the risk fields of a position that was opened at a past time, as for an opening by a fill of that plan.
    pub(super) fn risk_as_of(
        &self,
        symbol: &Symbol,
        direction: Direction,
        plan: Option<&KnownPlan>,
        at_ms: u64,
    ) -> Option<RiskFields> {
        self.ordered_risk(symbol, direction, plan, at_ms)
            .or_else(|| risk_of(self.nearest_intent(symbol, direction, at_ms)?, RiskSource::IntentNearest))
    }

    /// Returns the risk fields of the plan, or else those of the intent that the plan was made from.
    fn ordered_risk(
        &self,
        symbol: &Symbol,
        direction: Direction,
        plan: Option<&KnownPlan>,
        at_ms: u64,
    ) -> Option<RiskFields> {
        let of_plan = plan.and_then(|known| {
            let entry = EntryRef::new(StreamKind::Plan, known.plan.id);
            Some(RiskFields::new(known.plan.risk_pair()?, RiskSource::Plan, entry, known.plan.producer.clone()))
        });
        of_plan.or_else(|| risk_of(self.matched_intent(symbol, direction, plan, at_ms)?, RiskSource::Intent))
    }

    /// Returns the latest entry intent with both risk fields before a time, or else the first one after it.
    fn nearest_intent<'s>(&self, symbol: &'s Symbol, direction: Direction, at_ms: u64) -> Option<&'s Intent> {
        let usable = |intent: &&Intent| intent.direction == direction && intent.risk_pair().is_some();
        let from = self.now_ms().saturating_sub(INTENT_MEMORY_MS);
        let of_a_day = || symbol.cold.intents.iter().filter(move |intent| intent.id.ms >= from);
        let remembered = || of_a_day().chain(symbol.cold.latest_with_risk(direction)).filter(usable);
        let before = remembered().filter(|intent| intent.id.ms <= at_ms).max_by_key(|intent| intent.id);
        before.or_else(|| remembered().min_by_key(|intent| intent.id))
    }

    pub(super) fn reprice(&self, symbol: &mut Symbol, key: &OrderKey, priced: &[(u32, Price)]) -> Result<(), Reason> {
        if priced.is_empty() {
            return Ok(());
        }
        for position in symbol.positions_mut() {
            position.reprice(key, priced, self.entry)?;
        }
        Ok(())
    }
}
