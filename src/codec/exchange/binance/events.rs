//! Events of the sockets: mark prices of all symbols, and events of the account.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::replies::side;
use crate::codec::exchange::facts::{
    Forced, MarkPrice, Marks, PositionRow, Unreadable, UserEvent, UserTrade, shortened,
};
use crate::codec::exchange::number::{Average, Id, Name, Number, StatedSide, positive, read};
use crate::domain::units::Qty;

/// Execution types of a fill: normal, and liquidation.
const TRADE: &str = "TRADE";
const CALCULATED: &str = "CALCULATED";

/// Reads a message of `!markPrice@arr`. A row that cannot be read is left out and reported beside the others.
pub fn mark_updates(text: &str) -> Result<Marks, Unreadable> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "E")]
        event_ms: u64,
        #[serde(rename = "s")]
        symbol: Name,
        #[serde(rename = "p")]
        price: Number,
    }
    let rows: Vec<&RawValue> = read(unwrapped(text).as_bytes())?;
    let (mut marks, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match serde_json::from_str::<Row>(row.get()) {
            Ok(row) => match positive(row.price) {
                Some(mark_price) => marks.push(MarkPrice { symbol: row.symbol.0, mark_price, time_ms: row.event_ms }),
                None => bad.push(Unreadable::new(format!("{}: a mark price of {}", row.symbol.0, row.price.0))),
            },
            Err(error) => bad.push(Unreadable::new(format!("{}: {error}", shortened(row.get())))),
        }
    }
    Ok((marks, bad))
}

/// Reads a message of the account's stream.
pub fn user_event(text: &str) -> Result<UserEvent, Unreadable> {
    #[derive(Deserialize)]
    struct Named {
        e: String,
    }
    let text = unwrapped(text);
    let name = read::<Named>(text.as_bytes())?.e;
    match name.as_str() {
        "ORDER_TRADE_UPDATE" => order_trade_update(text),
        "ACCOUNT_UPDATE" => account_update(text),
        "listenKeyExpired" => Ok(UserEvent::KeyExpired),
        _ => Ok(UserEvent::Other(shortened(&name))),
    }
}

fn order_trade_update(text: &str) -> Result<UserEvent, Unreadable> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "o")]
        order: Order,
    }
    #[derive(Deserialize)]
    struct Order {
        #[serde(rename = "s")]
        symbol: Name,
        #[serde(rename = "c", default)]
        client_order_id: String,
        #[serde(rename = "S")]
        side: String,
        #[serde(rename = "x")]
        execution: String,
        #[serde(rename = "i")]
        order_id: Id,
        #[serde(rename = "l", default)]
        last_qty: Number,
        #[serde(rename = "L", default)]
        last_price: Number,
        #[serde(rename = "t", default)]
        trade_id: i64,
        #[serde(rename = "T")]
        time_ms: u64,
        #[serde(rename = "ps", default)]
        position_side: StatedSide,
    }
    let order = read::<Event>(text.as_bytes())?.order;
    if ![TRADE, CALCULATED].contains(&&*order.execution) {
        return Ok(UserEvent::Other(format!("ORDER_TRADE_UPDATE x={}", shortened(&order.execution))));
    }
    let forced = forced(&order.client_order_id, &order.execution);
    let (symbol, order_id) = (order.symbol.0, order.order_id.0);
    let wrong = |what: &str| Unreadable::new(format!("a trade of order {order_id} of {symbol} without {what}"));
    let price = positive(order.last_price).ok_or_else(|| wrong("a price"))?;
    let qty = Some(Qty::new(order.last_qty.0)).filter(|qty| qty.is_positive()).ok_or_else(|| wrong("a quantity"))?;
    let id = u64::try_from(order.trade_id).ok().filter(|id| *id > 0).ok_or_else(|| wrong("an id"))?;
    let (side, time_ms, position_side) = (side(&order.side)?, order.time_ms, order.position_side.0);
    Ok(UserEvent::Trade { trade: UserTrade { symbol, id, order_id, side, price, qty, time_ms, position_side }, forced })
}

/// Returns the reason from the client order id, which the exchange sets on such orders, and from the execution type.
fn forced(client_order_id: &str, execution: &str) -> Option<Forced> {
    match () {
        () if client_order_id.starts_with("adl_autoclose") => Some(Forced::AutoDeleveraging),
        () if client_order_id.starts_with("settlement_autoclose-") => Some(Forced::Settlement),
        () if client_order_id.starts_with("autoclose-") || execution == CALCULATED => Some(Forced::Liquidation),
        () => None,
    }
}

fn account_update(text: &str) -> Result<UserEvent, Unreadable> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "T")]
        time_ms: u64,
        #[serde(rename = "a")]
        account: Account,
    }
    #[derive(Deserialize)]
    struct Account {
        #[serde(rename = "P", default)]
        positions: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "s")]
        symbol: Name,
        #[serde(rename = "pa")]
        amount: Number,
        #[serde(rename = "ep", default)]
        entry_price: Average,
        #[serde(rename = "ps", default)]
        position_side: StatedSide,
    }
    let event: Event = read(text.as_bytes())?;
    let position = |row: Row| PositionRow {
        symbol: row.symbol.0,
        position_amt: Qty::new(row.amount.0),
        entry_price: positive(Number(row.entry_price.0)),
        position_side: row.position_side.0,
        updated_ms: Some(event.time_ms),
    };
    let rows: Vec<PositionRow> = event.account.positions.into_iter().map(position).collect();
    let sided: BTreeSet<String> =
        rows.iter().filter(|row| row.position_side.is_hedge()).map(|row| row.symbol.clone()).collect();
    // A hedge account has an empty row BOTH beside LONG and SHORT. It does not mean that a position is flat.
    let is_filler =
        |row: &PositionRow| sided.contains(&row.symbol) && !row.position_side.is_hedge() && row.position_amt.is_zero();
    Ok(UserEvent::Positions(rows.into_iter().filter(|row| !is_filler(row)).collect()))
}

/// Returns the message itself, without the envelope of combined streams: `{"stream":…,"data":…}`.
fn unwrapped(text: &str) -> &str {
    #[derive(Deserialize)]
    struct Combined<'a> {
        #[serde(rename = "stream")]
        _stream: &'a str,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_str::<Combined<'_>>(text).map_or(text, |combined| combined.data.get())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::Side;

    /// Recorded formats, as documented by the exchange.
    const FILL: &str = r#"{"e":"ORDER_TRADE_UPDATE","E":1770163396500,"T":1770163396495,"o":{"s":"AVAXUSDT","c":"x-1",
        "S":"SELL","o":"MARKET","f":"GTC","q":"29.6","p":"0","ap":"13.37246","sp":"0","x":"TRADE","X":"FILLED",
        "i":798972749,"l":"29.6","z":"29.6","L":"13.3724681353","N":"USDT","n":"0.15","T":1770163396495,"t":33445566,
        "b":"0","a":"0","m":false,"R":true,"wt":"CONTRACT_PRICE","ot":"MARKET","ps":"BOTH","cp":false,"rp":"1.2"}}"#;
    const ACCOUNT: &str = r#"{"e":"ACCOUNT_UPDATE","E":1770163396500,"T":1770163396495,"a":{"m":"ORDER","B":[{"a":"USDT",
        "wb":"122624.1","cw":"100.1","bc":"50.1"}],"P":[{"s":"AVAXUSDT","pa":"-29.6","ep":"13.3724681353","bep":"13.3",
        "cr":"200","up":"0","mt":"cross","iw":"0","ps":"BOTH"},{"s":"ADAUSDT","pa":"0","ep":"0.0","ps":"BOTH"}]}}"#;

    #[test]
    fn a_trade_brings_its_own_part_and_not_the_cumulative() {
        let Ok(UserEvent::Trade { trade, forced: None }) = user_event(FILL) else { panic!("{:?}", user_event(FILL)) };
        assert_eq!((trade.symbol.as_str(), trade.id, trade.order_id), ("AVAXUSDT", 33_445_566, 798_972_749));
        assert_eq!(
            (trade.side, trade.qty.to_string(), trade.price.to_string()),
            (Side::Sell, "29.6".into(), "13.3724681353".into())
        );
        assert_eq!(trade.time_ms, 1_770_163_396_495);
        let new = FILL.replace("\"x\":\"TRADE\"", "\"x\":\"NEW\"").replace("\"l\":\"29.6\"", "\"l\":\"0\"");
        assert_eq!(user_event(&new).unwrap(), UserEvent::Other("ORDER_TRADE_UPDATE x=NEW".to_owned()));
        let priceless = FILL.replace("\"L\":\"13.3724681353\"", "\"L\":\"0\"");
        assert!(user_event(&priceless).unwrap_err().to_string().contains("without a price"));
    }

    #[test]
    fn i69_a_liquidation_is_a_fill_and_forced_orders_are_known_by_their_ids() {
        let event = |execution: &str, client_id: &str| {
            let text = FILL.replace("\"x\":\"TRADE\"", &format!("\"x\":{execution:?}"));
            user_event(&text.replace("\"c\":\"x-1\"", &format!("\"c\":{client_id:?}"))).unwrap()
        };
        for (execution, client_id, want) in [
            ("CALCULATED", "autoclose-1770163396495", Some(Forced::Liquidation)),
            ("CALCULATED", "x-1", Some(Forced::Liquidation)),
            ("TRADE", "autoclose-1770163396495", Some(Forced::Liquidation)),
            ("TRADE", "adl_autoclose", Some(Forced::AutoDeleveraging)),
            ("CALCULATED", "adl_autoclose", Some(Forced::AutoDeleveraging)),
            ("TRADE", "settlement_autoclose-7", Some(Forced::Settlement)),
            ("TRADE", "my-autoclose-1", None),
        ] {
            let UserEvent::Trade { trade, forced } = event(execution, client_id) else {
                panic!("{execution} of {client_id} is a fill")
            };
            assert_eq!((trade.qty.to_string().as_str(), forced), ("29.6", want), "{execution} of {client_id}");
        }
        assert_eq!(event("AMENDMENT", "x-1"), UserEvent::Other("ORDER_TRADE_UPDATE x=AMENDMENT".to_owned()));
    }

    #[test]
    fn i66_sides_of_a_hedge_account_are_rows_of_their_own_and_its_empty_row_is_none() {
        let text = ACCOUNT.replace(
            r#"{"s":"ADAUSDT","pa":"0","ep":"0.0","ps":"BOTH"}"#,
            r#"{"s":"ADAUSDT","pa":"0","ep":"0.0","ps":"BOTH"},{"s":"ADAUSDT","pa":"4","ep":"0.3","ps":"LONG"},
               {"s":"ADAUSDT","pa":"-10","ep":"0.31","ps":"SHORT"}"#,
        );
        let Ok(UserEvent::Positions(rows)) = user_event(&text) else { panic!("{:?}", user_event(&text)) };
        let row = |p: &PositionRow| (p.symbol.clone(), p.position_side.name().to_owned(), p.position_amt.to_string());
        let want = [("AVAXUSDT", "BOTH", "-29.6"), ("ADAUSDT", "LONG", "4"), ("ADAUSDT", "SHORT", "-10")];
        let rows: Vec<_> = rows.iter().map(row).collect();
        assert_eq!(rows, want.map(|(symbol, side, qty)| (symbol.to_owned(), side.to_owned(), qty.to_owned())));
    }

    #[test]
    fn a_present_zero_is_flat_and_an_entry_price_of_zero_is_none() {
        let Ok(UserEvent::Positions(rows)) = user_event(ACCOUNT) else { panic!("{:?}", user_event(ACCOUNT)) };
        assert!(rows.iter().all(|row| row.updated_ms == Some(1_770_163_396_495)), "the time of the event: {rows:?}");
        let rows: Vec<(String, String, Option<String>)> = rows
            .iter()
            .map(|p| (p.symbol.clone(), p.position_amt.to_string(), p.entry_price.map(|price| price.to_string())))
            .collect();
        assert_eq!(
            rows,
            [
                ("AVAXUSDT".to_owned(), "-29.6".to_owned(), Some("13.3724681353".to_owned())),
                ("ADAUSDT".to_owned(), "0".to_owned(), None)
            ]
        );
        assert_eq!(user_event(r#"{"e":"listenKeyExpired","E":1,"listenKey":"k"}"#).unwrap(), UserEvent::KeyExpired);
        assert_eq!(user_event(r#"{"e":"MARGIN_CALL","E":1}"#).unwrap(), UserEvent::Other("MARGIN_CALL".to_owned()));
        assert!(user_event("<html>").is_err());
    }

    #[test]
    fn i03_a_mark_price_of_zero_is_left_out_and_named() {
        let text = r#"[{"e":"markPriceUpdate","E":1770163200000,"s":"ADAUSDT","p":"0.30100000","i":"0.3","P":"0.3","r":"0.0001","T":1},
            {"e":"markPriceUpdate","E":1770163200000,"s":"ARCUSDT","p":"0.00000000"},{"s":"XUSDT"},{"E":1,"s":"YUSDT","p":0.5}]"#;
        for text in [text.to_owned(), format!(r#"{{"stream":"!markPrice@arr@1s","data":{text}}}"#)] {
            let (marks, bad) = mark_updates(&text).unwrap();
            assert_eq!(marks.len(), 1, "{marks:?}");
            assert_eq!((marks[0].symbol.as_str(), marks[0].mark_price.to_string().as_str()), ("ADAUSDT", "0.301"));
            assert_eq!(bad.len(), 3, "a zero, a missing field, a float: {bad:?}");
            assert_eq!(bad[0].to_string(), "ARCUSDT: a mark price of 0");
        }
    }

    proptest! {
        /// A truncated event, or one with a changed character, is an event or an error, and never a panic.
        #[test]
        fn i68_a_damaged_event_is_an_event_or_an_error(at in 0..FILL.len(), c in any::<char>(), cut in any::<bool>()) {
            for sample in [FILL, ACCOUNT] {
                let (before, after) = sample.split_at(at % sample.len());
                let rest: String = if cut { String::new() } else { after.chars().skip(1).collect() };
                let text = format!("{before}{}{rest}", if cut { String::new() } else { c.to_string() });
                let _ = (user_event(&text), mark_updates(&text));
            }
        }
    }
}
