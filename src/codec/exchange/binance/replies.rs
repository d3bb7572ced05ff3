//! Replies of the REST interface.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::codec::exchange::facts::{
    AccountMode, InstrumentRow, MarkPrice, Marks, PositionRow, Unreadable, UserTrade, shortened,
};
use crate::codec::exchange::number::{Average, Id, Name, Number, StatedSide, Time, above_zero, positive, read};
use crate::domain::event::Side;
use crate::domain::units::{Price, Qty, Quote};

/// Reads `GET /fapi/v1/time`. [ms since 1970]
pub fn server_time(body: &[u8]) -> Result<u64, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        server_time: Time,
    }
    read::<Body>(body).map(|body| body.server_time.0)
}

/// Reads `GET /fapi/v1/premiumIndex`, of one symbol or of all. A row that cannot be read is left out and reported
/// beside the others: a missing price gives its own position a hold, and must not affect the others.
pub fn mark_prices(body: &[u8]) -> Result<Marks, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: Name,
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
                prices.push(MarkPrice { symbol: row.symbol.0, mark_price, time_ms: row.time });
            }
            Ok(row) => bad.push(Unreadable::new(format!("{}: a mark price of {}", row.symbol.0, row.mark_price.0))),
            Err(error) => bad.push(Unreadable::new(format!("{}: {error}", shortened(row.get())))),
        }
    }
    Ok((prices, bad))
}

/// Reads `GET /fapi/v3/positionRisk`, and the rows of `v2`. One bad row makes the reply unreadable, because a missing
/// row would mean flat.
pub fn positions(body: &[u8]) -> Result<Vec<PositionRow>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: Name,
        position_amt: Number,
        #[serde(default)]
        entry_price: Average,
        #[serde(default)]
        position_side: StatedSide,
        #[serde(default)]
        update_time: u64,
    }
    let rows: Vec<Row> = read(body)?;
    let row = |row: Row| PositionRow {
        symbol: row.symbol.0,
        position_amt: Qty::new(row.position_amt.0),
        entry_price: positive(Number(row.entry_price.0)),
        position_side: row.position_side.0,
        updated_ms: (row.update_time > 0).then_some(row.update_time),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// Reads `GET /fapi/v2/positionRisk`, which lists every symbol: an empty list is not a valid answer.
pub fn positions_of_all(body: &[u8]) -> Result<Vec<PositionRow>, Unreadable> {
    let rows = positions(body)?;
    if rows.is_empty() { Err(Unreadable::new("v2 lists every symbol, this is none".to_owned())) } else { Ok(rows) }
}

/// Reads `GET /fapi/v1/positionSide/dual`.
pub fn account_mode(body: &[u8]) -> Result<AccountMode, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        dual_side_position: bool,
    }
    let is_dual = read::<Body>(body)?.dual_side_position;
    Ok(if is_dual { AccountMode::Hedge } else { AccountMode::OneWay })
}

/// Reads `GET /fapi/v1/userTrades`, oldest first. One bad row makes the reply unreadable, because fills must not be
/// missing.
pub fn user_trades(body: &[u8]) -> Result<Vec<UserTrade>, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Row {
        symbol: Name,
        id: Id,
        order_id: Id,
        side: String,
        price: Number,
        qty: Number,
        time: u64,
        #[serde(default)]
        position_side: StatedSide,
    }
    let rows: Vec<Row> = read(body)?;
    let trade = |row: Row| {
        let side = side(&row.side)?;
        let (price, qty) = (Price::new(row.price.0), Qty::new(row.qty.0));
        if !price.is_positive() || !qty.is_positive() {
            return Err(Unreadable::new(format!("trade {} of {}: {qty} at {price}", row.id.0, row.symbol.0)));
        }
        let (symbol, id, order_id, time_ms) = (row.symbol.0, row.id.0, row.order_id.0, row.time);
        Ok(UserTrade { symbol, id, order_id, side, price, qty, time_ms, position_side: row.position_side.0 })
    };
    let mut trades = rows.into_iter().map(trade).collect::<Result<Vec<_>, _>>()?;
    trades.sort_by_key(|trade| trade.id);
    Ok(trades)
}

/// Reads `GET /fapi/v1/exchangeInfo`: the filters of every instrument.
pub fn instruments(body: &[u8]) -> Result<Vec<InstrumentRow>, Unreadable> {
    #[derive(Deserialize)]
    struct Body {
        symbols: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        symbol: String,
        status: Option<String>,
        #[serde(default)]
        filters: Vec<Filter>,
    }
    /// A filter. Filters differ in their fields, and those that no rule uses are not parsed.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Filter {
        filter_type: String,
        step_size: Option<Number>,
        min_qty: Option<Number>,
        max_qty: Option<Number>,
        notional: Option<Number>,
    }
    let body: Body = read(body)?;
    let row = |row: Row| {
        let filter = |name: &str| row.filters.iter().find(|filter| filter.filter_type == name);
        let of = |field: fn(&Filter) -> Option<Number>| {
            ["MARKET_LOT_SIZE", "LOT_SIZE"].map(|name| filter(name).and_then(field).and_then(above_zero)).into_iter()
        };
        // A market order has to satisfy both filters: the coarser step, the larger minimum and the smaller maximum are
        // safe for both.
        let step_size = of(|filter| filter.step_size).flatten().max().map(Qty::new);
        let min_qty = of(|filter| filter.min_qty).flatten().max().map(Qty::new);
        let max_qty = of(|filter| filter.max_qty).flatten().min().map(Qty::new);
        let status = row.status.as_deref().map(|status| shortened(status.trim())).filter(|status| !status.is_empty());
        let min_notional =
            filter("MIN_NOTIONAL").and_then(|filter| filter.notional).and_then(above_zero).map(Quote::new);
        InstrumentRow { symbol: row.symbol, status, step_size, min_qty, max_qty, min_notional }
    };
    Ok(body.symbols.into_iter().map(row).collect())
}

/// Reads `POST /fapi/v1/listenKey`. The key is a secret: it allows anyone to listen.
pub fn listen_key(body: &[u8]) -> Result<SecretString, Unreadable> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        listen_key: String,
    }
    let key = read::<Body>(body)?.listen_key;
    let is_plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if is_plain { Ok(key.into()) } else { Err(Unreadable::new("a listen key that is none".to_owned())) }
}

pub(super) fn side(text: &str) -> Result<Side, Unreadable> {
    match text {
        "BUY" => Ok(Side::Buy),
        "SELL" => Ok(Side::Sell),
        other => Err(Unreadable::new(format!("side {:?} is none", shortened(other)))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::exchange::facts::MESSAGE_MAX;

    // Samples in the formats of the exchange's documentation.
    const POSITION_V2: &str = r#"[{"entryPrice":"6563.66500","breakEvenPrice":"6566.21","marginType":"isolated",
        "isAutoAddMargin":"false","isolatedMargin":"15517.54150468","leverage":"10","liquidationPrice":"5930.78",
        "markPrice":"6679.50671178","maxNotionalValue":"20000000","positionAmt":"20.000","notional":"4.0",
        "isolatedWallet":"3.4","symbol":"BTCUSDT","unRealizedProfit":"2316.83423560","positionSide":"BOTH",
        "updateTime":1625474304765},{"symbol":"ETHUSDT","positionAmt":"0.000","entryPrice":"0.0","markPrice":"0.00000000",
        "positionSide":"BOTH","updateTime":0}]"#;
    const PREMIUM_INDEX: &str = r#"{"symbol":"BTCUSDT","markPrice":"11793.63104562","indexPrice":"11781.80495970",
        "estimatedSettlePrice":"11781.16138815","lastFundingRate":"0.00038246","interestRate":"0.00010000",
        "nextFundingTime":1597392000000,"time":1597370495002}"#;
    const USER_TRADES: &str = r#"[{"buyer":false,"commission":"-0.07819010","commissionAsset":"USDT","id":698759,
        "maker":false,"orderId":25851813,"price":"7819.01","qty":"0.002","quoteQty":"15.63802",
        "realizedPnl":"-0.91539999","side":"SELL","positionSide":"BOTH","symbol":"BTCUSDT","time":1569514978020}]"#;
    const EXCHANGE_INFO: &str = r#"{"exchangeFilters":[],"rateLimits":[{"interval":"MINUTE","intervalNum":1,"limit":2400,
        "rateLimitType":"REQUEST_WEIGHT"}],"serverTime":1565613908500,"assets":[],"symbols":[{"symbol":"BLZUSDT",
        "pair":"BLZUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,"status":"TRADING","filters":[
        {"filterType":"PRICE_FILTER","maxPrice":"300","minPrice":"0.0001","tickSize":"0.0001"},
        {"filterType":"LOT_SIZE","maxQty":"10000000","minQty":"1","stepSize":"1"},
        {"filterType":"MARKET_LOT_SIZE","maxQty":"590119","minQty":"2","stepSize":"0"},
        {"filterType":"MAX_NUM_ORDERS","limit":200},{"filterType":"MIN_NOTIONAL","notional":"5.0"},
        {"filterType":"PERCENT_PRICE","multiplierUp":"1.15","multiplierDecimal":4}]},{"symbol":"BAREUSDT"}]}"#;

    #[test]
    fn documented_samples_are_read() {
        let rows = positions(POSITION_V2.as_bytes()).unwrap();
        assert_eq!((rows[0].position_amt.to_string(), rows[0].updated_ms), ("20".to_owned(), Some(1_625_474_304_765)));
        assert_eq!(rows[0].entry_price.map(|price| price.to_string()).as_deref(), Some("6563.665"));
        assert_eq!((rows[1].position_amt.is_zero(), rows[1].entry_price, rows[1].updated_ms), (true, None, None));
        // An average may have as many digits as its division produced.
        let long = POSITION_V2.replace("6563.66500", "6563.66500333333333333333333333333");
        let rows = positions(long.as_bytes()).unwrap();
        assert_eq!(rows[0].entry_price.unwrap().to_string(), "6563.665003333333333333333333");
        let (prices, bad) = mark_prices(PREMIUM_INDEX.as_bytes()).unwrap();
        assert_eq!((prices[0].mark_price.to_string().as_str(), bad.len()), ("11793.63104562", 0));
        let trades = user_trades(USER_TRADES.as_bytes()).unwrap();
        assert_eq!((trades[0].id, trades[0].order_id, trades[0].side), (698_759, 25_851_813, Side::Sell));
        let rows = instruments(EXCHANGE_INFO.as_bytes()).unwrap();
        // A step of 0 is absent. The larger of both minimums counts.
        assert_eq!(rows[0].step_size.map(|step| step.to_string()).as_deref(), Some("1"));
        assert_eq!(rows[0].min_qty.map(|qty| qty.to_string()).as_deref(), Some("2"));
        assert_eq!(rows[0].min_notional.map(|notional| notional.to_string()).as_deref(), Some("5"));
        // The smaller of both maximums counts.
        assert_eq!(rows[0].max_qty.map(|qty| qty.to_string()).as_deref(), Some("590119"));
        assert_eq!((rows[0].status.as_deref(), &rows[1].status), (Some("TRADING"), &None));
        assert_eq!(
            (rows[1].step_size, rows[1].min_qty, rows[1].max_qty, rows[1].min_notional),
            (None, None, None, None)
        );
        assert_eq!(account_mode(br#"{"dualSidePosition":true}"#).unwrap(), AccountMode::Hedge);
        assert_eq!(account_mode(br#"{"dualSidePosition":false}"#).unwrap(), AccountMode::OneWay);
        assert!(account_mode(b"{}").is_err(), "a mode that is not said is not known");
        assert_eq!(server_time(br#"{"serverTime":1499827319559}"#).unwrap(), 1_499_827_319_559);
        assert!(
            listen_key(br#"{"listenKey":"pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"}"#).is_ok()
        );
        assert!(listen_key(br#"{"listenKey":"../../other"}"#).is_err(), "it becomes part of an address");
    }

    #[test]
    fn i68_what_no_exchange_says_is_refused_in_one_short_line() {
        let nested = "[".repeat(200_000);
        let row = |name: &str, value: &str| {
            let plain = r#"[{"symbol":"BTCUSDT","id":1,"orderId":1,"side":"BUY","price":"1","qty":"1","time":1}]"#;
            plain.replace(&format!("{name}:1"), &format!("{name}:{value}"))
        };
        for body in [
            nested.clone(),
            row("\"id\"", "18446744073709551615"),
            row("\"orderId\"", "9223372036854775808"),
            row("\"time\"", &nested),
            row("\"time\"", &format!("{:?}", "x".repeat(1 << 20))),
            r#"[{"symbol":"A\nB","id":1,"orderId":1,"side":"BUY","price":"1","qty":"1","time":1}]"#.to_owned(),
            r#"[{"symbol":"A","id":1,"orderId":1,"side":"BUY","price":"79228162514264337593543950336","qty":"1","time":1}]"#
                .to_owned(),
        ] {
            let said = user_trades(body.as_bytes()).unwrap_err().to_string();
            assert!(said.len() <= 4 * MESSAGE_MAX && !said.contains('\n'), "{said}");
        }
        for body in [r#"{"serverTime":18446744073709551615}"#, r#"{"serverTime":0}"#, r#"{"serverTime":1.5}"#] {
            assert!(server_time(body.as_bytes()).is_err(), "{body}");
        }
        assert!(positions(br#"[{"symbol":"A B","positionAmt":"1"}]"#).is_err());
    }

    proptest! {
        /// A truncated reply, or one with a changed byte, is a reply or an error: never a panic, and never fewer
        /// positions.
        #[test]
        fn a_damaged_reply_never_loses_a_position(at in 0..POSITION_V2.len(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut body = POSITION_V2.as_bytes().to_vec();
            if cut { body.truncate(at) } else { body[at] = byte }
            if let Ok(rows) = positions(&body) {
                prop_assert_eq!(rows.len(), 2);
            }
            for sample in [PREMIUM_INDEX, USER_TRADES, EXCHANGE_INFO] {
                let mut body = sample.as_bytes().to_vec();
                let at = at % body.len();
                if cut { body.truncate(at) } else { body[at] = byte }
                let _ = (mark_prices(&body), user_trades(&body), instruments(&body));
            }
        }

        #[test]
        fn what_is_no_reply_is_an_error(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let is_empty_list = body.trim_ascii() == b"[]" || body.starts_with(b"[");
            prop_assert!(positions(&body).is_err() || is_empty_list);
        }
    }
}
