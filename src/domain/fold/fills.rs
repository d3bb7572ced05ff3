//! Fills: from a result to its order, from the order's new part to the position.

use super::{Fold, TOO_LATE_MS, risk_of};
use crate::domain::event::{Direction, FillFact, Intent, Outcome, Reason, ResultFact, Side};
use crate::domain::ids::{EntryRef, PositionId};
use crate::domain::order::{Delta, Order, OrderKey};
use crate::domain::plans::KnownPlan;
use crate::domain::policy::{EntrySource, RiskSource};
use crate::domain::position::{Cause, EntryPrice, Instance, Movement, RiskFields};
use crate::domain::rungs::Heard;
use crate::domain::streams::StreamKind;
use crate::domain::symbol::Symbol;
use crate::domain::tally::Count;
use crate::domain::units::{Price, Qty};

/// A fill whose order, side and purpose are settled.
struct Resolved {
    key: OrderKey,
    /// The key that the order had before its id was known.
    taken_over: Option<OrderKey>,
    side: Option<Side>,
    reduce_only: bool,
}

impl Fold<'_> {
    /// Folds a result. `decision_id` is the decision that its plan id belongs to.
    ///
    /// Errors leave the symbol half changed: the caller restores it.
    pub fn result(
        &mut self,
        symbol: &mut Symbol,
        fact: &ResultFact,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Result<(), Reason> {
        match &fact.outcome {
            Outcome::Fills(fills) => {
                symbol.cold.forget(self.now_ms());
                for fill in fills {
                    let Some(resolved) = self.resolve(symbol, fact, fill, plan)? else { continue };
                    self.fill(symbol, fact, fill, resolved, plan, decision_id)?;
                }
            }
            Outcome::Accepted { order_id } => {
                self.touch_order(symbol, order_id.as_deref(), fact.plan_id.as_deref(), decision_id);
                self.hear(symbol, decision_id, Heard::Accepted, Qty::ZERO);
            }
            Outcome::Refused { duplicate: true, .. } => {}
            Outcome::Refused { permanent, order_id, .. } => {
                if let Some(key) = order_id.as_ref().map(|id| OrderKey::Id(id.clone()))
                    && let Some(order) = symbol.cold.orders.get_mut(&key)
                {
                    order.last_ms = self.now_ms();
                }
                self.hear(symbol, decision_id, Heard::Refused { permanent: *permanent }, Qty::ZERO);
            }
        }
        Ok(())
    }

    pub(super) fn hear(&self, symbol: &mut Symbol, decision_id: Option<&str>, heard: Heard, qty: Qty) {
        let Some(decision_id) = decision_id else { return };
        for instance in symbol.instances_mut() {
            if instance.hear(decision_id, heard, self.entry.id, qty, self.policy) {
                return;
            }
        }
    }

    /// Remembers an order that was accepted, so that fills without an id find it by its plan.
    fn touch_order(&self, symbol: &mut Symbol, order_id: Option<&str>, plan_id: Option<&str>, decision: Option<&str>) {
        let Some(order_id) = order_id else { return };
        let key = OrderKey::Id(order_id.into());
        if !symbol.cold.orders.contains_key(&key)
            && let Some(plan_id) = plan_id
        {
            take_over(symbol, &OrderKey::Plan(plan_id.into()), &key);
        }
        let order = symbol.cold.orders.entry(key).or_default();
        order.last_ms = self.now_ms();
        order.plan_id = order.plan_id.take().or_else(|| plan_id.map(Into::into));
        order.decision_id = order.decision_id.take().or_else(|| decision.map(Into::into));
    }

    /// Finds order, side and purpose of a fill; `None` if there is nothing to do.
    fn resolve(
        &mut self,
        symbol: &mut Symbol,
        fact: &ResultFact,
        fill: &FillFact,
        plan: Option<&KnownPlan>,
    ) -> Result<Option<Resolved>, Reason> {
        let now_ms = self.now_ms();
        let by_id = fill.order_id.clone().map(OrderKey::Id);
        for key in by_id.iter().chain(&fact.plan_id.clone().map(OrderKey::Plan)) {
            symbol.cold.forget_order(key, now_ms);
        }
        let orders = &symbol.cold.orders;
        let mut taken_over = None;
        let key = match (&fill.order_id, &fact.plan_id) {
            (Some(id), plan_id) => {
                let key = OrderKey::Id(id.clone());
                let by_plan = plan_id.clone().map(OrderKey::Plan);
                if !orders.contains_key(&key) {
                    taken_over = by_plan.filter(|by_plan| orders.contains_key(by_plan));
                }
                key
            }
            (None, Some(plan_id)) => {
                let of_plan = |order: &Order| order.plan_id.as_ref() == Some(plan_id) && order.is_remembered(now_ms);
                let mut known = orders.iter().filter(|(_, order)| of_plan(order));
                match (known.next(), known.next()) {
                    (Some((key, _)), None) => key.clone(),
                    (Some(_), Some(_)) => {
                        self.tally.count(Count::AmbiguousOrder);
                        symbol.hot.history_gap = true;
                        return Ok(None);
                    }
                    (None, _) => OrderKey::Plan(plan_id.clone()),
                }
            }
            (None, None) => OrderKey::Entry(self.entry.id),
        };
        let known = orders.get(taken_over.as_ref().unwrap_or(&key));
        if known.is_none() && fact.own_ms.is_some_and(|own_ms| own_ms.saturating_add(TOO_LATE_MS) < self.now_ms()) {
            return Err(Reason::TooLate);
        }
        let plan = plan.map(|known| &known.plan);
        let closing_side = symbol.hot.open.as_ref().map(|open| open.direction.closing_side());
        let side = fill.side.or(plan.and_then(|p| p.side)).or(if fill.closes { closing_side } else { None });
        if side.is_none() && !fill.closes {
            return Err(Reason::NoSide);
        }
        let reduce_only = fill.reduce_only.or(plan.and_then(|p| p.reduce_only)).unwrap_or(fill.closes);
        Ok(Some(Resolved { key, taken_over, side, reduce_only }))
    }

    fn fill(
        &mut self,
        symbol: &mut Symbol,
        fact: &ResultFact,
        fill: &FillFact,
        resolved: Resolved,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Result<(), Reason> {
        if let Some(old) = &resolved.taken_over {
            take_over(symbol, old, &resolved.key);
        }
        let step = symbol.step_size();
        let order = symbol.cold.orders.entry(resolved.key.clone()).or_default();
        order.last_ms = self.now_ms();
        order.plan_id = order.plan_id.take().or_else(|| fact.plan_id.clone());
        order.decision_id = order.decision_id.take().or_else(|| decision_id.map(Into::into));
        let decision = order.decision_id.clone();
        let (delta, priced) = order.take_result(fill.cumulative, fill.average, step)?;
        match delta {
            Delta::Repeated => self.tally.count(Count::FillsRepeated),
            Delta::Contradictory => self.tally.count(Count::FillsContradictory),
            Delta::New { part } => {
                if let Some(side) = resolved.side {
                    self.part(symbol, &resolved.key, part, side, resolved.reduce_only, plan)?;
                }
            }
        }
        self.reprice(symbol, &resolved.key, &priced)?;
        self.hear(symbol, decision.as_deref(), Heard::Filled { is_final: fill.is_final }, fill.cumulative);
        Ok(())
    }

    /// Applies a new part of an order to the position.
    pub(super) fn part(
        &mut self,
        symbol: &mut Symbol,
        key: &OrderKey,
        part: u32,
        side: Side,
        reduce_only: bool,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let taken = symbol.cold.orders[key].parts[part as usize];
        let step = symbol.step_size();
        let held = symbol.qty();
        let wanted = side.opens().signed(taken.qty);
        symbol.hot.filled_ms = Some(self.now_ms());
        symbol.hot.diverged = false;
        symbol.hot.disagreement = None;
        let cause = Cause::Fill { order: key.clone(), part };
        let traded = taken.price.map(|price| EntryPrice { price, source: EntrySource::Fill, entry: self.entry });
        let opposite = !held.is_zero() && held.is_negative() != wanted.is_negative();
        if !opposite {
            if reduce_only {
                let ignored = if held.is_zero() { Count::ReduceOnlyFlat } else { Count::ReduceOnlySameSide };
                self.tally.count(ignored);
                symbol.hot.history_gap = true;
                return Ok(());
            }
            let price = traded.or_else(|| self.planned_entry(symbol, side.opens(), plan));
            if held.is_zero() {
                self.open(symbol, side.opens());
                self.take_risk(symbol, plan);
            }
            return self.grow(symbol, Movement { cause, delta: wanted, price, entry: self.entry });
        }
        let reduction = |delta| Movement { cause: cause.clone(), delta, price: traded, entry: self.entry };
        if taken.qty.same(held.abs(), step) {
            return self.close(symbol, reduction(held.negated()));
        }
        if taken.qty < held.abs() {
            return self.grow(symbol, reduction(wanted));
        }
        self.close(symbol, reduction(held.negated()))?;
        if reduce_only {
            self.tally.count(Count::ReduceOnlyExcess);
            return Ok(());
        }
        let price = traded.or_else(|| self.planned_entry(symbol, side.opens(), plan));
        self.open(symbol, side.opens());
        self.take_risk(symbol, plan);
        let delta = wanted.plus(held)?;
        self.grow(symbol, Movement { cause, delta, price, entry: self.entry })
    }

    pub(super) fn grow(&mut self, symbol: &mut Symbol, movement: Movement) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        if let Some(open) = &mut symbol.hot.open {
            open.apply(movement)?;
            open.confirmed_ms = now_ms;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, symbol: &mut Symbol, movement: Movement) -> Result<(), Reason> {
        self.grow(symbol, movement)?;
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
        symbol.hot.open = Some(Instance::new(id, direction, self.entry));
    }

    /// The entry price of a fill without a price: the plan's, else the matched intent's.
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

    /// The intent joined through the plan, else the latest entry intent in the direction, not too old.
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

    /// Risk fields of a fresh instance: the plan's, else the matched intent's, else the nearest before.
    fn take_risk(&self, symbol: &mut Symbol, plan: Option<&KnownPlan>) {
        let Some(direction) = symbol.hot.open.as_ref().map(|open| open.direction) else { return };
        let of_plan = plan.and_then(|known| {
            let entry = EntryRef::new(StreamKind::Plan, known.plan.id);
            Some(RiskFields::new(known.plan.risk_pair()?, RiskSource::Plan, entry, known.plan.producer.clone()))
        });
        let risk = of_plan
            .or_else(|| {
                let matched = self.matched_intent(symbol, direction, plan, self.now_ms())?;
                risk_of(matched, RiskSource::Intent)
            })
            .or_else(|| risk_of(symbol.cold.latest_with_risk(direction)?, RiskSource::IntentNearest));
        if let Some(open) = &mut symbol.hot.open {
            open.risk = risk;
        }
    }

    pub(super) fn reprice(&self, symbol: &mut Symbol, key: &OrderKey, priced: &[(u32, Price)]) -> Result<(), Reason> {
        if priced.is_empty() {
            return Ok(());
        }
        for instance in symbol.instances_mut() {
            instance.reprice(key, priced, self.entry)?;
        }
        Ok(())
    }
}

/// Gives an order the id that came later: the order and the movements that name it.
fn take_over(symbol: &mut Symbol, old: &OrderKey, new: &OrderKey) {
    let Some(order) = symbol.cold.orders.remove(old) else { return };
    symbol.cold.orders.insert(new.clone(), order);
    for instance in symbol.instances_mut() {
        for movement in &mut instance.movements {
            if let Cause::Fill { order, .. } = &mut movement.cause
                && order == old
            {
                *order = new.clone();
                instance.unsaved = true;
            }
        }
    }
}
