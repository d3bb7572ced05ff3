//! The facts that a venue reports, in our words.

use crate::domain::event::{PositionSide, Side};
use crate::domain::named;
use crate::domain::units::{Price, Qty, Quote};

/// Longest message of the exchange that is kept. [characters]
pub(super) const MESSAGE_MAX: usize = 200;

/// Why a reply could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    /// Creates an error with a message on one line of bounded length, because it may quote any text of the exchange.
    pub fn new(what: String) -> Self {
        Self(shortened(&what))
    }
}

/// A mark price, as the exchange computed it.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkPrice {
    pub symbol: String,
    /// [quote per base]
    pub mark_price: Price,
    /// Event time of the price at the exchange. [ms since 1970]
    pub time_ms: u64,
}

/// A position at the exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionRow {
    pub symbol: String,
    /// Signed, negative for a short. [base]
    pub position_amt: Qty,
    /// `None` if the exchange reports 0. [quote per base]
    pub entry_price: Option<Price>,
    /// `BOTH` in one-way accounts. `LONG` and `SHORT` mean hedge mode.
    pub position_side: PositionSide,
    /// Last change at the exchange. `None` if the exchange reports 0. [ms since 1970]
    pub updated_ms: Option<u64>,
}

impl PositionRow {
    /// Returns the row of a symbol without a position.
    pub fn flat(symbol: &str, position_side: PositionSide) -> Self {
        let symbol = symbol.to_owned();
        Self { symbol, position_amt: Qty::ZERO, entry_price: None, position_side, updated_ms: None }
    }
}

/// One filled part of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct UserTrade {
    pub symbol: String,
    /// Counts up within a symbol.
    pub id: u64,
    pub order_id: u64,
    pub side: Side,
    /// [quote per base]
    pub price: Price,
    /// [base]
    pub qty: Qty,
    /// [ms since 1970]
    pub time_ms: u64,
    pub position_side: PositionSide,
}

named! {
    /// The position mode of an account.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum AccountMode {
        /// One position per symbol.
        OneWay => "one-way",
        /// Two positions per symbol, LONG and SHORT: dual-side, or hedge mode.
        Hedge => "hedge (dual-side)",
    }
}

/// Filters of an instrument. `None` if the exchange states none.
#[derive(Clone, Debug, PartialEq)]
pub struct InstrumentRow {
    pub symbol: String,
    /// `TRADING`, `SETTLING`, `CLOSE` …
    pub status: Option<String>,
    /// Of market orders where stated, or else of limit orders. [base]
    pub step_size: Option<Qty>,
    /// Of market orders where stated, or else of limit orders. [base]
    pub min_qty: Option<Qty>,
    /// The smaller one of market and limit orders. A larger order is refused. [base]
    pub max_qty: Option<Qty>,
    /// [quote]
    pub min_notional: Option<Quote>,
}

/// Mark prices, and the rows that could not be read: a missing price gives its own position a hold, and must not affect
/// the others.
pub type Marks = (Vec<MarkPrice>, Vec<Unreadable>);

/// An event of the account's stream.
#[derive(Clone, Debug, PartialEq)]
pub enum UserEvent {
    /// A part of an order was filled.
    Trade { trade: UserTrade, forced: Option<Forced> },
    /// Positions changed: each with its present quantity.
    Positions(Vec<PositionRow>),
    /// The key of the socket is no longer valid, and no further event will come.
    KeyExpired,
    /// An event that no rule uses, by its name.
    Other(String),
}

named! {
    /// Why the exchange filled an order that the account did not send.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Forced {
        Liquidation => "liquidation",
        AutoDeleveraging => "auto_deleveraging",
        /// The contract was settled, or delisted.
        Settlement => "settlement",
    }
}

/// Returns a text of the exchange on one line of bounded length.
pub(super) fn shortened(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect();
    one_line.trim().to_owned()
}
