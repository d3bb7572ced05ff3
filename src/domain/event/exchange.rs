//! Facts of the exchange: positions, trades, instruments.

use serde::{Deserialize, Serialize};

use super::ids::EntryId;
use super::side::Side;
use super::time::EventTime;
use crate::domain::units::{Price, Qty, Quote};

/// A position at the exchange, as a snapshot stream or a look-up reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PositionFact {
    /// Signed. [base]
    pub qty: Qty,
    /// [quote per base]
    pub entry_price: Option<Price>,
    /// It comes from a look-up of ours (`exchange.position`), not from the snapshot stream.
    pub looked_up: bool,
}

/// One trade of an order, as the exchange reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct TradeFact {
    pub order_id: Box<str>,
    pub time: EventTime,
    pub trade: Trade,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    pub trade_id: Box<str>,
    pub order_id: Box<str>,
    pub side: Side,
    /// Positive. [base]
    pub qty: Qty,
    /// [quote per base]
    pub price: Price,
    /// Event time of the trade. [ms since 1970]
    pub own_ms: Option<u64>,
    pub entry: EntryId,
}

impl Trade {
    /// Returns true if both have the same id and side. An account that trades with itself has one id for both sides.
    pub fn is_same(&self, other: &Self) -> bool {
        self.side == other.side && self.trade_id == other.trade_id
    }
}

/// The filters of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instrument {
    /// [base]
    pub step_size: Option<Qty>,
    /// [base]
    pub qty_min: Option<Qty>,
    /// The smaller of the limits for limit and for market orders. [base]
    pub qty_max: Option<Qty>,
    /// For orders that open a position. The exchange exempts orders that only reduce. [quote]
    pub notional_min: Option<Quote>,
    pub status: Option<InstrumentStatus>,
}

/// What an entry states of the filters of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct InstrumentFact {
    /// [base]
    pub step_size: Stated<Qty>,
    /// [base]
    pub qty_min: Stated<Qty>,
    /// [base]
    pub qty_max: Stated<Qty>,
    /// [quote]
    pub notional_min: Stated<Quote>,
    pub status: Stated<InstrumentStatus>,
}

/// What an entry states of one value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Stated<T> {
    /// Nothing: the value stays.
    #[default]
    Nothing,
    /// That there is none.
    Null,
    Value(T),
}

impl<T> Stated<T> {
    /// Returns the same with its value changed.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Stated<U> {
        match self {
            Self::Nothing => Stated::Nothing,
            Self::Null => Stated::Null,
            Self::Value(value) => Stated::Value(change(value)),
        }
    }

    fn over(self, known: Option<T>) -> Option<T> {
        match self {
            Self::Nothing => known,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl Instrument {
    /// Returns the filters after an entry: a filter that it does not state stays, so that no limit is forgotten.
    #[must_use]
    pub fn with(self, fact: &InstrumentFact) -> Self {
        Self {
            step_size: fact.step_size.over(self.step_size),
            qty_min: fact.qty_min.over(self.qty_min),
            qty_max: fact.qty_max.over(self.qty_max),
            notional_min: fact.notional_min.over(self.notional_min),
            status: fact.status.over(self.status),
        }
    }
}

/// The status of an instrument: whether the exchange accepts orders for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstrumentStatus {
    Trading,
    /// Any other status: settling, halted, delisted.
    NotTrading,
}
