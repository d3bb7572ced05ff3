//! The feeds as processes: the program, a real Redis server, and a fake exchange that falls silent, hangs up, and
//! drops listen keys.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary::{harvester, run};
use crate::support::exchange::{ExchangeServer, KEY, SECRET, trade_event};
use crate::support::redis::{RedisServer, free_port};
use serde_json::{Value, json};

mod delivery;
mod late;
mod mark;
mod user;

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

    /// Starts a feed that compares often, lets it write the purchase of ten, and keeps it without a socket from then on.
    fn lose_the_socket_after_a_trade(&mut self) {
        self.start("user", &[], "compare_ms = 500");
        self.wait_connected();
        let first = self.trade("ADAUSDT", 1, "BUY", ("10", "0.3"));
        self.exchange.push_user(&first);
        self.wait_until("a trade", |lab| lab.trade_ids() == ["1"]);
        self.exchange.world().refuses_sockets = true;
        self.exchange.close_sockets(false);
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
