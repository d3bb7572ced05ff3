//! Backfill from the exchange: positions, marks, filters and trades, each fetched once, and failed calls that state
//! nothing.

use std::path::PathBuf;

use harvester::cli::replay::Request;
use harvester::codec::line::{self, Fields};
use harvester::codec::view;
use harvester::shell::redis::{Address, Server};
use serde_json::{Value, json};

use super::night::{Night, OBSERVATIONS, is_first_position, is_signal, lines, marks};
use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET};
use crate::support::{config, replayed};

/// Longest age of prices: the prices of the night stay fresh for the time of a test.
const PATIENT: &str = "[policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\n";

/// Makes the night with an exchange that has the 44 positions, their marks and filters, and accepts our key.
pub fn night(more: &str) -> (Night, ExchangeServer) {
    let exchange = ExchangeServer::start();
    {
        let mut world = exchange.world();
        for line in lines("events.jsonl") {
            let entry: Value = serde_json::from_str(&line).unwrap();
            if is_first_position(&entry) {
                let payload: Value = serde_json::from_str(entry["fields"]["payload"].as_str().unwrap()).unwrap();
                let text = |name: &str| match &payload[name] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                world.set_position(&text("symbol"), &text("positionAmt"), &text("entryPrice"));
                world.set_filters(&text("symbol"), "0.001", "0.001", "5");
            }
        }
        for (symbol, price) in marks() {
            world.set_price(&symbol, &price);
        }
        world.set_price("NOBODYUSDT", "1");
    }
    let mut night = Night::new();
    night.configure(&exchange.url(), more);
    night.set("BINANCE_TESTNET_API_KEY", KEY);
    night.set("BINANCE_TESTNET_API_SECRET", SECRET);
    (night, exchange)
}

fn backfill(night: &Night, arguments: &[&str]) -> Value {
    let ran = night.run(&[&["backfill", "--json"], arguments].concat());
    assert!(ran.code == Some(0) || ran.code == Some(1), "{}", ran.log);
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.log))
}

/// Writes all streams of the server as one history file, like their journal.
fn dump(night: &Night) -> PathBuf {
    let path = night.path("dump.jsonl");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(async {
        let mut server = Server::connect(&Address::new(&night.redis.url(), None).unwrap()).await.unwrap();
        let mut text = String::new();
        for (_, stream) in config(None).streams.iter() {
            for entry in server.range_after(&stream.name, None, 1_000_000).await.unwrap() {
                text += &line::write(&stream.name, &entry.id.to_string(), &Fields::from_bytes(entry.pairs()));
                text.push('\n');
            }
        }
        text
    });
    std::fs::write(&path, text).unwrap();
    path
}

/// Replays the history without a server, and asserts these positions, all of them evaluable. Returns the summary.
pub fn replays_to(night: &Night, history: PathBuf, wanted: &Value) -> view::Summary {
    let request = Request { histories: vec![history], ..Request::default() };
    let (again, _) = replayed(&request, &config(Some(&night.path("harvester.toml"))));
    assert_eq!(json!(view::positions(&again.engine, false)), *wanted);
    assert_eq!(again.summary.evaluable, 44);
    again.summary
}

pub fn count(exchange: &ExchangeServer, path: &str) -> usize {
    exchange.calls(path).len()
}

#[test]
fn i02_the_night_is_evaluable_in_three_ticks_and_ten_calls_and_replays_without_a_server() {
    let (night, exchange) = night(PATIENT);
    night.import(is_signal);
    let document = backfill(&night, &[]);
    assert_eq!((&document["updated"], &document["missing"]), (&44.into(), &0.into()), "{document:#}");
    // The mark of ARCUSDT is far from its entry price: a third tick fetches it again.
    assert!(document["ticks"].as_u64().unwrap() <= 3, "{}", document["ticks"]);
    let calls = exchange.all_calls();
    assert!(calls.len() <= 10, "{calls:#?}");
    assert_eq!(document["api_calls"], calls.len());
    // 44 marks, 44 positions, 44 filters: one call each, and one that confirms the mark of ARCUSDT.
    assert_eq!(count(&exchange, "/fapi/v1/premiumIndex"), 2);
    assert_eq!(exchange.calls("/fapi/v1/premiumIndex")[0].parameter("symbol"), None);
    assert_eq!(exchange.calls("/fapi/v1/premiumIndex")[1].parameter("symbol"), Some("ARCUSDT"));
    assert_eq!(count(&exchange, "/fapi/v3/positionRisk"), 1);
    assert_eq!(count(&exchange, "/fapi/v1/exchangeInfo"), 1);

    // The same positions, and the same decisions at their rungs, from the log alone.
    drop(exchange);
    let again = replays_to(&night, dump(&night), &document["positions"]);
    assert_eq!((again.positions_open, again.quarantined.len()), (44, 0));
}

#[test]
fn i46_data_that_the_history_contains_is_not_fetched() {
    let (night, exchange) = night(PATIENT);
    night.import(is_signal);
    backfill(&night, &[]);
    let before = exchange.all_calls().len();
    let again = backfill(&night, &[]);
    assert_eq!((&again["skipped"], &again["missing"]), (&44.into(), &0.into()), "{again:#}");
    // The present quantities are new facts; marks, filters and trades are in the history.
    let asked: Vec<String> = exchange.all_calls()[before..].iter().map(|call| call.path.clone()).collect();
    assert_eq!(asked, ["/fapi/v1/time", "/fapi/v3/positionRisk"]);
}

#[test]
fn i31_a_ghost_is_closed_by_two_answers_and_not_by_a_failure() {
    let (night, exchange) =
        night("[policy]\ndivergence_grace_ms = 0\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\n");
    night.buy("GHOSTUSDT", "5", Some("2"));
    exchange.world().set_price("GHOSTUSDT", "2");
    let is_open =
        |document: &Value| document["positions"].as_array().unwrap().iter().any(|p| p["symbol"] == "GHOSTUSDT");
    // Failed answers: an error, half of a list, an HTML page, and a connection that breaks off.
    for fault in [
        Fault::Status(500, Vec::new(), "{\"code\":-1000,\"msg\":\"unknown\"}".to_owned()),
        Fault::Halved,
        Fault::Body("<html>maintenance</html>".to_owned()),
        Fault::BreaksOff,
    ] {
        exchange.fail("/fapi/v3/positionRisk", [fault.clone()]);
        let document = backfill(&night, &[]);
        assert!(is_open(&document), "{fault:?}");
        assert_eq!(night.redis.cli(&["EXISTS", OBSERVATIONS]).trim(), "1", "prices were fetched");
        let stream = night.redis.cli(&["XRANGE", OBSERVATIONS, "-", "+"]);
        assert!(!stream.contains("exchange.position"), "{fault:?}: {stream}");
        let _ = std::fs::remove_file(night.path("state.exchange"));
    }
    let first = backfill(&night, &[]);
    let ghost = first["positions"].as_array().unwrap().iter().find(|p| p["symbol"] == "GHOSTUSDT").unwrap().clone();
    assert_eq!((&ghost["hold"], &ghost["flags"]), (&"diverged".into(), &serde_json::json!(["diverged"])));
    let second = backfill(&night, &[]);
    assert!(!is_open(&second), "the exchange has stated twice that it has none");
}

#[test]
fn i46_a_ban_is_respected_by_the_next_process_too() {
    let (night, exchange) = night(PATIENT);
    night.import(is_signal);
    let ban =
        Fault::Status(418, vec![("retry-after", "120".to_owned())], "{\"code\":-1003,\"msg\":\"banned\"}".to_owned());
    exchange.fail("/fapi/v3/positionRisk", [ban]);
    let document = backfill(&night, &[]);
    let calls = exchange.all_calls().len();
    assert!(document["notes"].to_string().contains("shut out (418)"), "{}", document["notes"]);
    assert_eq!(exchange.calls("/fapi/v3/positionRisk").len(), 1);
    assert_eq!(count(&exchange, "/fapi/v1/premiumIndex"), 0, "nothing follows a ban");
    let document = backfill(&night, &[]);
    assert_eq!(document["api_calls"], 0);
    assert_eq!(exchange.all_calls().len(), calls, "no further call");
    assert_eq!(document["positions_unknown"], true, "a ban states nothing about positions");
}

#[test]
fn i44_a_carriage_return_after_the_key_is_removed_and_named() {
    let (mut night, exchange) = night(PATIENT);
    night.import(is_signal);
    night.set("BINANCE_TESTNET_API_KEY", &format!("{KEY}\r"));
    let ran = night.run(&["backfill"]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.log);
    assert!(ran.log.contains("BINANCE_TESTNET_API_KEY: a carriage return at the end was cleaned"), "{}", ran.log);
    night.set("BINANCE_TESTNET_API_SECRET", &SECRET[..63]);
    let calls = count(&exchange, "/fapi/v3/positionRisk");
    let ran = night.run(&["backfill"]);
    assert!(ran.log.contains("BINANCE_TESTNET_API_SECRET has 63 characters"), "{}", ran.log);
    assert_eq!(count(&exchange, "/fapi/v3/positionRisk"), calls, "nothing is signed with an invalid key");
    assert!(!ran.log.contains(&SECRET[..8]) && !ran.out.contains(&SECRET[..8]));
}

/// Opening of a position that a look-up found. [ms since 1970]
const FOUND_MS: u64 = 1_770_170_700_000;
const DAY_MS: u64 = 86_400_000;

#[test]
fn trades_are_fetched_back_to_the_last_flat_position() {
    let (night, exchange) = night(PATIENT);
    let of_two = |entry: &Value| ["ADAUSDT", "NEARUSDT"].iter().any(|symbol| entry.to_string().contains(symbol));
    night.import(|entry| (is_signal(entry) || is_first_position(entry)) && of_two(entry));
    {
        let mut world = exchange.world();
        world.positions.retain(|symbol, _| symbol == "ADAUSDT" || symbol == "NEARUSDT");
        // An earlier round trip; then 1200 small buys, over more than one page and more than one window.
        world.add_trade("ADAUSDT", (1, 100), "BUY", ("5", "0.2"), FOUND_MS - 20 * DAY_MS);
        world.add_trade("ADAUSDT", (2, 101), "SELL", ("5", "0.21"), FOUND_MS - 19 * DAY_MS);
        world.add_trade("ADAUSDT", (3, 102), "BUY", ("66.22", "0.29"), FOUND_MS - 8 * DAY_MS);
        for i in 0..1_200 {
            world.add_trade("ADAUSDT", (4 + i, 103), "BUY", ("0.5", "0.31"), FOUND_MS - DAY_MS + i);
        }
        // Bought after the look-up: a later look-up states it, and the backfill must not add it.
        world.add_trade("ADAUSDT", (5_000, 104), "BUY", ("1", "0.4"), FOUND_MS + 5);
        // A position whose trades do not lead back to zero.
        world.add_trade("NEARUSDT", (1, 105), "BUY", ("3", "1.4"), FOUND_MS - DAY_MS);
    }
    let document = backfill(&night, &["--fills"]);
    let of = |symbol: &str| {
        document["positions"].as_array().unwrap().iter().find(|p| p["symbol"] == symbol).unwrap().clone()
    };
    let ada = of("ADAUSDT");
    assert_eq!(ada["fills"].as_array().unwrap().len(), 1_201, "the whole chain, and nothing before it");
    assert_eq!(ada["qty"], "666.22", "trades never change the quantity");
    assert_eq!(ada["entry_price"]["source"], "fill");
    // (66.22 × 0.29 + 600 × 0.31) / 666.22
    assert!(ada["entry_price"]["value"].as_str().unwrap().starts_with("0.30801"), "{}", ada["entry_price"]);
    let pages: Vec<_> = exchange
        .calls("/fapi/v1/userTrades")
        .into_iter()
        .filter(|c| c.parameter("symbol") == Some("ADAUSDT"))
        .collect();
    assert_eq!(pages.len(), 3, "two pages of the first window, one of the second: {pages:#?}");
    assert!(pages[1].parameter("fromId").is_some() && pages[1].parameter("startTime").is_none());
    assert_eq!(of("NEARUSDT")["entry_price"]["source"], "exchange");
    assert!(
        document["notes"].to_string().contains("NEARUSDT: its trades were followed back to 2025-11-0"),
        "{}",
        document["notes"]
    );
    let stream = night.redis.cli(&["XRANGE", OBSERVATIONS, "-", "+"]);
    assert!(
        !stream.contains("\"orderId\":\"105\"") && !stream.contains("\"orderId\":\"104\""),
        "half a chain is not written"
    );
}

/// Adds a second fill of the night, after that of `Night::buy`.
const GHOST: [&str; 17] = [
    "XADD",
    "quantum:stream:apply.result",
    "1770166809000-0",
    "symbol",
    "GHOSTUSDT",
    "plan_id",
    "q",
    "executed",
    "True",
    "side",
    "BUY",
    "filled_qty",
    "5",
    "order_id",
    "8",
    "order_status",
    "FILLED",
];

#[test]
fn i66_both_sides_of_a_hedge_account_are_written_separately() {
    let (night, exchange) = night(PATIENT);
    night.buy("ADAUSDT", "7", Some("0.3"));
    night.redis.cli(&GHOST);
    {
        let mut world = exchange.world();
        world.positions.clear();
        world.set_side("ADAUSDT", "LONG", "4", "0.3");
        world.set_side("ADAUSDT", "SHORT", "-10", "0.31");
    }
    let document = backfill(&night, &[]);
    assert!(
        document["notes"]
            .to_string()
            .contains("position_mode: hedge (dual-side) at the exchange, one-way in the entries"),
        "{document:#}"
    );
    let stream = night.redis.cli(&["--json", "XRANGE", OBSERVATIONS, "-", "+"]);
    let entries: Vec<(String, Vec<String>)> = serde_json::from_str(&stream).unwrap();
    let observed: Vec<Value> = entries
        .iter()
        .filter(|(_, fields)| fields.contains(&"exchange.position".to_owned()))
        .map(|(_, fields)| serde_json::from_str(fields.last().unwrap()).unwrap())
        .collect();
    let side = |side: &str, qty: &str| {
        observed.iter().any(|p| p["symbol"] == "ADAUSDT" && p["positionSide"] == side && p["positionAmt"] == qty)
    };
    assert!(side("LONG", "4") && side("SHORT", "-10"), "{observed:#?}");
    // The one-way books have no row: each gets a zero that names BOTH, and no quantity.
    let others: Vec<&Value> =
        observed.iter().filter(|p| p["positionSide"] != "LONG" && p["positionSide"] != "SHORT").collect();
    assert_eq!(others.iter().map(|p| p["symbol"].as_str().unwrap()).collect::<Vec<_>>(), ["ADAUSDT", "GHOSTUSDT"]);
    assert!(others.iter().all(|p| p["positionSide"] == "BOTH" && p["positionAmt"] == "0"), "{observed:#?}");
    // Our quantity is neither of them, and not zero.
    let qty = |symbol: &str| {
        document["positions"].as_array().unwrap().iter().find(|p| p["symbol"] == symbol).map(|p| p["qty"].clone())
    };
    assert_eq!((qty("ADAUSDT"), qty("GHOSTUSDT")), (Some("7".into()), Some("5".into())));
}

#[test]
fn i46_a_delisted_symbol_is_fetched_once_and_filters_have_maximum_and_status() {
    let (night, exchange) = night(PATIENT);
    night.buy("GONEUSDT", "5", Some("2"));
    night.redis.cli(&GHOST);
    {
        let mut world = exchange.world();
        world.positions.clear();
        world.set_position("GHOSTUSDT", "5", "2");
        world.set_price("GHOSTUSDT", "2");
        world.set_filters("GHOSTUSDT", "0.1", "0.1", "5");
        world.delisted.insert("GONEUSDT".to_owned());
    }
    // Several ticks: the answers of one lead to the calls of the next.
    let document = backfill(&night, &["--fills"]);
    assert!(document["ticks"].as_u64().unwrap() >= 2, "{document:#}");
    let asked: Vec<String> = exchange
        .all_calls()
        .iter()
        .filter(|call| call.parameter("symbol") == Some("GONEUSDT"))
        .map(|call| call.path.clone())
        .collect();
    assert_eq!(asked, ["/fapi/v1/premiumIndex"], "one refusal is enough: {:#?}", exchange.all_calls());
    let stream = night.redis.cli(&["XRANGE", OBSERVATIONS, "-", "+"]);
    assert!(stream.contains(r#"\"maxQty\":\"100000\""#) || stream.contains(r#""maxQty":"100000""#), "{stream}");
    assert!(stream.contains("TRADING"), "{stream}");
}
