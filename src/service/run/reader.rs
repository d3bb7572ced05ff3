//! The reader: turns streams into one sequence in canonical order. The leader reads with the group, a standby without
//! it.
//!
//! All entries are read by their ids from our own cursors. The group only shows which entries it has delivered to a
//! consumer already. After any uncertainty (an error, a new lease, a group that was created again) the steps are the
//! same: look at the pending entries, read our own range up to the group's last delivery, and continue with new
//! entries.
//!
//! In a backlog, the server prepares the next round while the entries of this one are buffered and folded.
//!
//! In a cluster, streams that do not share a slot with the lease are *ungrouped inputs*. They are read by their ids
//! without the group, also by the leader, and each one is judged by the clock of its own server.
//!
//! In reading order: this file (the state, and one connection from begin to end), `lease` (leader or standby), `cycle`
//! (one round after the other), `round` (the requests of a round, and the way of its entries), `check` (gaps, and keys
//! that are not streams).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::watch;

use super::connect::Connect;
use super::gap_detector::GapDetector;
use super::kill_gate::KillGate;
use super::lines::{Batch, WaitingLines};
use super::message::{LeaseState, Message};
use super::reader_status::ReaderStatus;
use super::source::{Connected, Source};
use crate::codec::line::LineHead;
use crate::config::Start;
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::fault::Faults;
use crate::domain::event::ids::EntryId;
use crate::domain::event::reorder::ReorderBuffer;
use crate::domain::event::streams::StreamKind;
use crate::service::retry_delay::RetryDelay;
use crate::shell::redis::{Membership, ServerError};
use check::Barred;
use lease::Mode;
use round::{Asked, Waiting};

mod check;
mod cycle;
mod lease;
mod round;

/// Everything that the reader needs to begin.
pub struct ReaderSetup {
    pub connect: Connect,
    pub membership: Membership,
    pub streams: Vec<String>,
    /// The kind of each stream.
    pub kinds: Vec<StreamKind>,
    pub kill_gate: Arc<KillGate>,
    /// Cursor and counts of each stream; `None` if it was never read.
    pub cursors_and_counts: Vec<Option<(EntryId, StreamPosition)>>,
    /// Where each stream begins that has no cursor.
    pub from: Vec<Start>,
    /// Entries requested at a time, of each stream. [1]
    pub count: usize,
    pub role: watch::Receiver<LeaseState>,
    pub stop: Arc<AtomicBool>,
    pub status: Arc<ReaderStatus>,
    pub to_fold: Sender<Message>,
    /// Batches that were folded, to be filled again.
    pub folded: Receiver<Batch>,
    pub faults: Faults,
}

/// The service stops, or the receiver of the messages is gone.
#[derive(Debug)]
pub struct Shutdown;

/// The reason why reading on one connection ended.
#[derive(Debug)]
pub enum ReadError {
    Server(ServerError),
    Shutdown,
}

impl From<ServerError> for ReadError {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl From<Shutdown> for ReadError {
    fn from(_: Shutdown) -> Self {
        Self::Shutdown
    }
}

/// The reader, between two requests.
pub struct Reader {
    setup: ReaderSetup,
    mode: Mode,
    /// The last entry of each stream in the rounds received.
    read: Vec<EntryId>,
    /// The last entry of each stream in the reorder buffer. It differs from `read` while a round is being buffered.
    buffered: Vec<EntryId>,
    /// The last entry that the group has delivered beyond that. Up to it the reader reads by range.
    range_to: Vec<Option<EntryId>>,
    /// True if the last read of a stream did not reach the end of the stream.
    was_full: Vec<bool>,
    /// Set if the key contains something else than a stream. Then only its type is read.
    barred: Vec<Option<Barred>>,
    /// True for a stream that is read without the group: it does not share a slot with the lease.
    is_ungrouped: Vec<bool>,
    gap_detector: GapDetector,
    reorder: ReorderBuffer<Waiting>,
    /// The beginning of the lines of each stream, and the lines that wait for their turn.
    heads: Vec<LineHead>,
    lines: Vec<WaitingLines>,
    /// The entries that may be released.
    batch: Batch,
    /// The round in flight.
    asked: Option<Asked>,
    /// Entries requested at a time; fewer than `setup.count` if entries are large. [1]
    count: usize,
    /// The watermark that was published last. [ms since 1970]
    published_watermark_ms: u64,
    /// Entries about positions up to this time wait, because their ids were ahead of the clocks when they were read. [ms
    /// since 1970]
    facts_ahead_to_ms: Option<u64>,
    began: Instant,
    /// When the statistics of the streams were read last, by the clock of the source.
    checked_at: Option<Duration>,
    /// True if nothing was read on this connection yet.
    is_connected_anew: bool,
    /// Since when the server does not know the lease that we have, by the clock of the source.
    fenced: Option<Duration>,
}

/// Reads until it is stopped. Failures of the server are retried without limit, with growing delays.
pub fn run(setup: ReaderSetup) {
    if let Err(error) = exact_sleeps() {
        tracing::debug!(%error, "sleeps of the reader are longer than they need to be");
    }
    Reader::new(setup).run();
}

/// Makes sleeps of this thread end exactly. By default the kernel adds up to 50 µs, and an entry has to wait for the
/// next millisecond of the server's clock.
fn exact_sleeps() -> std::io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?)
}

impl Reader {
    pub fn new(setup: ReaderSetup) -> Self {
        let read: Vec<EntryId> = setup
            .cursors_and_counts
            .iter()
            .map(|begun| begun.map_or_else(EntryId::default, |(cursor, _)| cursor))
            .collect();
        let gap_detector = GapDetector::new(&setup.cursors_and_counts, setup.faults);
        Self {
            reorder: ReorderBuffer::new(setup.streams.len()),
            heads: setup.streams.iter().map(|name| LineHead::new(name)).collect(),
            lines: setup.streams.iter().map(|_| WaitingLines::default()).collect(),
            batch: Batch::default(),
            asked: None,
            range_to: vec![None; setup.streams.len()],
            was_full: vec![true; setup.streams.len()],
            barred: vec![None; setup.streams.len()],
            is_ungrouped: setup
                .streams
                .iter()
                .map(|name| !setup.connect.address().share_slot(name, &setup.membership.lease_key))
                .collect(),
            mode: Mode::Unsettled,
            count: setup.count,
            published_watermark_ms: 0,
            facts_ahead_to_ms: None,
            began: Instant::now(),
            checked_at: None,
            is_connected_anew: true,
            fenced: None,
            buffered: read.clone(),
            read,
            gap_detector,
            setup,
        }
    }

    fn run(mut self) {
        let mut delay = RetryDelay::of_server();
        while !self.setup.stop.load(Ordering::Relaxed) {
            match self.connected(&mut delay) {
                Ok(()) | Err(ReadError::Shutdown) => return,
                Err(ReadError::Server(error)) => {
                    self.setup.status.failed(&error);
                    let pause = delay.next();
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "reading failed, trying again");
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// Reads on one connection, from its beginning to its end.
    fn connected(&mut self, delay: &mut RetryDelay) -> Result<(), ReadError> {
        let ReaderSetup { connect, streams, membership, status, .. } = &self.setup;
        let status = Arc::clone(status);
        status.waits();
        let mut links = connect.links(streams.clone(), membership).inspect_err(|_| status.unanswered())?;
        let read = self.read_on(&mut Connected { links: &mut links, began: self.began, status: &status }, delay);
        if links.had_too_large_a_reply() {
            self.count = (self.count / 4).max(1);
        }
        read
    }

    fn read_on(&mut self, consumer: &mut impl Source, delay: &mut RetryDelay) -> Result<(), ReadError> {
        self.begin(consumer)?;
        while !self.setup.stop.load(Ordering::Relaxed) {
            if self.prepare(consumer)? {
                self.cycle(consumer)?;
            }
            delay.reset();
        }
        Ok(())
    }

    /// Begins to read on a new connection.
    pub fn begin(&mut self, consumer: &mut impl Source) -> Result<(), ReadError> {
        self.mode = Mode::Unsettled;
        self.asked = None;
        self.fenced = None;
        self.is_connected_anew = true;
        self.check_streams(consumer)?;
        self.is_connected_anew = false;
        self.setup.status.is_connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn send(&self, message: Message) -> Result<(), Shutdown> {
        self.setup.to_fold.send(message).map_err(|_| Shutdown)
    }
}
