//! `harvester record`: writes a journal of the streams, and nothing else.
//!
//! It reads without a group and acknowledges nothing. It goes on after the last entries of the journal.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::sync::watch;

use crate::codec::line;
use crate::config::Config;
use crate::config::flags::{self, RecordFlags};
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::fault::Faults;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::projection::close_to_others;
use crate::service::run::{
    Batch, Connect, LeaseState, Message, ReaderSetup, ReaderStatus, read_streams, stop_on_signal,
};
use crate::service::server;
use crate::shell::journal::{Journal, Limits};
use crate::shell::redis::{LeaseKeys, Membership};

/// The most batches that wait to be written. [1]
const BATCHES_WAITING: usize = 8;
const WAIT: Duration = Duration::from_millis(20);

#[derive(clap::Args, Debug)]
#[command(after_help = "Example: harvester record --redis redis://127.0.0.1:6379 --journal journal")]
pub struct Args {
    #[command(flatten)]
    flags: RecordFlags,
    /// Exit after this many seconds without a new entry
    #[arg(long, value_name = "SECONDS", value_parser = flags::seconds)]
    until_idle: Option<Duration>,
}

/// Records until it is stopped.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let config = args.flags.over(config)?;
    close_to_others(&config.run.journal);
    let limits = Limits { rotate_bytes: config.journal.rotate_bytes };
    let mut journal = Journal::open(&config.run.journal, limits)?.with_scope(&config.scope())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let connect = Connect::new(server::address(&config)?);
    let from = runtime.block_on(async {
        let mut server = connect.server().await?;
        let now_ms = if config.run.from.needs_now() { server.time_ms().await? } else { 0 };
        anyhow::Ok(config.run.from.start(now_ms))
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    runtime.spawn(stop_on_signal(Arc::clone(&stop)));
    let (_, role) = watch::channel(LeaseState::NotOurs);
    let status = Arc::new(ReaderStatus::default());
    let (to_journal, messages) = bounded(BATCHES_WAITING);
    let (folded, to_fill) = bounded(BATCHES_WAITING);
    let held = held(&journal)?;
    let begin_at = |(last, seen): &(EntryId, u64)| (*last, StreamPosition { seen: *seen, added: 0 });
    let setup = ReaderSetup {
        connect,
        membership: membership(&config),
        streams: config.streams.iter().map(|(_, stream)| stream.name.clone()).collect(),
        // Nothing is folded or emitted here: entries of all kinds are only read, as prices are.
        kinds: vec![StreamKind::Price; config.streams.len()],
        kill_gate: Arc::default(),
        cursors_and_counts: config.streams.iter().map(|(_, stream)| held.get(&stream.name).map(begin_at)).collect(),
        from: vec![from; config.streams.len()],
        count: config.run.read_count,
        role,
        stop: Arc::clone(&stop),
        status: Arc::clone(&status),
        to_fold: to_journal,
        folded: to_fill,
        faults: Faults::default(),
    };
    let reading = std::thread::Builder::new().name("reader".to_owned()).spawn(move || read_streams(setup))?;

    tracing::info!(journal = %config.run.journal.display(), entries = journal.position(), "recording");
    let recorder =
        Recorder { messages, folded, config: &config, until_idle: args.until_idle, stop: &stop, status: &status };
    recorder.record(&mut journal)?;
    stop.store(true, Ordering::Relaxed);
    drop(recorder);
    let _ = reading.join();
    tracing::info!(entries = journal.position(), "recorded");
    journal.close()?;
    Ok(())
}

/// Returns the group of the reader. Nothing is ever read through it.
fn membership(config: &Config) -> Membership {
    Membership {
        group: config.run.group.clone(),
        consumer: String::new(),
        lease_key: LeaseKeys::beside(&server::decision_stream(&config.streams)).lease,
        pending_list: false,
    }
}

/// Takes what the reader has read into the journal.
struct Recorder<'a> {
    messages: Receiver<Message>,
    /// Batches that are written, for the reader to fill again.
    folded: Sender<Batch>,
    config: &'a Config,
    until_idle: Option<Duration>,
    stop: &'a AtomicBool,
    status: &'a ReaderStatus,
}

impl Recorder<'_> {
    /// Writes the journal until it is stopped, or nothing has come for long enough.
    fn record(&self, journal: &mut Journal) -> anyhow::Result<()> {
        let mut busy = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            match self.messages.recv_timeout(WAIT) {
                Ok(Message::Entries(mut batch)) => {
                    for (released, line) in batch.iter() {
                        if let Some(line) = line {
                            journal.append(line, released.id.ms);
                        }
                    }
                    journal.commit()?;
                    batch.clear();
                    let _ = self.folded.try_send(batch);
                    busy = Instant::now();
                }
                Ok(Message::Gap(gap)) => {
                    let stream = &self.config.streams.get(gap.stream).name;
                    tracing::error!(stream = %stream, count = gap.count, why = gap.why.text(), "entries are lost: the journal has a gap");
                }
                Ok(Message::Ended(error)) => return Err(error),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.stop.load(Ordering::Relaxed) => break,
                Err(RecvTimeoutError::Disconnected) => bail!("the reader ended by itself"),
            }
            let is_drained = self.status.is_drained.load(Ordering::Relaxed);
            if self.until_idle.is_some_and(|limit| is_drained && busy.elapsed() >= limit) {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the last entry of each stream in the journal, and the number of its entries. [1]
fn held(journal: &Journal) -> anyhow::Result<BTreeMap<String, (EntryId, u64)>> {
    let mut held: BTreeMap<String, (EntryId, u64)> = BTreeMap::new();
    for text in journal.read_from(journal.first())? {
        let text = text?;
        let (stream, id) = line::head(text.as_bytes())?;
        let Ok(id) = id.parse::<EntryId>() else { continue };
        let (last, count) = held.entry(stream.into_owned()).or_default();
        (*last, *count) = (id.max(*last), *count + 1);
    }
    Ok(held)
}
