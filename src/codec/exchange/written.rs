//! What the feeds write, and what of it they find again after a restart.

use serde::Deserialize;
use serde_json::json;

use super::replies::MarkPrice;

/// The `source` of observations that `feed user` appends: how it knows its own after a restart.
pub const FEED_SOURCE: &str = "feed.user";

/// A mark price as the business object of a price stream.
pub fn mark_payload(mark: &MarkPrice) -> String {
    json!({"symbol": mark.symbol, "markPrice": mark.mark_price.to_string(), "timestamp": mark.time_ms}).to_string()
}

/// A trade that `feed user` appended before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenTrade {
    pub symbol: String,
    pub id: u64,
    /// The exchange's own time of it. [ms since 1970]
    pub time_ms: u64,
}

/// The trade in the fields of an observation, if it is one and the feed's own.
pub fn written_trade(fields: &[(Vec<u8>, Vec<u8>)]) -> Option<WrittenTrade> {
    #[derive(Deserialize)]
    struct Payload {
        symbol: String,
        id: String,
        time: u64,
    }
    let field = |name: &str| {
        let value = fields.iter().find(|(field, _)| field == name.as_bytes())?;
        std::str::from_utf8(&value.1).ok()
    };
    if field("event_type") != Some("exchange.trade") || field("source") != Some(FEED_SOURCE) {
        return None;
    }
    let payload: Payload = serde_json::from_str(field("payload")?).ok()?;
    let (symbol, id, time_ms) = (payload.symbol, payload.id.parse().ok()?, payload.time);
    Some(WrittenTrade { symbol, id, time_ms })
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::codec::exchange::UserTrade;
    use crate::codec::observe;
    use crate::domain::event::Side;
    use crate::domain::units::{Price, Qty};

    #[test]
    fn the_feed_finds_its_own_trades_again_and_no_others() {
        let trade = UserTrade {
            symbol: "ADAUSDT".to_owned(),
            id: 7,
            order_id: 70,
            side: Side::Sell,
            price: Price::new(Decimal::new(3002, 4)),
            qty: Qty::new(Decimal::new(662, 0)),
            time_ms: 1_770_163_395_196,
            position_side: "BOTH".to_owned(),
        };
        let observation = observe::trade(&trade);
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = observation
            .fields()
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(written_trade(&fields), None, "another source's");
        fields.push((b"source".to_vec(), FEED_SOURCE.as_bytes().to_vec()));
        let found = written_trade(&fields).unwrap();
        assert_eq!((found.symbol.as_str(), found.id, found.time_ms), ("ADAUSDT", 7, 1_770_163_395_196));
    }
}
