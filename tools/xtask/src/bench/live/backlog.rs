//! A backlog, read by the bare client and by the service from one server; and by a service without a pending list.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::shell::redis::Server;

use super::place::{RedisServer, Service, lasts, name_of};
use super::{bare, processes};

/// The measurements of one service.
pub struct Run {
    /// Time from the creation of the group to the last acknowledgement, or to the record of the last entry.
    pub took: Duration,
    /// Processor time of the server in that time. [s]
    pub server: f64,
    /// Processor time of the service by name of its threads. [s]
    pub threads: BTreeMap<String, f64>,
    /// Largest memory of the service. [kB]
    pub peak_kb: u64,
}

/// The measurements of one pass.
pub struct Pass {
    pub bare: Duration,
    /// Processor time of the server while the bare client read. [s]
    pub bare_server: f64,
    pub run: Run,
    /// The same without a pending list, with another server.
    pub without_list: Option<Run>,
}

/// Measures everything once.
pub async fn pass(file: &Path, entries: u64, config: &Config) -> anyhow::Result<Pass> {
    let mut pass = with_list(file, entries, config).await?;
    pass.without_list = Some(without_list(file, entries, config).await?);
    Ok(pass)
}

/// Measures the bare client and the service with its default settings.
pub async fn with_list(file: &Path, entries: u64, config: &Config) -> anyhow::Result<Pass> {
    let server = RedisServer::start()?;
    server.import(file)?;
    let mut watching = server.connect().await?;
    let lasts = lasts(&mut watching, config).await?;
    let (first, _) = lasts.first().context("nothing was imported")?;

    let before = processes::whole(server.id())?;
    let bare = bare::read_and_acknowledge(&server, entries, config)?;
    let between = processes::whole(server.id())?;

    let mut service = Service::start(&server, "")?;
    service.until_reading(&mut watching, first).await?;
    let began = Instant::now();
    service.until_done(&mut watching, &lasts).await?;
    let run = finished(service, began.elapsed(), &server, between, entries)?;
    Ok(Pass { bare, bare_server: between - before, run, without_list: None })
}

/// Measures the service without a pending list, whose progress cannot be seen in Redis. An unreadable last entry
/// shows its end: its record is written once everything before it is folded and durable.
async fn without_list(file: &Path, entries: u64, config: &Config) -> anyhow::Result<Run> {
    let server = RedisServer::start()?;
    server.import(file)?;
    let mut watching = server.connect().await?;
    let (first, _) = lasts(&mut watching, config).await?.into_iter().next().context("nothing was imported")?;
    let last = watching.add(&name_of(config, StreamKind::Price)?, &[("payload", "{")]).await?;

    let before = processes::whole(server.id())?;
    let mut service = Service::start(&server, "[run]\npending_list = false\n")?;
    service.until_reading(&mut watching, &first).await?;
    let began = Instant::now();
    while !is_recorded(&mut watching, &config.outputs.quarantine, last).await? {
        service.rest().await?;
    }
    finished(service, began.elapsed(), &server, before, entries)
}

async fn is_recorded(server: &mut Server, quarantine: &str, last: EntryId) -> anyhow::Result<bool> {
    let newest = server.newest(quarantine, 1).await?;
    let is_last = |(name, value): &(Vec<u8>, Vec<u8>)| name == b"id" && *value == last.to_string().into_bytes();
    Ok(newest.first().is_some_and(|record| record.pairs().iter().any(is_last)))
}

fn finished(
    service: Service,
    took: Duration,
    server: &RedisServer,
    server_before: f64,
    entries: u64,
) -> anyhow::Result<Run> {
    let server = processes::whole(server.id())? - server_before;
    let threads = processes::threads(service.id())?;
    let peak_kb = processes::peak_kb(service.id())?;
    let journalled = service.stop()?;
    ensure!(journalled >= entries, "the journal has {journalled} of {entries} entries");
    Ok(Run { took, server, threads, peak_kb })
}
