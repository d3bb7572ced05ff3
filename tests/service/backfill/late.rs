//! An answer of the exchange that waited for Redis is not appended: it is asked for again.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::binary::harvester;
use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET};
use crate::support::redis::RedisServer;

const POSITIONS: &str = "/fapi/v3/positionRisk";
const OBSERVATIONS: &str = "quantum:stream:harvest.observation";

#[test]
fn a_look_up_that_waited_for_redis_is_made_again() {
    let (exchange, redis) = (ExchangeServer::start(), RedisServer::start());
    exchange.world().set_position("ADAUSDT", "10", "0.3");
    exchange.world().set_position("BTCUSDT", "1", "60000");
    exchange.fail(POSITIONS, [Fault::Slow(Duration::from_secs(1))]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let text = format!("[redis]\nurl = \"{}\"\n[exchange]\nbase_url = \"{}\"\n", redis.url(), exchange.url());
    std::fs::write(&config, text).unwrap();
    let mut command = harvester();
    command.args(["backfill", "--json", "--config"]).arg(&config);
    command.env("BINANCE_TESTNET_API_KEY", KEY).env("BINANCE_TESTNET_API_SECRET", SECRET);
    let backfill = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    exchange.wait_until("a look-up", |exchange| exchange.calls(POSITIONS).len() == 1);
    redis.pause(true);
    let began = Instant::now();
    exchange.world().positions.remove("ADAUSDT");
    while began.elapsed() < Duration::from_secs(6) {
        std::thread::sleep(Duration::from_millis(50));
    }
    redis.pause(false);
    let ended = backfill.wait_with_output().expect("it ends");
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(exchange.calls(POSITIONS).len() >= 2, "{log}");
    let symbols: Vec<Value> = redis
        .entries(OBSERVATIONS)
        .into_iter()
        .filter(|(_, fields)| fields.contains(&("event_type".to_owned(), "exchange.position".to_owned())))
        .map(|(_, fields)| {
            let payload = fields.iter().find(|(name, _)| name == "payload").expect("a payload");
            serde_json::from_str::<Value>(&payload.1).unwrap()["symbol"].clone()
        })
        .collect();
    assert_eq!(symbols, ["BTCUSDT"], "ADAUSDT was closed while Redis was away: {log}");
}
