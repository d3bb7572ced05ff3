//! The reader: from streams to one sequence in canonical order; with the group as the leader, without it as a follower.
//!
//! All entries are read by their ids from our own cursors. The group only shows what it has delivered to a consumer
//! already. After any doubt (an error, a new lease, a group that was created again) the steps are the same: look at the
//! pending entries, read our own range up to what the group has delivered, and go on with new entries.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::connect::{Connect, RetryDelay};
use super::gap_detector::{Bookkeeping, Position};
use super::kill_gate::KillGate;
use super::message::{Message, Released, Role};
use crate::codec::decode::kills_when_read;
use crate::codec::line::Fields;
use crate::codec::live::StreamPosition;
use crate::config::Start;
use crate::domain::engine::IDS_AHEAD_MAX_MS;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::reorder::{ReadTo, ReorderBuffer};
use crate::shell::redis::{Answer, Consumer, Membership, RawEntry, Round, ServerError, StreamFault, StreamStats, Take};

/// With a larger lag than this, the watermark is not sent, because no order is sent then. [ms]
const FAR_BEHIND_MS: u64 = 60_000;
/// The watermark is sent in steps of this size, because each one wakes the processor, even between a price and its
/// decision. [ms]
const READ_TO_STEP_MS: u64 = 50;
/// How long a read waits at the server for new entries.
const WAIT: Duration = Duration::from_millis(200);
/// Time between two gap checks of all streams.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);
/// The size of the entries that are read together, as far as it can be predicted. [bytes]
const READ_BYTES: usize = 16 << 20;

/// The state of the reader, for other parts.
#[derive(Debug, Default)]
pub struct ReaderStatus {
    /// Entries that wait for their turn. [1]
    pub waiting: AtomicU64,
    /// True if all streams were read to their ends, and no entry waits.
    pub is_drained: AtomicBool,
    pub is_connected: AtomicBool,
    /// The server's clock at the last round. [ms since 1970]
    pub server_ms: AtomicU64,
    pub reconnects: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl ReaderStatus {
    /// Returns the last read error.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, error: &ServerError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.is_connected.store(false, Ordering::Relaxed);
        self.is_drained.store(false, Ordering::Relaxed);
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}

/// Everything that the reader needs to begin.
pub struct ReaderSetup {
    pub connect: Connect,
    pub membership: Membership,
    pub streams: Vec<String>,
    /// For each stream, whether it carries control entries.
    pub are_control: Vec<bool>,
    /// For each stream, whether it is read ahead at the start of a service.
    pub are_foreseen: Vec<bool>,
    pub kill_gate: Arc<KillGate>,
    /// Cursor and counts of each stream; `None` if it was never read.
    pub positions: Vec<Option<(EntryId, StreamPosition)>>,
    /// Where each stream begins that has no cursor.
    pub from: Vec<Start>,
    /// Entries requested at a time, of each stream. [1]
    pub count: usize,
    pub role: watch::Receiver<Role>,
    pub stop: Arc<AtomicBool>,
    pub status: Arc<ReaderStatus>,
    pub to_fold: SyncSender<Message>,
}

/// How streams are read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// The mode is not yet settled with the server.
    Unsettled,
    Follow,
    Group {
        lease: String,
    },
}

/// The receiver is gone, or the service stops.
struct Over;

enum Trouble {
    Server(ServerError),
    Over,
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl From<Over> for Trouble {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// When a key was found to hold something else than a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barred {
    /// At the start: its entries were not read ahead.
    AtStart,
    Since,
}

struct Reader {
    setup: ReaderSetup,
    mode: Mode,
    /// The last entry taken from each stream.
    read: Vec<EntryId>,
    /// The last entry that the group has delivered beyond that, to be read by range.
    range_to: Vec<Option<EntryId>>,
    /// True if the last read of a stream did not reach its end.
    was_full: Vec<bool>,
    /// Set if the key holds something else than a stream: only its type is read then.
    barred: Vec<Option<Barred>>,
    books: Bookkeeping,
    reorder: ReorderBuffer<Released>,
    count: usize,
    /// The watermark that was sent last. [ms since 1970]
    told_to_ms: u64,
    surveyed: Option<Instant>,
}

/// Reads until it is stopped. Failures of the server are retried without limit, with growing delays.
pub fn run(setup: ReaderSetup) {
    let to_fold = setup.to_fold.clone();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = to_fold.send(Message::Ended(anyhow::Error::new(error).context("no runtime for the reader")));
            return;
        }
    };
    runtime.block_on(Reader::new(setup).run());
}

impl Reader {
    fn new(setup: ReaderSetup) -> Self {
        let read =
            setup.positions.iter().map(|position| position.map_or_else(EntryId::default, |(id, _)| id)).collect();
        let books = Bookkeeping::new(&setup.positions);
        Self {
            reorder: ReorderBuffer::new(setup.streams.len()),
            range_to: vec![None; setup.streams.len()],
            was_full: vec![true; setup.streams.len()],
            barred: vec![None; setup.streams.len()],
            mode: Mode::Unsettled,
            count: setup.count,
            told_to_ms: 0,
            surveyed: None,
            read,
            books,
            setup,
        }
    }

    async fn run(mut self) {
        let mut delay = RetryDelay::default();
        while !self.setup.stop.load(Ordering::Relaxed) {
            match self.connected(&mut delay).await {
                Ok(()) | Err(Trouble::Over) => return,
                Err(Trouble::Server(error)) => {
                    self.setup.status.failed(&error);
                    let pause = delay.next();
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "reading failed, trying again");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Reads on one connection, from its beginning to its end.
    async fn connected(&mut self, delay: &mut RetryDelay) -> Result<(), Trouble> {
        let server = self.setup.connect.server().await?;
        let mut consumer = Consumer::new(server, self.setup.streams.clone(), self.setup.membership.clone());
        self.mode = Mode::Unsettled;
        self.stream_stats(&mut consumer).await?;
        self.setup.status.is_connected.store(true, Ordering::Relaxed);
        while !self.setup.stop.load(Ordering::Relaxed) {
            self.settle(&mut consumer).await?;
            if self.surveyed.is_none_or(|at| at.elapsed() >= SURVEY_INTERVAL) {
                self.stream_stats(&mut consumer).await?;
            }
            self.cycle(&mut consumer).await?;
            delay.reset();
        }
        Ok(())
    }

    /// Becomes leader or follower, as the lease says.
    async fn settle(&mut self, consumer: &mut Consumer) -> Result<(), Trouble> {
        let lease = self.setup.role.borrow().lease().map(str::to_owned);
        match lease {
            None if self.mode != Mode::Follow => {
                self.range_to.fill(None);
                self.mode = Mode::Follow;
            }
            Some(lease) if self.mode != (Mode::Group { lease: lease.clone() }) => {
                self.take_over(consumer).await?;
                self.mode = Mode::Group { lease };
            }
            None | Some(_) => {}
        }
        Ok(())
    }

    /// Reads our own pending entries, then those of consumers that are gone, then our own range up to what was
    /// delivered.
    async fn take_over(&mut self, consumer: &mut Consumer) -> Result<(), Trouble> {
        for stream in (0..self.setup.streams.len()).filter(|stream| self.barred[*stream].is_none()) {
            let state = consumer.join(stream, self.read[stream]).await?;
            self.range_to[stream] = Some(state.last_delivered).filter(|to| *to > self.read[stream]);
            let mut after = EntryId::default();
            loop {
                let page = consumer.own_pending(stream, after).await?;
                let Some(last) = page.last() else { break };
                after = last.id;
                self.tell_delivered(stream, &page)?;
            }
            let mut from = Some(EntryId::default());
            while let Some(start) = from {
                // The lease is ours, so no other consumer of this group will come back for its entries.
                let (page, next) = consumer.claim(stream, Duration::ZERO, start).await?;
                self.tell_delivered(stream, &page)?;
                from = next;
            }
        }
        Ok(())
    }

    fn tell_delivered(&self, stream: usize, page: &[RawEntry]) -> Result<(), Over> {
        if page.is_empty() {
            return Ok(());
        }
        let ids = page.iter().map(|entry| entry.id).collect();
        self.send(Message::Delivered(vec![(StreamId(stream as u16), ids)]))
    }

    fn send(&self, message: Message) -> Result<(), Over> {
        self.setup.to_fold.send(message).map_err(|_| Over)
    }

    /// Checks all streams for trimmed, deleted or forgotten entries, and reports them before any entry after them is
    /// sent.
    async fn stream_stats(&mut self, consumer: &mut Consumer) -> Result<(), Trouble> {
        let surveys = consumer.stream_stats(&self.read).await?;
        let is_first = self.surveyed.replace(Instant::now()).is_none();
        for (index, stream_stats) in surveys.iter().enumerate() {
            self.bar(index, stream_stats, is_first)?;
        }
        for (index, stream_stats) in surveys.iter().enumerate() {
            let stream = StreamId(index as u16);
            if self.barred[index].is_some() && !self.books.has_begun(index) {
                continue;
            }
            if !self.books.has_begun(index) {
                let (cursor, position, loss) =
                    self.books.begin(stream, stream_stats, self.setup.from[index], consumer).await?;
                self.read[index] = cursor.unwrap_or_default();
                self.send(Message::Begin { stream, cursor, position })?;
                if let Some(loss) = loss {
                    self.send(Message::Lost(loss))?;
                }
            } else if self.was_skipped(index, stream_stats) {
                // The group's cursor was moved, or another process reads in our group. Those entries are read by their
                // ids.
                self.range_to[index] = Some(stream_stats.last_id);
            } else {
                let at = Position { read: self.read[index], is_at_end: !self.was_full[index] };
                if let Some(loss) = self.books.check(stream, stream_stats, at, consumer).await? {
                    self.send(Message::Lost(loss))?;
                }
            }
        }
        let ahead = (0..surveys.len()).map(|stream| self.is_ahead(StreamId(stream as u16))).collect();
        self.send(Message::Surveyed(surveys, ahead))?;
        Ok(())
    }

    /// Bars a key that holds something else than a stream, and one that is no longer a stream.
    fn bar(&mut self, index: usize, stream_stats: &StreamStats, is_first: bool) -> Result<(), Over> {
        let is_barred = stream_stats.fault == Some(StreamFault::NotAStream);
        match (self.barred[index], is_barred) {
            (None, true) => {
                self.barred[index] = Some(if is_first { Barred::AtStart } else { Barred::Since });
                self.range_to[index] = None;
            }
            (Some(since), false) => {
                if since == Barred::AtStart && self.setup.are_foreseen[index] && stream_stats.exists {
                    let name = &self.setup.streams[index];
                    self.send(Message::Ended(anyhow::anyhow!(
                        "{name} is a stream again, and was none when this service began: what stands in it is looked through \
                         by the next start"
                    )))?;
                }
                self.barred[index] = None;
                self.mode = Mode::Unsettled;
            }
            (None, false) | (Some(_), true) => {}
        }
        Ok(())
    }

    /// Returns true if the id of a stream's next entry is ahead of the server's clock.
    fn is_ahead(&self, stream: StreamId) -> bool {
        let to_ms = self.setup.status.server_ms.load(Ordering::Relaxed).saturating_add(IDS_AHEAD_MAX_MS);
        self.reorder.first_of(stream).is_some_and(|first| first.ms > to_ms)
    }

    /// Returns true if there are entries that `>` has not returned, although everything was read a moment ago.
    fn was_skipped(&self, index: usize, stream_stats: &StreamStats) -> bool {
        let is_new = matches!(self.mode, Mode::Group { .. }) && self.range_to[index].is_none();
        is_new && !self.was_full[index] && stream_stats.next_id.is_some_and(|next| next > self.read[index])
    }

    /// Reads once, sends the entries that may be released, and waits if there were none.
    async fn cycle(&mut self, consumer: &mut Consumer) -> Result<(), Trouble> {
        let takes: Vec<Take> = (0..self.setup.streams.len()).map(|stream| self.take(stream)).collect();
        let fence = match &self.mode {
            Mode::Group { lease } => Some(lease.as_str()),
            Mode::Follow | Mode::Unsettled => None,
        };
        let round = match consumer.round(&takes, self.count, fence).await {
            Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => {
                return self.find_barred(consumer, error).await;
            }
            answer => answer?,
        };
        let round = match round {
            Answer::Read(round) => round,
            Answer::Again => return Ok(()),
            Answer::Fenced => {
                // The lease was ours until a moment ago. The lease task will set the new role.
                self.mode = Mode::Unsettled;
                tokio::time::sleep(Duration::from_millis(10)).await;
                return Ok(());
            }
        };
        let time_us = round.time_us;
        if round.has_returned {
            // The entries that the round has delivered are read again by their ids.
            self.mode = Mode::Unsettled;
            return self.stream_stats(consumer).await;
        }
        let is_news = self.take_in(&takes, round)?;
        let released = self.release()?;
        let read_to_ms = self.reorder.complete_to_ms();
        let is_far_behind = read_to_ms.saturating_add(FAR_BEHIND_MS) < time_us / 1000;
        if !is_far_behind && read_to_ms >= self.told_to_ms.saturating_add(READ_TO_STEP_MS) {
            self.told_to_ms = read_to_ms;
            self.send(Message::ReadTo { ms: read_to_ms })?;
        }
        self.setup.status.server_ms.store(time_us / 1000, Ordering::Relaxed);
        self.setup.status.waiting.store(self.reorder.len() as u64, Ordering::Relaxed);
        let is_drained = !is_news && !released && self.reorder.is_empty();
        self.setup.status.is_drained.store(is_drained, Ordering::Relaxed);
        if is_news || released {
            if !released {
                self.rest(time_us);
            }
            return Ok(());
        }
        if self.reorder.is_empty() {
            let after: Vec<Option<EntryId>> =
                self.read.iter().zip(&self.barred).map(|(read, barred)| barred.is_none().then_some(*read)).collect();
            match consumer.wait(&after, WAIT).await {
                Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => {
                    self.find_barred(consumer, error).await?;
                }
                waited => waited?,
            }
        } else {
            self.rest(time_us);
        }
        Ok(())
    }

    /// Finds the key that is no stream, so that the others are read on.
    async fn find_barred(&mut self, consumer: &mut Consumer, error: ServerError) -> Result<(), Trouble> {
        let before = self.barred.clone();
        self.mode = Mode::Unsettled;
        self.stream_stats(consumer).await?;
        if self.barred == before { Err(error.into()) } else { Ok(()) }
    }

    /// Sleeps until the server's next millisecond, when the entries of this one can be released.
    fn rest(&self, time_us: u64) {
        let Some(first) = self.reorder.first() else { return };
        let until_us = first.ms.saturating_add(1).saturating_mul(1000);
        // An entry of the future must not block the connection.
        let rest_us = until_us.saturating_sub(time_us).min(1000);
        if rest_us > 0 {
            std::thread::sleep(Duration::from_micros(rest_us));
        }
    }

    fn take(&self, stream: usize) -> Take {
        if self.reorder.waiting_of(StreamId(stream as u16)) >= self.setup.count {
            return Take::Nothing;
        }
        if self.barred[stream].is_some() {
            return Take::Barred;
        }
        match (&self.mode, self.range_to[stream]) {
            (Mode::Group { .. }, Some(to)) => Take::Range { after: self.read[stream], to },
            (Mode::Group { .. }, None) => Take::New,
            (Mode::Follow | Mode::Unsettled, _) => Take::After(self.read[stream]),
        }
    }

    /// Adds entries to the reorder buffer. Returns true if any of them had not been read before.
    fn take_in(&mut self, takes: &[Take], round: Round) -> Result<bool, Over> {
        let by_group = matches!(self.mode, Mode::Group { .. });
        let mut is_news = false;
        let (mut bytes, mut entries_read) = (0, 0);
        for (index, (entries, take)) in round.entries.into_iter().zip(takes).enumerate() {
            let stream = StreamId(index as u16);
            let is_full = entries.len() >= self.count;
            let mut known = Vec::new();
            for entry in entries {
                if entry.id <= self.read[index] {
                    known.push(entry.id);
                    continue;
                }
                (is_news, bytes, entries_read) = (true, bytes + entry.size(), entries_read + 1);
                self.read[index] = entry.id;
                if self.setup.are_control[index] && kills_when_read(&Fields::from_bytes(entry.pairs())) {
                    self.setup.kill_gate.kill_is_read();
                    self.send(Message::KillRead { stream, id: entry.id })?;
                }
                self.books.count(index);
                self.reorder.push(stream, entry.id, Released { stream, entry, by_group });
            }
            if !known.is_empty() {
                self.send(Message::Delivered(vec![(stream, known)]))?;
            }
            self.was_full[index] = is_full || *take == Take::Nothing;
            match take {
                Take::Nothing => {}
                _ if is_full => self.reorder.read_to(stream, ReadTo::Entry(self.read[index])),
                Take::Range { to, .. } => {
                    self.range_to[index] = None;
                    self.reorder.read_to(stream, ReadTo::Entry((*to).max(self.read[index])));
                }
                Take::New | Take::After(_) | Take::Barred => {
                    self.reorder.read_to(stream, ReadTo::Time { ms: round.time_us / 1000 });
                }
            }
        }
        if let Some(entry_bytes) = bytes.checked_div(entries_read) {
            let fits = READ_BYTES / entry_bytes.max(1);
            self.count = self.setup.count.min(fits.max(10));
        }
        Ok(is_news)
    }

    /// Sends the entries that may be released. Returns true if there were any.
    fn release(&mut self) -> Result<bool, Over> {
        let mut entries = Vec::new();
        let mut any = false;
        while let Some((_, released)) = self.reorder.pop() {
            entries.push(released);
            if entries.len() >= self.setup.count {
                self.send(Message::Entries(std::mem::take(&mut entries)))?;
            }
            any = true;
        }
        if !entries.is_empty() {
            self.send(Message::Entries(entries))?;
        }
        Ok(any)
    }
}
