//! Finds the order of an entry (docs/spec/streams/result.md, "Order key"). An order has one plan and one side.

use super::BookFold;
use crate::domain::book::change::Cause;
use crate::domain::book::counters::Count;
use crate::domain::book::order::{Order, OrderKey};
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::state::Book;
use crate::domain::book::view::BookMut;
use crate::domain::event::{FillFact, NamedOrder, Reason, ResultFact, Side, TradeFact};

/// An order, with the way in which it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub key: OrderKey,
    /// The key that the order had before its id was known.
    pub former: Option<OrderKey>,
    /// The plan id is another name of the order.
    pub is_other_name: bool,
}

impl Found {
    fn of(key: OrderKey) -> Self {
        Self { key, former: None, is_other_name: false }
    }

    /// Returns true if the order is known with another side.
    fn is_of_other_side(&self, book: &Book, side: Option<Side>) -> bool {
        let known = book.orders.get(self.former.as_ref().unwrap_or(&self.key)).and_then(|order| order.side);
        known.is_some_and(|known| side.is_some_and(|side| side != known))
    }
}

/// A fill with its order, side and purpose.
pub(super) struct Resolved {
    pub found: Found,
    pub is_known: bool,
    pub side: Option<Side>,
    pub reduce_only: bool,
    /// The plan that the result names, or else the plan of its order.
    pub plan: Option<KnownPlan>,
}

impl BookFold<'_> {
    /// Finds order, side and purpose of a fill. Returns `None` if there is nothing to do.
    pub(super) fn resolve(
        &mut self,
        book: &mut BookMut<'_>,
        fact: &ResultFact,
        fill: &FillFact,
        plan: Option<&KnownPlan>,
    ) -> Result<Option<Resolved>, Reason> {
        let named_side = fill.side.or(plan.and_then(|known| known.plan.side));
        let plan_id = fact.plan_id.as_deref();
        let is_repeated_by = |order: &Order| order.is_repeated_by(named_side, fill.cumulative, fill.average);
        let found = match (&fill.order_id, plan_id) {
            (Some(id), plan_id) => self.order_of_id(book, id, plan_id, named_side, is_repeated_by),
            (None, Some(plan_id)) => self.order_of_plan(book, plan_id),
            (None, None) => Some(Found::of(OrderKey::Entry(self.entry.id))),
        };
        let Some(found) = found else { return Ok(None) };
        let known = book.orders.get(found.former.as_ref().unwrap_or(&found.key));
        let is_known = known.is_some_and(|order| !order.refused_only);
        if !is_known && self.is_too_late(fact.time.ms()) {
            return Err(Reason::TooLate);
        }
        // The order supplies the fields that a result omits.
        let plan = plan.or_else(|| self.plan_of(known?.plan_id.as_deref()));
        let known_side = known.and_then(|order| order.side);
        let known_reduce_only = known.and_then(|order| order.reduce_only);
        if let (Some(known), Some(named)) = (known_side, named_side)
            && known != named
        {
            self.reused(book);
            return Ok(None);
        }
        let reducing = book.hot.open.as_ref().map(|open| open.direction.closing_side());
        let planned_side = plan.and_then(|known| known.plan.side);
        let side = named_side.or(known_side).or(planned_side).or(if fill.closes { reducing } else { None });
        if side.is_none() && !fill.closes {
            return Err(Reason::NoSide);
        }
        let planned = plan.and_then(|known| known.plan.reduce_only);
        let reduce_only = fill.reduce_only.or(planned).or(known_reduce_only).unwrap_or(fill.closes);
        Ok(Some(Resolved { found, is_known, side, reduce_only, plan: plan.cloned() }))
    }

    /// Returns the order of an exchange id. If the entry names another plan than the known order, it is another order,
    /// unless it repeats the known one. Returns `None` if the order is ambiguous.
    pub(super) fn order_of_id(
        &mut self,
        book: &mut BookMut<'_>,
        id: &str,
        plan_id: Option<&str>,
        side: Option<Side>,
        is_repeated_by: impl Fn(&Order) -> bool,
    ) -> Option<Found> {
        book.forget_orders_of_id(id, self.now_ms());
        book.forget_refused_of_id(id, plan_id, side);
        let of_plan = plan_id.map(|plan_id| OrderKey::Plan(plan_id.into()));
        if let Some(of_plan) = &of_plan {
            book.forget_order(of_plan, self.now_ms());
        }
        let former = of_plan.filter(|of_plan| book.orders.contains_key(of_plan));
        let known: Vec<(&OrderKey, &Order)> = book.orders_of_id(id).collect();
        let Some(plan_id) = plan_id else {
            if known.len() > 1 {
                self.ambiguous(book);
                return None;
            }
            return Some(Found::of(known.first().map_or_else(|| OrderKey::Id(id.into()), |(key, _)| (*key).clone())));
        };
        if known.is_empty() {
            return Some(Found { former, ..Found::of(OrderKey::Id(id.into())) });
        }
        let find = |is_it: &dyn Fn(&Order) -> bool| {
            known.iter().find(|(_, order)| is_it(order)).map(|(key, _)| Found::of((*key).clone()))
        };
        let own = find(&|order| order.has_plan(plan_id)).or_else(|| find(&|order| order.plan_id.is_none()));
        if own.is_some() {
            return own;
        }
        if let Some(again) = find(&|order| is_repeated_by(order)) {
            return Some(Found { is_other_name: true, ..again });
        }
        self.reused(book);
        Some(Found { former, ..Found::of(OrderKey::Shared { id: id.into(), plan: plan_id.into() }) })
    }

    /// Returns the only order that is known for a plan, or else an order that only its plan identifies. Returns `None`
    /// if several orders are known for the plan.
    fn order_of_plan(&mut self, book: &mut BookMut<'_>, plan_id: &str) -> Option<Found> {
        let found = self.only_order_of_plan(book, plan_id);
        if found.is_none() {
            self.ambiguous(book);
        }
        found
    }

    /// Returns the same, without a count and a flag where several orders are known.
    fn only_order_of_plan(&self, book: &mut BookMut<'_>, plan_id: &str) -> Option<Found> {
        let by_plan = OrderKey::Plan(plan_id.into());
        let now_ms = self.now_ms();
        book.forget_order(&by_plan, now_ms);
        let is_of_plan = |order: &Order| order.has_plan(plan_id) && order.is_remembered(now_ms);
        let known = || book.orders.iter().filter(|(_, order)| is_of_plan(order));
        // An order that only refusals have named is the last choice: it may never have existed.
        let mut reported = known().filter(|(_, order)| !order.refused_only).map(|(key, _)| key.clone());
        let refused = || known().map(|(key, _)| key.clone()).next();
        match (reported.next(), reported.next()) {
            (Some(_), Some(_)) => None,
            (key, _) => Some(Found::of(key.or_else(refused).unwrap_or(by_plan))),
        }
    }

    /// Returns the order of a trade: by its id and, where several orders share that id, by its side. Errors with the
    /// counter of the reason why the trade belongs to no order.
    pub(super) fn order_of_trade(&self, book: &mut BookMut<'_>, fact: &TradeFact) -> Result<OrderKey, Count> {
        book.forget_orders_of_id(&fact.order_id, self.now_ms());
        book.forget_refused_of_id(&fact.order_id, None, Some(fact.trade.side));
        let known: Vec<(&OrderKey, Option<Side>)> =
            book.orders_of_id(&fact.order_id).map(|(key, order)| (key, order.side)).collect();
        let fits = |side: Option<Side>| side.is_none_or(|side| side == fact.trade.side);
        let fitting: Vec<OrderKey> =
            known.iter().filter(|(_, side)| fits(*side)).map(|(key, _)| (*key).clone()).collect();
        match (known.len(), fitting.as_slice()) {
            (0, _) => Ok(OrderKey::Id(fact.order_id.clone())),
            (_, [key]) => Ok(key.clone()),
            (1, _) => Err(Count::OrderIdReused),
            _ => Err(Count::AmbiguousOrder),
        }
    }

    /// Remembers an order that was accepted, with what the acceptance names of it: a later fill may name less. Returns
    /// the order.
    pub(super) fn accepted_order(
        &mut self,
        book: &mut BookMut<'_>,
        named: &NamedOrder,
        plan_id: Option<&str>,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Option<OrderKey> {
        let side = named.side.or(plan.and_then(|known| known.plan.side));
        let found = match (&named.order_id, plan_id) {
            // An acceptance has no quantity, so it can never repeat the fill of another order.
            (Some(id), plan_id) => self.order_of_id(book, id, plan_id, side, |_| false),
            (None, Some(plan_id)) if named.side.is_some() || named.reduce_only.is_some() => {
                self.only_order_of_plan(book, plan_id)
            }
            (None, _) => None,
        };
        let found = found?;
        if found.is_of_other_side(book, side) {
            self.reused(book);
            return None;
        }
        let order = self.named_order(book, &found, plan_id, named.side, decision_id);
        order.refused_only = false;
        order.reduce_only = named.reduce_only.or(order.reduce_only);
        Some(found.key)
    }

    /// Lets an order keep what a refusal names of it, and returns the order. A refusal moves and flags nothing. The
    /// plan that it names with an id which is not known yet is remembered for entries that name the id alone.
    pub(super) fn refused_order(
        &mut self,
        book: &mut BookMut<'_>,
        named: &NamedOrder,
        plan_id: Option<&str>,
        plan: Option<&KnownPlan>,
        decision_id: Option<&str>,
    ) -> Option<OrderKey> {
        let id = named.order_id.as_deref()?;
        let now_ms = self.now_ms();
        book.forget_orders_of_id(id, now_ms);
        let side = named.side.or(plan.and_then(|known| known.plan.side));
        // Of two plans that were only refused under an id, the first counts, unless the second is that of a decision.
        let is_of_no_decision = |(_, order): (&OrderKey, &Order)| order.refused_only && order.decision_id.is_none();
        if decision_id.is_some() && book.orders_of_id(id).all(is_of_no_decision) {
            book.forget_refused_of_id(id, plan_id, side);
        }
        let keys: Vec<OrderKey> = book.orders_of_id(id).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.order(book, key).last_ms = now_ms;
        }
        let by_plan = plan_id.map(|plan_id| OrderKey::Plan(plan_id.into()));
        if let Some(by_plan) = &by_plan {
            book.forget_order(by_plan, now_ms);
        }
        let has_its_plan = |key: &&OrderKey| {
            let order = &book.orders[*key];
            plan_id.is_none_or(|plan_id| order.plan_id.is_none() || order.has_plan(plan_id))
        };
        let found = match (keys.as_slice(), by_plan) {
            ([], Some(former)) if book.orders.contains_key(&former) => {
                Some(Found { former: Some(former), ..Found::of(OrderKey::Id(id.into())) })
            }
            ([], _) => plan_id.map(|_| Found::of(OrderKey::Id(id.into()))),
            ([key], _) => Some(key).filter(has_its_plan).map(|key| Found::of(key.clone())),
            _ => None,
        };
        let found = found.filter(|found| !found.is_of_other_side(book, side))?;
        let known = book.orders.get(found.former.as_ref().unwrap_or(&found.key));
        // A refusal creates an order that was only refused, and leaves a known one as it is.
        let refused_only = known.is_none_or(|order| order.refused_only);
        let order = self.named_order(book, &found, plan_id, named.side, decision_id);
        order.reduce_only = named.reduce_only.or(order.reduce_only);
        order.refused_only = refused_only;
        Some(found.key)
    }

    fn ambiguous(&mut self, book: &mut BookMut<'_>) {
        self.counters.count(Count::AmbiguousOrder);
        book.hot.history_gap = true;
    }

    fn reused(&mut self, book: &mut Book) {
        self.counters.count(Count::OrderIdReused);
        book.hot.history_gap = true;
    }

    /// Returns the order of a key. An order that is not remembered is created.
    pub(super) fn order<'s>(&self, book: &'s mut Book, key: &OrderKey) -> &'s mut Order {
        let open = book.hot.open.as_ref();
        book.orders.entry(key.clone()).or_insert_with(|| {
            Box::new(Order { parts_from: open.map_or(0, |open| open.next_part(key)), ..Order::default() })
        })
    }

    /// Returns the order that was found, and adds to it what the entry names: plan, side and decision. The caller sets
    /// whether the order was only refused.
    pub(super) fn named_order<'s>(
        &self,
        book: &'s mut Book,
        found: &Found,
        plan_id: Option<&str>,
        side: Option<Side>,
        decision_id: Option<&str>,
    ) -> &'s mut Order {
        if let Some(former) = &found.former {
            move_order(book, former, &found.key);
        }
        let order = self.order(book, &found.key);
        order.last_ms = self.entry.id.ms;
        match plan_id {
            Some(plan_id) if found.is_other_name => order.plan_ids_other.push(plan_id.into()),
            Some(plan_id) if order.plan_id.is_none() => order.plan_id = Some(plan_id.into()),
            Some(_) | None => {}
        }
        order.side = order.side.or(side);
        order.decision_id = order.decision_id.take().or_else(|| decision_id.map(Into::into));
        order
    }
}

/// Gives an order the exchange id that became known later, in the order and in the position changes that refer to it.
fn move_order(book: &mut Book, old: &OrderKey, new: &OrderKey) {
    let Some(order) = book.orders.remove(old) else { return };
    book.orders.insert(new.clone(), order);
    for position in book.positions_mut() {
        for change in &mut position.changes {
            if let Cause::Fill { order, .. } = &mut change.cause
                && order == old
            {
                *order = new.clone();
                position.dirty.0 = true;
            }
            for fill in change.late_fills.iter_mut().filter(|fill| fill.order == *old) {
                fill.order = new.clone();
                position.dirty.0 = true;
            }
        }
    }
}
