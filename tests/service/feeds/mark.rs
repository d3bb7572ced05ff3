//! The feed of mark prices.

use std::time::Duration;

use super::{Lab, MARKS};
use crate::support::binary::{harvester, run};
use crate::support::exchange::ExchangeServer;
use crate::support::redis::{RedisServer, free_port};
use harvester::shell::web::{Page, Site, WebServer};
use serde_json::{Value, json};

#[test]
fn i50_mark_prices_go_to_their_own_stream_and_both_hashes_with_an_expiry() {
    let mut lab = Lab::new();
    lab.start("mark", &[], "symbols = \"all\"");
    lab.wait_until("a socket", |lab| lab.exchange.open_sockets() == ["/market/ws/!markPrice@arr@1s"]);
    lab.exchange.push_marks(&[("ADAUSDT", "0.30100000"), ("币安USDT", "2.5"), ("ARCUSDT", "0.00000000")]);
    lab.wait_until("two prices", |lab| lab.length(MARKS) == 2);
    let (id, fields) = lab.redis.entries(MARKS).remove(0);
    let payload: Value = serde_json::from_str(&fields.iter().find(|(name, _)| name == "payload").unwrap().1).unwrap();
    assert_eq!((&payload["symbol"], &payload["markPrice"]), (&json!("ADAUSDT"), &json!("0.301")), "as text, no float");
    // i41: the time of the observation is beside the time of writing.
    let observed_ms = payload["timestamp"].as_u64().unwrap();
    let written_ms: u64 = id.split_once('-').unwrap().0.parse().unwrap();
    assert!(observed_ms <= written_ms + 1_000 && written_ms < observed_ms + 60_000, "{observed_ms} {written_ms}");
    let hash = |key: &str, field: &str| lab.redis.cli(&["HGET", key, field]).trim().to_owned();
    assert_eq!(hash("quantum:ticker:ADAUSDT", "markPrice"), "0.301");
    assert_eq!(hash("quantum:ticker:ADAUSDT", "timestamp"), observed_ms.to_string());
    assert_eq!(hash("quantum:market:币安USDT", "price"), "2.5");
    assert_eq!(hash("quantum:market:ADAUSDT", "timestamp"), (observed_ms / 1_000).to_string());
    for key in ["quantum:ticker:ADAUSDT", "quantum:market:ADAUSDT"] {
        let left_ms: i64 = lab.redis.cli(&["PTTL", key]).trim().parse().unwrap();
        assert!((1..=10_000).contains(&left_ms), "{key} lives for {left_ms} ms");
    }
    // i03: a price of 0 is missing.
    assert_eq!(lab.redis.cli(&["EXISTS", "quantum:ticker:ARCUSDT"]).trim(), "0");
    assert_eq!(lab.metric("harvester_feed_unreadable_total"), Some(1.0));
    assert_eq!(lab.metric("harvester_feed_written_total{what=\"prices\"}"), Some(2.0));
    lab.stop();
}

#[test]
fn i01_a_connected_feed_that_writes_nothing_is_unhealthy() {
    let mut lab = Lab::new();
    // Longer than the test: the socket stays open and sends nothing.
    lab.start("mark", &[], "symbols = \"all\"\nstall_ms = 600");
    lab.wait_until("a socket", |lab| !lab.exchange.open_sockets().is_empty());
    lab.wait_until("a report that nothing is written", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("no price written for"))
    });
    // i43: silence is named, and ends the connection.
    lab.wait_until("a new socket", |lab| lab.exchange.world().sockets_opened >= 2);
    assert!(lab.metric("harvester_feed_endings_total{why=\"silent\"}").is_some_and(|n| n >= 1.0));
    assert!(lab.logged().contains("FEED_MARK_DOWN") && lab.logged().contains("is silent for 600 ms"));
    lab.exchange.world().set_price("ADAUSDT", "0.301");
    lab.exchange.world().ticks = Some(Duration::from_millis(50));
    lab.wait_until("a feed that is well", |lab| lab.health().is_some_and(|(status, _)| status == 200));
    // Messages without anything to write do not make the feed healthy.
    lab.exchange.world().prices.clear();
    lab.wait_until("a report again", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("no price written for"))
    });
    assert_eq!(lab.metric("harvester_feed_connected"), Some(1.0), "still connected");
    lab.stop();
}

#[test]
fn a_feed_recovers_from_hang_ups_refusals_and_malformed_messages() {
    let mut lab = Lab::new();
    lab.exchange.world().set_price("ADAUSDT", "0.301");
    lab.exchange.world().ticks = Some(Duration::from_millis(20));
    lab.start("mark", &[], "symbols = \"all\"");
    lab.wait_until("prices", |lab| lab.length(MARKS) > 0);
    for (politely, why) in [(true, "closed"), (false, "closed")] {
        let opened = lab.exchange.world().sockets_opened;
        lab.exchange.close_sockets(politely);
        lab.wait_until(why, |lab| lab.exchange.world().sockets_opened > opened);
    }
    lab.exchange.push_text("<html>not now</html>");
    lab.wait_until("nonsense is counted", |lab| lab.metric("harvester_feed_unreadable_total") == Some(1.0));
    lab.exchange.world().refuses_sockets = true;
    lab.exchange.close_sockets(false);
    lab.wait_until("refusals", |lab| {
        lab.metric("harvester_feed_endings_total{why=\"refused\"}").is_some_and(|n| n >= 2.0)
    });
    lab.exchange.world().refuses_sockets = false;
    lab.wait_connected();
    let written = lab.length(MARKS);
    lab.wait_until("prices again", |lab| lab.length(MARKS) > written);
    lab.stop();
}

#[test]
fn i11_the_stream_of_marks_is_trimmed_and_a_connection_is_renewed_before_its_end() {
    let mut lab = Lab::new();
    for number in 0..50 {
        lab.exchange.world().set_price(&format!("S{number}USDT"), "1.5");
    }
    lab.exchange.world().ticks = Some(Duration::from_millis(10));
    lab.start("mark", &["--connection-age", "1"], "symbols = \"all\"\nmark_maxlen = 100");
    lab.wait_until("a renewed connection", |lab| lab.exchange.world().sockets_opened >= 3);
    let written = lab.metric("harvester_feed_written_total{what=\"prices\"}").unwrap();
    assert!(written >= 500.0, "{written}");
    let kept = lab.length(MARKS);
    assert!((100..400).contains(&kept), "{kept} of {written} entries are kept");
    assert!(lab.metric("harvester_feed_endings_total{why=\"renewed\"}").is_some_and(|n| n >= 2.0));
    assert_eq!(lab.metric("harvester_feed_endings_total{why=\"silent\"}"), None);
    lab.stop();
}

#[test]
fn i01_only_symbols_with_positions_are_written_and_each_without_a_price_is_named() {
    let mut lab = Lab::new();
    for symbol in ["ADAUSDT", "ARCUSDT", "BTCUSDT"] {
        lab.exchange.world().set_price(symbol, "1.5");
    }
    lab.exchange.world().ticks = Some(Duration::from_millis(20));
    lab.start("mark", &[], "symbols = \"open\"\nstall_ms = 1000");
    // While the positions are unknown, all symbols are written.
    lab.wait_until("all symbols", |lab| lab.redis.cli(&["EXISTS", "quantum:ticker:BTCUSDT"]).trim() == "1");
    let sheet = json!({
        "as_of": "1-0", "killed": false, "positions_unknown": false, "unconfirmed": ["ARCUSDT"], "history_gap": [],
        "positions": [{"symbol": "ADAUSDT"}, {"symbol": "GONEUSDT"}],
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let site = Site::default().page("/positions", move |asked| {
        let body = if asked.is_on("whole") { sheet.to_string() } else { sheet["positions"].to_string() };
        async move { Page::json(200, body) }
    });
    let service = runtime.block_on(WebServer::start(lab.service().parse().unwrap(), site)).unwrap();
    lab.wait_until("the symbol without a price is named", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("GONEUSDT: no price written for"))
    });
    let (_, body) = lab.health().unwrap();
    assert!(!body.contains("ADAUSDT") && !body.contains("ARCUSDT") && !body.contains("BTCUSDT"), "{body}");
    assert_eq!(lab.metric("harvester_feed_symbols_wanted"), Some(3.0));
    // The hash of an unwanted symbol is left to expire.
    lab.redis.cli(&["DEL", "quantum:ticker:BTCUSDT", "quantum:ticker:ARCUSDT"]);
    lab.wait_until("unconfirmed ones are wanted too", |lab| {
        lab.redis.cli(&["EXISTS", "quantum:ticker:ARCUSDT"]).trim() == "1"
    });
    assert_eq!(lab.redis.cli(&["EXISTS", "quantum:ticker:BTCUSDT"]).trim(), "0");
    assert!(lab.metric("harvester_feed_price_age_seconds{symbol=\"ADAUSDT\"}").is_some_and(|age| age < 5.0));
    lab.stop();
    drop(service);
}

#[test]
fn i50_prices_of_another_market_are_refused() {
    let lab = Lab::new();
    for (rest, socket, want) in [
        ("https://testnet.binancefuture.com", "wss://fstream.binance.com/ws/", "production market"),
        ("https://fapi.binance.com", "wss://fstream.binancefuture.com/ws/", "test market"),
    ] {
        let path = lab.folder.path().join("markets.toml");
        std::fs::write(&path, format!("[exchange]\nbase_url = \"{rest}\"\n[feed]\nmark_url = \"{socket}\"\n")).unwrap();
        run(harvester().args(["feed", "mark", "--config"]).arg(&path)).refused(&["mark_url", want, "base_url"]);
    }
}

#[test]
fn a_feed_reports_a_missing_redis_and_continues_when_it_is_back() {
    let mut lab = Lab::new();
    let port = free_port();
    lab.exchange.world().set_price("ADAUSDT", "0.301");
    lab.exchange.world().ticks = Some(Duration::from_millis(50));
    lab.redis = RedisServer::start_on(port, &[]);
    lab.start("mark", &[], "symbols = \"all\"");
    lab.wait_connected();
    drop(std::mem::replace(&mut lab.redis, RedisServer::start()));
    lab.wait_until("a feed that misses redis", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("redis: "))
    });
    lab.redis = RedisServer::start_on(port, &[]);
    lab.wait_connected();
    lab.wait_until("prices", |lab| lab.length(MARKS) > 0);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", lab.feed.as_ref().unwrap().id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "secrets are in no core dump: {core}");
    lab.stop();
}

#[test]
fn a_secure_socket_is_trusted_by_its_authority_only() {
    let mut lab = Lab::new();
    lab.exchange = ExchangeServer::start_secure();
    lab.exchange.world().set_price("ADAUSDT", "0.301");
    lab.exchange.world().ticks = Some(Duration::from_millis(50));
    lab.start("mark", &[], "symbols = \"all\"");
    lab.wait_until("a refusal", |lab| {
        let endings = |why: &str| lab.metric(&format!("harvester_feed_endings_total{{why=\"{why}\"}}"));
        // A system without any certificates returns another error.
        endings("unreachable").or_else(|| endings("tls")).is_some_and(|n| n >= 1.0)
    });
    assert_eq!(lab.exchange.world().sockets_opened, 0);
    let ca_file = lab.folder.path().join("ca.pem");
    lab.exchange.write_ca(&ca_file);
    lab.ca_file = Some(ca_file);
    lab.start("mark", &[], "symbols = \"all\"");
    lab.wait_until("prices", |lab| lab.length(MARKS) > 0);
    lab.stop();
}
