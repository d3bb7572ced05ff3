//! A start after `kill -9`, and an idle service.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::shell::redis::frame::{Token, Walk};

use super::bare::{Bare, Commands};
use super::place::{RedisServer, Service, lasts, name_of, open_positions};
use super::processes;

/// Open positions. [1]
pub const POSITIONS: u64 = 500;
/// Entries that the journal has and the store has not [1]: a second at either rate of the latencies, and a million;
/// and the number of tries of each. [1]
const BEHIND: [(u64, usize); 3] = [(1_000, 9), (20_000, 5), (1_000_000, 3)];
/// Time for which an idle service is observed.
const IDLE: Duration = Duration::from_secs(30);
/// Commands that are sent together. [1]
const TOGETHER: u64 = 1000;
/// Settings with which the service writes no checkpoint by itself.
const SETTINGS: &str =
    "[run]\ncheckpoint_ms = 60000\ncheckpoint_entries = 10000000\n[policy]\nmax_actions_per_min = 1\n";

/// Starts with so many entries to fold.
pub struct Starts {
    pub entries: u64,
    /// Time from the start of the process until it serves. [ms]
    pub took_ms: Vec<f64>,
}

/// Load of an idle service: share of one processor. [1]
pub struct Idle {
    pub service: f64,
    pub server: f64,
}

/// Measures both with the same positions.
pub async fn measure(config: &Config) -> anyhow::Result<(Vec<Starts>, Idle)> {
    let server = RedisServer::start()?;
    let mut watching = server.connect().await?;
    open_positions(&mut watching, config, POSITIONS).await?;
    let mut service = Service::start(&server, SETTINGS)?;
    let opened = lasts(&mut watching, config).await?;
    service.until_done(&mut watching, &opened).await?;
    let prices = name_of(config, StreamKind::Price)?;
    let mut all = Vec::new();
    for (entries, tries) in BEHIND {
        let mut starts = Starts { entries, took_ms: Vec::new() };
        for _ in 0..tries {
            let last = send(&server, &prices, entries)?;
            service.until_done(&mut watching, &[(prices.clone(), last)]).await?;
            let (again, took) = service.killed_and_started()?;
            service = again;
            starts.took_ms.push(1000.0 * took.as_secs_f64());
        }
        starts.took_ms.sort_by(f64::total_cmp);
        all.push(starts);
    }
    // The work that follows a start has ended.
    std::thread::sleep(Duration::from_secs(5));
    let (service_before, server_before) = (processes::whole(service.id())?, processes::whole(server.id())?);
    let began = Instant::now();
    std::thread::sleep(IDLE);
    let share = |before: f64, now: f64| (now - before) / began.elapsed().as_secs_f64();
    let idle = Idle {
        service: share(service_before, processes::whole(service.id())?),
        server: share(server_before, processes::whole(server.id())?),
    };
    service.stop()?;
    Ok((all, idle))
}

/// Sends prices that reach no rung. Returns the id of the last one.
fn send(server: &RedisServer, stream: &str, entries: u64) -> anyhow::Result<EntryId> {
    let mut client = Bare::connect(&server.address())?;
    let mut commands = Commands::default();
    let mut last = EntryId::default();
    for first in (0..entries).step_by(TOGETHER as usize) {
        for n in first..(first + TOGETHER).min(entries) {
            let payload = format!(r#"{{"symbol": "S{}USDT", "price": 1.000{}}}"#, n % POSITIONS, n % 7);
            commands.add(&["XADD", stream, "*", "payload", &payload]);
        }
        let mut walk = Walk::new(client.ask(&mut commands)?);
        while !walk.is_at_end() {
            let Ok(Token::Text(id)) = walk.token() else { anyhow::bail!("a price was not taken") };
            last = EntryId::parse(id).context("an id that is none")?;
        }
    }
    ensure!(last != EntryId::default(), "nothing was sent");
    Ok(last)
}
