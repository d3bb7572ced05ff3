//! Facts that we fetched, as the observation entries that carry them (SPEC §3, *Observation*).
//!
//! The way in is `decode/observation.rs`; a test there and here holds the two together.

use serde_json::{Value, json};

use crate::domain::event::Side;
use crate::domain::units::{Price, Qty, Quote};

/// The two fields of an observation entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub event_type: &'static str,
    /// One JSON object.
    pub payload: String,
    /// Whom it concerns.
    pub symbol: Box<str>,
}

impl Observation {
    fn new(event_type: &'static str, symbol: &str, payload: &Value) -> Self {
        Self { event_type, payload: payload.to_string(), symbol: symbol.into() }
    }

    /// As fields of a stream entry.
    pub fn fields(&self) -> [(&str, &str); 2] {
        [("event_type", self.event_type), ("payload", &self.payload)]
    }
}

/// A price, with where it came from and when it was observed there. [quote per base], [ms since 1970]
pub fn price(symbol: &str, price: Price, source: &str, observed_ms: Option<u64>) -> Observation {
    let payload = json!({
        "symbol": symbol, "price": price.to_string(), "source": source, "timestamp": observed_ms,
    });
    Observation::new("price", symbol, &payload)
}

/// What the exchange holds of a symbol: signed quantity [base], entry price [quote per base], and when that last
/// changed there [ms since 1970].
pub fn position(symbol: &str, qty: Qty, entry_price: Option<Price>, updated_ms: Option<u64>) -> Observation {
    let payload = json!({
        "symbol": symbol,
        "positionAmt": qty.to_string(),
        "entryPrice": entry_price.map(|price| price.to_string()),
        "updateTime": updated_ms,
    });
    Observation::new("exchange.position", symbol, &payload)
}

/// One trade of the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeRow<'a> {
    pub symbol: &'a str,
    pub order_id: &'a str,
    pub trade_id: &'a str,
    pub side: Side,
    /// [base]
    pub qty: Qty,
    /// [quote per base]
    pub price: Price,
    /// [ms since 1970]
    pub traded_ms: u64,
}

pub fn trade(row: &TradeRow<'_>) -> Observation {
    let payload = json!({
        "symbol": row.symbol,
        "orderId": row.order_id,
        "id": row.trade_id,
        "side": row.side.name(),
        "qty": row.qty.to_string(),
        "price": row.price.to_string(),
        "time": row.traded_ms,
    });
    Observation::new("exchange.trade", row.symbol, &payload)
}

/// Filters of an instrument. [base], [base], [quote]
pub fn instrument(symbol: &str, step: Option<Qty>, qty_min: Option<Qty>, notional_min: Option<Quote>) -> Observation {
    let payload = json!({
        "symbol": symbol,
        "stepSize": step.map(|qty| qty.to_string()),
        "minQty": qty_min.map(|qty| qty.to_string()),
        "minNotional": notional_min.map(|quote| quote.to_string()),
    });
    Observation::new("instrument", symbol, &payload)
}

/// What an old hash held, as far as it was believed: texts of numbers, `None` where one was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyRow<'a> {
    pub symbol: &'a str,
    pub side: Option<&'a str>,
    pub quantity: Option<String>,
    pub entry_price: Option<String>,
    pub atr_value: Option<String>,
    pub volatility_factor: Option<String>,
}

pub fn legacy(row: &LegacyRow<'_>) -> Observation {
    let payload = json!({
        "symbol": row.symbol,
        "side": row.side,
        "quantity": row.quantity,
        "entry_price": row.entry_price,
        "atr_value": row.atr_value,
        "volatility_factor": row.volatility_factor,
    });
    Observation::new("legacy.position", row.symbol, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode::{Decoder, Symbols};
    use crate::codec::line::Fields;
    use crate::domain::event::{Event, PriceSource};
    use crate::domain::ids::EntryId;
    use crate::domain::streams::{StreamKind, Streams};

    fn read(observation: &Observation) -> Event {
        let streams = Streams::default();
        let stream = streams.id_of(StreamKind::Observation.default_stream()).unwrap();
        let bytes: Vec<(Vec<u8>, Vec<u8>)> = observation
            .fields()
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        Decoder::new(streams, Symbols::default())
            .decode(stream, EntryId::new(7, 0), &Fields::from_bytes(&bytes))
            .content
            .unwrap()
    }

    fn decimal(text: &str) -> rust_decimal::Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let read_price = read(&price("ADAUSDT", Price::new(decimal("0.301")), "redis_ticker", Some(1_770_163_200_062)));
        let Event::Price(fact) = read_price else { panic!("{read_price:?}") };
        assert_eq!(
            (fact.price.to_string(), fact.source, fact.own_ms),
            ("0.301".to_owned(), PriceSource::RedisTicker, Some(1_770_163_200_062))
        );

        let Event::Position(fact) =
            read(&position("ADAUSDT", Qty::new(decimal("-5.5")), Some(Price::new(decimal("0.3"))), None))
        else {
            panic!()
        };
        assert_eq!(
            (fact.qty.to_string(), fact.entry_price.unwrap().to_string(), fact.looked_up),
            ("-5.5".to_owned(), "0.3".to_owned(), true)
        );
        let Event::Position(flat) = read(&position("ADAUSDT", Qty::ZERO, None, None)) else { panic!() };
        assert!(flat.qty.is_zero() && flat.entry_price.is_none());

        let row = TradeRow {
            symbol: "ADAUSDT",
            order_id: "77",
            trade_id: "9",
            side: Side::Sell,
            qty: Qty::new(decimal("2")),
            price: Price::new(decimal("0.31")),
            traded_ms: 1_770_163_200_062,
        };
        let Event::Trade(fact) = read(&trade(&row)) else { panic!() };
        assert_eq!(
            (&*fact.order_id, &*fact.trade.trade_id, fact.trade.side, fact.trade.own_ms),
            ("77", "9", Side::Sell, Some(1_770_163_200_062))
        );

        let Event::Instrument(filters) =
            read(&instrument("ADAUSDT", Some(Qty::new(decimal("0.1"))), None, Some(Quote::new(decimal("5")))))
        else {
            panic!()
        };
        assert_eq!(
            (filters.step_size.unwrap().to_string(), filters.qty_min, filters.notional_min.unwrap().to_string()),
            ("0.1".to_owned(), None, "5".to_owned())
        );

        let row = LegacyRow {
            symbol: "ADAUSDT",
            side: Some("LONG"),
            atr_value: Some("0.1".to_owned()),
            volatility_factor: Some("5".to_owned()),
            ..LegacyRow::default()
        };
        let Event::Legacy(fact) = read(&legacy(&row)) else { panic!() };
        assert_eq!((fact.entry_price, fact.atr_value.unwrap().to_string()), (None, "0.1".to_owned()));
    }
}
