//! The totals of a position: the sum of its changes.

use serde::{Deserialize, Serialize};

use super::change::{Cause, EntryPrice, PositionChange};
use crate::domain::exit::policy::EntrySource;
use crate::domain::units::{OutOfRange, Price, Qty, Quote};

/// The sum of the changes of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionTotals {
    /// Signed. [base]
    pub qty: Qty,
    /// Largest |qty| so far. [base]
    pub qty_largest: Qty,
    pub entry: Option<EntryPrice>,
    /// Cost of the open quantity. It is kept so that an average is divided only once. [quote]
    pub cost: Option<Quote>,
    /// Unknown for good after a reduction without a traded price or without an entry price. [quote]
    pub realized: Option<Quote>,
}

impl PositionTotals {
    pub const START: Self =
        Self { qty: Qty::ZERO, qty_largest: Qty::ZERO, entry: None, cost: None, realized: Some(Quote::ZERO) };

    /// Returns the totals after one more change.
    ///
    /// Entry price of an addition: average by quantity, with the weakest source of its parts; missing if one part is
    /// missing. Realised pnl of a reduction: closed qty × (price − entry) × sign (docs/spec/fold.md, "Realised pnl").
    /// Errors if a total is out of range.
    pub fn after(&self, change: &PositionChange) -> Result<Self, OutOfRange> {
        let mut next = *self;
        match change.cause {
            Cause::EntrySet => {
                let weaker = match change.price.map(|price| price.source) {
                    // A price of an old hash only replaces a missing one.
                    Some(EntrySource::Legacy) => self.entry.is_none(),
                    Some(EntrySource::Intent | EntrySource::Plan | EntrySource::Exchange | EntrySource::Fill)
                    | None => self.entry.is_none_or(|known| known.source < EntrySource::Fill),
                };
                if weaker {
                    next.entry = change.price;
                    next.cost = next.cost_of_entry()?;
                }
                return Ok(next);
            }
            Cause::Adoption => {
                next.qty = self.qty.plus(change.delta)?;
                next.entry = change.price;
                next.cost = next.cost_of_entry()?;
                if next.qty.abs() < self.qty.abs() {
                    next.realized = self.realized_by_late_fills(change)?;
                }
            }
            Cause::Fill { .. } | Cause::StatedOpening | Cause::Explained { .. } => {
                next.qty = self.qty.plus(change.delta)?;
                let increases = self.qty.is_zero() || self.qty.is_negative() == change.delta.is_negative();
                if increases {
                    (next.entry, next.cost) = self.averaged(change)?;
                } else {
                    next.realized = self.realized_after(change.delta, change.real_price())?;
                    next.cost = next.cost_of_entry()?;
                }
            }
        }
        next.qty_largest = self.qty_largest.max(next.qty.abs());
        Ok(next)
    }

    /// Returns entry price and cost after an addition.
    fn averaged(&self, change: &PositionChange) -> Result<(Option<EntryPrice>, Option<Quote>), OutOfRange> {
        let mut sum = match (self.qty.is_zero(), self.entry, self.cost) {
            (true, ..) => None,
            (false, Some(entry), Some(cost)) => Some((self.qty.abs(), entry, cost)),
            (false, ..) => return Ok((None, None)),
        };
        for (qty, price) in change.pieces()? {
            let Some(added) = price else { return Ok((None, None)) };
            let added_cost = added.price.for_qty(qty)?;
            sum = Some(match sum {
                None => (qty, added, added_cost),
                Some((before, entry, cost)) => {
                    let (after, cost) = (before.plus(qty)?, cost.plus(added_cost)?);
                    let source = entry.source.min(added.source);
                    (after, EntryPrice { price: cost.per(after)?, source, entry: added.entry }, cost)
                }
            });
        }
        Ok(sum.map_or((None, None), |(_, entry, cost)| (Some(entry), Some(cost))))
    }

    fn cost_of_entry(&self) -> Result<Option<Quote>, OutOfRange> {
        self.entry.map(|entry| entry.price.for_qty(self.qty.abs())).transpose()
    }

    /// Returns the realised profit after a reduction: unknown without a traded price or an entry price. [quote]
    fn realized_after(&self, delta: Qty, price: Option<Price>) -> Result<Option<Quote>, OutOfRange> {
        let (Some(realized), Some(price), Some(entry)) = (self.realized, price, self.entry) else { return Ok(None) };
        // The delta has the opposite sign of the position: −delta × (price − entry) has the sign of the profit.
        let gain = price.minus(entry.price)?.for_qty(delta.negated())?;
        Ok(Some(realized.plus(gain)?))
    }

    /// Returns the realised profit after a smaller quantity was adopted: known where priced fills explain all of it.
    /// [quote]
    fn realized_by_late_fills(&self, change: &PositionChange) -> Result<Option<Quote>, OutOfRange> {
        if change.late_fills.is_empty() || !change.unexplained()?.is_zero() {
            return Ok(None);
        }
        let mut after = *self;
        for fill in &change.late_fills {
            let delta = if change.delta.is_negative() { fill.qty.negated() } else { fill.qty };
            after.realized = after.realized_after(delta, fill.price)?;
        }
        Ok(after.realized)
    }
}
