//! Results: reports of executors about orders.

use super::side::{PositionSide, Side};
use super::time::EventTime;
use crate::domain::units::{Price, Qty};

/// An execution, an acceptance or a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultFact {
    pub plan_id: Option<Box<str>>,
    pub time: EventTime,
    pub outcome: Outcome,
}

/// The report of an executor about its orders.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Fills, one per order named in the entry; never empty.
    Fills(Vec<FillFact>),
    /// The order is at the exchange. It has filled nothing yet.
    Accepted { order: NamedOrder },
    /// The order was not placed, or was ended without a fill.
    Refused {
        order: NamedOrder,
        /// `duplicate_plan`: it reports nothing about the order.
        duplicate: bool,
        /// Refused for good. A retry is useless.
        permanent: bool,
    },
}

/// An order, as an entry that filled nothing names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedOrder {
    pub order_id: Option<Box<str>>,
    pub side: Option<Side>,
    pub reduce_only: Option<bool>,
}

/// The cumulative fill of one order.
#[derive(Clone, Debug, PartialEq)]
pub struct FillFact {
    pub order_id: Option<Box<str>>,
    pub side: Option<Side>,
    /// The position side that it names.
    pub position_side: Option<PositionSide>,
    pub reduce_only: Option<bool>,
    /// The action, or the step, contains CLOSE.
    pub closes: bool,
    /// Filled by the order so far, positive. [base]
    pub cumulative: Qty,
    /// Average price of the cumulative quantity. [quote per base]
    pub average: Option<Price>,
    /// The order will not fill any further.
    pub is_final: bool,
    /// The ordered quantity, where its status reports that all of it was filled. [base]
    pub ordered: Option<Qty>,
}
