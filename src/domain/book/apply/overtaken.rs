//! Overtaken fills: a look-up has already shown the quantity that a later result or trade reports (docs/spec/fold.md,
//! "Overtaken fills"). Every new part of an order passes this rule, whatever brings it.
//!
//! Promises: a quantity that the exchange has shown is not added a second time, and a fill in doubt is flagged.

use super::BookFold;
use crate::domain::book::change::{Cause, LateFill};
use crate::domain::book::counters::Count;
use crate::domain::book::order::OrderKey;
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::position::{ExplainingTrade, Position};
use crate::domain::book::state::Book;
use crate::domain::book::view::BookMut;
use crate::domain::event::ids::EntryRef;
use crate::domain::event::{Direction, EventTime, Reason, Trade};
use crate::domain::units::{OutOfRange, Price, Qty};

/// How far the clocks of the exchange and of the server may be apart. [ms]
const CLOCK_SLACK_MS: u64 = 2_000;

/// A part of an order as a fill reports it.
#[derive(Clone, Copy)]
pub(super) struct ReportedPart<'a> {
    pub key: &'a OrderKey,
    pub part_no: u32,
    /// Signed. [base]
    pub delta: Qty,
    /// [quote per base]
    pub price: Option<Price>,
    pub time: EventTime,
    /// The trade that brings it, with its quantity. Trades explain an opening by a stated quantity together, results
    /// one by one.
    pub trade: Option<&'a Trade>,
}

/// The effect of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// It moves the position.
    Add,
    /// Its quantity is already in the position.
    Contained,
}

/// A change of quantity by a look-up. It has two sides where the quantity crossed zero.
struct LookedUp {
    at: EntryRef,
    /// Time of the last confirmation of the book before it. [ms since 1970]
    since_ms: u64,
    parts: Vec<Moved>,
}

/// One side of such a change.
#[derive(Clone, Copy)]
struct Moved {
    of: Of,
    /// Index of the change in its position.
    change: usize,
    /// The part that no fill has explained yet, signed, in the unit that the contract had then. [base]
    unexplained: Qty,
    opens: bool,
    /// The exchange's entry price, in the same unit. [quote per base]
    price: Option<Price>,
}

/// The position that was changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    LastClosed,
    Open,
}

impl BookFold<'_> {
    /// Determines whether a fill moves the position or is already part of it, and lets it explain what a look-up has
    /// shown. The first rule that applies counts:
    ///
    /// 1. Without an event time it moves the position, flagged if a look-up has shown what it could explain.
    /// 2. It explains the change of a look-up, as far as its quantity, time and price fit.
    /// 3. A trade explains both sides of an adoption across zero.
    /// 4. A trade from before an opening by a stated quantity explains that opening, together with others.
    /// 5. Long before the last look-up, or before the opening after a closed position, the position contains it:
    ///    flagged.
    /// 6. Else it moves the position, flagged if it is near a look-up or before an agreement.
    pub(super) fn place_fill(
        &mut self,
        book: &mut BookMut<'_>,
        reported: ReportedPart<'_>,
        plan: Option<&KnownPlan>,
    ) -> Result<Placement, Reason> {
        let moves = self.looked_up_moves(book)?;
        let former = book.last_closed(self.now_ms());
        // Rule 1.
        let EventTime::At(time_ms) = reported.time else {
            book.hot.history_gap |= is_any_unexplained(&moves, reported.delta);
            return Ok(Placement::Add);
        };
        let is_explaining_opening = |found: &&LookedUp| reported.trade.is_some() && found.opens_after(time_ms);
        let is_candidate = |found: &&LookedUp| {
            let is_seen = found.at.id.ms.saturating_add(CLOCK_SLACK_MS) >= time_ms;
            let is_unexplained = found.unexplained(reported).is_ok_and(|unexplained| !unexplained.is_zero());
            is_seen && is_unexplained || is_explaining_opening(found)
        };
        // Rule 2.
        if let Some(found) = moves.iter().find(is_candidate)
            && self.can_explain(found, reported, time_ms)?
        {
            self.add_late_fill(book, found, reported, plan)?;
            self.counters.count(Count::FillsOvertaken);
            return Ok(Placement::Contained);
        }
        // Rule 3.
        if let Some(trade) = reported.trade
            && let Some(found) = moves.iter().find(is_candidate)
            && let Some((closed, rest)) = found.across_zero(reported, time_ms)?
        {
            let Some(order) = book.orders.get_mut(reported.key) else { return Ok(Placement::Contained) };
            let part = order.split_last(closed.abs())?;
            self.add_late_fill(book, found, ReportedPart { delta: closed, ..reported }, plan)?;
            self.explain_by_trade(book, found, part, &Trade { qty: rest, ..trade.clone() })?;
            self.counters.count(Count::FillsOvertaken);
            return Ok(Placement::Contained);
        }
        // Rule 4.
        if let Some(trade) = reported.trade
            && let Some(opened) = moves.iter().find(is_explaining_opening)
        {
            self.explain_by_trade(book, opened, reported.part_no, trade)?;
            return Ok(Placement::Contained);
        }
        // Rule 5. A further part of an order that the open position contains belongs to that position, whatever its
        // event time.
        let last_ms = moves.last().map(|last| last.at.id.ms);
        let open = book.hot.open.as_ref().filter(|open| !open.has_order(reported.key));
        let opened_ms = open.filter(|_| former.is_some()).map(|open| open.opened.id.ms);
        let is_long_before = |ms: u64| time_ms.saturating_add(self.policy.snapshot_settle_ms) < ms;
        let has_former = moves.iter().flat_map(|found| &found.parts).any(|part| part.of == Of::LastClosed);
        if last_ms.is_some_and(is_long_before) || (!has_former && opened_ms.is_some_and(is_long_before)) {
            self.counters.count(Count::FillsContained);
            book.hot.history_gap = true;
            return Ok(Placement::Contained);
        }
        // Rule 6.
        let is_near_look_up = last_ms.is_some_and(|ms| time_ms <= ms.saturating_add(CLOCK_SLACK_MS));
        let agreed = book.hot.agreed;
        let is_before_agreement = agreed.is_some_and(|agreed| time_ms.saturating_add(CLOCK_SLACK_MS) < agreed.ms);
        book.hot.history_gap |= is_near_look_up || is_before_agreement || is_any_unexplained(&moves, reported.delta);
        Ok(Placement::Add)
    }

    /// Returns the changes by look-ups of the last closed position and of the open one, oldest first.
    fn looked_up_moves(&self, book: &Book) -> Result<Vec<LookedUp>, OutOfRange> {
        let mut moves: Vec<LookedUp> = Vec::new();
        let positions = [(Of::LastClosed, book.last_closed(self.now_ms())), (Of::Open, book.hot.open.as_ref())];
        for (of, position) in positions {
            let Some(position) = position else { continue };
            for found in moves_of(of, position)? {
                match moves.last_mut().filter(|last| last.at == found.at) {
                    Some(last) => last.parts.extend(found.parts),
                    None => moves.push(found),
                }
            }
        }
        Ok(moves)
    }

    /// Returns true if a fill can explain a change that a look-up has shown. Its price has to be near that of the part
    /// that opens, if it reaches that part: the part that closes is explained first.
    fn can_explain(&self, found: &LookedUp, reported: ReportedPart<'_>, time_ms: u64) -> Result<bool, OutOfRange> {
        let size = reported.delta.abs();
        let closing = found.parts_for(reported).filter(|part| !part.opens);
        let closed = closing.map(|part| part.unexplained).try_fold(Qty::ZERO, Qty::plus)?;
        let opening = found.parts_for(reported).find(|part| part.opens && size > closed.abs());
        let is_near = match (reported.price, opening.and_then(|part| part.price)) {
            (Some(price), Some(opening)) => price.is_near(opening, self.policy.max_price_jump)?,
            _ => true,
        };
        Ok(size <= found.unexplained(reported)?.abs() && time_ms >= found.since_ms && is_near)
    }

    /// Gives the parts that a fill explains its order and price. Quantities do not change.
    fn add_late_fill(
        &self,
        book: &mut BookMut<'_>,
        found: &LookedUp,
        reported: ReportedPart<'_>,
        plan: Option<&KnownPlan>,
    ) -> Result<(), Reason> {
        let step = book.step_size();
        let ReportedPart { key, part_no: mut of_order, price, .. } = reported;
        let mut rest = reported.delta.abs();
        for part in found.parts_for(reported) {
            let qty = rest.min(part.unexplained.abs());
            if !qty.is_positive() {
                continue;
            }
            rest = rest.minus(qty)?;
            let direction = if part.unexplained.is_negative() { Direction::Short } else { Direction::Long };
            let risk = self.risk_as_of(book.view(), direction, plan, found.at.id.ms).filter(|_| part.opens);
            let rescales = if risk.is_some() { book.symbol.rescales.clone() } else { Vec::new() };
            let fill = LateFill { order: key.clone(), part: of_order, qty, price, entry: self.entry };
            if let Some(position) = position_mut(book, part.of)
                && position.add_late_fill(part.change, fill, step)?
                && risk.is_some()
            {
                position.take_risk(risk, &rescales)?;
            }
            if let Some(order) = book.orders.get_mut(key).filter(|_| rest.is_positive()) {
                of_order = order.split_last(qty)?;
            }
        }
        Ok(())
    }

    /// Lets a trade from before an opening by a stated quantity explain it, together with the others. No quantity
    /// changes.
    fn explain_by_trade(
        &self,
        book: &mut BookMut<'_>,
        opened: &LookedUp,
        part: u32,
        trade: &Trade,
    ) -> Result<(), Reason> {
        let step = book.step_size();
        let Some(of) = opened.parts.iter().find(|part| part.opens).map(|part| part.of) else { return Ok(()) };
        let Some(position) = position_mut(book, of) else { return Ok(()) };
        let direction = position.direction;
        let explaining = ExplainingTrade { trade: trade.clone(), part };
        let Some(began) = position.explain(explaining, step)? else { return Ok(()) };
        let began_ms = began.own_ms.unwrap_or(opened.at.id.ms);
        let orders = book.orders_of_id(&began.order_id).map(|(_, order)| order);
        let of_side = orders.filter(|order| order.side.is_none_or(|side| side == began.side));
        let plan = of_side.last().and_then(|order| self.plan_of(order.plan_id.as_deref()));
        let risk = self.risk_as_of(book.view(), direction, plan, began_ms);
        let rescales = book.symbol.rescales.clone();
        if let (Some(position), Some(risk)) = (position_mut(book, of), risk) {
            position.take_risk(Some(risk), &rescales)?;
        }
        Ok(())
    }
}

/// Returns the changes by look-ups of a position. An opening that trades have explained is one of them, with nothing
/// left to explain.
fn moves_of(of: Of, position: &Position) -> Result<Vec<LookedUp>, OutOfRange> {
    let mut moves = Vec::new();
    let is_explained = position.changes.iter().all(|change| change.cause != Cause::StatedOpening);
    if position.snapshot_qty.is_some() && is_explained {
        let opening = Moved { of, change: 0, unexplained: Qty::ZERO, opens: true, price: None };
        moves.push(LookedUp { at: position.opened, since_ms: 0, parts: vec![opening] });
    }
    for (place, change) in position.changes.iter().enumerate().filter(|(_, change)| change.is_looked_up()) {
        let stated = change.price.map(|price| price.price);
        let (unexplained, price) = position.in_unit_of(place, change.unexplained()?, stated)?;
        let part = Moved { of, change: place, unexplained, opens: change.cause == Cause::StatedOpening, price };
        moves.push(LookedUp { at: change.entry, since_ms: change.since_ms, parts: vec![part] });
    }
    Ok(moves)
}

fn position_mut(book: &mut Book, of: Of) -> Option<&mut Position> {
    match of {
        Of::LastClosed => book.closed.last_mut(),
        Of::Open => book.hot.open.as_mut(),
    }
}

impl LookedUp {
    /// Returns true if a look-up opened a position, and an event time is before it.
    fn opens_after(&self, time_ms: u64) -> bool {
        time_ms < self.at.id.ms && self.parts.iter().any(|part| part.opens)
    }

    /// Returns the quantities by which a trade from before an adoption across zero explains it, if it explains both
    /// sides: the part that closes, signed, and the rest, which explains the opening with the other trades. [base]
    fn across_zero(&self, reported: ReportedPart<'_>, time_ms: u64) -> Result<Option<(Qty, Qty)>, OutOfRange> {
        let closed = self.unexplained(reported)?;
        let opening = self.parts.iter().find(|part| part.opens && part.is_unexplained_in(reported.delta));
        let Some(opening) = opening.filter(|_| !closed.is_zero() && self.opens_after(time_ms)) else { return Ok(None) };
        let rest = reported.delta.abs().minus(closed.abs())?;
        let explains = time_ms >= self.since_ms && rest.is_positive() && rest <= opening.unexplained.abs();
        Ok(explains.then_some((closed, rest)))
    }

    /// Returns the parts that a fill can explain: those in its direction and, for results, also the opening.
    fn parts_for(&self, reported: ReportedPart<'_>) -> impl Iterator<Item = Moved> {
        let is_explained_by =
            move |part: &Moved| part.is_unexplained_in(reported.delta) && (reported.trade.is_none() || !part.opens);
        self.parts.iter().copied().filter(is_explained_by)
    }

    /// Returns the part that the fill can explain, signed. [base]
    fn unexplained(&self, reported: ReportedPart<'_>) -> Result<Qty, OutOfRange> {
        self.parts_for(reported).try_fold(Qty::ZERO, |sum, part| sum.plus(part.unexplained))
    }
}

impl Moved {
    fn is_unexplained_in(&self, direction: Qty) -> bool {
        !self.unexplained.is_zero() && self.unexplained.is_negative() == direction.is_negative()
    }
}

fn is_any_unexplained(moves: &[LookedUp], direction: Qty) -> bool {
    moves.iter().flat_map(|found| &found.parts).any(|part| part.is_unexplained_in(direction))
}
