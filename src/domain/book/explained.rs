//! Late fills: they explain a quantity that a look-up has already shown. A result explains one part; the trades from
//! before an opening explain it together (docs/spec/fold.md, "Trades that explain an opening", "Explained").
//!
//! Promise: no quantity changes.

use super::change::{Cause, EntryPrice, LateFill, PositionChange};
use super::position::{ExplainingTrade, Position};
use crate::domain::event::Trade;
use crate::domain::event::ids::EntryRef;
use crate::domain::event::streams::StreamKind;
use crate::domain::exit::policy::EntrySource;
use crate::domain::units::{OutOfRange, Qty};

impl Position {
    /// Remembers a trade from before the opening by a stated quantity. See `explain_opening`.
    pub fn explain(&mut self, mut new: ExplainingTrade, step: Option<Qty>) -> Result<Option<Trade>, OutOfRange> {
        let trade = &mut new.trade;
        if self.explaining.iter().any(|known| known.trade.is_same(trade)) {
            return Ok(None);
        }
        for rescale in &self.rescales {
            (trade.qty, trade.price) = (rescale.qty(trade.qty)?, rescale.price(trade.price)?);
        }
        self.explaining.push(new);
        let sort_key = |t: &ExplainingTrade| (t.trade.own_ms, trade_number(&t.trade));
        self.explaining.sort_by(|a, b| (sort_key(a), &a.trade.trade_id).cmp(&(sort_key(b), &b.trade.trade_id)));
        self.dirty.0 = true;
        self.explain_opening(step)
    }

    /// Replaces the part of the opening by a stated quantity that no result has explained by the trades before it,
    /// once they add up to it. Returns the first of them, if they are the first to explain anything of it.
    fn explain_opening(&mut self, step: Option<Qty>) -> Result<Option<Trade>, OutOfRange> {
        let mut unexplained = Qty::ZERO;
        for change in &self.changes {
            unexplained = match change.cause {
                Cause::StatedOpening => unexplained.plus(change.unexplained()?)?,
                Cause::Explained { .. } => unexplained.plus(change.delta)?,
                Cause::Fill { .. } | Cause::Adoption | Cause::EntrySet => unexplained,
            };
        }
        // Only trades after the quantity was last zero belong to this position; of one that crossed zero, the rest.
        let mut sum = Qty::ZERO;
        let mut explained: Vec<PositionChange> = Vec::new();
        let mut began = None;
        for ExplainingTrade { trade, part } in &self.explaining {
            let signed = trade.side.opens().signed(trade.qty);
            let next = sum.plus(signed)?;
            let crosses = !sum.is_zero() && sum.is_negative() != next.is_negative();
            if next.is_zero() || crosses {
                explained.clear();
            }
            sum = next;
            if next.is_zero() {
                continue;
            }
            if explained.is_empty() {
                began = Some(trade);
            }
            let entry = EntryRef::new(StreamKind::Observation, trade.entry);
            let price = Some(EntryPrice { price: trade.price, source: EntrySource::Fill, entry });
            let cause = Cause::Explained { order: trade.order_id.clone(), part: *part };
            explained.push(PositionChange::new(cause, if crosses { next } else { signed }, price, entry));
        }
        if explained.is_empty() || unexplained.is_zero() || !sum.same(unexplained, step) {
            return Ok(None);
        }
        let began = began.cloned();
        self.replace_opening(explained)?;
        let is_first = self.changes.iter().all(|change| change.cause != Cause::StatedOpening);
        Ok(began.filter(|_| is_first))
    }

    /// Puts trades in the place of the part of the opening by a stated quantity that no result has explained.
    fn replace_opening(&mut self, explained: Vec<PositionChange>) -> Result<(), OutOfRange> {
        let changes_before = self.changes.len();
        let mut changes: Vec<PositionChange> = Vec::new();
        for mut change in std::mem::take(&mut self.changes) {
            match change.cause {
                Cause::StatedOpening => {
                    change.delta = change.delta.minus(change.unexplained()?)?;
                    changes.extend((!change.delta.is_zero()).then_some(change));
                }
                Cause::Explained { .. } => {}
                Cause::Fill { .. } | Cause::Adoption | Cause::EntrySet => changes.push(change),
            }
        }
        let opening = changes.first().is_some_and(|change| change.cause == Cause::StatedOpening);
        changes.splice(usize::from(opening)..usize::from(opening), explained);
        for rescale in &mut self.rescales {
            rescale.changes = rescale.changes + changes.len() - changes_before;
        }
        self.changes = changes;
        self.refold()
    }

    /// Lets a fill explain a part of a change that a look-up had shown. Returns true if it is the first to explain an
    /// opening. The quantity of the fill is in the unit that the contract had at that change.
    ///
    /// On an error the position is left half changed, and the caller restores it.
    pub fn add_late_fill(&mut self, place: usize, mut fill: LateFill, step: Option<Qty>) -> Result<bool, OutOfRange> {
        for rescale in self.rescales.iter().filter(|rescale| place < rescale.changes) {
            fill.qty = rescale.qty(fill.qty)?;
            fill.price = fill.price.map(|price| rescale.price(price)).transpose()?;
        }
        let change = &mut self.changes[place];
        let is_first = change.cause == Cause::StatedOpening && change.late_fills.is_empty();
        change.late_fills.push(fill);
        self.refold()?;
        self.explain_opening(step)?;
        Ok(is_first)
    }
}

/// Returns a trade id as a number. Trade ids are numbers at the exchange: 9 sorts before 10. Other ids sort as text
/// after the numbers.
fn trade_number(trade: &Trade) -> u64 {
    trade.trade_id.parse().unwrap_or(u64::MAX)
}
