//! The changes of a position: parts of orders, and changes that look-ups have shown.

use serde::{Deserialize, Serialize};

use super::order::OrderKey;
use crate::domain::event::ids::EntryRef;
use crate::domain::exit::policy::EntrySource;
use crate::domain::units::{OutOfRange, Price, Qty};

/// Entry price of a position or of one of its changes, with its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPrice {
    /// [quote per base]
    pub price: Price,
    pub source: EntrySource,
    pub entry: EntryRef,
}

/// The cause of a change in quantity or entry price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A part of an order; `part` counts the parts of the order.
    Fill { order: OrderKey, part: u32 },
    /// A quantity that the exchange stated, in a snapshot or look-up, opened the position.
    StatedOpening,
    /// A part of an order, from a trade before the opening by a stated quantity, explains that opening.
    Explained { order: Box<str>, part: u32 },
    /// The exchange's quantity was adopted after it had disagreed twice.
    Adoption,
    /// Only the entry price changed.
    EntrySet,
}

/// One step in the life of a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionChange {
    pub cause: Cause,
    /// Signed change of the quantity. [base]
    pub delta: Qty,
    pub price: Option<EntryPrice>,
    pub entry: EntryRef,
    /// Fills that came after the look-up that had already shown them.
    pub late_fills: Vec<LateFill>,
    /// Time of the last fill, confirmation or other change of the book before a look-up changed it. [ms since 1970]
    pub since_ms: u64,
}

/// A part of an order that a look-up had shown before its result came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateFill {
    pub order: OrderKey,
    pub part: u32,
    /// Positive. [base]
    pub qty: Qty,
    /// [quote per base]
    pub price: Option<Price>,
    pub entry: EntryRef,
}

impl PositionChange {
    pub fn new(cause: Cause, delta: Qty, price: Option<EntryPrice>, entry: EntryRef) -> Self {
        Self { cause, delta, price, entry, late_fills: Vec::new(), since_ms: 0 }
    }

    /// Returns true if the exchange showed this change before any fill reported it.
    pub fn is_looked_up(&self) -> bool {
        match self.cause {
            Cause::StatedOpening | Cause::Adoption => true,
            Cause::Fill { .. } | Cause::Explained { .. } | Cause::EntrySet => false,
        }
    }

    /// Returns the signed quantity that no fill has explained yet. [base]
    pub fn unexplained(&self) -> Result<Qty, OutOfRange> {
        let fill = self.late_fills.iter().try_fold(Qty::ZERO, |sum, fill| sum.plus(fill.qty))?;
        if self.delta.is_negative() { self.delta.plus(fill) } else { self.delta.minus(fill) }
    }

    /// Returns the quantities of the change, positive, each with its price.
    pub(super) fn pieces(&self) -> Result<Vec<(Qty, Option<EntryPrice>)>, OutOfRange> {
        let of_fill = |fill: &LateFill| {
            let price = fill.price.map(|price| EntryPrice { price, source: EntrySource::Fill, entry: fill.entry });
            (fill.qty, price.or(self.price))
        };
        let mut pieces: Vec<_> = self.late_fills.iter().map(of_fill).collect();
        let unexplained = self.unexplained()?.abs();
        if !unexplained.is_zero() {
            pieces.push((unexplained, self.price));
        }
        Ok(pieces)
    }

    /// Returns the price, if it is the price of a trade.
    pub(super) fn real_price(&self) -> Option<Price> {
        self.price.filter(|p| p.source == EntrySource::Fill).map(|p| p.price)
    }
}
