//! What the exchange said must not be written late: an entry is read as true at its id.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Lab, MARKS, OBSERVATIONS, TRADES};
use crate::support::exchange::{Fault, account_event};
use crate::support::redis::RedisServer;
use harvester::shell::redis::{Address, Server};

/// Longer than the limit of an event and of a call.
const HOLE: Duration = Duration::from_secs(6);

impl Lab {
    /// Sends the event of a position, as of now.
    fn push_position(&self, symbol: &str, amount: &str) {
        let now_ms = self.exchange.world().now_ms();
        self.exchange.push_user(&account_event(symbol, amount, "0.3", now_ms));
    }

    /// Returns the quantities of a symbol that were written, in order.
    fn quantities(&self, symbol: &str) -> Vec<String> {
        let rows =
            self.observations().into_iter().filter(|(kind, p)| kind == "exchange.position" && p["symbol"] == symbol);
        rows.map(|(_, row)| row["positionAmt"].as_str().expect("a text").to_owned()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.feed.as_ref().expect("a feed")), signal).expect("it runs");
    }

    fn wait_for_messages(&self, count: f64) {
        self.wait_until("messages", |lab| lab.metric("harvester_feed_messages_total") >= Some(count));
    }
}

/// Waits until a hole is longer than all limits. Only the clock ends it.
fn wait_for_the_limits() {
    let began = Instant::now();
    while began.elapsed() < HOLE {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_position_that_waited_for_redis_is_looked_up_again_and_not_written() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    lab.exchange.world().set_position("ADAUSDT", "10", "0.3");
    lab.exchange.world().set_position("BTCUSDT", "1", "60000");
    lab.push_position("BTCUSDT", "1");
    lab.wait_until("a row before the hole", |lab| lab.quantities("BTCUSDT") == ["1"]);
    lab.push_position("ADAUSDT", "10");
    lab.wait_for_messages(2.0);
    lab.redis.pause(true);
    // The row waits for its trade, then for Redis. Meanwhile the position is closed by hand.
    let began = Instant::now();
    lab.wait_until("a feed that misses redis", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("not_connected: redis"))
    });
    assert!(began.elapsed() < Duration::from_secs(9), "2 s for the trade, and 5 s: {:?}", began.elapsed());
    lab.exchange.world().positions.remove("ADAUSDT");
    lab.push_position("ADAUSDT", "0");
    lab.redis.pause(false);
    lab.wait_until("the present quantity", |lab| !lab.quantities("ADAUSDT").is_empty());
    lab.wait_until("all positions after the hole", |lab| lab.quantities("BTCUSDT") == ["1", "1"]);
    lab.wait_connected();
    lab.stop();
    assert!(lab.quantities("ADAUSDT").iter().all(|qty| qty == "0"), "{:?}", lab.quantities("ADAUSDT"));
}

#[test]
fn a_feed_that_was_stopped_writes_no_position_of_the_past() {
    let mut lab = Lab::new();
    lab.start("user", &[], "");
    lab.wait_connected();
    lab.exchange.world().set_position("ADAUSDT", "10", "0.3");
    lab.push_position("ADAUSDT", "10");
    lab.wait_for_messages(1.0);
    lab.signal(Signal::STOP);
    // One row waits in the feed, one in its socket.
    lab.push_position("BTCUSDT", "1");
    lab.exchange.world().positions.clear();
    wait_for_the_limits();
    lab.signal(Signal::CONT);
    lab.wait_until("both", |lab| ["ADAUSDT", "BTCUSDT"].iter().all(|symbol| !lab.quantities(symbol).is_empty()));
    lab.wait_connected();
    lab.stop();
    assert_eq!((lab.quantities("ADAUSDT"), lab.quantities("BTCUSDT")), (vec!["0".to_owned()], vec!["0".to_owned()]));
}

#[test]
fn a_position_is_looked_up_again_after_the_trades_that_rest_returned_slowly() {
    let mut lab = Lab::new();
    lab.exchange.world().set_position("ADAUSDT", "10", "0.3");
    lab.lose_the_socket_after_a_trade();
    lab.wait_until("a feed without a socket", |lab| lab.exchange.open_sockets().is_empty());
    // An add without an event. While its trades are read, the position is closed.
    lab.trade("ADAUSDT", 2, "BUY", ("5", "0.3"));
    lab.exchange.world().set_position("ADAUSDT", "15", "0.3");
    let asked = lab.exchange.calls(TRADES).len();
    lab.exchange.fail(TRADES, [Fault::Slow(Duration::from_secs(2))]);
    lab.exchange.world().refuses_sockets = false;
    lab.wait_until("the request for trades", |lab| lab.exchange.calls(TRADES).len() > asked);
    lab.trade("ADAUSDT", 3, "SELL", ("15", "0.31"));
    lab.exchange.world().positions.clear();
    lab.wait_until("a quantity", |lab| !lab.quantities("ADAUSDT").is_empty());
    assert_eq!(lab.quantities("ADAUSDT"), ["0"]);
    assert_eq!(lab.trade_ids(), ["1", "2", "3"]);
    lab.stop();
}

#[test]
fn a_command_that_reaches_the_server_late_appends_nothing() {
    let redis = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entries = vec![vec![("event_type", "exchange.position"), ("payload", "{}")]; 2];
    let minute = Duration::from_secs(60);
    runtime.block_on(async {
        let mut server = Server::connect(&Address::new(&redis.url(), None).unwrap()).await.unwrap();
        let ids = server.add_in_time(OBSERVATIONS, &entries, || minute).await.unwrap();
        assert_eq!((ids.map(|ids| ids.len()), redis.entries(OBSERVATIONS).len()), (Some(2), 2));
        assert_eq!(server.add_in_time(OBSERVATIONS, &entries, || Duration::ZERO).await.unwrap(), None);
        // The command is sent to a server that is stopped, and that continues after the limit.
        let stopped = || {
            redis.pause(true);
            Duration::from_millis(300)
        };
        let sent = server.add_in_time(OBSERVATIONS, &entries, stopped);
        let goes_on = async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            redis.pause(false);
        };
        assert_eq!(tokio::join!(sent, goes_on).0.unwrap(), None);
        assert_eq!(redis.entries(OBSERVATIONS).len(), 2);
    });
}

#[test]
fn prices_that_waited_for_redis_are_not_written() {
    let mut lab = Lab::new();
    lab.exchange.world().set_price("ADAUSDT", "0.301");
    lab.exchange.world().ticks = Some(Duration::from_millis(100));
    lab.start("mark", &[], "symbols = \"all\"");
    lab.wait_until("prices", |lab| lab.length(MARKS) > 0);
    let began = Instant::now();
    lab.redis.pause(true);
    lab.wait_until("a feed that misses redis", |lab| {
        lab.health().is_some_and(|(status, body)| status == 503 && body.contains("not_connected: redis"))
    });
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    let written = lab.metric("harvester_feed_written_total{what=\"prices\"}").expect("prices");
    lab.redis.pause(false);
    lab.wait_until("prices again", |lab| {
        lab.metric("harvester_feed_written_total{what=\"prices\"}") > Some(written + 9.0)
    });
    lab.wait_connected();
    lab.stop();
    for (id, fields) in lab.redis.entries(MARKS) {
        let payload = &fields.iter().find(|(name, _)| name == "payload").expect("a payload").1;
        let price: Value = serde_json::from_str(payload).unwrap();
        let (written_ms, stated_ms) =
            (id.split_once('-').unwrap().0.parse::<u64>().unwrap(), price["timestamp"].as_u64());
        assert!(written_ms < stated_ms.unwrap() + 4_000, "{id}: {payload}");
        assert_eq!(price["symbol"], json!("ADAUSDT"));
    }
}
