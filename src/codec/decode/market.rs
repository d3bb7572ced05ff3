//! Prices: ticks, candles, averages, marks.

use rust_decimal::Decimal;

use super::Subject;
use crate::codec::object::Object;
use crate::domain::event::ids::EntryId;
use crate::domain::event::{Event, EventTime, PriceFact, PriceSource, Reason};
use crate::domain::units::{Price, Ratio};

/// Names of a price, the preferred one first, with the shape of each.
pub(super) const NAMES: [(&str, &str); 5] =
    [("markPrice", "mark"), ("mark_price", "mark"), ("price", "price"), ("close", "close"), ("avg_price", "avg_price")];

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    subject.priced_symbol()?;
    let source = PriceSource::Stream(subject.stream);
    let (price, shape) = price(&subject.object)?;
    subject.shape = shape;
    Ok(Event::Price(PriceFact { price, source, time: event_time(&subject.object, shape, subject.id) }))
}

/// Returns the price of an object, and its shape.
pub(super) fn price(object: &Object<'_>) -> Result<(Price, &'static str), Reason> {
    for (name, shape) in NAMES {
        if let Some(price) = object.positive(&[name])? {
            return Ok((Price::new(price), shape));
        }
    }
    Err(Reason::NoPrice)
}

/// Returns the time when the price was observed. The time of a candle is its beginning, so it is not used.
pub(super) fn event_time(object: &Object<'_>, shape: &str, entry: EntryId) -> EventTime {
    if shape == "close" { EventTime::Absent } else { object.event_time(&["timestamp"], entry) }
}

/// Returns an optional price. [quote per base]
pub(super) fn optional_price(value: Option<Decimal>) -> Option<Price> {
    value.map(Price::new)
}

/// Returns both risk fields as written, where present. Errors if their product is out of range.
pub(super) fn risk_fields(object: &Object<'_>) -> Result<(Option<Ratio>, Option<Ratio>), Reason> {
    let atr_value = object.positive(&["atr_value"])?.map(Ratio::new);
    let volatility_factor = object.positive(&["volatility_factor"])?.map(Ratio::new);
    if let (Some(atr_value), Some(volatility_factor)) = (atr_value, volatility_factor) {
        atr_value.times(volatility_factor)?;
    }
    Ok((atr_value, volatility_factor))
}
