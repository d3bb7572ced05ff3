//! The command: from the settings to a running service, and to its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossbeam_channel::{Sender, bounded, unbounded};
use tokio::sync::watch;

use super::claim::{self, OwnClaim};
use super::connect::{Connect, patiently};
use super::disk;
use super::emitter::{self, EmitterSetup};
use super::event::Event;
use super::event_loop::{Channels, DiskThreads, EventLoop};
use super::fetching::{self, FetchSetup, Fetched, Lacking};
use super::lease_task::{self, LeaseSetup};
use super::message::LeaseState;
use super::preflight;
use super::publish::Publisher;
use super::reader::{self, ReaderSetup};
use super::reader_status::ReaderStatus;
use super::several;
use super::start::{Started, start};
use crate::codec::policy;
use crate::config::flags::{self, RunFlags};
use crate::config::{Cells, Config, Start};
use crate::domain::delivery::fault::Faults;
use crate::domain::event::streams::StreamKind;
use crate::drive::keys;
use crate::drive::look_ahead::is_read_ahead;
use crate::service::pages::{self, QUESTIONS_WAITING};
use crate::service::server;
use crate::shell::redis::{EmitKeys, LeaseKeys, Membership};
use crate::shell::web::WebServer;

/// The longest time to wait for the server at the start of the service.
const FIRST_CONNECTION: Duration = Duration::from_secs(10);
/// The most batches that wait for the processor. [1]
const BATCHES_WAITING: usize = 4;
/// The longest delay until a service of several notices the end of the process.
const PROCESS_STEP: Duration = Duration::from_millis(50);
/// The longest time that the release of the lease may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// The error of a service that was running and could not go on, or had no disk space to begin. It should be started
/// again.
#[derive(Debug, thiserror::Error)]
#[error("the service ended")]
pub struct Failed;

/// Consume the live streams, keep positions, emit decisions exactly once
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: REDIS_URL=redis://127.0.0.1:6379 harvester run --store live --journal journal")]
pub struct Args {
    #[command(flatten)]
    flags: RunFlags,
    /// End once nothing was pending or new for so long
    #[arg(long, value_name = "SECONDS", value_parser = flags::seconds)]
    until_idle: Option<Duration>,
    /// Begin a chain of its own in a decision stream that the store does not know: what was decided stays taken
    #[arg(long)]
    new_chain: bool,
}

/// Runs the service until a signal stops it. With several cells it runs one for each.
pub fn run(args: &Args, config: &Config, cells: Option<Cells>) -> anyhow::Result<()> {
    let config = args.flags.over(config)?;
    match cells.filter(|cells| !cells.is_one()) {
        Some(cells) => several::run(&config, cells, args.until_idle, args.new_chain),
        None => run_one(&config, args.until_idle, args.new_chain, None),
    }
}

/// Runs one service until a signal stops it, or the process of several services ends.
pub(super) fn run_one(
    config: &Config,
    until_idle: Option<Duration>,
    new_chain: bool,
    of_process: Option<Arc<AtomicBool>>,
) -> anyhow::Result<()> {
    config.check_cell()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    match serve(runtime, config, until_idle, new_chain, of_process) {
        // There may be more disk space at the next start.
        Err(error) if is_disk_full(&error) && !error.is::<Failed>() => Err(error.context(Failed)),
        done => done,
    }
}

fn is_disk_full(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge))
}

fn serve(
    runtime: tokio::runtime::Runtime,
    config: &Config,
    until_idle: Option<Duration>,
    new_chain: bool,
    of_process: Option<Arc<AtomicBool>>,
) -> anyhow::Result<()> {
    let connect = Connect::new(server::address(config)?);
    preflight::names_share_a_slot(config, connect.address())?;
    let (version, from) = runtime.block_on(patiently(&connect, FIRST_CONNECTION, async |server| {
        let version = server.fitting_version().await?;
        preflight::check(config, server).await?;
        claim::check(config, server).await?;
        let now_ms = if config.run.from.needs_now() { server.time_ms().await? } else { 0 };
        Ok((version, config.run.from.start(now_ms)))
    }))?;
    let publisher = Publisher::new(config);
    publisher.speaks_to(version.as_deref());
    let (ask, questions) = bounded(QUESTIONS_WAITING);
    let web = match config.run.listen {
        None => None,
        Some(address) => {
            let site = pages::site(publisher.shared(), Some(ask)).known_as(&config.run.hosts);
            let web = runtime.block_on(WebServer::start(address, site));
            Some(web.with_context(|| format!("serving health and metrics on {address}"))?)
        }
    };
    let Started { processor, store, journal, positions } =
        runtime.block_on(start(config, &connect, &publisher, new_chain))?;

    let decisions = server::decision_stream(&config.streams);
    let keys = LeaseKeys::beside(&decisions);
    let stop = Arc::new(AtomicBool::new(false));
    let give_up = Arc::new(AtomicBool::new(false));
    let (role, role_seen) = watch::channel(LeaseState::NotOurs);
    let (holder, holder_seen) = watch::channel(None);
    let (send_event, events) = unbounded();
    let status = Arc::new(ReaderStatus::default());
    let (to_fold, messages) = bounded(BATCHES_WAITING);
    let (folded, to_fill) = bounded(BATCHES_WAITING);
    let (to_emitter, orders) = unbounded();
    let (to_journal, journal_orders) = unbounded();
    let (to_checkpoints, checkpoint_orders) = unbounded();

    let reading = ReaderSetup {
        connect: connect.clone(),
        membership: Membership {
            group: config.run.group.clone(),
            consumer: config.run.consumer.clone(),
            lease_key: keys.lease.clone(),
            pending_list: config.run.pending_list,
        },
        streams: config.streams.iter().map(|(_, stream)| stream.name.clone()).collect(),
        are_control: config.streams.iter().map(|(_, stream)| stream.kind == StreamKind::Control).collect(),
        are_facts: config.streams.iter().map(|(_, stream)| stream.kind.is_of_positions()).collect(),
        are_foreseen: config.streams.iter().map(|(_, stream)| is_read_ahead(stream.kind)).collect(),
        kill_gate: Arc::clone(&processor.kill_gate),
        positions,
        from: config.streams.iter().map(|(_, stream)| start_of(stream.kind, from)).collect(),
        count: config.run.read_count,
        role: role_seen.clone(),
        stop: Arc::clone(&stop),
        status: Arc::clone(&status),
        to_fold,
        folded: to_fill,
        faults: Faults::default(),
    };
    let emitting = EmitterSetup {
        connect: connect.clone(),
        keys: EmitKeys {
            lease: keys.lease.clone(),
            decisions,
            control: server::control_stream(&config.streams),
            kill_key: config.emit.kill_key.clone(),
            length_max: config.emit.output_maxlen,
            signing: keys::configured(config)?,
        },
        kill_gate: Arc::clone(&processor.kill_gate),
        streams: config.streams.clone(),
        policy: policy::to_json(&config.policy),
        quarantine: config.outputs.quarantine.clone(),
        group: config.run.group.clone(),
        give_up: Arc::clone(&give_up),
        orders,
        events: send_event.clone(),
    };
    let lease = LeaseSetup {
        connect: connect.clone(),
        keys,
        consumer: config.run.consumer.clone(),
        lasts: Duration::from_millis(config.run.lease_ms),
        claim: OwnClaim::of(config),
        role,
        holder,
        stop: Arc::clone(&stop),
        events: send_event.clone(),
    };
    let lease = runtime.spawn(lease_task::keep_lease(lease));
    if let Some(live) = config.live()? {
        let (connect, events, stop) = (connect.clone(), send_event.clone(), Arc::clone(&stop));
        runtime.spawn(lease_task::watch_executors(connect, live, config.groups(), events, stop));
    }
    runtime.spawn(lease_task::watch_kill_key(
        connect,
        config.emit.kill_key.clone(),
        send_event.clone(),
        Arc::clone(&stop),
    ));
    let stopped = (Arc::clone(&stop), send_event.clone());
    let signalled = of_process.clone();
    runtime.spawn(async move {
        stop_on_signal(stopped.0).await;
        if let Some(of_process) = signalled {
            of_process.store(true, Ordering::Relaxed);
        }
        let _ = stopped.1.send(Event::Stop);
    });
    if let Some(of_process) = of_process {
        runtime.spawn(stop_with_process(of_process, Arc::clone(&stop), send_event.clone()));
    }
    let reading = spawn(&named_for(config, "reader"), move || reader::run(reading))?;
    let emitting = spawn(&named_for(config, "emitter"), move || emitter::run(emitting))?;

    let journalled = disk::state(&journal);
    let store = Arc::new(Mutex::new(store));
    let (shared, to_loop) = (Arc::clone(&store), send_event.clone());
    let threads = DiskThreads {
        journal: spawn(&named_for(config, "journal"), move || {
            disk::keep_journal(journal, &journal_orders, &send_event)
        })?,
        checkpoints: spawn(&named_for(config, "checkpoint"), move || {
            disk::keep_checkpoints(&shared, &checkpoint_orders, &to_loop)
        })?,
    };
    let (lacking, lacking_seen) = watch::channel(Lacking::default());
    let (fetched, fetched_seen) = watch::channel(Fetched::default());
    runtime.spawn(fetching::run(FetchSetup {
        config: config.clone(),
        address: server::address(config)?,
        role: role_seen.clone(),
        lacking: lacking_seen,
        fetched,
        stop: Arc::clone(&stop),
    }));
    let channels = Channels {
        messages,
        folded,
        events,
        emitter: to_emitter,
        journal: to_journal,
        checkpoints: to_checkpoints,
        role: role_seen,
        holder: holder_seen,
        questions,
        lacking,
        fetched: fetched_seen,
        status,
        stop: Arc::clone(&stop),
        give_up,
    };
    let event_loop = EventLoop::new(processor, channels, store, journalled, config, publisher, until_idle);
    let served = event_loop.run(threads);
    stop.store(true, Ordering::Relaxed);
    let released = runtime.block_on(async { tokio::time::timeout(RELEASE_LIMIT, lease).await });
    if released.is_err() {
        tracing::warn!("the lease was not given back in time and ends by itself");
    }
    if let Some(web) = web {
        runtime.block_on(async { tokio::time::timeout(RELEASE_LIMIT, web.stop()).await }).ok();
    }
    // Everything is durable, so a server that does not answer delays the end no further.
    let until = Instant::now() + RELEASE_LIMIT;
    while !(reading.is_finished() && emitting.is_finished()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    runtime.shutdown_background();
    served.context(Failed)
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// Returns the name of a thread of a service: with its cell, if it is one.
fn named_for(config: &Config, name: &str) -> String {
    config.run.cell.map_or_else(|| name.to_owned(), |cell| format!("cell-{cell} {name}"))
}

/// Stops a service when the process of several services ends.
async fn stop_with_process(of_process: Arc<AtomicBool>, stop: Arc<AtomicBool>, events: Sender<Event>) {
    while !of_process.load(Ordering::Relaxed) {
        tokio::time::sleep(PROCESS_STEP).await;
    }
    stop.store(true, Ordering::Relaxed);
    let _ = events.send(Event::Stop);
}

/// Decisions and control entries are read from the beginning of their streams, wherever the other streams start.
fn start_of(kind: StreamKind, from: Start) -> Start {
    match kind {
        StreamKind::Control | StreamKind::Decision => Start::Earliest,
        _ => from,
    }
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
