//! The feed of the account: fills, positions and listen keys.

use super::{LISTEN_KEY, Lab, OBSERVATIONS, TRADES};
use crate::support::binary::{harvester, run};
use crate::support::exchange::{Fault, KEY, SECRET, account_event, trade_event};
use serde_json::{Value, json};

#[test]
fn fills_become_trades_followed_by_their_positions() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    let sockets = lab.exchange.open_sockets();
    let (path, events) =
        ("/private/ws?listenKey=pqia91ma19a5s61cv6a8", "&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired");
    assert!(sockets.len() == 1 && sockets[0].starts_with(path) && sockets[0].ends_with(events), "{sockets:?}");
    let now_ms = lab.exchange.world().now_ms();
    // The exchange reports the position first.
    lab.exchange.push_user(&account_event("AVAXUSDT", "-29.6", "13.3724681353", now_ms));
    lab.wait_until("an event that was received", |lab| lab.metric("harvester_feed_messages_total") == Some(1.0));
    let event = lab.trade("AVAXUSDT", 33_445_566, "SELL", ("29.6", "13.3724681353"));
    lab.exchange.push_user(&event);
    lab.exchange.push_user(&json!({"e": "MARGIN_CALL", "E": now_ms}));
    lab.exchange.push_user(&event);
    lab.wait_until("trade and position", |lab| lab.length(OBSERVATIONS) == 2);
    let observations = lab.observations();
    let kinds: Vec<&str> = observations.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["exchange.trade", "exchange.position"], "once each, the cause first");
    let trade = &observations[0].1;
    for (name, want) in [
        ("symbol", json!("AVAXUSDT")),
        ("id", json!("33445566")),
        ("orderId", json!("334455660")),
        ("side", json!("SELL")),
        ("qty", json!("29.6")),
        ("price", json!("13.3724681353")),
    ] {
        assert_eq!(trade[name], want, "{name}");
    }
    assert!(trade["time"].as_u64().is_some_and(|ms| ms >= now_ms), "i41: the event time is in the entry");
    let position = &observations[1].1;
    assert_eq!((&position["positionAmt"], &position["entryPrice"]), (&json!("-29.6"), &json!("13.3724681353")));
    // i31: a close is an event, with an explicit 0.
    lab.exchange.push_user(&account_event("AVAXUSDT", "0", "0.0", now_ms + 1));
    lab.wait_until("the closing", |lab| lab.length(OBSERVATIONS) == 3);
    let closing = &lab.observations()[2].1;
    assert_eq!((&closing["positionAmt"], &closing["entryPrice"]), (&json!("0"), &Value::Null));
    assert_eq!(lab.exchange.calls(TRADES).len(), 0, "known trades are not fetched");
    lab.stop();
    let methods: Vec<String> = lab.exchange.calls(LISTEN_KEY).into_iter().map(|call| call.method).collect();
    assert_eq!(methods, ["POST"], "others may listen with the key of the account, so it is not closed");
    let key = &lab.exchange.world().listen_keys[0];
    for secret in [KEY, SECRET, key.as_str()] {
        assert!(!lab.log.contains(secret), "a secret was logged: {}", lab.log);
    }
}

#[test]
fn gaps_are_filled_from_trades_once_and_nothing_is_fetched_twice() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    for id in [1, 2] {
        let event = lab.trade("ADAUSDT", id, "BUY", ("10", "0.3"));
        lab.exchange.push_user(&event);
    }
    lab.wait_until("two trades", |lab| lab.trade_ids() == ["1", "2"]);
    assert_eq!(lab.exchange.calls(TRADES).len(), 0);

    // Without a connection two more trades happen; the new connection repeats the second.
    lab.exchange.world().refuses_sockets = true;
    lab.exchange.close_sockets(false);
    lab.wait_until("a feed that reports it", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("not connected"))
    });
    lab.trade("ADAUSDT", 3, "BUY", ("10", "0.31"));
    let fourth = lab.trade("ADAUSDT", 4, "SELL", ("5", "0.32"));
    lab.exchange.world().refuses_sockets = false;
    lab.wait_connected();
    lab.exchange.push_user(&fourth);
    let fifth = lab.trade("ADAUSDT", 5, "SELL", ("5", "0.33"));
    lab.exchange.push_user(&fifth);
    lab.wait_until("all trades", |lab| lab.trade_ids() == ["1", "2", "3", "4", "5"]);
    let asked = lab.exchange.calls(TRADES);
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].parameter("symbol"), asked[0].parameter("fromId")), (Some("ADAUSDT"), Some("3")));

    // The same over a restart: the trades written before are found in the stream.
    lab.stop();
    lab.trade("ADAUSDT", 6, "SELL", ("5", "0.34"));
    lab.start("user", &[], "");
    lab.wait_until("the trade of the night", |lab| lab.trade_ids() == ["1", "2", "3", "4", "5", "6"]);
    let asked = lab.exchange.calls(TRADES);
    assert_eq!((asked.len(), asked[1].parameter("fromId")), (2, Some("6")));
    lab.stop();
}

#[test]
fn i03_a_fill_without_a_price_is_fetched_and_never_written_with_0() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    let first = lab.trade("ADAUSDT", 1, "BUY", ("10", "0.3"));
    lab.exchange.push_user(&first);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["1"]);
    let mut second = lab.trade("ADAUSDT", 2, "BUY", ("10", "0.31"));
    second["o"]["L"] = json!("0");
    // The first answer fails: the gap stays open, and is reported.
    lab.exchange.fail(TRADES, [Fault::Status(500, vec![], String::new())]);
    lab.exchange.push_user(&second);
    lab.wait_until("an open gap", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("trades of a gap are not read yet"))
    });
    // A new connection fetches at once.
    lab.exchange.close_sockets(false);
    lab.wait_until("the trade with its price", |lab| lab.trade_ids() == ["1", "2"]);
    let trades = lab.observations();
    assert_eq!(trades[1].1["price"], "0.31");
    assert!(lab.exchange.calls(TRADES).iter().all(|call| call.parameter("fromId") == Some("2")));
    lab.wait_connected();
    lab.stop();
}

#[test]
fn a_listen_key_is_kept_alive_and_replaced_when_it_is_gone() {
    let mut lab = Lab::new();
    lab.start("user", &["--keep-alive", "1"], "");
    lab.wait_connected();
    let puts = |lab: &Lab| lab.exchange.calls(LISTEN_KEY).iter().filter(|call| call.method == "PUT").count();
    lab.wait_until("a key that is kept alive", |lab| puts(lab) >= 1);
    // The exchange reports that the key has expired.
    let opened = lab.exchange.world().sockets_opened;
    let now_ms = lab.exchange.world().now_ms();
    lab.exchange.world().listen_keys.clear();
    lab.exchange.push_user(&json!({"e": "listenKeyExpired", "E": now_ms, "listenKey": "…"}));
    lab.wait_until("a new connection", |lab| lab.exchange.world().sockets_opened > opened);
    assert_eq!(lab.exchange.world().listen_keys_opened, 2);
    // The key is gone without a message: the next keep-alive finds that.
    lab.wait_connected();
    lab.exchange.world().listen_keys.clear();
    lab.wait_until("a third key", |lab| lab.exchange.world().listen_keys_opened == 3);
    lab.wait_connected();
    assert!(lab.metric("harvester_feed_endings_total{why=\"listen_key_expired\"}") == Some(2.0));
    lab.stop();
}

#[test]
fn i43_an_account_without_events_is_healthy_and_a_dead_connection_is_not() {
    let mut lab = Lab::new();
    lab.start("user", &[], "stall_ms = 2000");
    lab.wait_connected();
    // Past the limit again and again: a ping is answered, which counts as a sign of life.
    lab.wait_until("pings", |lab| lab.exchange.world().pings >= 2);
    assert_eq!(lab.exchange.world().sockets_opened, 1);
    assert_eq!(lab.health().map(|(status, _)| status), Some(200));
    lab.exchange.freeze_sockets();
    lab.wait_until("a new connection", |lab| lab.exchange.world().sockets_opened >= 2);
    assert!(lab.metric("harvester_feed_endings_total{why=\"silent\"}").is_some_and(|n| n >= 1.0));
    lab.stop();
}

#[test]
fn i66_both_sides_of_a_hedge_account_are_written_and_never_netted() {
    let mut lab = Lab::new();
    lab.exchange.world().is_hedged = true;
    lab.start("user", &[], "");
    lab.wait_connected();
    let now_ms = lab.exchange.world().now_ms();
    // The empty row without a side is not a position.
    let mut event = account_event("ADAUSDT", "0", "0.0", now_ms);
    let row = |side: &str, amount: &str| json!({"s": "ADAUSDT", "pa": amount, "ep": "0.3", "ps": side});
    event["a"]["P"].as_array_mut().unwrap().extend([row("LONG", "4"), row("SHORT", "-10")]);
    lab.exchange.push_user(&event);
    lab.wait_until("both sides", |lab| lab.length(OBSERVATIONS) == 2);
    let sides: Vec<(Value, Value)> = lab
        .observations()
        .into_iter()
        .map(|(_, position)| (position["positionSide"].clone(), position["positionAmt"].clone()))
        .collect();
    assert_eq!(sides, [(json!("LONG"), json!("4")), (json!("SHORT"), json!("-10"))]);
    assert!(lab.health().is_some_and(|(status, _)| status == 200));
    lab.stop();
    assert_eq!(lab.length(OBSERVATIONS), 2);
}

const OTHER: (&str, &str) = (
    "22bfbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83",
    "225eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",
);

const ACCOUNTS: &str = "[accounts.quiet]\n[accounts.unset]\napi_key_env = \"UNSET_KEY\"\napi_secret_env = \"UNSET_SECRET\"\n[accounts.hedged]\napi_key_env = \"HEDGED_KEY\"\napi_secret_env = \"HEDGED_SECRET\"\n";

#[test]
fn one_process_listens_to_all_accounts_or_to_one_and_names_the_account_of_each_event() {
    let mut lab = Lab::new();
    lab.environment = vec![("HEDGED_KEY", OTHER.0), ("HEDGED_SECRET", OTHER.1)];
    lab.exchange.world().add_account(OTHER.0, OTHER.1).is_hedged = true;
    lab.start("user", &["--account", "hedged"], ACCOUNTS);
    lab.wait_connected();
    assert_eq!(lab.exchange.open_sockets().len(), 1);
    let position = |symbol: &str, side: &str, amount: &str| {
        let mut event = account_event(symbol, amount, "0.3", 1);
        event["a"]["P"][0]["ps"] = json!(side);
        event
    };
    lab.exchange.push_user_of(KEY, &position("ETHUSDT", "BOTH", "1"));
    lab.exchange.push_user_of(OTHER.0, &position("ADAUSDT", "LONG", "4"));
    lab.wait_until("its event", |lab| lab.length(OBSERVATIONS) == 1);
    lab.stop();
    // All configured accounts, without the one whose variables are not set.
    lab.start("user", &[], ACCOUNTS);
    lab.wait_until("two accounts", |lab| lab.metric("harvester_feed_connected{account=\"hedged\"}") == Some(1.0));
    lab.wait_connected();
    lab.exchange.push_user_of(
        OTHER.0,
        &trade_event(&json!({"symbol": "ADAUSDT", "id": 7, "orderId": 70, "side": "BUY",
        "price": "0.3", "qty": "4", "time": 1})),
    );
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["7"]);
    let observed: Vec<(Value, Value)> =
        lab.observations().into_iter().map(|(_, fact)| (fact["account"].clone(), fact["symbol"].clone())).collect();
    assert_eq!(observed, [(json!("hedged"), json!("ADAUSDT")), (json!("hedged"), json!("ADAUSDT"))]);
    assert_eq!(lab.metric("harvester_feed_written_total{account=\"hedged\",what=\"trades\"}"), Some(1.0));
    lab.stop();
    let config = lab.config(ACCOUNTS);
    let mut command = harvester();
    command.args(["feed", "user", "--account", "nobody", "--config"]).arg(&config);
    run(&mut command).refused(&["there is no account nobody: want [accounts.nobody]"]);
    let mut command = harvester();
    command.args(["feed", "user", "--account", "hedged", "--config"]).arg(&config);
    run(&mut command).refused(&["account hedged: no credentials", "HEDGED_KEY is not set"]);
}

#[test]
fn i46_a_restarted_feed_waits_for_the_end_of_a_ban() {
    let mut lab = Lab::new();
    let banned =
        Fault::Status(418, vec![("retry-after", "4500".to_owned())], r#"{"code":-1003,"msg":"banned"}"#.to_owned());
    lab.exchange.fail(LISTEN_KEY, [banned]);
    lab.start("user", &[], "");
    lab.wait_until("a feed that reports it", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("shut out (418)"))
    });
    lab.stop();
    lab.start("user", &[], "");
    lab.wait_until("a feed that remembers", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("wants no call before"))
    });
    lab.stop();
    assert_eq!(lab.exchange.all_calls().len(), 1, "nothing was sent during the ban");
}

#[test]
fn i44_a_feed_without_credentials_names_the_variable() {
    let lab = Lab::new();
    let config = lab.config("");
    for (key, secret, want) in [
        (None, Some(SECRET), "BINANCE_TESTNET_API_KEY is not set"),
        (Some(KEY), Some(&SECRET[1..]), "BINANCE_TESTNET_API_SECRET has 63 characters"),
    ] {
        let mut command = harvester();
        command.args(["feed", "user", "--config"]).arg(&config);
        command.envs(key.map(|key| ("BINANCE_TESTNET_API_KEY", key)));
        command.envs(secret.map(|secret| ("BINANCE_TESTNET_API_SECRET", secret)));
        run(&mut command).refused(&["no credentials", want]);
    }
    assert!(lab.exchange.all_calls().is_empty());
}
