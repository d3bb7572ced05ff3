//! Fills: from a result to its order, and from the new part of the order to the position.

use super::order_of::Resolved;
use super::overtaken::{Placement, ReportedPart};
use super::{BookFold, risk_of};
use crate::domain::book::change::{Cause, EntryPrice, PositionChange};
use crate::domain::book::counters::Count;
use crate::domain::book::intents::INTENT_MEMORY_MS;
use crate::domain::book::order::{Delta, OrderKey, Part};
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::position::{Position, RiskFields};
use crate::domain::book::rung::DecisionOutcome;
use crate::domain::book::state::Book;
use crate::domain::book::view::{BookMut, BookView};
use crate::domain::event::ids::{EntryRef, PositionId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Direction, EventTime, FillFact, Intent, Outcome, Reason, ResultFact, Side, Trade};
use crate::domain::exit::policy::{EntrySource, RiskSource};
use crate::domain::units::{OutOfRange, Price, Qty};

/// A part of an order that is new.
#[derive(Clone, Copy)]
pub(super) struct NewPart<'a> {
    pub key: &'a OrderKey,
    /// Its number within the order. [1]
    pub part_no: u32,
    pub side: Side,
    pub time: EventTime,
    /// The trade that brings it, if it does not come from a result.
    pub trade: Option<&'a Trade>,
}

impl BookFold<'_> {
    /// Counts a result that fills and whose time cannot be read, before its fills are folded.
    pub fn count_result_time(&mut self, fact: &ResultFact) {
        if fact.time == EventTime::Unreadable {
            self.count_unreadable_time();
        }
    }

    /// Folds one fill of a result into its book: the way from a result to a position begins here. `decision_id` is the
    /// decision that its plan id belongs to.
    ///
    /// On an error the book is left half changed, and the caller restores it.
    pub fn fill(
        &mut self,
        book: &mut BookMut<'_>,
        fact: &ResultFact,
        fill: &FillFact,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Result<(), Reason> {
        let Some(resolved) = self.resolve(book, fact, fill, plan)? else { return Ok(()) };
        self.fill_order(book, fact, fill, &resolved, decision_id)
    }

    /// Adds the names in a result that fills nothing to its order. Returns the order.
    pub fn unfilled_order(
        &mut self,
        book: &mut BookMut<'_>,
        fact: &ResultFact,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Option<OrderKey> {
        match &fact.outcome {
            Outcome::Fills(_) | Outcome::Refused { duplicate: true, .. } => None,
            Outcome::Accepted { order } => self.accepted_order(book, order, fact.plan_id.as_deref(), plan, decision_id),
            Outcome::Refused { order, .. } => {
                self.refused_order(book, order, fact.plan_id.as_deref(), plan, decision_id)
            }
        }
    }

    /// Applies what an order has filled as the outcome of a decision, where an entry names the plan of the decision
    /// only later. A fill from before the decision, or one that opens, is not of it: some executors refuse under ids
    /// that they use again.
    pub fn outcome_of_order(&self, book: &mut Book, key: &OrderKey, decision_id: Option<&str>) {
        let Some(decision_id) = decision_id else { return };
        let Some(order) = book.orders.get(key).filter(|order| !order.parts.is_empty()) else { return };
        let (side, filled) = (order.side, order.applied());
        let mut entries = book.entries_of(key);
        if entries.is_empty() {
            entries.push(self.entry.id);
        }
        let Some(position) = book.positions_mut().find(|position| position.has_decision(decision_id)) else { return };
        let is_closing = side == Some(position.direction.closing_side());
        let since = position.decided(decision_id);
        if !is_closing || position.has_filled(decision_id) {
            return;
        }
        for entry in entries.into_iter().filter(|entry| since.is_none_or(|since| *entry >= since)) {
            position.apply_outcome(
                decision_id,
                DecisionOutcome::Filled { is_final: false },
                entry,
                filled,
                self.policy,
            );
        }
    }

    /// Applies a result that fills nothing as the outcome of a decision.
    pub fn unfilled_outcome(&self, book: &mut Book, fact: &ResultFact, decision_id: Option<&str>) {
        let outcome = match fact.outcome {
            Outcome::Fills(_) | Outcome::Refused { duplicate: true, .. } => return,
            Outcome::Accepted { .. } => DecisionOutcome::Accepted,
            Outcome::Refused { permanent, .. } => DecisionOutcome::Refused { permanent },
        };
        self.apply_outcome(book, decision_id, outcome, Qty::ZERO);
    }

    pub(super) fn apply_outcome(&self, book: &mut Book, decision_id: Option<&str>, outcome: DecisionOutcome, qty: Qty) {
        let Some(decision_id) = decision_id else { return };
        for position in book.positions_mut() {
            if position.apply_outcome(decision_id, outcome, self.entry.id, qty, self.policy) {
                return;
            }
        }
    }

    /// Gives the cumulative quantity of a fill to its order. The part that is new changes the position.
    fn fill_order(
        &mut self,
        book: &mut BookMut<'_>,
        fact: &ResultFact,
        fill: &FillFact,
        resolved: &Resolved,
        decision_id: Option<&str>,
    ) -> Result<(), Reason> {
        let step = book.step_size();
        let Resolved { found, is_known, side, reduce_only, plan } = resolved;
        let order = self.named_order(book, found, fact.plan_id.as_deref(), *side, decision_id);
        let decision = order.decision_id.clone();
        order.refused_only = false;
        order.reduce_only = fill.reduce_only.or(order.reduce_only);
        let (delta, priced) = order.take_result(fill.cumulative, fill.average, step)?;
        if fact.time == EventTime::Unreadable && !is_known {
            book.hot.history_gap = true;
        }
        if fill.ordered.is_some_and(|ordered| fill.cumulative < ordered && !fill.cumulative.same(ordered, step)) {
            self.counters.count(Count::FilledShort);
            book.hot.history_gap = true;
        }
        match delta {
            Delta::Repeated => self.counters.count(Count::FillsRepeated),
            Delta::Contradictory => self.counters.count(Count::FillsContradictory),
            Delta::New { part } => {
                if let Some(side) = *side {
                    let part = NewPart { key: &found.key, part_no: part, side, time: fact.time, trade: None };
                    self.new_part(book, part, *reduce_only, plan.as_ref())?;
                }
            }
        }
        self.reprice(book, &found.key, &priced)?;
        self.apply_outcome(
            book,
            decision.as_deref(),
            DecisionOutcome::Filled { is_final: fill.is_final },
            fill.cumulative,
        );
        Ok(())
    }

    /// Lets a new part of an order move the position, unless a look-up has already shown it.
    pub(super) fn new_part(
        &mut self,
        book: &mut BookMut<'_>,
        new: NewPart<'_>,
        reduce_only: bool,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let NewPart { key, part_no, side, time, trade } = new;
        let taken = book.orders[key].part(part_no);
        let delta = side.opens().signed(taken.qty);
        let reported = ReportedPart { key, part_no, delta, price: taken.price, time, trade };
        match self.place_fill(book, reported, plan)? {
            Placement::Add => self.apply_part(book, new, reduce_only, plan),
            Placement::Contained => Ok(()),
        }
    }

    /// Applies a new part of an order to the position.
    fn apply_part(
        &mut self,
        book: &mut BookMut<'_>,
        new: NewPart<'_>,
        reduce_only: bool,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let NewPart { key, part_no, side, .. } = new;
        let rescaled = self.rescaled_part(book, new)?;
        let taken = rescaled.unwrap_or_else(|| book.orders[key].part(part_no));
        let step = book.step_size();
        let open_qty = book.qty();
        let wanted = side.opens().signed(taken.qty);
        book.hot.filled_ms = Some(self.now_ms());
        book.hot.diverged = false;
        book.hot.disagreement = None;
        let cause = |part_no| Cause::Fill { order: key.clone(), part: part_no };
        let traded = taken.price.map(|price| EntryPrice { price, source: EntrySource::Fill, entry: self.entry });
        let opposite = !open_qty.is_zero() && open_qty.is_negative() != wanted.is_negative();
        // A hedge book never crosses zero, also for an order that is not reduce-only.
        let never_crosses = book.side.is_hedge();
        if !opposite {
            let increase = PositionChange::new(cause(part_no), wanted, traded, self.entry);
            return self.increase(book, side.opens(), increase, reduce_only, plan);
        }
        let reduction = |delta| PositionChange::new(cause(part_no), delta, traded, self.entry);
        if taken.qty.same(open_qty.abs(), step) {
            return self.close(book, reduction(open_qty.negated()));
        }
        if taken.qty < open_qty.abs() {
            return self.change_open(book, reduction(wanted));
        }
        self.close(book, reduction(open_qty.negated()))?;
        if reduce_only || never_crosses {
            self.counters.count(Count::ReduceOnlyExcess);
            book.hot.history_gap |= never_crosses;
            return Ok(());
        }
        let price = self.opening_price(book.view(), side.opens(), plan, traded)?;
        self.open_with_risk(book, side.opens(), plan)?;
        let delta = wanted.plus(open_qty)?;
        let opening_no = match book.orders.get_mut(key).filter(|_| rescaled.is_none()) {
            Some(order) => order.split_last(open_qty.abs())?,
            None => part_no,
        };
        self.change_open(book, PositionChange::new(cause(opening_no), delta, price, self.entry))
    }

    /// Opens a position or adds to one of the same direction. A reduce-only order cannot: it is counted, and the book is
    /// flagged. So is one that opens the other side of a hedge book.
    fn increase(
        &mut self,
        book: &mut BookMut<'_>,
        direction: Direction,
        change: PositionChange,
        reduce_only: bool,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let is_flat = book.qty().is_zero();
        let ignored = if reduce_only {
            Some(if is_flat { Count::ReduceOnlyFlat } else { Count::ReduceOnlySameSide })
        } else {
            let is_of_other_side = book.side.direction().is_some_and(|of_book| of_book != direction);
            is_of_other_side.then_some(Count::ReduceOnlyExcess)
        };
        if let Some(ignored) = ignored {
            self.counters.count(ignored);
            book.hot.history_gap = true;
            return Ok(());
        }
        let price = self.opening_price(book.view(), direction, plan, change.price)?;
        if is_flat {
            self.open_with_risk(book, direction, plan)?;
        }
        self.change_open(book, PositionChange { price, ..change })
    }

    /// Opens a position, with the risk fields that are known for it.
    fn open_with_risk(
        &self,
        book: &mut BookMut<'_>,
        direction: Direction,
        plan: Option<&KnownPlan>,
    ) -> Result<(), OutOfRange> {
        self.open(book, direction);
        self.take_risk(book, plan)
    }

    /// Returns the entry price of a fill that opens or enlarges: the traded one, or else a planned one.
    fn opening_price(
        &self,
        book: BookView<'_>,
        direction: Direction,
        plan: Option<&KnownPlan>,
        traded: Option<EntryPrice>,
    ) -> Result<Option<EntryPrice>, OutOfRange> {
        traded.map_or_else(|| self.planned_entry(book, direction, plan), |price| Ok(Some(price)))
    }

    /// Returns a part in the present unit of the contract, if its order is from before a rescale. The book is flagged
    /// where the unit is in doubt.
    fn rescaled_part(&self, book: &mut BookMut<'_>, new: NewPart<'_>) -> Result<Option<Part>, Reason> {
        let Some(open) = book.hot.open.as_ref() else { return Ok(None) };
        let Some(last) = open.rescales.last() else { return Ok(None) };
        let rescaled = open.rescaled_part(new.key, book.orders[new.key].part(new.part_no))?;
        let is_before = new.time.ms().is_some_and(|time_ms| time_ms < last.entry.id.ms);
        book.hot.history_gap |= rescaled.is_some() || is_before;
        Ok(rescaled)
    }

    /// Applies a change to the open position, and confirms it. The first change may take the price out of use
    /// (docs/spec/fold.md, "Opening away from the price").
    pub(super) fn change_open(&mut self, book: &mut BookMut<'_>, change: PositionChange) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        if let Some(open) = &mut book.hot.open {
            open.apply(change)?;
            open.confirmed_ms = now_ms;
            if open.changes.len() == 1 {
                self.hold_price_far_from_entry(book)?;
            }
        }
        Ok(())
    }

    pub(super) fn close(&mut self, book: &mut BookMut<'_>, change: PositionChange) -> Result<(), Reason> {
        self.change_open(book, change)?;
        if let Some(mut closed) = book.hot.open.take() {
            closed.closed = Some(self.entry);
            closed.totals.qty = Qty::ZERO;
            book.closed.push(closed);
        }
        Ok(())
    }

    pub(super) fn open(&self, book: &mut Book, direction: Direction) {
        let nth = match book.hot.last_opening {
            Some((id, nth)) if id == self.entry.id => nth + 1,
            _ => 1,
        };
        book.hot.last_opening = Some((self.entry.id, nth));
        let id = PositionId { opened: self.entry.id, nth };
        book.hot.open = Some(Position::new(id, direction, self.entry));
    }

    /// Returns the entry price of a fill without a price: that of the plan, or else that of the matched intent, in the
    /// present unit of the contract.
    fn planned_entry(
        &self,
        book: BookView<'_>,
        direction: Direction,
        plan: Option<&KnownPlan>,
    ) -> Result<Option<EntryPrice>, OutOfRange> {
        let of_plan = plan.and_then(|known| {
            let entry = EntryRef::new(StreamKind::Plan, known.plan.id);
            Some(EntryPrice { price: known.plan.entry_price?, source: EntrySource::Plan, entry })
        });
        let of_intent = || {
            let intent = self.matched_intent(book, direction, plan, self.now_ms())?;
            let entry = EntryRef::new(StreamKind::Intent, intent.id);
            Some(EntryPrice { price: intent.entry_price?, source: EntrySource::Intent, entry })
        };
        let Some(stated) = of_plan.or_else(of_intent) else { return Ok(None) };
        let (of_symbol, id) = (&book.symbol.rescales, stated.entry.id);
        let price = match &book.hot.open {
            Some(open) => open.rescales_since(id, of_symbol).try_fold(stated.price, |price, r| r.price(price))?,
            None => {
                let mut since = of_symbol.iter().filter(|rescale| id.ms < rescale.entry.id.ms);
                since.try_fold(stated.price, |price, rescale| rescale.price(price))?
            }
        };
        Ok(Some(EntryPrice { price, ..stated }))
    }

    /// Returns the intent joined through the plan, or else the latest entry intent in the direction that is not too
    /// old.
    fn matched_intent<'s>(
        &self,
        book: BookView<'s>,
        direction: Direction,
        plan: Option<&'s KnownPlan>,
        at_ms: u64,
    ) -> Option<&'s Intent> {
        plan.and_then(|known| known.intent.as_ref())
            .filter(|intent| intent.direction == direction)
            .or_else(|| book.symbol.matching_intent(book.account, direction, at_ms, self.policy.intent_max_age_ms))
    }

    /// Takes the risk fields of a new position from the plan, the matched intent, or the nearest intent before it, in
    /// this order.
    fn take_risk(&self, book: &mut BookMut<'_>, plan: Option<&KnownPlan>) -> Result<(), OutOfRange> {
        let Some(direction) = book.hot.open.as_ref().map(|open| open.direction) else { return Ok(()) };
        let risk = self
            .ordered_risk(book.view(), direction, plan, self.now_ms())
            .or_else(|| risk_of(book.symbol.latest_with_risk(book.account, direction)?, RiskSource::IntentNearest));
        let BookMut { symbol, book } = book;
        match &mut book.hot.open {
            Some(open) => open.take_risk(risk, &symbol.rescales),
            None => Ok(()),
        }
    }

    /// Returns the risk fields of a position that was opened at a past time, as for an opening by a fill of that plan.
    pub(super) fn risk_as_of(
        &self,
        book: BookView<'_>,
        direction: Direction,
        plan: Option<&KnownPlan>,
        at_ms: u64,
    ) -> Option<RiskFields> {
        self.ordered_risk(book, direction, plan, at_ms)
            .or_else(|| risk_of(self.nearest_intent(book, direction, at_ms)?, RiskSource::IntentNearest))
    }

    /// Returns the risk fields of the plan, or else those of the intent that the plan was made from.
    fn ordered_risk(
        &self,
        book: BookView<'_>,
        direction: Direction,
        plan: Option<&KnownPlan>,
        at_ms: u64,
    ) -> Option<RiskFields> {
        let of_plan = plan.and_then(|known| {
            let entry = EntryRef::new(StreamKind::Plan, known.plan.id);
            Some(RiskFields::new(known.plan.risk_pair()?, RiskSource::Plan, entry, known.plan.producer.clone()))
        });
        of_plan.or_else(|| risk_of(self.matched_intent(book, direction, plan, at_ms)?, RiskSource::Intent))
    }

    /// Returns the latest entry intent with both risk fields before a time, or else the first one after it.
    fn nearest_intent<'s>(&self, book: BookView<'s>, direction: Direction, at_ms: u64) -> Option<&'s Intent> {
        let usable = |intent: &&Intent| intent.direction == direction && intent.risk_pair().is_some();
        let from = self.now_ms().saturating_sub(INTENT_MEMORY_MS);
        let of_a_day = || book.symbol.entry_intents(book.account).filter(move |intent| intent.id.ms >= from);
        let latest = book.symbol.latest_with_risk(book.account, direction);
        let remembered = || of_a_day().chain(latest).filter(usable);
        let before = remembered().filter(|intent| intent.id.ms <= at_ms).max_by_key(|intent| intent.id);
        before.or_else(|| remembered().min_by_key(|intent| intent.id))
    }

    pub(super) fn reprice(&self, book: &mut Book, key: &OrderKey, priced: &[(u32, Price)]) -> Result<(), Reason> {
        if priced.is_empty() {
            return Ok(());
        }
        for position in book.positions_mut() {
            position.reprice(key, priced, self.entry)?;
        }
        Ok(())
    }
}
