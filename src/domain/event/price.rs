//! Prices that entries report.

use serde::{Deserialize, Serialize};

use super::ids::StreamId;
use super::time::EventTime;
use crate::domain::units::Price;

/// The source of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriceSource {
    /// A stream. Its short name is the name of the source.
    Stream(StreamId),
    RedisTicker,
    RedisMarket,
    Api,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceFact {
    pub price: Price,
    pub source: PriceSource,
    /// Event time of the price. Always absent for `close` shapes.
    pub time: EventTime,
}
