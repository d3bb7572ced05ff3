//! How one fact changes one symbol: fills, exchange positions, trades, prices (SPEC §4).

use super::event::{
    Direction, FillFact, Intent, LegacyFact, Outcome, PositionFact, PriceFact, Reason, ResultFact, Side, Trade,
    TradeFact,
};
use super::ids::{EntryRef, PositionId};
use super::order::{Delta, Order, OrderKey};
use super::plans::{KnownPlan, Plans};
use super::policy::{EntrySource, Policy, RiskSource};
use super::position::{Cause, EntryPrice, Instance, Movement, RiskFields};
use super::rungs::Heard;
use super::streams::StreamKind;
use super::symbol::{Disagreement, Mark, ORDER_MEMORY_MS, Symbol};
use super::tally::{Count, Tally};
use super::units::{OutOfRange, Price, Qty, Ratio};

/// How long a used price keeps the next ones from jumping. [ms]
const JUMP_MEMORY_MS: u64 = 60_000;
/// A fill of an unknown order that is older than this by its own word is too late. [ms]
const TOO_LATE_MS: u64 = 24 * 3_600_000;

impl From<OutOfRange> for Reason {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

/// The entry that is folded, and what is known around the symbol.
pub struct Fold<'a> {
    pub entry: EntryRef,
    pub policy: &'a Policy,
    pub plans: &'a Plans,
    pub tally: &'a mut Tally,
}

/// A fill whose order, side and purpose are settled.
struct Resolved {
    key: OrderKey,
    /// The key that the order had before its id was known.
    taken_over: Option<OrderKey>,
    side: Option<Side>,
    reduce_only: bool,
}

impl Fold<'_> {
    fn now_ms(&self) -> u64 {
        self.entry.id.ms
    }

    // ---- results -------------------------------------------------------------------------------------------

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

    fn hear(&self, symbol: &mut Symbol, decision_id: Option<&str>, heard: Heard, qty: Qty) {
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
                let mut known = orders.iter().filter(|(_, order)| order.plan_id.as_ref() == Some(plan_id));
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
    fn part(
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

    fn grow(&mut self, symbol: &mut Symbol, movement: Movement) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        if let Some(open) = &mut symbol.hot.open {
            open.apply(movement)?;
            open.confirmed_ms = now_ms;
        }
        Ok(())
    }

    fn close(&mut self, symbol: &mut Symbol, movement: Movement) -> Result<(), Reason> {
        self.grow(symbol, movement)?;
        if let Some(mut closed) = symbol.hot.open.take() {
            closed.closed = Some(self.entry);
            closed.totals.qty = Qty::ZERO;
            symbol.closed.push(closed);
        }
        let from = self.now_ms().saturating_sub(ORDER_MEMORY_MS);
        symbol.closed.retain(|instance| instance.closed.is_none_or(|closed| closed.id.ms >= from));
        Ok(())
    }

    fn open(&self, symbol: &mut Symbol, direction: Direction) {
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
            let (atr_value, volatility_factor) = known.plan.risk_pair()?;
            Some(RiskFields {
                atr_value,
                volatility_factor,
                source: RiskSource::Plan,
                entry: EntryRef::new(StreamKind::Plan, known.plan.id),
                producer: known.plan.producer.clone(),
            })
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

    fn reprice(&self, symbol: &mut Symbol, key: &OrderKey, priced: &[(u32, Price)]) -> Result<(), Reason> {
        if priced.is_empty() {
            return Ok(());
        }
        for instance in symbol.instances_mut() {
            instance.reprice(key, priced, self.entry)?;
        }
        Ok(())
    }

    // ---- intents ---------------------------------------------------------------------------------------------

    /// Remembers an entry intent; the first one after an opening supplies risk fields that nothing before had.
    pub fn intent(&mut self, symbol: &mut Symbol, intent: &Intent) {
        symbol.cold.forget(self.now_ms());
        symbol.cold.remember(intent.clone());
        if let Some(open) = &mut symbol.hot.open
            && open.direction == intent.direction
            && open.risk.as_ref().is_none_or(|risk| risk.source == RiskSource::Legacy)
            && let Some(risk) = risk_of(intent, RiskSource::IntentNearest)
        {
            open.risk = Some(risk);
        }
    }

    // ---- what the exchange holds -----------------------------------------------------------------------------

    /// Folds a snapshot or an `exchange.position`.
    pub fn position(&mut self, symbol: &mut Symbol, fact: PositionFact) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        let settles_ms = self.policy.snapshot_settle_ms;
        if symbol.hot.filled_ms.is_some_and(|filled_ms| now_ms.saturating_sub(filled_ms) <= settles_ms) {
            self.tally.count(Count::SnapshotSettling);
            return Ok(());
        }
        let step = symbol.step_size();
        if symbol.qty().same(fact.qty, step) {
            return self.confirmed(symbol, fact);
        }
        if symbol.hot.open.is_none() && fact.looked_up {
            return self.adopt(symbol, fact);
        }
        symbol.hot.diverged = symbol.hot.open.is_some();
        match symbol.hot.disagreement {
            Some(first) if first.qty.same(fact.qty, step) => {
                if now_ms.saturating_sub(first.since_ms) >= self.policy.divergence_grace_ms {
                    return self.adopt(symbol, fact);
                }
            }
            _ => symbol.hot.disagreement = Some(Disagreement { qty: fact.qty, since_ms: now_ms }),
        }
        Ok(())
    }

    /// The exchange holds what we hold.
    fn confirmed(&mut self, symbol: &mut Symbol, fact: PositionFact) -> Result<(), Reason> {
        symbol.hot.diverged = false;
        symbol.hot.history_gap = false;
        symbol.hot.disagreement = None;
        let now_ms = self.now_ms();
        let Some(open) = &mut symbol.hot.open else { return Ok(()) };
        open.confirmed_ms = now_ms;
        let Some(price) = fact.entry_price else { return Ok(()) };
        match open.totals.entry {
            Some(held) if held.source == EntrySource::Fill => {
                let apart = held.price.minus(price)?.abs();
                let permille = Ratio::from_bps(Ratio::new(10.into()))?;
                open.entry_price_disagrees = apart > price.times(permille)?;
            }
            _ => {
                let price = EntryPrice { price, source: EntrySource::Exchange, entry: self.entry };
                open.apply(Movement {
                    cause: Cause::EntrySet,
                    delta: Qty::ZERO,
                    price: Some(price),
                    entry: self.entry,
                })?;
            }
        }
        Ok(())
    }

    /// Takes the exchange's quantity as ours: opens, resizes, closes or turns the position.
    fn adopt(&mut self, symbol: &mut Symbol, fact: PositionFact) -> Result<(), Reason> {
        let held = symbol.qty();
        symbol.hot.diverged = false;
        symbol.hot.disagreement = None;
        // A look-up that opens a position says what is there, not that our history has it: the next one confirms.
        if !(held.is_zero() && fact.looked_up) {
            symbol.hot.history_gap = false;
        }
        let closes = fact.qty.same(Qty::ZERO, symbol.step_size());
        let turns = !held.is_zero() && !closes && held.is_negative() != fact.qty.is_negative();
        let price =
            fact.entry_price.map(|price| EntryPrice { price, source: EntrySource::Exchange, entry: self.entry });
        if !held.is_zero() && (closes || turns || fact.qty.abs() < held.abs()) {
            self.adopted_smaller(symbol);
        }
        if !held.is_zero() && !turns && !closes {
            let delta = fact.qty.minus(held)?;
            return self.grow(symbol, Movement { cause: Cause::Adoption, delta, price, entry: self.entry });
        }
        if !held.is_zero() {
            let price = symbol.hot.open.as_ref().and_then(|open| open.totals.entry);
            self.close(symbol, Movement { cause: Cause::Adoption, delta: held.negated(), price, entry: self.entry })?;
        }
        if closes {
            return Ok(());
        }
        let direction = if fact.qty.is_negative() { Direction::Short } else { Direction::Long };
        self.open(symbol, direction);
        let risk =
            symbol.cold.latest_with_risk(direction).and_then(|intent| risk_of(intent, RiskSource::IntentNearest));
        if let Some(open) = &mut symbol.hot.open {
            open.risk = risk;
            open.snapshot_qty = Some(fact.qty);
        }
        self.grow(symbol, Movement { cause: Cause::SnapshotOpening, delta: fact.qty, price, entry: self.entry })
    }

    /// A smaller quantity that was adopted answers what became of a request that was never answered.
    fn adopted_smaller(&self, symbol: &mut Symbol) {
        let Some(open) = &symbol.hot.open else { return };
        let in_flight: Vec<Box<str>> =
            open.decisions.iter().filter(|d| d.state.is_in_flight()).map(|d| d.decision_id.clone()).collect();
        for decision_id in in_flight {
            self.hear(symbol, Some(&decision_id), Heard::AdoptedSmaller, Qty::ZERO);
        }
    }

    /// Folds a trade of the exchange.
    pub fn trade(&mut self, symbol: &mut Symbol, fact: &TradeFact) -> Result<(), Reason> {
        symbol.cold.forget(self.now_ms());
        let key = OrderKey::Id(fact.order_id.clone());
        let step = symbol.step_size();
        let known = symbol.cold.orders.contains_key(&key);
        if !known && is_before_opening(symbol, &fact.trade) {
            return self.explain(symbol, fact.trade.clone(), step);
        }
        let own_ms = fact.trade.own_ms;
        if !known && own_ms.is_some_and(|own_ms| own_ms.saturating_add(TOO_LATE_MS) < self.now_ms()) {
            return Err(Reason::TooLate);
        }
        let order: &mut Order = symbol.cold.orders.entry(key.clone()).or_default();
        order.last_ms = self.now_ms();
        let decision = order.decision_id.clone();
        let plan_id = order.plan_id.clone();
        let (delta, priced) = order.take_trade(fact.trade.clone(), step)?;
        let filled = order.applied();
        if let Delta::New { part } = delta {
            let plans = self.plans;
            let plan = plan_id.as_deref().and_then(|id| plans.get(id));
            let reduce_only = plan.and_then(|known| known.plan.reduce_only).unwrap_or(false);
            self.part(symbol, &key, part, fact.trade.side, reduce_only, plan)?;
        }
        self.reprice(symbol, &key, &priced)?;
        self.hear(symbol, decision.as_deref(), Heard::Filled { is_final: false }, filled);
        Ok(())
    }

    /// A trade from before an opening by snapshot explains it; the quantity stays.
    fn explain(&mut self, symbol: &mut Symbol, trade: Trade, step: Option<Qty>) -> Result<(), Reason> {
        let Some(open) = &mut symbol.hot.open else { return Ok(()) };
        let direction = open.direction;
        let Some((_, began_ms)) = open.explain(trade, step)? else { return Ok(()) };
        let matched = symbol
            .cold
            .matching_intent(direction, began_ms, self.policy.intent_max_age_ms)
            .and_then(|intent| risk_of(intent, RiskSource::Intent));
        let usable = |i: &&Intent| i.direction == direction && i.risk_pair().is_some();
        let remembered = || symbol.cold.intents.iter().chain(symbol.cold.latest_with_risk(direction)).filter(usable);
        let nearest = || {
            remembered()
                .filter(|i| i.id.ms <= began_ms)
                .max_by_key(|i| i.id)
                .or_else(|| remembered().min_by_key(|i| i.id))
                .and_then(|intent| risk_of(intent, RiskSource::IntentNearest))
        };
        let risk = matched.or_else(nearest);
        if let (Some(open), Some(risk)) = (&mut symbol.hot.open, risk) {
            open.risk = Some(risk);
        }
        Ok(())
    }

    /// What an old hash held supplies what is missing, and nothing else.
    pub fn legacy(&mut self, symbol: &mut Symbol, fact: &LegacyFact) -> Result<(), Reason> {
        let entry = self.entry;
        let Some(open) = &mut symbol.hot.open else { return Ok(()) };
        if fact.direction.is_some_and(|direction| direction != open.direction) {
            return Ok(());
        }
        if open.totals.entry.is_none()
            && let Some(price) = fact.entry_price
        {
            let price = Some(EntryPrice { price, source: EntrySource::Legacy, entry });
            open.apply(Movement { cause: Cause::EntrySet, delta: Qty::ZERO, price, entry })?;
        }
        if open.risk.is_none()
            && let (Some(atr_value), Some(volatility_factor)) = (fact.atr_value, fact.volatility_factor)
        {
            open.risk =
                Some(RiskFields { atr_value, volatility_factor, source: RiskSource::Legacy, entry, producer: None });
        }
        Ok(())
    }

    // ---- prices ----------------------------------------------------------------------------------------------

    /// Takes a price into use, or holds it back if it jumped (SPEC §4, *Price jump*). The source is accepted.
    pub fn price(&mut self, symbol: &mut Symbol, fact: PriceFact) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        if fact.own_ms.is_some_and(|own_ms| own_ms.saturating_add(self.policy.max_price_age_ms) < now_ms) {
            self.tally.count(Count::LatePrice);
            return Ok(());
        }
        let near = |of: Price| -> Result<bool, OutOfRange> {
            Ok(fact.price.minus(of)?.abs() <= of.times(self.policy.max_price_jump)?)
        };
        let used = symbol.hot.mark.filter(|mark| now_ms.saturating_sub(mark.entry.ms) <= JUMP_MEMORY_MS);
        let usable = match (used, symbol.hot.held_price) {
            (None, _) => true,
            (Some(mark), None) => near(mark.price)?,
            (Some(mark), Some(held)) => near(mark.price)? || near(held)?,
        };
        if usable {
            symbol.hot.mark = Some(Mark { price: fact.price, source: fact.source, entry: self.entry.id });
            symbol.hot.held_price = None;
        } else {
            self.tally.count(Count::PriceHeld);
            symbol.hot.held_price = Some(fact.price);
        }
        Ok(())
    }
}

fn risk_of(intent: &Intent, source: RiskSource) -> Option<RiskFields> {
    let (atr_value, volatility_factor) = intent.risk_pair()?;
    let entry = EntryRef::new(StreamKind::Intent, intent.id);
    Some(RiskFields { atr_value, volatility_factor, source, entry, producer: intent.producer.clone() })
}

fn is_before_opening(symbol: &Symbol, trade: &Trade) -> bool {
    symbol.hot.open.as_ref().is_some_and(|open| {
        open.snapshot_qty.is_some() && trade.own_ms.is_some_and(|own_ms| own_ms < open.opened.id.ms)
    })
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
            }
        }
    }
}
