//! The feeds as processes: the program, a real Redis server, and a fake exchange that falls silent, hangs up, and
//! drops listen keys.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary::{harvester, run};
use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET, account_event, trade_event};
use crate::support::redis::{RedisServer, free_port};
use harvester::shell::web::{Page, Site, WebServer};
use serde_json::{Value, json};

const MARKS: &str = "quantum:stream:market.mark";
const OBSERVATIONS: &str = "quantum:stream:harvest.observation";
const TRADES: &str = "/fapi/v1/userTrades";
const POSITIONS: &str = "/fapi/v3/positionRisk";
const LISTEN_KEY: &str = "/fapi/v1/listenKey";
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// A running feed with its server and its exchange.
struct Lab {
    exchange: ExchangeServer,
    redis: RedisServer,
    folder: tempfile::TempDir,
    port: u16,
    service_port: u16,
    feed: Option<Child>,
    ca_file: Option<PathBuf>,
    /// Path of the account's socket.
    user_path: &'static str,
    /// Further environment variables.
    environment: Vec<(&'static str, &'static str)>,
    /// Logs of the feeds that have ended.
    log: String,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (exchange, redis) = (ExchangeServer::start(), RedisServer::start());
        let (port, service_port) = (free_port(), free_port());
        Self {
            exchange,
            redis,
            folder,
            port,
            service_port,
            feed: None,
            ca_file: None,
            user_path: "/private/ws",
            environment: Vec::new(),
            log: String::new(),
        }
    }

    fn config(&self, more: &str) -> PathBuf {
        let path = self.folder.path().join("config.toml");
        let (rest, socket) = (self.exchange.url(), self.exchange.socket_url());
        let ca_file = self.ca_file.clone().unwrap_or_default();
        let store = self.folder.path().join("state");
        let text = format!(
            "[redis]\nurl = \"{}\"\n[exchange]\nbase_url = \"{rest}\"\nca_file = {ca_file:?}\n[run]\nstore = {store:?}\nlisten = \"{}\"\n\
             [feed]\nmark_url = \"{socket}/market/ws/!markPrice@arr@1s\"\nuser_url = \"{socket}{}\"\n{more}\n",
            self.redis.url(),
            if more.contains("symbols = \"open\"") { self.service() } else { String::new() },
            self.user_path,
        );
        std::fs::write(&path, text).expect("the configuration is written");
        path
    }

    /// Returns the address of a service that would know the positions.
    fn service(&self) -> String {
        format!("127.0.0.1:{}", self.service_port)
    }

    fn start(&mut self, feed: &str, arguments: &[&str], more: &str) {
        self.stop();
        let config = self.config(more);
        let mut command = harvester();
        command
            .args(["feed", feed, "--listen", &format!("127.0.0.1:{}", self.port), "--config"])
            .arg(config)
            .args(arguments)
            .env("BINANCE_TESTNET_API_KEY", KEY)
            .env("BINANCE_TESTNET_API_SECRET", SECRET)
            .envs(self.environment.iter().copied())
            .env("LOG_LEVEL", "debug")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.folder.path().join("log")).expect("a log"));
        self.feed = Some(command.spawn().expect("the feed starts"));
    }

    /// Stops the feed as a service manager does. It has to end by itself, with success.
    fn stop(&mut self) {
        let Some(mut feed) = self.feed.take() else { return };
        let id = rustix::process::Pid::from_child(&feed);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("a signal");
        let status = feed.wait().expect("the feed ends");
        self.log.push_str(&self.logged());
        assert!(status.success(), "{status}: {}", self.log);
        assert!(!self.log.contains("panicked"), "{}", self.log);
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn page(&self, path: &str) -> Option<(u16, String)> {
        let address: SocketAddr = ([127, 0, 0, 1], self.port).into();
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Returns status and reasons of `/healthz`.
    fn health(&self) -> Option<(u16, String)> {
        self.page("/healthz")
    }

    fn metric(&self, line: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics")?;
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(
                began.elapsed() < WAIT_LIMIT,
                "{what}: not so; health {:?}, calls {:?}, log {}",
                self.health(),
                self.exchange.all_calls(),
                self.logged()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn length(&self, stream: &str) -> u64 {
        self.redis.cli(&["XLEN", stream]).trim().parse().expect("a length")
    }

    /// Returns the observations: event type and payload.
    fn observations(&self) -> Vec<(String, Value)> {
        let field = |fields: &[(String, String)], name: &str| {
            fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let of = |(_, fields): (String, Vec<(String, String)>)| {
            assert_eq!(field(&fields, "source"), "feed.user");
            (field(&fields, "event_type"), serde_json::from_str(&field(&fields, "payload")).expect("JSON"))
        };
        self.redis.entries(OBSERVATIONS).into_iter().map(of).collect()
    }

    /// Returns the ids of the written trades, in order.
    fn trade_ids(&self) -> Vec<String> {
        let trades = self.observations().into_iter().filter(|(kind, _)| kind == "exchange.trade");
        trades.map(|(_, trade)| trade["id"].as_str().expect("an id as text").to_owned()).collect()
    }

    /// Adds a trade to the answers of `userTrades`. Returns its event.
    fn trade(&self, symbol: &str, id: u64, side: &str, fill: (&str, &str)) -> Value {
        let mut world = self.exchange.world();
        let now_ms = world.now_ms();
        world.add_trade(symbol, (id, id * 10), side, fill, now_ms);
        trade_event(world.trades.last().expect("a trade"))
    }

    fn wait_connected(&self) {
        self.wait_until("a healthy feed", |lab| lab.health().is_some_and(|(status, _)| status == 200));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(feed) = &mut self.feed {
            let _ = feed.kill();
            let _ = feed.wait();
        }
    }
}

// ---- mark prices ----------------------------------------------------------------------------------------------------

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

/// The formats are correct if the reading program agrees.
#[test]
fn the_fold_reads_the_entries_of_the_feeds() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    let event = lab.trade("AVAXUSDT", 7, "SELL", ("29.6", "13.3724681353"));
    lab.exchange.push_user(&event);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["7"]);
    lab.start("mark", &[], "symbols = \"all\"");
    // The feed may not have missed the socket of the account yet.
    lab.wait_until("a socket", |lab| lab.exchange.open_sockets() == ["/market/ws/!markPrice@arr@1s"]);
    lab.exchange.push_marks(&[("AVAXUSDT", "13.10000000")]);
    lab.wait_until("a price", |lab| lab.length(MARKS) == 1);
    lab.stop();
    let line = |stream: &str, (id, fields): (String, Vec<(String, String)>)| {
        let fields: serde_json::Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name, value.into())).collect();
        json!({"stream": stream, "id": id, "fields": fields}).to_string()
    };
    let mut lines: Vec<String> = Vec::new();
    for stream in [OBSERVATIONS, MARKS] {
        lines.extend(lab.redis.entries(stream).into_iter().map(|entry| line(stream, entry)));
    }
    let (history, store) = (lab.folder.path().join("history.jsonl"), lab.folder.path().join("replayed"));
    std::fs::write(&history, lines.join("\n")).unwrap();
    let config = lab.folder.path().join("streams.toml");
    std::fs::write(&config, format!("[streams]\nprice = [\"{MARKS}\"]\n")).unwrap();
    let mut replay = harvester();
    replay.arg("replay").arg(&history).arg("--store").arg(&store).arg("--json").arg("--config").arg(&config);
    let summary = run(&mut replay).json();
    assert_eq!((&summary["applied"], &summary["quarantined"]), (&json!(2), &json!({})), "{summary}");
    let positions = run(harvester().args(["positions", "--json", "--store"]).arg(&store)).json();
    let position = &positions[0];
    assert_eq!((&position["symbol"], &position["side"]), (&json!("AVAXUSDT"), &json!("SHORT")), "{positions}");
    assert_eq!(position["entry_price"]["source"], "fill");
    assert_eq!(position["mark_price"]["source"], "market.mark", "the source that a policy names");
    assert_eq!(position["mark_price"]["value"], "13.1");
}

// ---- the account ----------------------------------------------------------------------------------------------------

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
fn i69_rest_finds_a_silent_socket_and_delivers_instead() {
    let mut lab = Lab::new();
    // The address of an earlier version: the listen key in the path. The socket connects, answers pings, and sends no
    // event.
    lab.user_path = "/ws";
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    let sockets = lab.exchange.open_sockets();
    assert!(sockets.len() == 1 && sockets[0].starts_with("/ws/pqia91ma19a5s61cv6a8"), "{sockets:?}");
    lab.wait_until("looks at REST", |lab| lab.exchange.calls(POSITIONS).len() >= 2);
    let event = lab.trade("ADAUSDT", 7, "BUY", ("10", "0.3"));
    lab.exchange.world().set_position("ADAUSDT", "10", "0.3");
    lab.exchange.push_user(&event);
    lab.wait_until("a finding", |lab| {
        lab.health().is_some_and(|(status, body)| {
            status == 503 && body.contains("delivers nothing: ADAUSDT changed at the exchange and no event came")
        })
    });
    lab.wait_until("a new connection", |lab| lab.exchange.world().sockets_opened >= 2);
    lab.wait_until("the events that the socket did not send", |lab| lab.length(OBSERVATIONS) >= 2);
    let observations = lab.observations();
    let kinds: Vec<&str> = observations.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds[..2], ["exchange.trade", "exchange.position"], "the cause first");
    assert_eq!((&observations[0].1["id"], &observations[1].1["positionAmt"]), (&json!("7"), &json!("10")));
    assert_eq!(lab.metric("harvester_feed_undelivered"), Some(1.0), "connected again, and still undelivered");
    assert!(lab.metric("harvester_feed_endings_total{why=\"not_delivering\"}").is_some_and(|n| n >= 1.0));
    // A position that is gone is a change too, and REST continues to deliver.
    lab.trade("ADAUSDT", 8, "SELL", ("10", "0.31"));
    lab.exchange.world().positions.clear();
    lab.wait_until("the closing", |lab| {
        lab.observations().iter().any(|(kind, p)| kind == "exchange.position" && p["positionAmt"] == "0")
    });
    assert_eq!(lab.trade_ids(), ["7", "8"]);
    lab.stop();
    assert!(lab.log.contains("not_delivering"), "{}", lab.log);

    // With the new form of the address the same events come, and the feed is healthy.
    lab.user_path = "/private/ws";
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    lab.wait_until("looks at REST", |lab| lab.metric("harvester_feed_compare_age_seconds").is_some());
    let event = lab.trade("ADAUSDT", 9, "BUY", ("5", "0.32"));
    let now_ms = lab.exchange.world().now_ms();
    lab.exchange.push_user(&event);
    lab.exchange.push_user(&account_event("ADAUSDT", "5", "0.32", now_ms));
    lab.exchange.world().set_position("ADAUSDT", "5", "0.32");
    lab.wait_until("the trade", |lab| lab.trade_ids() == ["7", "8", "9"]);
    let looks = lab.exchange.calls(POSITIONS).len();
    lab.wait_until("looks that agree", |lab| lab.exchange.calls(POSITIONS).len() >= looks + 4);
    assert_eq!(lab.health().map(|(status, _)| status), Some(200), "{:?}", lab.health());
    assert_eq!(lab.metric("harvester_feed_undelivered_changes_total"), Some(0.0));
    assert_eq!(lab.metric("harvester_feed_reconnects_total"), Some(0.0));
    lab.stop();
}

#[test]
fn i69_the_old_testnet_takes_the_key_in_the_path() {
    let mut lab = Lab::new();
    lab.user_path = "/ws";
    lab.exchange.world().takes_key_in_path = true;
    lab.start("user", &[], "");
    lab.wait_connected();
    let event = lab.trade("ADAUSDT", 7, "BUY", ("10", "0.3"));
    lab.exchange.push_user(&event);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["7"]);
    lab.stop();
}

#[test]
fn i69_a_missing_trade_is_found_even_if_it_left_no_position() {
    let mut lab = Lab::new();
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    let first = lab.trade("ADAUSDT", 1, "BUY", ("10", "0.3"));
    lab.exchange.push_user(&first);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["1"]);
    // Bought and sold between two checks; the socket sends neither.
    lab.trade("ADAUSDT", 2, "BUY", ("5", "0.3"));
    lab.trade("ADAUSDT", 3, "SELL", ("5", "0.31"));
    lab.wait_until("both from REST", |lab| lab.trade_ids() == ["1", "2", "3"]);
    assert_eq!(lab.metric("harvester_feed_undelivered"), Some(1.0));
    // An event proves that the socket delivers again.
    let last = lab.trade("ADAUSDT", 4, "SELL", ("5", "0.31"));
    lab.wait_until("a connection", |lab| lab.exchange.open_sockets().len() == 1);
    lab.exchange.push_user(&last);
    lab.wait_connected();
    lab.stop();
}

#[test]
fn i69_a_liquidation_is_a_fill_and_logged_as_one() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    let mut event = lab.trade("ADAUSDT", 7, "SELL", ("10", "0.2"));
    event["o"]["x"] = json!("CALCULATED");
    event["o"]["c"] = json!("autoclose-1770163396495");
    lab.exchange.push_user(&event);
    lab.wait_until("the fill", |lab| lab.trade_ids() == ["7"]);
    assert_eq!(lab.observations()[0].1["forced"], "liquidation");
    assert_eq!(lab.metric("harvester_feed_forced_total{kind=\"liquidation\"}"), Some(1.0));
    lab.stop();
    assert!(lab.log.contains("FEED_USER_FORCED") && lab.log.contains("liquidation"), "{}", lab.log);
}

#[test]
fn i69_a_gap_is_filled_only_after_all_symbols_were_fetched() {
    let mut lab = Lab::new();
    lab.start("user", &[], "compare_ms = 500");
    lab.wait_connected();
    let first = lab.trade("ADAUSDT", 1, "BUY", ("10", "0.3"));
    lab.exchange.push_user(&first);
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["1"]);
    lab.exchange.world().refuses_sockets = true;
    lab.exchange.close_sockets(false);
    lab.wait_until("a feed that reports it", |lab| lab.health().is_some_and(|(status, _)| status == 503));
    let of_gone =
        |lab: &Lab| lab.exchange.calls(TRADES).iter().filter(|c| c.parameter("symbol") == Some("ADAUSDT")).count();
    let asked = of_gone(&lab);
    // Without a connection a position in a new symbol opens, and one symbol is delisted.
    lab.trade("NEWUSDT", 7, "BUY", ("1", "2"));
    lab.exchange.world().set_position("NEWUSDT", "1", "2");
    lab.exchange.world().delisted.insert("ADAUSDT".to_owned());
    // The first answer about positions fails: the traded symbols are unknown, and the gap stays open.
    lab.exchange.fail(POSITIONS, [Fault::Status(500, vec![], String::new())]);
    lab.exchange.world().refuses_sockets = false;
    lab.wait_until("an open gap", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("trades of a gap are not read yet"))
    });
    lab.exchange.close_sockets(false);
    lab.wait_until("the trade that only REST knew of", |lab| lab.trade_ids() == ["1", "7"]);
    lab.wait_connected();
    assert_eq!(of_gone(&lab), asked + 1, "i46: a delisted symbol is fetched once");
    // Changes without a connection are no fault of the socket.
    let looks = lab.exchange.calls(POSITIONS).len();
    lab.wait_until("looks that agree", |lab| lab.exchange.calls(POSITIONS).len() >= looks + 4);
    assert_eq!(lab.metric("harvester_feed_undelivered_changes_total"), Some(0.0));
    lab.exchange.close_sockets(false);
    lab.wait_until("a new connection", |lab| lab.metric("harvester_feed_reconnects_total").is_some_and(|n| n >= 3.0));
    lab.wait_connected();
    assert_eq!(of_gone(&lab), asked + 1, "no further call");
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
const ACCOUNTS: &str =
    "[accounts.quiet]\n[accounts.hedged]\napi_key_env = \"HEDGED_KEY\"\napi_secret_env = \"HEDGED_SECRET\"\n";

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
    // All configured accounts.
    lab.start("user", &[], ACCOUNTS);
    lab.wait_until("two accounts", |lab| lab.metric("harvester_feed_connected{account=\"hedged\"}") == Some(1.0));
    lab.wait_connected();
    lab.exchange.push_user_of(
        OTHER.0,
        &trade_event(&json!({"symbol": "ADAUSDT", "id": 7, "orderId": 70, "side": "BUY",
        "price": "0.3", "qty": "4", "time": 1})),
    );
    lab.wait_until("a trade", |lab| lab.trade_ids() == ["7"]);
    let told: Vec<(Value, Value)> =
        lab.observations().into_iter().map(|(_, fact)| (fact["account"].clone(), fact["symbol"].clone())).collect();
    assert_eq!(told, [(json!("hedged"), json!("ADAUSDT")), (json!("hedged"), json!("ADAUSDT"))]);
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
