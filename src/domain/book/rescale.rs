//! Rescales: the contract gets another unit.

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::EntryRef;
use crate::domain::units::{OutOfRange, Price, Qty, Ratio};

/// One rescale of a contract: quantities are multiplied by `to` / `from`, prices are divided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescale {
    /// Signed quantity of the position before. [base]
    pub from: Qty,
    /// Signed quantity of the position after. [base]
    pub to: Qty,
    /// Number of changes before it. [1]
    pub changes: usize,
    pub entry: EntryRef,
}

impl Rescale {
    /// Returns true if another rescale multiplies by the same factor, within 1 %.
    pub fn is_like(&self, other: &Self) -> Result<bool, OutOfRange> {
        let (ours, theirs) = (self.to.ratio(self.from)?, other.to.ratio(other.from)?);
        Price::new(ours.get()).is_near(Price::new(theirs.get()), Ratio::PERCENT)
    }

    /// Returns the rescale back to the old unit.
    pub(super) fn inverse(&self) -> Self {
        Self { from: self.to, to: self.from, ..*self }
    }

    /// Returns a quantity in the new unit. The division comes last, so that an even result is exact. [base]
    pub(super) fn qty(&self, qty: Qty) -> Result<Qty, OutOfRange> {
        qty.times(Ratio::new(self.to.get()))?.over(Ratio::new(self.from.get()))
    }

    /// Returns a price in the new unit. [quote per base]
    pub(super) fn price(&self, price: Price) -> Result<Price, OutOfRange> {
        price.times(Ratio::new(self.from.get()))?.over(Ratio::new(self.to.get()))
    }
}
