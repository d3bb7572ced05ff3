//! The console: pages of 500 positions, a chart of a day of ticks, and browsers that follow a service.
//!
//! Times of pages are those of a client on loopback, so the server takes less.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::config::Config;
use harvester::console::{Console, chart_of, site};
use harvester::domain::event::streams::StreamKind;
use harvester::drive::film::{Film, Origin};
use harvester::drive::stop::Stop;
use harvester::shell::web::{Guard, Site, WebServer};

use super::bare::{Bare, Commands};
use super::place::{RedisServer, Service, lasts, name_of, open_positions};
use super::processes;

/// Open positions. [1]
const POSITIONS: u64 = 500;
/// A tick each second of a day. [1]
const TICKS: u64 = 86_400;
/// Clients that follow a page. [1]
const BROWSERS: usize = 50;
/// Number of requests for a page. [1]
const TRIES: usize = 21;
/// Prices per second while browsers follow. [1/s]
const PRICES_PER_S: u64 = 100;
/// Time for which a service is observed with and without browsers.
const WATCHED: Duration = Duration::from_secs(20);
/// Time of the first entry. [ms since 1970]
const BEGIN_MS: u64 = 1_770_163_200_000;
const PATHS: [&str; 4] = ["/", "/console/positions", "/console/decisions", "/console/streams"];
const ASSETS: [&str; 3] = ["/console/assets/console.css", "/console/assets/console.js", "/console/assets/icon.svg"];

/// The measurements.
pub struct Measured {
    /// For each page: path, first time and median [ms], and size. [bytes]
    pub pages: Vec<(&'static str, f64, f64, usize)>,
    /// Style, script and icon. [bytes]
    pub assets: usize,
    /// The time of a chart with the reading of the history, and the median after that. [ms]
    pub chart: (f64, f64),
    /// The same with an eighth of the ticks. [ms]
    pub chart_of_eighth: (f64, f64),
    /// Share of one processor without and with browsers. [1]
    pub service: (f64, f64),
    /// Events that all browsers received, per second. [1/s]
    pub events: f64,
}

/// Measures everything once.
pub async fn measure(config: &Config) -> anyhow::Result<Measured> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (pages, assets) = pages(&folder.path().join("positions.jsonl"), config).await?;
    let chart = charted(&folder.path().join("day.jsonl"), config, TICKS)?;
    let chart_of_eighth = charted(&folder.path().join("eighth.jsonl"), config, TICKS / 8)?;
    let (service, events) = followed(config).await?;
    Ok(Measured { pages, assets, chart, chart_of_eighth, service, events })
}

/// Prints the measurements and the requirements.
pub fn report(measured: &Measured) {
    println!("\nThe console with {POSITIONS} positions: first time / median of {TRIES} [ms], size [kB]");
    for (path, first, median, bytes) in &measured.pages {
        println!("{path:24} {first:>8.1} /{median:>6.1} {:>8.1}", *bytes as f64 / 1e3);
    }
    let heaviest = measured.pages.iter().map(|(.., bytes)| *bytes).max().unwrap_or_default() + measured.assets;
    let slowest = measured.pages.iter().map(|(_, first, ..)| *first).fold(0.0, f64::max);
    println!(
        "first page under 50 ms: {}; with style, script and icon under 150 kB: {} ({:.1} kB)",
        yes(slowest < 50.0),
        yes(heaviest < 150_000),
        heaviest as f64 / 1e3
    );
    println!(
        "a chart of {TICKS} ticks: {:.0} ms with the history read, then {:.1} ms (under 100 ms: {}); of an eighth: {:.0}, then {:.1}",
        measured.chart.0,
        measured.chart.1,
        yes(measured.chart.1 < 100.0),
        measured.chart_of_eighth.0,
        measured.chart_of_eighth.1
    );
    let (without, with) = measured.service;
    println!(
        "a service at {PRICES_PER_S} prices/s: {:.1} % of a processor, with {BROWSERS} browsers {:.1} % ({:.0} events/s): \
         under 10 % more: {}",
        100.0 * without,
        100.0 * with,
        measured.events,
        yes(with - without < 0.1)
    );
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "NO" }
}

fn line(config: &Config, kind: StreamKind, ms: u64, fields: &str) -> anyhow::Result<String> {
    Ok(format!(r#"{{"stream":"{}","id":"{ms}-0","fields":{{{fields}}}}}"#, name_of(config, kind)?))
}

/// Opens a position and gives it a price, in three lines.
fn opened(config: &Config, symbol: &str, ms: u64, text: &mut String) -> anyhow::Result<()> {
    let intent = format!(r#""symbol":"{symbol}","side":"BUY","atr_value":"0.01","volatility_factor":"1""#);
    let result = format!(
        r#""symbol":"{symbol}","side":"BUY","orderId":"o{symbol}","status":"FILLED","executedQty":"1000","avgPrice":"1""#
    );
    let price = format!(r#""symbol":"{symbol}","price":"1.0003""#);
    for (kind, fields, at) in
        [(StreamKind::Intent, intent, ms), (StreamKind::Result, result, ms + 1), (StreamKind::Price, price, ms + 2)]
    {
        writeln!(text, "{}", line(config, kind, at, &fields)?)?;
    }
    Ok(())
}

fn film(path: &Path, config: &Config) -> anyhow::Result<Film> {
    Ok(Film::read(Origin::Histories(vec![PathBuf::from(path)]), Arc::new(config.clone()), &Stop::never())?)
}

async fn pages(path: &Path, config: &Config) -> anyhow::Result<(Vec<(&'static str, f64, f64, usize)>, usize)> {
    let mut text = String::new();
    for n in 0..POSITIONS {
        opened(config, &format!("S{n}USDT"), BEGIN_MS + 10 * n, &mut text)?;
    }
    std::fs::write(path, text)?;
    let console = Console::new(Arc::new(film(path, config)?), "a measurement", "");
    let server = WebServer::start("127.0.0.1:0".parse()?, site(&console, Site::default(), Guard::Open)).await?;
    let address = server.address();
    let mut measured = Vec::new();
    for path in PATHS {
        let mut took = Vec::new();
        let mut bytes = 0;
        for _ in 0..TRIES {
            let asked = tokio::task::spawn_blocking(move || asked(address, path)).await??;
            took.push(asked.0);
            bytes = asked.1;
        }
        let first = took[0];
        took.sort_by(f64::total_cmp);
        measured.push((path, first, took[TRIES / 2], bytes));
    }
    let mut assets = 0;
    for path in ASSETS {
        assets += tokio::task::spawn_blocking(move || asked(address, path)).await??.1;
    }
    server.stop().await;
    Ok((measured, assets))
}

/// Requests a page over a new connection, as a browser does. Returns the time [ms] and the size. [bytes]
fn asked(address: SocketAddr, path: &str) -> anyhow::Result<(f64, usize)> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let took = 1000.0 * began.elapsed().as_secs_f64();
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(80)])
    );
    Ok((took, answer.len()))
}

fn charted(path: &Path, config: &Config, ticks: u64) -> anyhow::Result<(f64, f64)> {
    let mut text = String::new();
    opened(config, "DAYUSDT", BEGIN_MS, &mut text)?;
    for n in 1..=ticks {
        // The price never reaches a rung, and no two neighbours are equal.
        let fields = format!(r#""symbol":"DAYUSDT","price":"0.99{:04}""#, n * 7919 % 10_000);
        writeln!(text, "{}", line(config, StreamKind::Price, BEGIN_MS + 1000 * n, &fields)?)?;
    }
    std::fs::write(path, text)?;
    let film = film(path, config)?;
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let began = Instant::now();
        let drawn = chart_of(&film, "DAYUSDT", None)?;
        took.push(1000.0 * began.elapsed().as_secs_f64());
        ensure!(drawn.contains("class=\"price\""), "no price is drawn");
    }
    let first = took[0];
    took.sort_by(f64::total_cmp);
    Ok((first, took[TRIES / 2]))
}

/// Observes a service under a load of prices, without and with browsers.
async fn followed(config: &Config) -> anyhow::Result<((f64, f64), f64)> {
    let server = RedisServer::start()?;
    let mut watching = server.connect().await?;
    open_positions(&mut watching, config, POSITIONS).await?;
    let mut service = Service::start(&server, "[policy]\nmax_actions_per_min = 1\n")?;
    let opened = lasts(&mut watching, config).await?;
    service.until_done(&mut watching, &opened).await?;
    let prices = name_of(config, StreamKind::Price)?;
    let address: SocketAddr = service.address().parse()?;
    // The first request makes the console read the journal.
    while asked(address, "/console/positions").is_err() {
        service.rest().await?;
    }
    let without = watched(&server, &service, &prices)?;
    let events = Arc::new(AtomicU64::new(0));
    let browsers: Vec<TcpStream> = (0..BROWSERS).map(|_| browser(address)).collect::<Result<_, _>>()?;
    for stream in &browsers {
        let (mut stream, events) = (stream.try_clone()?, Arc::clone(&events));
        std::thread::spawn(move || {
            let mut piece = [0; 1 << 16];
            while let Ok(read) = stream.read(&mut piece)
                && read > 0
            {
                let begins = piece[..read].windows(6).filter(|six| *six == b"data: ").count();
                events.fetch_add(begins as u64, Ordering::Relaxed);
            }
        });
    }
    let before = events.load(Ordering::Relaxed);
    let with = watched(&server, &service, &prices)?;
    let got = events.load(Ordering::Relaxed) - before;
    for stream in browsers {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    service.stop()?;
    Ok(((without, with), got as f64 / WATCHED.as_secs_f64()))
}

fn browser(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET /console/live?live-page=/console/positions HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
    )?;
    Ok(stream)
}

/// Returns the share of one processor that a service uses while prices come. [1]
fn watched(server: &RedisServer, service: &Service, stream: &str) -> anyhow::Result<f64> {
    let mut client = Bare::connect(&server.address())?;
    let before = processes::whole(service.id())?;
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < WATCHED {
        let due = began.elapsed().as_millis() as u64 * PRICES_PER_S / 1000;
        let mut commands = Commands::default();
        for n in sent..due {
            let payload = format!(r#"{{"symbol": "S{}USDT", "price": 1.000{}}}"#, n % POSITIONS, n % 7);
            commands.add(&["XADD", stream, "*", "payload", &payload]);
        }
        if due > sent {
            client.ask(&mut commands)?;
            sent = due;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok((processes::whole(service.id())? - before) / began.elapsed().as_secs_f64())
}
