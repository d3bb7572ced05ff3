//! What the exchange holds and has traded: it reconciles, explains, and is adopted after it disagreed twice.

use super::{Fold, TOO_LATE_MS, risk_of};
use crate::domain::event::{Direction, Intent, PositionFact, Reason, Trade, TradeFact};
use crate::domain::order::{Delta, OrderKey};
use crate::domain::policy::{EntrySource, RiskSource};
use crate::domain::position::{Cause, EntryPrice, Instance, Movement};
use crate::domain::rungs::Heard;
use crate::domain::symbol::{Disagreement, INTENT_MEMORY_MS, Symbol};
use crate::domain::tally::Count;
use crate::domain::units::{Price, Qty, Ratio};

impl Fold<'_> {
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

    /// The exchange holds what we hold. What can fail stands first: a symbol is not put by for this.
    fn confirmed(&mut self, symbol: &mut Symbol, fact: PositionFact) -> Result<(), Reason> {
        if let Some(open) = &mut symbol.hot.open {
            if let Some(price) = fact.entry_price {
                self.confirmed_price(open, price)?;
            }
            open.confirmed_ms = self.now_ms();
        }
        symbol.hot.diverged = false;
        symbol.hot.history_gap = false;
        symbol.hot.disagreement = None;
        Ok(())
    }

    /// Compares the exchange's entry price with that of our fills, or takes it where we have none of our own.
    fn confirmed_price(&self, open: &mut Instance, price: Price) -> Result<(), Reason> {
        match open.totals.entry {
            Some(held) if held.source == EntrySource::Fill => {
                let apart = held.price.minus(price)?.abs();
                open.entry_price_disagrees = apart > price.times(Ratio::PERMILLE)?;
            }
            _ => {
                let price = EntryPrice { price, source: EntrySource::Exchange, entry: self.entry };
                open.apply(Movement {
                    cause: Cause::EntrySet,
                    delta: Qty::ZERO,
                    price: Some(price),
                    entry: self.entry,
                })?;
                open.entry_price_disagrees = false;
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
        if let Some(open) = &mut symbol.hot.open {
            open.entry_price_disagrees = false;
        }
        if !held.is_zero() && !turns && !closes {
            let delta = fact.qty.minus(held)?;
            // What was told counts to the last digit: a difference that had to be rounded is none.
            if held.plus(delta)? != fact.qty {
                return Err(Reason::OutOfRange);
            }
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
        let key = OrderKey::Id(fact.order_id.clone());
        symbol.cold.forget_order(&key, self.now_ms());
        let step = symbol.step_size();
        let known = symbol.cold.orders.contains_key(&key);
        if !known && is_before_opening(symbol, &fact.trade) {
            return self.explain(symbol, fact.trade.clone(), step);
        }
        let own_ms = fact.trade.own_ms;
        if !known && own_ms.is_some_and(|own_ms| own_ms.saturating_add(TOO_LATE_MS) < self.now_ms()) {
            return Err(Reason::TooLate);
        }
        let order = self.order(symbol, &key);
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
        let from = self.now_ms().saturating_sub(INTENT_MEMORY_MS);
        let of_a_day = || symbol.cold.intents.iter().filter(move |intent| intent.id.ms >= from);
        let remembered = || of_a_day().chain(symbol.cold.latest_with_risk(direction)).filter(usable);
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
}

fn is_before_opening(symbol: &Symbol, trade: &Trade) -> bool {
    symbol.hot.open.as_ref().is_some_and(|open| {
        open.snapshot_qty.is_some() && trade.own_ms.is_some_and(|own_ms| own_ms < open.opened.id.ms)
    })
}
