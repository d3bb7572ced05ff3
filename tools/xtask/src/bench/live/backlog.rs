//! A backlog, read by the bare client and by the service from one server.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::config::Config;

use super::place::{RedisServer, Service, lasts};
use super::{bare, processes};

/// What one pass took.
pub struct Pass {
    pub bare: Duration,
    /// Processor time of the server while the bare client read. [s]
    pub bare_server: f64,
    /// From the making of the group to the last acknowledgement.
    pub run: Duration,
    /// Processor time of the server while the service read. [s]
    pub run_server: f64,
    /// Processor time of the service by name of its threads. [s]
    pub threads: BTreeMap<String, f64>,
    /// The most memory that the service held. [kB]
    pub peak_kb: u64,
}

/// Measures both once, on a server of their own.
pub async fn pass(file: &Path, entries: u64, config: &Config) -> anyhow::Result<Pass> {
    let server = RedisServer::start()?;
    server.import(file)?;
    let mut watching = server.connect().await?;
    let lasts = lasts(&mut watching, config).await?;
    let (first, _) = lasts.first().context("nothing was imported")?;

    let before = processes::whole(server.id())?;
    let bare = bare::read_and_acknowledge(&server, entries, config).await?;
    let between = processes::whole(server.id())?;

    let mut service = Service::start(&server, "")?;
    service.until_reading(&mut watching, first).await?;
    let began = Instant::now();
    service.until_done(&mut watching, &lasts).await?;
    let run = began.elapsed();
    let after = processes::whole(server.id())?;
    let threads = processes::threads(service.id())?;
    let peak_kb = processes::peak_kb(service.id())?;
    let journalled = service.stop()?;
    ensure!(journalled >= entries, "the journal holds {journalled} of {entries} entries");
    Ok(Pass { bare, bare_server: between - before, run, run_server: after - between, threads, peak_kb })
}
