//! Prices that entries report.

use serde::{Deserialize, Serialize};

use super::ids::StreamId;
use super::streams::StreamKind;
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

impl PriceSource {
    /// Names of the sources that are no streams.
    pub const REDIS_TICKER: &str = "redis_ticker";
    pub const REDIS_MARKET: &str = "redis_market";
    pub const API: &str = "api";

    /// Returns true if a stream of a kind reports its prices.
    pub fn is_of(self, stream: StreamId, kind: StreamKind) -> bool {
        match self {
            Self::Stream(own) => own == stream,
            Self::RedisTicker | Self::RedisMarket | Self::Api => kind == StreamKind::Observation,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceFact {
    pub price: Price,
    pub source: PriceSource,
    /// Event time of the price. Always absent for `close` shapes.
    pub time: EventTime,
}
