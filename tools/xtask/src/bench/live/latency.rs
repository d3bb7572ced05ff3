//! The time from a price to its decision, both read by one clock outside of the service. And the time from a price to
//! its echo, which is the smallest possible one: a client reads an entry and writes another one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::shell::redis::frame::{Token, Walk};

use super::bare::{Bare, Commands};
use super::place::{RedisServer, Service, lasts, name_of, open_positions};

/// Open positions. [1]
const SYMBOLS: u64 = 100;
/// Rungs that each position reaches, one after the other. [1]
const RUNGS: u64 = 10;
/// Longest time to wait for the last decisions.
const LAST_LIMIT: Duration = Duration::from_secs(10);
/// The stream of the echo.
const ECHO: &str = "echo";

/// The load of the service.
#[derive(Clone, Copy)]
pub struct Load {
    /// Prices. [1/s]
    pub rate: u64,
    pub seconds: u64,
}

/// The measurements.
pub struct Measured {
    /// Time from before the price was sent until its decision was read, in order. [ms]
    pub latencies_ms: Vec<f64>,
    /// Rate at which prices were in fact sent. [1/s]
    pub rate: f64,
    /// The mean of a sync of the journal, and of an offer, if a service was measured. [ms]
    pub parts_ms: Option<(f64, f64)>,
}

impl Measured {
    /// Returns the latency that this share of all does not exceed. [ms]
    pub fn at(&self, share: f64) -> f64 {
        self.latencies_ms[((self.latencies_ms.len() - 1) as f64 * share) as usize]
    }
}

impl Measured {
    /// [ms]
    pub fn mean_ms(&self) -> f64 {
        self.latencies_ms.iter().sum::<f64>() / self.latencies_ms.len() as f64
    }
}

impl Load {
    fn prices(self) -> u64 {
        self.rate * self.seconds
    }

    /// Returns the payload of a price: symbols in turn; each rises to its next rung at times, not all at once.
    fn price(self, n: u64) -> String {
        let (symbol, round) = (n % SYMBOLS, n / SYMBOLS);
        let stays = (self.prices() / SYMBOLS / RUNGS).max(1);
        let rung = (round + symbol % stays) / stays;
        // After the cost of 10 basis points, a rung of 0.5 R is 0.005.
        format!(r#"{{"symbol": "S{symbol}USDT", "price": {:.4}}}"#, 1.0011 + 0.005 * rung as f64)
    }
}

/// Sends prices at an even pace to a service with open positions.
pub async fn of_decisions(load: Load, config: &Config) -> anyhow::Result<Measured> {
    let server = RedisServer::start()?;
    let mut opening = server.connect().await?;
    open_positions(&mut opening, config, SYMBOLS).await?;
    let opened = lasts(&mut opening, config).await?;
    let rungs: Vec<String> =
        (1..=2 * RUNGS).map(|n| format!("{{ r = \"{}\", fraction = \"0.04\" }}", 0.5 * n as f64)).collect();
    let policy = format!("[policy]\nmax_actions_per_min = 1000000\nladder = [{}]\n", rungs.join(", "));
    let mut service = Service::start(&server, &policy)?;
    service.until_done(&mut opening, &opened).await?;
    let decisions = name_of(config, StreamKind::Decision)?;
    let mut measured = between(load, config, &server, &decisions, (SYMBOLS * (RUNGS - 1)) as usize)?;
    measured.parts_ms = Some((service.mean_ms("commit_seconds")?, service.mean_ms("emit_seconds")?));
    service.stop()?;
    Ok(measured)
}

/// Sends the same prices to a client that answers each of them with an entry.
pub fn of_echoes(load: Load, config: &Config) -> anyhow::Result<Measured> {
    let server = RedisServer::start()?;
    let over = Arc::new(AtomicBool::new(false));
    let (address, prices) = (server.address(), name_of(config, StreamKind::Price)?);
    let echoing = {
        let over = Arc::clone(&over);
        std::thread::spawn(move || echo(&address, &prices, &over))
    };
    let measured = between(load, config, &server, ECHO, load.prices() as usize);
    over.store(true, Ordering::Relaxed);
    echoing.join().ok().context("the echo panicked")??;
    measured
}

/// Measures from the sending of prices to the reading of the entries that they cause.
fn between(
    load: Load,
    config: &Config,
    server: &RedisServer,
    answers: &str,
    expected: usize,
) -> anyhow::Result<Measured> {
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(AtomicUsize::new(0));
    let watching = {
        let (address, answers) = (server.address(), answers.to_owned());
        let (over, seen) = (Arc::clone(&over), Arc::clone(&seen));
        std::thread::spawn(move || watch(&address, &answers, &over, &seen))
    };
    let (sent, rate) = send(server, load, &name_of(config, StreamKind::Price)?)?;
    let until = Instant::now() + LAST_LIMIT;
    while seen.load(Ordering::Relaxed) < expected && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    over.store(true, Ordering::Relaxed);
    let arrived = watching.join().ok().context("watching panicked")??;
    ensure!(arrived.len() >= expected, "{} answers came, at least {expected} were due", arrived.len());

    let latency = |(cause, at): &(EntryId, Instant)| Some((*at - *sent.get(cause)?).as_secs_f64() * 1000.0);
    let mut latencies_ms: Vec<f64> = arrived.iter().filter_map(latency).collect();
    ensure!(latencies_ms.len() == arrived.len(), "an answer has another cause than a price");
    latencies_ms.sort_by(f64::total_cmp);
    Ok(Measured { latencies_ms, rate, parts_ms: None })
}

/// Sends a few prices every millisecond. Returns the time of each, and the rate.
fn send(server: &RedisServer, load: Load, stream: &str) -> anyhow::Result<(HashMap<EntryId, Instant>, f64)> {
    let mut client = Bare::connect(&server.address())?;
    let mut commands = Commands::default();
    let mut sent = HashMap::new();
    let together = load.rate.div_ceil(1000);
    let began = Instant::now();
    for (beat, first) in (0..load.prices()).step_by(together as usize).enumerate() {
        let due = began + Duration::from_millis(beat as u64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for n in first..first + together {
            commands.add(&["XADD", stream, "*", "payload", &load.price(n)]);
        }
        let at = Instant::now();
        let mut walk = Walk::new(client.ask(&mut commands)?);
        while !walk.is_at_end() {
            let Ok(Token::Text(id)) = walk.token() else { bail!("a price was not taken") };
            sent.insert(EntryId::parse(id).context("an id that is none")?, at);
        }
    }
    let rate = load.prices() as f64 / began.elapsed().as_secs_f64();
    Ok((sent, rate))
}

/// Asks for the entries of a stream after an entry, and waits for them.
fn ask_after(commands: &mut Commands, stream: &str, last: EntryId) {
    commands.add(&["XREAD", "COUNT", "1000", "BLOCK", "100", "STREAMS", stream, &last.to_string()]);
}

/// Answers each entry of a stream with an entry of the echo.
fn echo(address: &str, stream: &str, over: &AtomicBool) -> anyhow::Result<()> {
    let mut client = Bare::connect(address)?;
    let (mut reading, mut answering) = (Commands::default(), Commands::default());
    let mut last = EntryId::default();
    while !over.load(Ordering::Relaxed) {
        ask_after(&mut reading, stream, last);
        client.read(&mut reading, |_, id, _| {
            last = id;
            answering.add(&["XADD", ECHO, "*", "payload", &format!(r#""cause":"{stream}/{id}""#)]);
        })?;
        client.ask(&mut answering)?;
    }
    Ok(())
}

/// Reads answers as they come. Returns the cause of each and its time.
fn watch(
    address: &str,
    stream: &str,
    over: &AtomicBool,
    seen: &AtomicUsize,
) -> anyhow::Result<Vec<(EntryId, Instant)>> {
    let mut client = Bare::connect(address)?;
    let mut commands = Commands::default();
    let mut arrived = Vec::new();
    let mut last = EntryId::default();
    let mut lacks_cause = false;
    while !over.load(Ordering::Relaxed) {
        ask_after(&mut commands, stream, last);
        let mut found = Vec::new();
        client.read(&mut commands, |_, id, payload| {
            last = id;
            let cause = payload.and_then(cause);
            lacks_cause |= cause.is_none();
            found.extend(cause);
        })?;
        let at = Instant::now();
        arrived.extend(found.into_iter().map(|cause| (cause, at)));
        seen.store(arrived.len(), Ordering::Relaxed);
    }
    ensure!(!lacks_cause, "an answer without a cause");
    Ok(arrived)
}

/// Returns the entry id in `"cause":"stream/id"`.
fn cause(payload: &[u8]) -> Option<EntryId> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once(r#""cause":""#)?;
    rest.split_once('"')?.0.rsplit_once('/')?.1.parse().ok()
}
