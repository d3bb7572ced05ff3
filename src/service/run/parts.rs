//! The parts of a service around the event loop: their channels, their threads and tasks, and their end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::Span;

use super::claim::OwnClaim;
use super::command::stop_on_signal;
use super::connect::Connect;
use super::disk::{self, JournalTask, SharedJournal, SharedStore};
use super::emitter::{self, EmitterSetup, EmitterTask};
use super::event::{JournalState, LoopEvent};
use super::event_loop::{Channels, DiskThreads};
use super::fetching::{self, FetchSetup, Fetched, Lacking};
use super::kill_gate::KillGate;
use super::lease_task::{self, LeaseSetup};
use super::lines::Batch;
use super::message::{LeaseHolder, LeaseState, Message};
use super::processor::{CheckpointRows, Processor};
use super::reader::{self, ReaderSetup};
use super::reader_status::ReaderStatus;
use super::start::Started;
use crate::codec::policy;
use crate::config::{Config, Start};
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::fault::Faults;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::keys;
use crate::service::pages::Question;
use crate::service::server;
use crate::shell::redis::{EmitKeys, LeaseKeys, Membership};

/// Maximum number of batches that wait for the processor. [1]
const BATCHES_WAITING: usize = 4;
/// Maximum delay until one of several services notices the end of the process.
const PROCESS_STEP: Duration = Duration::from_millis(50);
/// Maximum time that each part may take to end.
pub(super) const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// The ends of the channels that the other parts have.
struct Ends {
    kill_gate: Arc<KillGate>,
    to_fold: Sender<Message>,
    folded: Receiver<Batch>,
    events: Sender<LoopEvent>,
    emitter_tasks: Receiver<EmitterTask>,
    journal_tasks: Receiver<JournalTask>,
    checkpoints: Receiver<CheckpointRows>,
    role: watch::Sender<LeaseState>,
    holder: watch::Sender<LeaseHolder>,
    lacking: watch::Receiver<Lacking>,
    fetched: watch::Sender<Fetched>,
}

/// Opens the channels. Returns the ends of the event loop and the ends of the other parts.
fn channels(questions: Receiver<Question>, kill_gate: Arc<KillGate>) -> (Channels, Ends) {
    let (to_fold, messages) = bounded(BATCHES_WAITING);
    let (to_fill, folded) = bounded(BATCHES_WAITING);
    let (send_event, events) = unbounded();
    let (emitter, emitter_tasks) = unbounded();
    let (journal, journal_tasks) = unbounded();
    let (to_checkpoints, checkpoints) = unbounded();
    let (role, role_seen) = watch::channel(LeaseState::NotOurs);
    let (holder, holder_seen) = watch::channel(LeaseHolder::default());
    let (lacking, lacking_seen) = watch::channel(Lacking::default());
    let (fetched, fetched_seen) = watch::channel(Fetched::default());
    let of_loop = Channels {
        messages,
        folded: to_fill,
        events,
        emitter,
        journal,
        checkpoints: to_checkpoints,
        role: role_seen,
        holder: holder_seen,
        questions,
        lacking,
        fetched: fetched_seen,
        status: Arc::new(ReaderStatus::default()),
        stop: Arc::new(AtomicBool::new(false)),
        give_up: Arc::new(AtomicBool::new(false)),
    };
    let of_parts = Ends {
        kill_gate,
        to_fold,
        folded,
        events: send_event,
        emitter_tasks,
        journal_tasks,
        checkpoints,
        role,
        holder,
        lacking: lacking_seen,
        fetched,
    };
    (of_loop, of_parts)
}

/// The threads and tasks that end with the service.
pub(super) struct Parts {
    reader: JoinHandle<()>,
    emitter: JoinHandle<()>,
    lease: tokio::task::JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

/// Everything that the event loop needs from the parts.
pub(super) struct Running {
    pub processor: Processor,
    pub channels: Channels,
    pub store: SharedStore,
    pub journal: (SharedJournal, JournalState),
    pub disk: DiskThreads,
    pub parts: Parts,
}

/// Starts all parts except the event loop. `from` is where streams begin that were never read.
pub(super) fn spawn_parts(
    runtime: &Runtime,
    config: &Config,
    connect: &Connect,
    started: Started,
    from: Start,
    questions: Receiver<Question>,
    of_process: Option<Arc<AtomicBool>>,
) -> anyhow::Result<Running> {
    let Started { processor, store, journal, cursors_and_counts } = started;
    let (channels, ends) = channels(questions, Arc::clone(&processor.kill_gate));
    let stop = Arc::clone(&channels.stop);
    let keys = LeaseKeys::beside(&server::decision_stream(&config.streams));
    let reading = reader_setup(config, connect, &keys, from, cursors_and_counts, &channels, &ends);
    let emitting = emitter_setup(config, connect, &keys, &channels, &ends)?;
    let lease = LeaseSetup {
        connect: connect.clone(),
        keys,
        consumer: config.run.consumer.clone(),
        lasts: Duration::from_millis(config.run.lease_ms),
        claim: OwnClaim::of(config),
        role: ends.role,
        holder: ends.holder,
        reader: Arc::clone(&channels.status),
        stop: Arc::clone(&stop),
        events: ends.events.clone(),
    };
    let lease = runtime.spawn(lease_task::keep_lease(lease));
    spawn_watches(runtime, config, connect, &ends.events, &stop)?;
    spawn_stops(runtime, &ends.events, &stop, of_process);
    let reader = spawn(config, "reader", move || reader::run(reading))?;
    let emitter = spawn(config, "emitter", move || emitter::run(emitting))?;
    let position = disk::state(&journal);
    let (store, journal) = (Arc::new(Mutex::new(store)), Arc::new(Mutex::new(journal)));
    let (shared, own) = (Arc::clone(&store), Arc::clone(&journal));
    let (events, of_checkpoints) = (ends.events.clone(), ends.events);
    let (journal_tasks, checkpoints) = (ends.journal_tasks, ends.checkpoints);
    let disk = DiskThreads {
        journal: spawn(config, "journal", move || disk::keep_journal(own, &journal_tasks, &events))?,
        checkpoints: spawn(config, "checkpoint", move || {
            disk::keep_checkpoints(&shared, &checkpoints, &of_checkpoints);
        })?,
    };
    runtime.spawn(fetching::run(FetchSetup {
        config: config.clone(),
        address: server::address(config)?.of_service(),
        role: channels.role.clone(),
        lacking: ends.lacking,
        fetched: ends.fetched,
        stop: Arc::clone(&stop),
    }));
    Ok(Running {
        processor,
        channels,
        store,
        journal: (journal, position),
        disk,
        parts: Parts { reader, emitter, lease, stop },
    })
}

impl Parts {
    /// Ends all parts: releases the lease, then lets reader and emitter finish. Does not wait for a part that takes too
    /// long.
    pub(super) fn stop(self, runtime: &Runtime, end_web: impl FnOnce()) {
        self.stop.store(true, Ordering::Relaxed);
        let released = runtime.block_on(async { tokio::time::timeout(RELEASE_LIMIT, self.lease).await });
        if released.is_err() {
            tracing::warn!("the lease was not given back in time and ends by itself");
        }
        end_web();
        // Everything is durable, so the end does not wait longer for a server that does not answer.
        let until = Instant::now() + RELEASE_LIMIT;
        while !(self.reader.is_finished() && self.emitter.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn reader_setup(
    config: &Config,
    connect: &Connect,
    keys: &LeaseKeys,
    from: Start,
    cursors_and_counts: Vec<Option<(EntryId, StreamPosition)>>,
    channels: &Channels,
    ends: &Ends,
) -> ReaderSetup {
    ReaderSetup {
        connect: connect.clone(),
        membership: Membership {
            group: config.run.group.clone(),
            consumer: config.run.consumer.clone(),
            lease_key: keys.lease.clone(),
            pending_list: config.run.pending_list,
        },
        streams: config.streams.iter().map(|(_, stream)| stream.name.clone()).collect(),
        kinds: config.streams.iter().map(|(_, stream)| stream.kind).collect(),
        kill_gate: Arc::clone(&ends.kill_gate),
        cursors_and_counts,
        from: config.streams.iter().map(|(_, stream)| start_of(stream.kind, from)).collect(),
        count: config.run.read_count,
        role: channels.role.clone(),
        stop: Arc::clone(&channels.stop),
        status: Arc::clone(&channels.status),
        to_fold: ends.to_fold.clone(),
        folded: ends.folded.clone(),
        faults: Faults::default(),
    }
}

fn emitter_setup(
    config: &Config,
    connect: &Connect,
    keys: &LeaseKeys,
    channels: &Channels,
    ends: &Ends,
) -> anyhow::Result<EmitterSetup> {
    Ok(EmitterSetup {
        connect: connect.clone(),
        keys: EmitKeys {
            lease: keys.lease.clone(),
            decisions: server::decision_stream(&config.streams),
            control: server::control_stream(&config.streams),
            kill_key: config.emit.kill_key.clone(),
            facts: config
                .streams
                .iter()
                .filter(|(_, stream)| stream.kind.is_of_positions())
                .filter(|(_, stream)| connect.address().share_slot(&stream.name, &keys.lease))
                .map(|(id, stream)| (id, stream.name.clone()))
                .collect(),
            length_max: config.emit.output_maxlen,
            signing: keys::configured(config)?,
        },
        kill_gate: Arc::clone(&ends.kill_gate),
        streams: config.streams.clone(),
        policy: policy::to_json(&config.policy),
        quarantine: config.outputs.quarantine.clone(),
        group: config.run.group.clone(),
        give_up: Arc::clone(&channels.give_up),
        tasks: ends.emitter_tasks.clone(),
        events: ends.events.clone(),
    })
}

/// Starts the tasks that watch keys and groups of the server.
fn spawn_watches(
    runtime: &Runtime,
    config: &Config,
    connect: &Connect,
    events: &Sender<LoopEvent>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    if let Some(live) = config.live()? {
        let (connect, events, stop) = (connect.clone(), events.clone(), Arc::clone(stop));
        runtime.spawn(lease_task::watch_executors(connect, live, config.groups(), events, stop));
    }
    let kill_key = config.emit.kill_key.clone();
    runtime.spawn(lease_task::watch_kill_key(connect.clone(), kill_key, events.clone(), Arc::clone(stop)));
    Ok(())
}

/// Starts the tasks that stop the service: at a signal, and with the process of several services.
fn spawn_stops(
    runtime: &Runtime,
    events: &Sender<LoopEvent>,
    stop: &Arc<AtomicBool>,
    of_process: Option<Arc<AtomicBool>>,
) {
    let (signalled, to_loop, at_signal) = (of_process.clone(), events.clone(), Arc::clone(stop));
    runtime.spawn(async move {
        stop_on_signal(at_signal).await;
        if let Some(of_process) = signalled {
            of_process.store(true, Ordering::Relaxed);
        }
        let _ = to_loop.send(LoopEvent::Stop);
    });
    if let Some(of_process) = of_process {
        runtime.spawn(stop_with_process(of_process, Arc::clone(stop), events.clone()));
    }
}

/// Stops a service when the process of several services ends.
async fn stop_with_process(of_process: Arc<AtomicBool>, stop: Arc<AtomicBool>, events: Sender<LoopEvent>) {
    while !of_process.load(Ordering::Relaxed) {
        tokio::time::sleep(PROCESS_STEP).await;
    }
    stop.store(true, Ordering::Relaxed);
    let _ = events.send(LoopEvent::Stop);
}

/// Returns the span that names the cell in each line of the log; an empty one where there are no cells.
pub(super) fn span_of_cell(config: &Config) -> Span {
    config.run.cell.map_or_else(Span::none, |cell| tracing::error_span!(parent: None, "cell", cell))
}

/// Starts a thread. Its name is that of the part and, with several cells, of the cell.
fn spawn<T: Send + 'static>(
    config: &Config,
    part: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let name = config.run.cell.map_or_else(|| part.to_owned(), |cell| format!("cell-{cell} {part}"));
    let span = span_of_cell(config);
    std::thread::Builder::new().name(name).spawn(move || span.in_scope(work))
}

/// Decisions and control entries are read from the beginning of their streams, wherever the other streams start.
fn start_of(kind: StreamKind, from: Start) -> Start {
    match kind {
        StreamKind::Control | StreamKind::Decision => Start::Earliest,
        _ => from,
    }
}
