//! Observations: fetched facts as entries (docs/spec/streams/observation.md).
//!
//! `decode/observation.rs` reads them; tests in both places check that they agree.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::exchange::{Forced, InstrumentRow, PositionRow, UserTrade};
use crate::domain::event::{Direction, PositionSide};
use crate::domain::units::Price;

/// The two fields of an observation entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub event_type: &'static str,
    /// One JSON object.
    pub payload: String,
    /// The symbol of the fact.
    pub symbol: Box<str>,
}

impl Observation {
    fn new(event_type: &'static str, symbol: &str, mut payload: Value) -> Self {
        // Unknown values are left out: a reader has no use for a null.
        if let Value::Object(members) = &mut payload {
            members.retain(|_, value| !value.is_null());
        }
        Self { event_type, payload: payload.to_string(), symbol: symbol.into() }
    }

    /// Returns the observation as one of an account; unchanged for the account without a name.
    #[must_use]
    pub fn of_account(mut self, account: &str) -> Self {
        if !account.is_empty() {
            let end = self.payload.pop();
            assert!(end == Some('}') && self.payload.len() > 1, "a payload is an object with members");
            let _ = write!(self.payload, ",\"account\":{}}}", Value::from(account));
        }
        self
    }

    /// Returns the fields of a stream entry.
    pub fn fields(&self) -> [(&str, &str); 2] {
        [("event_type", self.event_type), ("payload", &self.payload)]
    }
}

/// Returns a price, with its source and its event time. [quote per base], [ms since 1970]
pub fn price(symbol: &str, price: Price, source: &str, observed_ms: Option<u64>) -> Observation {
    let payload = json!({
        "symbol": symbol, "price": price.to_string(), "source": source, "timestamp": observed_ms,
    });
    Observation::new("price", symbol, payload)
}

/// Returns the exchange's position in a symbol.
///
/// `position_side` is written only if it is not `BOTH`.
pub fn position(row: &PositionRow) -> Observation {
    let payload = json!({
        "symbol": row.symbol,
        "positionAmt": row.position_amt.to_string(),
        "entryPrice": row.entry_price.map(|price| price.to_string()),
        "positionSide": hedge_side(row.position_side),
        "updateTime": row.updated_ms,
    });
    Observation::new("exchange.position", &row.symbol, payload)
}

/// Returns one trade of the exchange.
pub fn trade(trade: &UserTrade) -> Observation {
    trade_of(trade, None)
}

/// Returns one trade of the exchange, with the reason if the exchange made it by itself.
pub fn trade_of(trade: &UserTrade, forced: Option<Forced>) -> Observation {
    let payload = json!({
        "symbol": trade.symbol,
        "orderId": trade.order_id.to_string(),
        "id": trade.id.to_string(),
        "side": trade.side.name(),
        "qty": trade.qty.to_string(),
        "price": trade.price.to_string(),
        "positionSide": hedge_side(trade.position_side),
        "time": trade.time_ms,
        "forced": forced.map(Forced::name),
    });
    Observation::new("exchange.trade", &trade.symbol, payload)
}

/// Returns the filters of an instrument.
pub fn instrument(row: &InstrumentRow) -> Observation {
    let payload = json!({
        "symbol": row.symbol,
        "stepSize": row.step_size.map(|qty| qty.to_string()),
        "minQty": row.min_qty.map(|qty| qty.to_string()),
        "maxQty": row.max_qty.map(|qty| qty.to_string()),
        "minNotional": row.min_notional.map(|quote| quote.to_string()),
        "status": row.status,
    });
    Observation::new("instrument", &row.symbol, payload)
}

/// Returns the name of a side of a hedge account.
fn hedge_side(side: PositionSide) -> Option<&'static str> {
    side.is_hedge().then(|| side.name())
}

/// The accepted contents of an old hash: texts of numbers, `None` where one was not accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyRow<'a> {
    pub symbol: &'a str,
    pub side: Option<Direction>,
    pub quantity: Option<String>,
    pub entry_price: Option<String>,
    pub atr_value: Option<String>,
    pub volatility_factor: Option<String>,
}

pub fn legacy(row: &LegacyRow<'_>) -> Observation {
    let payload = json!({
        "symbol": row.symbol,
        "side": row.side.map(Direction::name),
        "quantity": row.quantity,
        "entry_price": row.entry_price,
        "atr_value": row.atr_value,
        "volatility_factor": row.volatility_factor,
    });
    Observation::new("legacy.position", row.symbol, payload)
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Decoder, Symbols};
    use super::super::line::Fields;
    use super::*;
    use crate::domain::event::ids::EntryId;
    use crate::domain::event::streams::{StreamKind, Streams};
    use crate::domain::event::{Event, InstrumentStatus, PriceSource, Reason, Side, Stated};
    use crate::domain::units::{Qty, Quote};

    fn read(observation: &Observation) -> Event {
        decode(observation).unwrap()
    }

    fn decode(observation: &Observation) -> Result<Event, Reason> {
        let streams = Streams::default();
        let stream = streams.id_of(StreamKind::Observation.default_stream()).unwrap();
        let bytes: Vec<(Vec<u8>, Vec<u8>)> = observation
            .fields()
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        Decoder::new(streams, Symbols::default())
            .decode(stream, EntryId::new(1_770_163_200_100, 0), &Fields::from_bytes(&bytes))
            .content
            .map_err(|unreadable| unreadable.reason)
    }

    fn decimal(text: &str) -> rust_decimal::Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn a_price_is_written_and_read() {
        let read_price = read(&price("ADAUSDT", Price::new(decimal("0.301")), "redis_ticker", Some(1_770_163_200_062)));
        let Event::Price(fact) = read_price else { panic!("{read_price:?}") };
        assert_eq!(
            (fact.price.to_string(), fact.source, fact.time.ms()),
            ("0.301".to_owned(), PriceSource::RedisTicker, Some(1_770_163_200_062))
        );
    }

    #[test]
    fn a_position_is_written_and_read() {
        let flat = PositionRow::flat("ADAUSDT", PositionSide::Both);
        let (position_amt, entry_price) = (Qty::new(decimal("-5.5")), Some(Price::new(decimal("0.3"))));
        let short = PositionRow { position_amt, entry_price, ..flat.clone() };
        let Event::Position(fact) = read(&position(&short)) else { panic!() };
        assert_eq!(
            (fact.qty.to_string(), fact.entry_price.unwrap().to_string(), fact.looked_up),
            ("-5.5".to_owned(), "0.3".to_owned(), true)
        );
        let Event::Position(flat) = read(&position(&flat)) else { panic!() };
        assert!(flat.qty.is_zero() && flat.entry_price.is_none());
    }

    #[test]
    fn a_trade_is_written_and_read() {
        let row = UserTrade {
            symbol: "ADAUSDT".to_owned(),
            order_id: 77,
            id: 9,
            side: Side::Sell,
            qty: Qty::new(decimal("2")),
            price: Price::new(decimal("0.31")),
            time_ms: 1_770_163_200_062,
            position_side: PositionSide::Both,
        };
        let Event::Trade(fact) = read(&trade(&row)) else { panic!() };
        assert_eq!(
            (&*fact.order_id, &*fact.trade.trade_id, fact.trade.side, fact.trade.own_ms),
            ("77", "9", Side::Sell, Some(1_770_163_200_062))
        );
    }

    #[test]
    fn the_filters_of_an_instrument_are_written_and_read() {
        let row = InstrumentRow {
            symbol: "ADAUSDT".to_owned(),
            status: Some("TRADING".to_owned()),
            step_size: Some(Qty::new(decimal("0.1"))),
            min_qty: None,
            max_qty: Some(Qty::new(decimal("100000"))),
            min_notional: Some(Quote::new(decimal("5"))),
        };
        let written: Value = serde_json::from_str(&instrument(&row).payload).unwrap();
        assert_eq!((&written["maxQty"], &written["status"]), (&json!("100000"), &json!("TRADING")));
        let Event::Instrument(filters) = read(&instrument(&row)) else { panic!() };
        // A filter that the exchange does not state is left out, so the last known one stays.
        let stated = |text: &str| Stated::Value(Qty::new(decimal(text)));
        assert_eq!(
            (filters.step_size, filters.qty_min, filters.qty_max),
            (stated("0.1"), Stated::Nothing, stated("100000"))
        );
        assert_eq!(filters.notional_min, Stated::Value(Quote::new(decimal("5"))));
        assert_eq!(filters.status, Stated::Value(InstrumentStatus::Trading));
    }

    #[test]
    fn a_legacy_position_is_written_and_read() {
        let row = LegacyRow {
            symbol: "ADAUSDT",
            side: Some(Direction::Long),
            atr_value: Some("0.1".to_owned()),
            volatility_factor: Some("5".to_owned()),
            ..LegacyRow::default()
        };
        let Event::Legacy(fact) = read(&legacy(&row)) else { panic!() };
        assert_eq!((fact.entry_price, fact.atr_value.unwrap().to_string()), (None, "0.1".to_owned()));
    }

    #[test]
    fn an_account_is_written_and_read() {
        let streams = Streams::default();
        let stream = streams.id_of(StreamKind::Observation.default_stream()).unwrap();
        let mut decoder = Decoder::new(streams, Symbols::default());
        let mut account_of = |observation: &Observation| {
            let bytes = observation.fields().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            let entry = decoder.decode(stream, EntryId::new(1_770_163_200_100, 0), &Fields::from_bytes(&bytes));
            assert!(entry.content.is_ok());
            entry.account.0
        };
        let flat = position(&PositionRow::flat("ADAUSDT", PositionSide::Long));
        assert_eq!(account_of(&flat.clone().of_account("")), 0);
        assert_eq!(account_of(&flat.clone().of_account("main")), 1);
        assert_eq!(account_of(&flat.clone().of_account("sub.1")), 2);
        assert_eq!(flat.clone().of_account(""), flat, "an account without a name changes nothing");
    }

    #[test]
    fn a_position_side_is_written_and_read() {
        let hedged =
            PositionRow { position_amt: Qty::new(decimal("5")), ..PositionRow::flat("ADAUSDT", PositionSide::Long) };
        let Event::Position(fact) = read(&position(&hedged)) else { panic!() };
        assert_eq!(fact.qty.to_string(), "5");
        let contradictory = PositionRow { position_amt: Qty::new(decimal("-5")), ..hedged };
        assert_eq!(decode(&position(&contradictory)), Err(Reason::UnknownWord));
    }
}
