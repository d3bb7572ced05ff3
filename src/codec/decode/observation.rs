//! Observations: facts that were fetched and appended.

use super::Subject;
use super::market;
use super::plan::side;
use super::position;
use crate::codec::object::Object;
use crate::domain::event::{
    Direction, Event, InstrumentFact, InstrumentStatus, LegacyFact, PriceFact, PriceSource, Reason, Stated, Trade,
    TradeFact,
};
use crate::domain::units::{Price, Qty, Quote};

pub(super) fn decode(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    let event_type = event_type(&subject.object)?.ok_or(Reason::UnknownEvent)?;
    match event_type.as_str() {
        "exchange.position" => {
            subject.shape = "exchange.position";
            position::decode(subject, true)
        }
        "exchange.trade" => {
            subject.shape = "exchange.trade";
            trade(subject)
        }
        "price" => {
            subject.shape = "price";
            price(subject)
        }
        "instrument" => {
            subject.shape = "instrument";
            instrument(subject)
        }
        "legacy.position" => {
            subject.shape = "legacy.position";
            legacy(subject)
        }
        _ => Err(Reason::UnknownEvent),
    }
}

/// Returns the event type in lower case.
fn event_type(object: &Object<'_>) -> Result<Option<String>, Reason> {
    let beside = object.beside().text(&["event_type"])?;
    let name = if beside.is_some() { beside } else { object.text(&["event_type"])? };
    Ok(name.map(|name| name.to_ascii_lowercase()))
}

/// Returns true if an unreadable observation is, or may be, a trade or a position of the exchange.
pub(super) fn may_move(object: &Object<'_>) -> bool {
    match event_type(object) {
        Ok(Some(name)) => name == "exchange.position" || name == "exchange.trade",
        Ok(None) | Err(_) => true,
    }
}

fn trade(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    subject.symbol()?;
    subject.account()?;
    subject.position_side()?;
    let object = &subject.object;
    let side = side(object)?.ok_or(Reason::NoSide)?;
    let qty = object.positive(&["qty"])?.map(Qty::new).ok_or(Reason::NoQuantity)?;
    let price = object.positive(&["price"])?.map(Price::new).ok_or(Reason::NoPrice)?;
    let id = |names: &[&str]| -> Result<Box<str>, Reason> { object.id_text(names, &[])?.ok_or(Reason::BadNumber) };
    let time = object.event_time(&["time"], subject.id);
    let order_id = id(&["orderId", "order_id"])?;
    let trade = Trade {
        trade_id: id(&["id", "trade_id"])?,
        order_id: order_id.clone(),
        side,
        qty,
        price,
        own_ms: time.ms(),
        entry: subject.id,
    };
    Ok(Event::Trade(Box::new(TradeFact { order_id, time, trade })))
}

fn price(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    subject.symbol()?;
    let object = &subject.object;
    let (price, shape) = market::price(object)?;
    let source = match object.word(&["source"])?.as_deref() {
        Some("REDIS_TICKER") => PriceSource::RedisTicker,
        Some("REDIS_MARKET") => PriceSource::RedisMarket,
        Some("API") => PriceSource::Api,
        Some(_) | None => return Err(Reason::UnknownWord),
    };
    Ok(Event::Price(PriceFact { price, source, time: market::event_time(object, shape, subject.id) }))
}

fn instrument(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    subject.symbol()?;
    let object = &subject.object;
    let number = |name: &str| object.positive(&[name]).map(|value| stated(object, name, value));
    let status = object.word(&["status"])?.map(|word| match word.as_str() {
        "TRADING" => InstrumentStatus::Trading,
        _ => InstrumentStatus::NotTrading,
    });
    Ok(Event::Instrument(Box::new(InstrumentFact {
        step_size: number("stepSize")?.map(Qty::new),
        qty_min: number("minQty")?.map(Qty::new),
        qty_max: number("maxQty")?.map(Qty::new),
        notional_min: number("minNotional")?.map(Quote::new),
        status: stated(object, "status", status),
    })))
}

/// Returns what an object states of a value: null states that there is none, and an absent value states nothing.
fn stated<T>(object: &Object<'_>, name: &str, value: Option<T>) -> Stated<T> {
    match value {
        Some(value) => Stated::Value(value),
        None if object.is_null(name) => Stated::Null,
        None => Stated::Nothing,
    }
}

fn legacy(subject: &mut Subject<'_>) -> Result<Event, Reason> {
    subject.symbol()?;
    subject.account()?;
    subject.position_side()?;
    let object = &subject.object;
    let direction = match object.word(&["side"])?.as_deref() {
        None => None,
        Some("LONG" | "BUY") => Some(Direction::Long),
        Some("SHORT" | "SELL") => Some(Direction::Short),
        Some(_) => return Err(Reason::UnknownWord),
    };
    let (atr_value, volatility_factor) = market::risk_fields(object)?;
    let entry_price = market::optional_price(object.positive(&["entry_price"])?);
    Ok(Event::Legacy(Box::new(LegacyFact { direction, entry_price, atr_value, volatility_factor })))
}
