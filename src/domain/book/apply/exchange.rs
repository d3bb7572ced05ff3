//! Facts of the exchange: positions and trades. They confirm a book, explain it, and change its quantity after they
//! disagreed twice (docs/spec/fold.md, "Snapshots and look-ups", "Exchange trades").

use super::fills::NewPart;
use super::{BookFold, risk_of};
use crate::domain::book::change::{Cause, EntryPrice, PositionChange};
use crate::domain::book::counters::Count;
use crate::domain::book::position::Position;
use crate::domain::book::rung::DecisionOutcome;
use crate::domain::book::state::{Book, Disagreement};
use crate::domain::book::view::BookMut;
use crate::domain::event::{Direction, EventTime, PositionFact, Reason, TradeFact};
use crate::domain::exit::policy::{EntrySource, RiskSource};
use crate::domain::units::{OutOfRange, Price, Qty, Ratio};

impl BookFold<'_> {
    /// Folds a snapshot or an `exchange.position`.
    pub fn position(&mut self, book: &mut BookMut<'_>, fact: PositionFact) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        let settles_ms = self.policy.snapshot_settle_ms;
        if book.hot.filled_ms.is_some_and(|filled_ms| now_ms.saturating_sub(filled_ms) <= settles_ms) {
            self.counters.count(Count::SnapshotSettling);
            return Ok(());
        }
        let step = book.step_size();
        if book.qty().same(fact.qty, step) {
            return self.agreed(book, fact);
        }
        if book.hot.open.is_none() && fact.looked_up {
            return self.adopt(book, fact);
        }
        book.hot.diverged = book.hot.open.is_some();
        match book.hot.disagreement {
            Some(first) if first.qty.same(fact.qty, step) => {
                if now_ms.saturating_sub(first.since_ms) >= self.policy.divergence_grace_ms {
                    return self.adopt(book, fact);
                }
            }
            _ => book.hot.disagreement = Some(Disagreement { qty: fact.qty, since_ms: now_ms }),
        }
        Ok(())
    }

    /// Applies a position that agrees with ours. The steps that can fail come first, because it is not rolled back.
    fn agreed(&mut self, book: &mut BookMut<'_>, fact: PositionFact) -> Result<(), Reason> {
        if let Some(open) = &mut book.hot.open {
            if let Some(price) = fact.entry_price {
                self.compare_entry_price(open, price)?;
            }
            open.confirmed_ms = self.now_ms();
        }
        book.hot.diverged = false;
        book.hot.history_gap = false;
        book.hot.disagreement = None;
        book.hot.agreed = Some(self.entry.id);
        self.agreed_or_adopted(book);
        Ok(())
    }

    /// Compares the exchange's entry price with that of our fills, or takes it where our fills give none.
    fn compare_entry_price(&self, open: &mut Position, price: Price) -> Result<(), Reason> {
        match open.totals.entry.map(|known| (known.source, known.price)) {
            Some((EntrySource::Fill, known)) => open.entry_price_disagrees = known.disagrees_with(price)?,
            Some((EntrySource::Legacy | EntrySource::Intent | EntrySource::Plan | EntrySource::Exchange, _)) | None => {
                let price = EntryPrice { price, source: EntrySource::Exchange, entry: self.entry };
                open.apply(PositionChange::new(Cause::EntrySet, Qty::ZERO, Some(price), self.entry))?;
                open.entry_price_disagrees = false;
            }
        }
        Ok(())
    }

    /// Notes that the exchange's quantity is ours. A confirmed price in doubt is settled by it.
    fn agreed_or_adopted(&self, book: &mut Book) {
        book.hot.agreed_or_adopted = Some(self.entry.id);
        if let Some(open) = &mut book.hot.open
            && open.price_doubted.is_some_and(|doubted| doubted < self.entry.id)
        {
            open.price_doubted = None;
        }
    }

    /// Returns true if a look-up shows that the exchange rescaled the contract (docs/spec/fold.md, "Rescaled
    /// contract").
    fn is_rescaled(book: &Book, fact: PositionFact) -> Result<bool, OutOfRange> {
        let (Some(open), Some(after)) = (&book.hot.open, fact.entry_price) else { return Ok(false) };
        let open_qty = open.totals.qty;
        let Some(before) = open.totals.entry.filter(|_| open_qty.is_negative() == fact.qty.is_negative()) else {
            return Ok(false);
        };
        if fact.qty.is_zero() {
            return Ok(false);
        }
        let is_far = fact.qty.abs() >= open_qty.abs().times(Ratio::RESCALED_QTY)?
            || fact.qty.abs().times(Ratio::RESCALED_QTY)? <= open_qty.abs();
        let factor = fact.qty.ratio(open_qty)?;
        let expected = after.times(factor)?;
        Ok(is_far && before.price.is_near(expected, Ratio::PERCENT)?)
    }

    /// Rescales the open position and drops the prices in the old unit.
    fn rescale(&mut self, book: &mut BookMut<'_>, qty: Qty) -> Result<(), Reason> {
        let entry = self.entry;
        let BookMut { symbol, book } = book;
        let Some(open) = &mut book.hot.open else { return Ok(()) };
        // The books of a symbol show a rescale one after the other.
        let shown = symbol.rescales.last().filter(|last| open.lacks(last)).copied();
        open.rescale(qty, entry)?;
        open.confirmed_ms = entry.id.ms;
        if let Some(rescale) = open.rescales.last()
            && !shown.map_or(Ok(false), |shown| shown.is_like(rescale))?
        {
            symbol.add_rescale(*rescale);
        }
        symbol.mark = None;
        symbol.held_price = None;
        self.counters.count(Count::Rescaled);
        Ok(())
    }

    /// Adopts the exchange's quantity: opens, resizes, closes or turns the position.
    fn adopt(&mut self, book: &mut BookMut<'_>, fact: PositionFact) -> Result<(), Reason> {
        let open_qty = book.qty();
        let since_ms = book.known_ms();
        let entry = self.entry;
        // A look-up that opens a position does not count as an agreement: it confirms neither our history nor a price.
        // The next one does.
        let is_opened_by_look_up = open_qty.is_zero() && fact.looked_up;
        let change =
            |cause, delta, price| PositionChange { since_ms, ..PositionChange::new(cause, delta, price, entry) };
        book.hot.diverged = false;
        book.hot.disagreement = None;
        if !is_opened_by_look_up {
            book.hot.history_gap = false;
        }
        if Self::is_rescaled(book, fact)? {
            self.rescale(book, fact.qty)?;
            self.agreed_or_adopted(book);
            return Ok(());
        }
        let closes = fact.qty.same(Qty::ZERO, book.step_size());
        let turns = !open_qty.is_zero() && !closes && open_qty.is_negative() != fact.qty.is_negative();
        let price =
            fact.entry_price.map(|price| EntryPrice { price, source: EntrySource::Exchange, entry: self.entry });
        if !open_qty.is_zero() && (closes || turns || fact.qty.abs() < open_qty.abs()) {
            self.adopted_smaller(book);
        }
        if let Some(open) = &mut book.hot.open {
            open.entry_price_disagrees = false;
        }
        if !open_qty.is_zero() && !turns && !closes {
            let delta = fact.qty.minus(open_qty)?;
            // The stated quantity counts to the last digit. A difference that had to be rounded is ignored.
            if open_qty.plus(delta)? != fact.qty {
                return Err(Reason::OutOfRange);
            }
            self.change_open(book, change(Cause::Adoption, delta, price))?;
            self.agreed_or_adopted(book);
            return Ok(());
        }
        if !open_qty.is_zero() {
            let price = book.hot.open.as_ref().and_then(|open| open.totals.entry);
            self.close(book, change(Cause::Adoption, open_qty.negated(), price))?;
        }
        if !is_opened_by_look_up {
            self.agreed_or_adopted(book);
        }
        if closes {
            return Ok(());
        }
        self.open_as_stated(book, change(Cause::StatedOpening, fact.qty, price))
    }

    /// Opens a position of the quantity that the exchange states, with the risk fields of the latest intent.
    fn open_as_stated(&mut self, book: &mut BookMut<'_>, opening: PositionChange) -> Result<(), Reason> {
        let direction = if opening.delta.is_negative() { Direction::Short } else { Direction::Long };
        self.open(book, direction);
        let BookMut { symbol, book: of_book } = &mut *book;
        let risk = symbol
            .latest_with_risk(of_book.account, direction)
            .and_then(|intent| risk_of(intent, RiskSource::IntentNearest));
        if let Some(open) = &mut of_book.hot.open {
            open.take_risk(risk, &symbol.rescales)?;
            open.snapshot_qty = Some(opening.delta);
        }
        self.change_open(book, opening)
    }

    /// Applies an adopted smaller quantity as the outcome of requests that were never answered.
    fn adopted_smaller(&self, book: &mut Book) {
        let Some(open) = &book.hot.open else { return };
        let in_flight: Vec<Box<str>> =
            open.decisions.iter().filter(|d| d.state.is_in_flight()).map(|d| d.decision_id.clone()).collect();
        for decision_id in in_flight {
            self.apply_outcome(book, Some(&decision_id), DecisionOutcome::AdoptedSmaller, Qty::ZERO);
        }
    }

    /// Folds a trade of the exchange. The part of its order that is new passes the same rules as a part from a result.
    ///
    /// A trade that the book has already changes no quantity. Under another order id it only counts as filled for that
    /// order: some producers round long ids, and the order may report the fill itself.
    pub fn trade(&mut self, book: &mut BookMut<'_>, fact: &TradeFact) -> Result<(), Reason> {
        let is_repeated = book.has_trade(&fact.trade, self.now_ms());
        if is_repeated {
            self.counters.count(Count::FillsRepeated);
        }
        let key = match self.order_of_trade(book, fact) {
            Ok(key) => key,
            Err(_) if is_repeated => return Ok(()),
            Err(why) => {
                self.counters.count(why);
                book.hot.history_gap = true;
                return Ok(());
            }
        };
        let step = book.step_size();
        let known = book.orders.get(&key).filter(|order| !order.refused_only);
        let is_known = known.is_some();
        let is_repeated_elsewhere = is_repeated && !known.is_some_and(|order| order.has_trade(&fact.trade));
        if !is_known && !is_repeated && self.is_too_late(fact.time.ms()) && !self.is_before_opening(book, fact) {
            return Err(Reason::TooLate);
        }
        if fact.time == EventTime::Unreadable {
            self.count_unreadable_time();
            book.hot.history_gap |= !is_known && !is_repeated;
        }
        let order = self.order(book, &key);
        order.last_ms = self.entry.id.ms;
        order.refused_only = false;
        order.side = order.side.or(Some(fact.trade.side));
        let decision = order.decision_id.clone();
        let (plan_id, reduce_only) = (order.plan_id.clone(), order.reduce_only);
        let (new, priced) = order.take_trade(&fact.trade, step)?;
        let filled = order.applied();
        book.trade_index.add(&fact.trade);
        // Two orders have moved the position by the same trade if this one had its quantity before.
        book.hot.history_gap |= is_repeated_elsewhere && new.is_none();
        if let Some((part, trade)) = new.filter(|_| !is_repeated) {
            let plan = self.plan_of(plan_id.as_deref());
            let reduce_only = plan.and_then(|known| known.plan.reduce_only).or(reduce_only).unwrap_or(false);
            let time = trade.own_ms.map_or(fact.time, EventTime::At);
            let part = NewPart { key: &key, part_no: part, side: trade.side, time, trade: Some(&trade) };
            self.new_part(book, part, reduce_only, plan)?;
        }
        self.reprice(book, &key, &priced)?;
        let priced = self.order(book, &key).priced_again(step)?;
        self.reprice(book, &key, &priced)?;
        self.apply_outcome(book, decision.as_deref(), DecisionOutcome::Filled { is_final: false }, filled);
        Ok(())
    }

    /// Returns true if a trade is from before a look-up that opened the last closed position or the open one.
    fn is_before_opening(&self, book: &Book, fact: &TradeFact) -> bool {
        let positions = book.last_closed(self.now_ms()).into_iter().chain(book.hot.open.as_ref());
        let mut openings = positions.filter(|position| position.snapshot_qty.is_some());
        openings.any(|position| fact.time.ms().is_some_and(|time_ms| time_ms < position.opened.id.ms))
    }
}
