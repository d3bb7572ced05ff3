//! Backfill without the exchange: prices from hashes, messages for missing fields, and the hashes of the old service.

use serde_json::Value;

use super::night::{Night, is_first_position, is_signal, marks};

/// The address of an exchange that does not answer.
const ABSENT: &str = "http://127.0.0.1:9";

/// Makes a night of signals and one look-up of positions, without prices.
fn night() -> Night {
    let night = Night::new();
    night.configure(ABSENT, "[policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\n");
    night.import(|entry| is_signal(entry) || is_first_position(entry));
    night
}

fn set_ticker(night: &Night, symbol: &str, price: &str, at_ms: u64) {
    night.redis.cli(&[
        "HSET",
        &format!("quantum:ticker:{symbol}"),
        "markPrice",
        price,
        "timestamp",
        &at_ms.to_string(),
    ]);
}

fn set_tickers(night: &Night, at_ms: u64) {
    let of = |(symbol, price): (String, String)| {
        ["HSET", &format!("quantum:ticker:{symbol}"), "markPrice", &price, "timestamp", &at_ms.to_string()].join(" ")
    };
    night.commands(&marks().into_iter().map(of).collect::<Vec<_>>());
}

fn total(out: &str) -> String {
    out.lines().find(|line| line.starts_with("[BACKFILL] updated")).unwrap_or_default().to_owned()
}

#[test]
fn i01_marks_come_from_fresh_hashes_and_each_stale_one_is_named() {
    let night = night();
    let now_ms = night.now_ms();
    set_tickers(&night, now_ms);
    // The feed was "running": its keys for three symbols are empty, old, or of another type.
    night.redis.cli(&["DEL", "quantum:ticker:ADAUSDT"]);
    set_ticker(&night, "NEARUSDT", "1.465", now_ms - 700_000);
    night.redis.cli(&["DEL", "quantum:ticker:ETHUSDT"]);
    night.redis.cli(&["SET", "quantum:ticker:ETHUSDT", "3000"]);
    // The other hash has one of them, in seconds.
    let seconds = (now_ms / 1000).to_string();
    night.redis.cli(&["HSET", "quantum:market:ETHUSDT", "price", "3000.5", "timestamp", &seconds]);

    let ran = night.run(&["backfill"]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    assert!(total(&ran.out).starts_with("[BACKFILL] updated 42 / skipped 0 / missing 2; "), "{}", ran.out);
    let line = |symbol: &str| ran.out.lines().find(|line| line.contains(symbol)).unwrap_or_default().to_owned();
    assert!(line("ARCUSDT").starts_with("[OK] ARCUSDT: entry_price=0.0636 (exchange 1770170700000-0) atr=0.1 vol=5 entry_risk=1567.89 (intent_nearest 1770166800000-0) mark=0.07498 (redis_ticker "), "{}", line("ARCUSDT"));
    assert!(line("ETHUSDT").contains("mark=3000.5 (redis_market "), "{}", line("ETHUSDT"));
    let ada = line("ADAUSDT");
    assert!(
        ada.starts_with(
            "[MISSING] ADAUSDT: mark_price: no price in the streams; redis_ticker: absent; redis_market: absent; api: "
        ),
        "{ada}"
    );
    let near = line("NEARUSDT");
    assert!(near.contains("redis_ticker: 70") && near.contains(" s old; redis_market: absent"), "{near}");
    // The found prices are in the stream, with their source: they replay like any other fact.
    let stream = night.redis.cli(&["XREVRANGE", "quantum:stream:harvest.observation", "+", "-", "COUNT", "42"]);
    assert_eq!(
        stream.matches("\"source\":\"redis_ticker\"").count() + stream.matches("\"source\":\"redis_market\"").count(),
        42,
        "{stream}"
    );
}

#[test]
fn i50_a_price_source_that_the_policy_does_not_name_is_not_read() {
    let night = night();
    night.configure(
        ABSENT,
        "[policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\nprice_sources = [\"redis_market\"]\n",
    );
    let now_ms = night.now_ms();
    set_ticker(&night, "ARCUSDT", "0.07498", now_ms);
    let ran = night.run(&["backfill", "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&document["appended"], &document["missing"]), (&0.into(), &44.into()));
    assert!(!document["notes"].to_string().contains("premiumIndex"), "{}", document["notes"]);
    let arc = document["lines"].as_array().unwrap().iter().find(|line| line["symbol"] == "ARCUSDT").unwrap();
    assert_eq!(
        arc["missing"]["mark_price"],
        "no price in the streams; redis_market: absent; api: the policy does not accept it"
    );
}

#[test]
fn i03_a_missing_field_is_named_with_the_variable_that_would_supply_it() {
    let mut night = Night::new();
    night.set("BINANCE_TESTNET_API_SECRET", "\r");
    // A fill without a price, a plan without one, and no intent: the data of an acknowledgement.
    night.buy("ADAUSDT", "666.22", None);
    let ran = night.run(&["backfill"]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    let line = ran.out.lines().next().unwrap();
    assert!(line.starts_with("[MISSING] ADAUSDT: atr_value: no plan or intent in this direction has both ATR and volatility | entry_price: no fill, plan or intent; exchange: no credentials (BINANCE_TESTNET_API_KEY is not set) | "), "{line}");
    assert_eq!(
        ran.log.matches("no credentials of the exchange: BINANCE_TESTNET_API_KEY is not set").count(),
        1,
        "once: {}",
        ran.log
    );
}

#[test]
fn i40_positions_that_no_source_has_stated_are_unknown_and_not_flat() {
    let night = Night::new();
    night.import(is_signal);
    let ran = night.run(&["backfill"]);
    assert!(ran.out.contains("positions unknown"), "{}", ran.out);
    let document: Value = serde_json::from_str(&night.run(&["backfill", "--json"]).out).unwrap();
    assert_eq!(document["positions_unknown"], true);
}

#[test]
fn i02_old_hashes_get_their_missing_fields_and_nothing_else_changes() {
    let night = night();
    assert_eq!(night.write_hashes("quantum:position:"), 44);
    // One hash states another quantity, one another side, one key is not a hash, one symbol has none.
    night.redis.cli(&["HSET", "quantum:position:NEARUSDT", "quantity", "131"]);
    night.redis.cli(&["HSET", "quantum:position:BTCUSDT", "side", "LONG"]);
    night.redis.cli(&["DEL", "quantum:position:ETHUSDT"]);
    night.redis.cli(&["SET", "quantum:position:ETHUSDT", "not a hash"]);
    night.redis.cli(&["DEL", "quantum:position:XRPUSDT"]);
    night.redis.cli(&[
        "HSET",
        "quantum:state:positions:ADAUSDT",
        "side",
        "LONG",
        "risk_missing",
        "True",
        "entry_price",
        "0.30020",
    ]);
    let now_ms = night.now_ms();
    set_tickers(&night, now_ms);

    let before = night.keys();
    let dry = night.run(&["backfill", "--dry-run", "--write-back"]);
    assert_eq!(dry.code, Some(0), "{}", dry.log);
    assert_eq!(night.keys(), before, "a dry run changes nothing");
    assert!(total(&dry.out).contains("(dry run: nothing was appended or written)"), "{}", dry.out);

    let ran = night.run(&["backfill", "--write-back"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let hash = |key: &str, field: &str| night.redis.cli(&["HGET", key, field]).trim().to_owned();
    assert_eq!(hash("quantum:position:ADAUSDT", "entry_price"), "0.3002");
    assert_eq!(hash("quantum:position:ADAUSDT", "atr_value"), "0.0398");
    assert_eq!(hash("quantum:position:ADAUSDT", "entry_risk_usdt"), "26.7992724492");
    assert_eq!(hash("quantum:position:ADAUSDT", "leverage"), "10.0", "fields of others stay");
    assert!(ran.out.contains("      quantum:position:ADAUSDT entry_price: \"0\" -> \"0.3002\""), "{}", ran.out);
    // The same number in other digits is equal; only fields that differ are written.
    assert_eq!(hash("quantum:state:positions:ADAUSDT", "entry_price"), "0.30020");
    assert_eq!(hash("quantum:state:positions:ADAUSDT", "risk_missing"), "0");
    assert_eq!(hash("quantum:position:ARCUSDT", "volatility_factor"), "5.0");
    // A hash of another position is not changed, with a message; no hash is created.
    assert_eq!(hash("quantum:position:NEARUSDT", "entry_price"), "0");
    assert!(
        ran.out.contains("quantum:position:NEARUSDT is left as it is: it tells of a quantity of 131, ours is 130"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("quantum:position:BTCUSDT is left as it is: it tells of a LONG position, ours is SHORT"),
        "{}",
        ran.out
    );
    assert_eq!(night.redis.cli(&["GET", "quantum:position:ETHUSDT"]).trim(), "not a hash");
    assert_eq!(night.redis.cli(&["EXISTS", "quantum:position:XRPUSDT"]).trim(), "0");

    // Once the hashes agree, there is nothing to do.
    let again = night.run(&["backfill", "--write-back", "--json"]);
    let document: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&document["updated"], &document["missing"]), (&0.into(), &0.into()), "{}", again.out);
}
