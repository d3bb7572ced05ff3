//! Several accounts of one exchange, one of them in hedge mode: each is fetched with its own credentials, and its
//! answers are written under its name.

use serde_json::{Value, json};

use super::night::{Night, OBSERVATIONS, RESULTS};
use crate::support::exchange::{ExchangeServer, KEY, SECRET};

const POSITIONS: &str = "/fapi/v3/positionRisk";
const TRADES: &str = "/fapi/v1/userTrades";
const MAIN: (&str, &str) = (
    "11bfbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83",
    "115eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",
);
const HEDGED: (&str, &str) = (
    "22bfbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83",
    "225eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",
);
const ACCOUNTS: &str = "[accounts.main]\napi_key_env = \"MAIN_KEY\"\napi_secret_env = \"MAIN_SECRET\"\n\
                        [accounts.hedged]\napi_key_env = \"HEDGED_KEY\"\napi_secret_env = \"HEDGED_SECRET\"\n\
                        [policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\n";

/// Starts an exchange with an account in one-way mode, one in hedge mode, and an empty account without a name.
fn accounts() -> (Night, ExchangeServer) {
    let exchange = ExchangeServer::start();
    {
        let mut world = exchange.world();
        world.set_price("ADAUSDT", "0.301");
        world.set_price("ETHUSDT", "3000");
        world.set_filters("ADAUSDT", "1", "1", "5");
        world.set_filters("ETHUSDT", "0.001", "0.001", "5");
        let main = world.add_account(MAIN.0, MAIN.1);
        main.positions.insert("ADAUSDT".to_owned(), ("7".to_owned(), "0.3".to_owned()));
        let hedged = world.add_account(HEDGED.0, HEDGED.1);
        hedged.is_hedged = true;
        for (side, qty, entry) in [("LONG", "4", "0.3"), ("SHORT", "-10", "0.31")] {
            hedged.sided.insert(("ADAUSDT".to_owned(), side.to_owned()), (qty.to_owned(), entry.to_owned()));
        }
    }
    let mut night = Night::new();
    night.configure(&exchange.url(), ACCOUNTS);
    for (name, value) in
        [("MAIN_KEY", MAIN.0), ("MAIN_SECRET", MAIN.1), ("HEDGED_KEY", HEDGED.0), ("HEDGED_SECRET", HEDGED.1)]
    {
        night.set(name, value);
    }
    (night, exchange)
}

/// Adds a fill of an account, with more fields.
fn fill(night: &Night, id: &str, account: &str, symbol: &str, qty: &str, more: &[&str]) {
    let fields = ["symbol", symbol, "plan_id", id, "executed", "True", "side", "BUY", "filled_qty", qty];
    let of_order = ["order_id", id, "order_status", "FILLED", "account", account];
    night.redis.cli(&[&["XADD", RESULTS, &format!("177016680{id}000-0")], &fields[..], &of_order, more].concat());
}

/// Returns the observed positions: account, symbol, side and quantity.
fn observed(night: &Night) -> Vec<(String, String, String, String)> {
    let stream = night.redis.cli(&["--json", "XRANGE", OBSERVATIONS, "-", "+"]);
    let entries: Vec<(String, Vec<String>)> = serde_json::from_str(&stream).unwrap();
    let positions = entries.iter().filter(|(_, fields)| fields.contains(&"exchange.position".to_owned()));
    let mut observed: Vec<_> = positions
        .map(|(_, fields)| {
            let payload: Value = serde_json::from_str(fields.last().unwrap()).unwrap();
            let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
            (text("account"), text("symbol"), text("positionSide"), text("positionAmt"))
        })
        .collect();
    observed.sort();
    observed.dedup();
    observed
}

fn keys(exchange: &ExchangeServer, path: &str) -> Vec<String> {
    let mut keys: Vec<String> = exchange.calls(path).into_iter().filter_map(|call| call.key).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn row(account: &str, symbol: &str, side: &str, qty: &str) -> (String, String, String, String) {
    (account.to_owned(), symbol.to_owned(), side.to_owned(), qty.to_owned())
}

#[test]
fn each_account_is_fetched_with_its_own_key_and_written_under_its_own_name() {
    let (night, exchange) = accounts();
    // The history has a fill of each; the position in ETHUSDT was closed at the exchange since.
    fill(&night, "1", "main", "ADAUSDT", "7", &[]);
    fill(&night, "2", "hedged", "ADAUSDT", "4", &["positionSide", "LONG"]);
    fill(&night, "3", "hedged", "ETHUSDT", "0.5", &["positionSide", "LONG"]);
    fill(&night, "4", "nobody", "ETHUSDT", "0.5", &[]);
    let ran = night.run(&["backfill", "--json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        observed(&night),
        [
            row("hedged", "ADAUSDT", "LONG", "4"),
            row("hedged", "ADAUSDT", "SHORT", "-10"),
            row("hedged", "ETHUSDT", "LONG", "0"),
            row("main", "ADAUSDT", "", "7"),
        ],
        "no position is invented for an account without a call"
    );
    assert_eq!(keys(&exchange, POSITIONS), [MAIN.0, HEDGED.0]);
    assert_eq!(keys(&exchange, "/fapi/v1/premiumIndex"), Vec::<String>::new(), "prices belong to no account");
    let of = |account: &str, side: Option<&str>| {
        let positions = document["positions"].as_array().unwrap().iter();
        let found: Vec<&Value> = positions
            .filter(|p| p["account"] == account && p["symbol"] == "ADAUSDT" && p["position_side"].as_str() == side)
            .collect();
        assert_eq!(found.len(), 1, "{account} {side:?}: {document:#}");
        (found[0]["qty"].clone(), found[0]["entry_price"]["value"].clone(), found[0]["entry_price"]["source"].clone())
    };
    let by_exchange = |qty: &str, entry: &str| (json!(qty), json!(entry), json!("exchange"));
    assert_eq!(of("main", None), by_exchange("7", "0.3"));
    assert_eq!(of("hedged", Some("LONG")), by_exchange("4", "0.3"));
    assert_eq!(of("hedged", Some("SHORT")), by_exchange("10", "0.31"));
    let line = document["lines"].as_array().unwrap().iter().find(|line| line["symbol"] == "nobody/ETHUSDT").unwrap();
    let why = line["missing"]["entry_price"].as_str().unwrap();
    let says = "no credentials ([accounts.nobody] is not configured)";
    assert!(why.contains(says), "{why}");
    assert!(!ran.out.contains(&MAIN.0[..8]) && !ran.log.contains(&MAIN.0[..8]), "no key is shown");
}

#[test]
fn trades_are_fetched_by_account_and_side() {
    let (night, exchange) = accounts();
    fill(&night, "2", "hedged", "ADAUSDT", "4", &["positionSide", "LONG"]);
    let now_ms = exchange.world().now_ms();
    let trade = |id: u64, side: &str, position_side: &str, price: &str| {
        json!({
            "symbol": "ADAUSDT", "id": id, "orderId": 2, "side": side, "price": price, "qty": "4", "realizedPnl": "0",
            "quoteQty": "1", "commission": "0", "commissionAsset": "USDT", "time": now_ms,
            "positionSide": position_side, "buyer": side == "BUY", "maker": false,
        })
    };
    exchange.world().accounts[1].trades = vec![trade(1, "BUY", "LONG", "0.29")];
    exchange.world().accounts[0].trades = vec![trade(9, "BUY", "BOTH", "0.5")];
    // The exchange does not state the entry price, and nothing is open in the other account.
    let unpriced = ("4".to_owned(), "0.0".to_owned());
    exchange.world().accounts[1].sided = [(("ADAUSDT".to_owned(), "LONG".to_owned()), unpriced)].into();
    exchange.world().accounts[0].positions.clear();
    let ran = night.run(&["backfill", "--fills", "--json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(keys(&exchange, TRADES), [HEDGED.0], "{}{}", ran.out, ran.log);
    let positions = document["positions"].as_array().unwrap();
    let long = positions.iter().find(|p| p["account"] == "hedged").unwrap();
    let fills = long["fills"].as_array().unwrap();
    let is_priced = fills.iter().any(|fill| fill["price"] == "0.29" && fill["order"] == "2");
    assert!(long["position_side"] == "LONG" && is_priced, "{document:#}");
    let stream = night.redis.cli(&["XRANGE", OBSERVATIONS, "-", "+"]);
    assert_eq!(stream.matches("exchange.trade").count(), 1, "none of the other account: {stream}");
}

/// Returns a store in which both accounts have the quantities of the exchange.
fn reconciled() -> (Night, ExchangeServer) {
    let (night, exchange) = accounts();
    let line = |id: &str, payload: Value| {
        let fields = json!({"event_type": "exchange.position", "payload": payload.to_string()});
        json!({"stream": OBSERVATIONS, "id": id, "fields": fields}).to_string()
    };
    let text = [
        line("1-0", json!({"symbol": "ADAUSDT", "positionAmt": "7", "entryPrice": "0.3", "account": "main"})),
        line(
            "1-1",
            json!({"symbol": "ADAUSDT", "positionAmt": "4", "entryPrice": "0.3", "account": "hedged",
            "positionSide": "LONG"}),
        ),
        line(
            "1-2",
            json!({"symbol": "ADAUSDT", "positionAmt": "-10", "entryPrice": "0.31", "account": "hedged",
            "positionSide": "SHORT"}),
        ),
    ];
    let history = night.path("history.jsonl");
    std::fs::write(&history, text.join("\n")).unwrap();
    let store = night.path("state");
    let ran = night.run(&["replay", history.to_str().unwrap(), "--store", store.to_str().unwrap(), "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    (night, exchange)
}

fn reconcile(night: &Night, arguments: &[&str]) -> (Option<i32>, Value) {
    let store = night.path("state");
    let ran = night.run(&[&["reconcile", "--store", store.to_str().unwrap(), "--json"], arguments].concat());
    (ran.code, serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.log)))
}

fn verdicts(document: &Value) -> Vec<(String, String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = document["positions"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "account"), text(row, "position_side"), text(row, "verdict"))).collect()
}

#[test]
fn reconcile_compares_each_account_with_its_own_credentials() {
    let (mut night, exchange) = reconciled();
    let (code, document) = reconcile(&night, &[]);
    assert_eq!(
        (code, &document["verdict"], &document["counts"]["same"]),
        (Some(0), &"same".into(), &3.into()),
        "{document:#}"
    );
    assert_eq!(keys(&exchange, POSITIONS), [MAIN.0, HEDGED.0]);
    let is = |account: &str, side: &str, verdict: &str| (account.to_owned(), side.to_owned(), verdict.to_owned());
    // A difference is found in the account and on the side that has it.
    let other = ("3".to_owned(), "0.3".to_owned());
    exchange.world().accounts[1].sided.insert(("ADAUSDT".to_owned(), "LONG".to_owned()), other);
    let (code, document) = reconcile(&night, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        verdicts(&document),
        [is("hedged", "LONG", "different_quantity"), is("hedged", "SHORT", "same"), is("main", "BOTH", "same")]
    );
    assert_eq!(reconcile(&night, &["--account", "main"]).0, Some(0), "the other one is not called");
    // Without the credentials of one account, its verdict is unknown, and that of the other is not.
    night.set("HEDGED_KEY", "");
    let (code, document) = reconcile(&night, &[]);
    assert_eq!((code, &document["verdict"]), (Some(1), &"unknown".into()), "{document:#}");
    assert_eq!(
        verdicts(&document),
        [is("hedged", "LONG", "unknown"), is("hedged", "SHORT", "unknown"), is("main", "BOTH", "same")]
    );
    assert!(document["coverage"]["failure"].as_str().unwrap().contains("HEDGED_KEY is empty"), "{document:#}");
    // The account is in another mode than its entries.
    night.set("HEDGED_KEY", HEDGED.0);
    exchange.world().accounts[0].is_hedged = true;
    let (code, document) = reconcile(&night, &["--account", "main"]);
    assert_eq!((code, &document["verdict"]), (Some(1), &"unknown".into()));
    assert!(document["coverage"]["not_known"].to_string().contains("account main: every position"), "{document:#}");
    // The credentials of the account without a name are not used for the others.
    night.configure(&exchange.url(), "");
    night.set("BINANCE_TESTNET_API_KEY", KEY);
    night.set("BINANCE_TESTNET_API_SECRET", SECRET);
    let before = exchange.calls(POSITIONS).len();
    let (code, document) = reconcile(&night, &[]);
    assert_eq!((code, &document["verdict"], &document["counts"]["unknown"]), (Some(1), &"unknown".into(), &3.into()));
    let keys: Vec<Option<String>> = exchange.calls(POSITIONS)[before..].iter().map(|call| call.key.clone()).collect();
    assert_eq!(keys, [Some(KEY.to_owned())]);
}
