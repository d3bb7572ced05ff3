//! The command `run`: from the settings to a running service, and to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use crossbeam_channel::{Sender, bounded};
use tokio::runtime::Runtime;
use tracing::Span;

use super::claim;
use super::connect::{Connect, patiently};
use super::event_loop::EventLoop;
use super::parts::{RELEASE_LIMIT, Running, span_of_cell, spawn_parts};
use super::preflight;
use super::publish::Publisher;
use super::several;
use super::start::start;
use crate::config::flags::{self, RunFlags};
use crate::config::{Cells, Config, Start};
use crate::service::console::{self, AuditOf};
use crate::service::pages::{self, QUESTIONS_WAITING, Question};
use crate::service::server;
use crate::shell::web::WebServer;

/// The longest time to wait for the server at the start of the service.
const FIRST_CONNECTION: Duration = Duration::from_secs(10);

/// The error of a service that was running and could not continue, or that had too little disk space to begin. The
/// service manager should start it again.
#[derive(Debug, thiserror::Error)]
#[error("the service ended")]
pub struct Failed;

/// Consume the live streams, keep positions, emit decisions exactly once
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: REDIS_URL=redis://127.0.0.1:6379 harvester run --store live --journal journal")]
pub struct Args {
    #[command(flatten)]
    flags: RunFlags,
    /// Exit after this many seconds without a new or pending entry
    #[arg(long, value_name = "SECONDS", value_parser = flags::seconds)]
    until_idle: Option<Duration>,
    /// Begin a new chain of decisions in a decision stream that the store does not know. Rungs that were taken stay
    /// taken
    #[arg(long)]
    new_chain: bool,
}

/// How to run the service of each cell.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub until_idle: Option<Duration>,
    pub new_chain: bool,
    /// The audit of the console's page.
    pub audit: AuditOf,
}

/// Runs the service until a signal stops it. With several cells, runs one service for each. `audit` is the command that
/// the console runs on request.
pub fn run(args: &Args, config: &Config, cells: Option<Cells>, audit: AuditOf) -> anyhow::Result<()> {
    let config = args.flags.over(config)?;
    let how = How { until_idle: args.until_idle, new_chain: args.new_chain, audit };
    match cells.filter(|cells| !cells.is_one()) {
        Some(cells) => several::run(&config, cells, how),
        None => run_one(&config, how, None),
    }
}

/// Runs one service until a signal stops it, or the process of several services ends.
pub(super) fn run_one(config: &Config, how: How, of_process: Option<Arc<AtomicBool>>) -> anyhow::Result<()> {
    config.check_cell()?;
    let span = span_of_cell(config);
    let _in_cell = span.enter();
    let of_worker = span.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || enter_for_good(&of_worker))
        .build()?;
    match serve(runtime, config, how, of_process) {
        // More disk space may be free at the next start.
        Err(error) if is_disk_full(&error) && !error.is::<Failed>() => Err(error.context(Failed)),
        done => done,
    }
}

/// Enters a span that the thread never leaves.
#[expect(clippy::mem_forget, reason = "a guard that is dropped when its thread ends would ask a log that has ended")]
fn enter_for_good(span: &Span) {
    std::mem::forget(span.clone().entered());
}

fn is_disk_full(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}

/// Starts the service, works until it is stopped, and ends it.
fn serve(runtime: Runtime, config: &Config, how: How, of_process: Option<Arc<AtomicBool>>) -> anyhow::Result<()> {
    let connect = Connect::new(server::address(config)?);
    let (version, from) = check_server(&runtime, config, &connect)?;
    if config.is_live_without_key() {
        tracing::warn!(
            "live without HARVEST_SIGNING_KEY: every writer of the control stream can change the policy and end a kill"
        );
    }
    let publisher = Publisher::new(config);
    publisher.speaks_to(version.as_deref());
    // Without pages nobody asks. The channel stays open, because a closed one wakes the event loop without end.
    let (ask, questions) = bounded(QUESTIONS_WAITING);
    let web = start_web(&runtime, config, &publisher, ask.clone(), how.audit)?;
    let started = runtime.block_on(start(config, &connect, &publisher, how.new_chain))?;
    let running = spawn_parts(&runtime, config, &connect, started, from, questions, of_process)?;
    let Running { processor, channels, store, journal, disk, parts } = running;
    let event_loop = EventLoop::new(processor, channels, store, journal, config, publisher, how.until_idle);
    let served = event_loop.run(disk);
    parts.stop(&runtime, || {
        if let Some(web) = web {
            runtime.block_on(async { tokio::time::timeout(RELEASE_LIMIT, web.stop()).await }).ok();
        }
    });
    runtime.shutdown_background();
    served.context(Failed)
}

/// Checks that the server is suitable and that the configuration is safe on it. Returns the version of the server, and
/// where streams begin that were never read.
fn check_server(runtime: &Runtime, config: &Config, connect: &Connect) -> anyhow::Result<(Option<String>, Start)> {
    preflight::names_share_a_slot(config, connect.address())?;
    runtime.block_on(patiently(connect, FIRST_CONNECTION, async |server| {
        let version = server.fitting_version().await?;
        preflight::check(config, server).await?;
        claim::check(config, server).await?;
        let now_ms = if config.run.from.needs_now() { server.time_ms().await? } else { 0 };
        Ok((version, config.run.from.start(now_ms)))
    }))
}

/// Serves health, metrics and pages if an address is configured. The event loop answers the questions (`ask`) of the
/// pages.
fn start_web(
    runtime: &Runtime,
    config: &Config,
    publisher: &Publisher,
    ask: Sender<Question>,
    audit: AuditOf,
) -> anyhow::Result<Option<WebServer>> {
    let Some(address) = config.run.listen else { return Ok(None) };
    let site = pages::site(publisher.shared(), Some(ask)).known_as(&config.run.hosts);
    let site = console::with_console(config, address, publisher.shared(), site, (runtime.handle(), audit));
    let web = runtime.block_on(WebServer::start(address, site));
    web.map(Some).with_context(|| format!("serving health and metrics on {address}"))
}

/// Sets the flag when a signal asks the process to end.
pub async fn stop_on_signal(stop: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::error!("signals cannot be received: the service ends only by a kill");
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.store(true, Ordering::Relaxed);
}
