//! From a price to its decision: both seen from outside, by one clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::shell::redis::{Address, Consumer, Membership, Server};

use super::place::{RedisServer, Service, lasts};

/// Open positions. [1]
const SYMBOLS: u64 = 100;
/// Rungs that each of them reaches, one after the other. [1]
const RUNGS: u64 = 10;
/// How long the last decisions may take.
const LAST_LIMIT: Duration = Duration::from_secs(10);

/// What is asked of the service.
#[derive(Clone, Copy)]
pub struct Load {
    /// Prices. [1/s]
    pub rate: u64,
    pub seconds: u64,
}

/// What was seen.
pub struct Measured {
    /// From before the price was sent to when its decision was read, in order. [ms]
    pub latencies_ms: Vec<f64>,
    /// Prices that were in fact sent. [1/s]
    pub rate: f64,
}

impl Load {
    fn prices(self) -> u64 {
        self.rate * self.seconds
    }

    /// The payload of a price: symbols in turn; each goes up to its next rung once in a while, not all at once.
    fn price(self, n: u64) -> String {
        let (symbol, round) = (n % SYMBOLS, n / SYMBOLS);
        let stays = (self.prices() / SYMBOLS / RUNGS).max(1);
        let rung = (round + symbol % stays) / stays;
        // Behind the cost of 10 basis points, a rung of 0.5 R is 0.005.
        format!(r#"{{"symbol": "S{symbol}USDT", "price": {:.4}}}"#, 1.0011 + 0.005 * rung as f64)
    }
}

/// Sends prices at an even pace to a service that holds positions.
pub async fn measure(load: Load, config: &Config) -> anyhow::Result<Measured> {
    let server = RedisServer::start()?;
    let mut sending = server.connect().await?;
    open_positions(&mut sending, config).await?;
    let opened = lasts(&mut sending, config).await?;
    let rungs: Vec<String> =
        (1..=2 * RUNGS).map(|n| format!("{{ r = \"{}\", fraction = \"0.04\" }}", 0.5 * n as f64)).collect();
    let policy = format!("[policy]\nmax_actions_per_min = 1000000\nladder = [{}]\n", rungs.join(", "));
    let mut service = Service::start(&server, &policy)?;
    service.until_done(&mut sending, &opened).await?;

    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicUsize::new(0));
    let decisions = name_of(config, StreamKind::Decision)?;
    let url = server.url();
    let watching = {
        let (over, seen) = (Arc::clone(&over), Arc::clone(&seen));
        std::thread::spawn(move || watch(&url, &decisions, &over, &seen))
    };
    let (sent, rate) = send(&mut sending, load, &name_of(config, StreamKind::Price)?).await?;
    let until = Instant::now() + LAST_LIMIT;
    let expected = (SYMBOLS * (RUNGS - 1)) as usize;
    while seen.load(Ordering::Relaxed) < expected && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    over.store(true, Ordering::Relaxed);
    let arrived = watching.join().ok().context("watching panicked")??;
    service.stop()?;
    ensure!(arrived.len() >= expected, "{} decisions came, at least {expected} were due", arrived.len());

    let latency = |(cause, at): &(EntryId, Instant)| Some((*at - *sent.get(cause)?).as_secs_f64() * 1000.0);
    let mut latencies_ms: Vec<f64> = arrived.iter().filter_map(latency).collect();
    ensure!(latencies_ms.len() == arrived.len(), "a decision has another cause than a price");
    latencies_ms.sort_by(f64::total_cmp);
    Ok(Measured { latencies_ms, rate })
}

fn name_of(config: &Config, kind: StreamKind) -> anyhow::Result<String> {
    let found = config.streams.iter().find(|(_, stream)| stream.kind == kind);
    Ok(found.context("a kind of stream has no name")?.1.name.clone())
}

/// Each long 1000 at 1, with a risk of 0.01 per unit.
async fn open_positions(server: &mut Server, config: &Config) -> anyhow::Result<()> {
    let (intents, results) = (name_of(config, StreamKind::Intent)?, name_of(config, StreamKind::Result)?);
    for n in 0..SYMBOLS {
        let symbol = format!("S{n}USDT");
        let intent = format!(r#"{{"symbol":"{symbol}","side":"BUY","atr_value":0.01,"volatility_factor":1.0}}"#);
        server.add(&intents, &[("payload", &intent)]).await?;
        let order = format!("order-{n}");
        let fill = [("symbol", symbol.as_str()), ("side", "BUY"), ("executedQty", "1000"), ("avgPrice", "1")];
        let order = [("orderId", order.as_str()), ("status", "FILLED")];
        server.add(&results, &[&fill[..], &order[..]].concat()).await?;
    }
    Ok(())
}

/// Sends a few prices every millisecond; answers when each of them was sent, and the rate.
async fn send(server: &mut Server, load: Load, stream: &str) -> anyhow::Result<(HashMap<EntryId, Instant>, f64)> {
    let mut sent = HashMap::new();
    let together = load.rate.div_ceil(1000);
    let began = Instant::now();
    for (beat, first) in (0..load.prices()).step_by(together as usize).enumerate() {
        let due = began + Duration::from_millis(beat as u64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let payloads: Vec<String> = (first..first + together).map(|n| load.price(n)).collect();
        let entries: Vec<Vec<(&str, &str)>> = payloads.iter().map(|text| vec![("payload", text.as_str())]).collect();
        let at = Instant::now();
        sent.extend(server.add_all(stream, &entries).await?.into_iter().map(|id| (id, at)));
    }
    let rate = load.prices() as f64 / began.elapsed().as_secs_f64();
    Ok((sent, rate))
}

/// Reads decisions as they come; answers the cause of each and when it was here.
fn watch(url: &str, stream: &str, over: &AtomicBool, seen: &AtomicUsize) -> anyhow::Result<Vec<(EntryId, Instant)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = Address::new(url, None)?;
        let nobody = || "nobody".to_owned();
        let membership = Membership { group: nobody(), consumer: nobody(), lease_key: nobody() };
        let mut waiting = Consumer::new(Server::connect(&address).await?, vec![stream.to_owned()], membership);
        let mut reading = Server::connect(&address).await?;
        let mut arrived = Vec::new();
        let mut last = EntryId::default();
        while !over.load(Ordering::Relaxed) {
            waiting.wait(&[Some(last)], Duration::from_millis(100)).await?;
            let page = reading.range_after(stream, Some(last), 1000).await?;
            let at = Instant::now();
            for entry in page {
                last = entry.id;
                let payload = entry.pairs().iter().find(|(name, _)| name == b"payload");
                let payload = payload.context("a decision without a payload")?;
                arrived.push((cause(&payload.1).context("a decision without a cause")?, at));
            }
            seen.store(arrived.len(), Ordering::Relaxed);
        }
        Ok(arrived)
    })
}

/// The entry id in `"cause":"stream/id"`.
fn cause(payload: &[u8]) -> Option<EntryId> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once(r#""cause":""#)?;
    rest.split_once('"')?.0.rsplit_once('/')?.1.parse().ok()
}
