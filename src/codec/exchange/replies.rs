//! Replies of the REST interface.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::number::Number;
use crate::domain::event::Side;
use crate::domain::units::{Price, Qty, Quote};

/// Longest message of the exchange that is passed on. [characters]
const MESSAGE_MAX: usize = 200;

/// Why a reply could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

impl Unreadable {
    pub fn new(what: String) -> Self {
        Self(what)
    }
}

/// A mark price, as the exchange computed it.
#[derive(Clone, Debug, PartialEq)]
pub struct MarkPrice {
    pub symbol: String,
    /// [quote per base]
    pub mark_price: Price,
    /// The exchange's own time of it. [ms since 1970]
    pub time_ms: u64,
}

/// A row of `positionRisk`.
#[derive(Clone, Debug, PartialEq)]
pub struct PositionRow {
    pub symbol: String,
    /// Signed, below 0 is short. [base]
    pub position_amt: Qty,
    /// `None` where the exchange says 0. [quote per base]
    pub entry_price: Option<Price>,
    /// `None` where the exchange says 0. [quote per base]
    pub mark_price: Option<Price>,
    /// `BOTH` in one-way accounts; `LONG` and `SHORT` are hedge mode.
    pub position_side: String,
    /// Last change at the exchange; 0 is none. [ms since 1970]
    pub updated_ms: Option<u64>,
}

/// A row of `userTrades`: one part of an order that was filled.
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
    pub position_side: String,
}

/// Filters of an instrument; `None` where the exchange names none.
#[derive(Clone, Debug, PartialEq)]
pub struct InstrumentRow {
    pub symbol: String,
    /// Of market orders where it says so, else of limit orders. [base]
    pub step_size: Option<Qty>,
    /// Of market orders where it says so, else of limit orders. [base]
    pub min_qty: Option<Qty>,
    /// [quote]
    pub min_notional: Option<Quote>,
}

/// What the exchange says of one order.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderRow {
    pub symbol: String,
    pub order_id: u64,
    pub client_order_id: String,
    /// NEW, PARTIALLY_FILLED, FILLED, CANCELED, EXPIRED …
    pub status: String,
    pub side: Side,
    /// [base]
    pub executed_qty: Qty,
    /// `None` where nothing was filled. [quote per base]
    pub avg_price: Option<Price>,
    pub reduce_only: bool,
}

/// What the exchange says when it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeError {
    /// Its own number, such as -1021; 0 where it gave none.
    pub code: i64,
    /// Its own words, shortened, without line breaks.
    pub message: String,
}

/// The error in a body, if it is one of the exchange's; a page of HTML, say, is not.
pub fn error(body: &[u8]) -> Option<ExchangeError> {
    #[derive(Deserialize)]
    struct Body {
        code: i64,
        #[serde(default)]
        msg: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(ExchangeError { code: body.code, message: shortened(&body.msg) })
}

/// `GET /fapi/v1/time`. [ms since 1970]
pub fn server_time(body: &[u8]) -> Result<u64, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        server_time: u64,
    }
    read::<Body>(body).map(|body| body.server_time)
}

/// `GET /fapi/v1/premiumIndex`, of one symbol or of all. A row that cannot be read is left out and named beside the
/// others: a price that is absent holds its position, and must not hold the others.
pub fn mark_prices(body: &[u8]) -> Result<(Vec<MarkPrice>, Vec<Unreadable>), Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: String,
        mark_price: Number,
        time: u64,
    }
    let is_list = body.trim_ascii_start().first() == Some(&b'[');
    let rows: Vec<&RawValue> = if is_list { read(body)? } else { vec![read(body)?] };
    let (mut prices, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match serde_json::from_str::<Row>(row.get()) {
            Ok(row) if Price::new(row.mark_price.0).is_positive() => {
                let mark_price = Price::new(row.mark_price.0);
                prices.push(MarkPrice { symbol: row.symbol, mark_price, time_ms: row.time });
            }
            Ok(row) => bad.push(Unreadable(format!("{}: a mark price of {}", row.symbol, row.mark_price.0))),
            Err(error) => bad.push(Unreadable(format!("{}: {error}", shortened(row.get())))),
        }
    }
    Ok((prices, bad))
}

/// `GET /fapi/v2/positionRisk` or `v3`. One bad row makes the reply unreadable: left out it would read as flat.
pub fn positions(body: &[u8]) -> Result<Vec<PositionRow>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: String,
        position_amt: Number,
        #[serde(default)]
        entry_price: Number,
        #[serde(default)]
        mark_price: Number,
        #[serde(default = "both")]
        position_side: String,
        #[serde(default)]
        update_time: u64,
    }
    let rows: Vec<Row> = read(body)?;
    let row = |row: Row| PositionRow {
        symbol: row.symbol,
        position_amt: Qty::new(row.position_amt.0),
        entry_price: positive(row.entry_price),
        mark_price: positive(row.mark_price),
        position_side: row.position_side,
        updated_ms: (row.update_time > 0).then_some(row.update_time),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// `GET /fapi/v1/userTrades`, oldest first. One bad row makes the reply unreadable: fills must not be left out.
pub fn user_trades(body: &[u8]) -> Result<Vec<UserTrade>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: String,
        id: u64,
        order_id: u64,
        side: String,
        price: Number,
        qty: Number,
        time: u64,
        #[serde(default = "both")]
        position_side: String,
    }
    let rows: Vec<Row> = read(body)?;
    let trade = |row: Row| {
        let side = side(&row.side)?;
        let (price, qty) = (Price::new(row.price.0), Qty::new(row.qty.0));
        if !price.is_positive() || !qty.is_positive() {
            return Err(Unreadable(format!("trade {} of {}: {qty} at {price}", row.id, row.symbol)));
        }
        let (symbol, id, order_id, time_ms) = (row.symbol, row.id, row.order_id, row.time);
        Ok(UserTrade { symbol, id, order_id, side, price, qty, time_ms, position_side: row.position_side })
    };
    let mut trades = rows.into_iter().map(trade).collect::<Result<Vec<_>, _>>()?;
    trades.sort_by_key(|trade| trade.id);
    Ok(trades)
}

/// `GET /fapi/v1/exchangeInfo`: the filters of every instrument.
pub fn instruments(body: &[u8]) -> Result<Vec<InstrumentRow>, Unreadable> {
    #[derive(Deserialize)]
    struct Body {
        symbols: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        symbol: String,
        #[serde(default)]
        filters: Vec<Filter>,
    }
    /// Filters differ in their fields; those that no rule uses are never looked into.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Filter {
        filter_type: String,
        step_size: Option<Number>,
        min_qty: Option<Number>,
        notional: Option<Number>,
    }
    let body: Body = read(body)?;
    let row = |row: Row| {
        let filter = |name: &str| row.filters.iter().find(|filter| filter.filter_type == name);
        let of = |field: fn(&Filter) -> Option<Number>| {
            let values = ["MARKET_LOT_SIZE", "LOT_SIZE"].map(|name| filter(name).and_then(field).and_then(above_zero));
            let [market, limit] = values;
            // A market order has to satisfy both filters: the coarser step and the larger minimum are safe for both.
            market.max(limit)
        };
        let step_size = of(|filter| filter.step_size).map(Qty::new);
        let min_qty = of(|filter| filter.min_qty).map(Qty::new);
        let min_notional =
            filter("MIN_NOTIONAL").and_then(|filter| filter.notional).and_then(above_zero).map(Quote::new);
        InstrumentRow { symbol: row.symbol, step_size, min_qty, min_notional }
    };
    Ok(body.symbols.into_iter().map(row).collect())
}

/// `GET /fapi/v1/order`.
pub fn order(body: &[u8]) -> Result<OrderRow, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: String,
        order_id: u64,
        #[serde(default)]
        client_order_id: String,
        status: String,
        side: String,
        executed_qty: Number,
        #[serde(default)]
        avg_price: Number,
        #[serde(default)]
        reduce_only: bool,
    }
    let row: Row = read(body)?;
    Ok(OrderRow {
        side: side(&row.side)?,
        symbol: row.symbol,
        order_id: row.order_id,
        client_order_id: row.client_order_id,
        status: row.status,
        executed_qty: Qty::new(row.executed_qty.0),
        avg_price: positive(row.avg_price),
        reduce_only: row.reduce_only,
    })
}

/// `POST /fapi/v1/listenKey`. The key is a secret: who has it can listen.
pub fn listen_key(body: &[u8]) -> Result<String, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        listen_key: String,
    }
    let key = read::<Body>(body)?.listen_key;
    let is_plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if is_plain { Ok(key) } else { Err(Unreadable("a listen key that is none".to_owned())) }
}

pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))
}

pub(super) fn side(text: &str) -> Result<Side, Unreadable> {
    match text {
        "BUY" => Ok(Side::Buy),
        "SELL" => Ok(Side::Sell),
        other => Err(Unreadable(format!("side {:?} is none", shortened(other)))),
    }
}

pub(super) fn positive(value: Number) -> Option<Price> {
    above_zero(value).map(Price::new)
}

fn above_zero(value: Number) -> Option<rust_decimal::Decimal> {
    Some(value.0).filter(|value| value.is_sign_positive() && !value.is_zero())
}

pub(super) fn both() -> String {
    "BOTH".to_owned()
}

/// The exchange's words on one line of bounded length.
pub(super) fn shortened(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_MAX).collect();
    one_line.trim().to_owned()
}
