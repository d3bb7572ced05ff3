//! Entries that the feeds write, and how the feeds recognise them after a restart.

use serde::Deserialize;
use serde_json::json;

use super::facts::MarkPrice;
use super::number::{Name, Number};

/// The `source` of observations that `feed user` appends. By it the feed recognises its own after a restart.
pub const FEED_SOURCE: &str = "feed.user";

/// Returns a mark price as the business object of a price stream.
pub fn mark_payload(mark: &MarkPrice) -> String {
    json!({"symbol": mark.symbol, "markPrice": mark.mark_price.to_string(), "timestamp": mark.time_ms}).to_string()
}

/// A trade that `feed user` appended earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenTrade {
    pub symbol: String,
    pub id: u64,
    /// Event time of the trade at the exchange. [ms since 1970]
    pub time_ms: u64,
}

/// Returns the trade in the fields of an observation, if it is a trade that the feed wrote for an account.
pub fn written_trade(account: &str, fields: &[(Vec<u8>, Vec<u8>)]) -> Option<WrittenTrade> {
    #[derive(Deserialize)]
    struct Payload {
        symbol: Name,
        #[serde(default)]
        account: String,
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
    if payload.account != account {
        return None;
    }
    // The exchange gives no such id, so it is not a trade of ours.
    let id = payload.id.parse().ok().filter(|id: &u64| i64::try_from(*id).is_ok())?;
    let (symbol, time_ms) = (payload.symbol.0, payload.time);
    Some(WrittenTrade { symbol, id, time_ms })
}

/// Returns the symbol of an observed position of an account, and true if it is open. Returns `None` if the fields are
/// not one.
pub fn observed_position(account: &str, fields: &[(Vec<u8>, Vec<u8>)]) -> Option<(String, bool)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        symbol: Name,
        #[serde(default)]
        account: String,
        position_amt: Number,
    }
    let field = |name: &str| {
        let value = fields.iter().find(|(field, _)| field == name.as_bytes())?;
        std::str::from_utf8(&value.1).ok()
    };
    if field("event_type") != Some("exchange.position") {
        return None;
    }
    let payload: Payload = serde_json::from_str(field("payload")?).ok()?;
    (payload.account == account).then(|| (payload.symbol.0, !payload.position_amt.0.is_zero()))
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::super::{PositionRow, UserTrade};
    use super::*;
    use crate::codec::observe;
    use crate::domain::event::{PositionSide, Side};
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
            position_side: PositionSide::Both,
        };
        let observation = observe::trade(&trade);
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = observation
            .fields()
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(written_trade("", &fields), None, "another source's");
        fields.push((b"source".to_vec(), FEED_SOURCE.as_bytes().to_vec()));
        let found = written_trade("", &fields).unwrap();
        assert_eq!(written_trade("main", &fields), None, "another account's");
        assert_eq!((found.symbol.as_str(), found.id, found.time_ms), ("ADAUSDT", 7, 1_770_163_395_196));
        assert_eq!(observed_position("", &fields), None, "a trade");
        let open = |qty: i64| {
            let observation = observe::position(&PositionRow {
                position_amt: Qty::new(Decimal::from(qty)),
                ..PositionRow::flat("ADAUSDT", PositionSide::Both)
            });
            let bytes = |(name, value): (&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
            observed_position("main", &observation.of_account("main").fields().map(bytes))
        };
        assert_eq!((open(-5), open(0)), (Some(("ADAUSDT".to_owned(), true)), Some(("ADAUSDT".to_owned(), false))));
    }
}
