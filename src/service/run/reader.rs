//! The reader: from streams to one sequence in canonical order; with the group as the leader, without it as a follower.
//!
//! All entries are read by their ids from our own cursors. The group only shows what it has delivered to a consumer
//! already. After any doubt (an error, a new lease, a group that was created again) the steps are the same: look at the
//! pending entries, read our own range up to what the group has delivered, and go on with new entries.
//!
//! In a backlog the server reads the next round while the entries of this one are taken in and folded.
//!
//! In a cluster, streams that do not share a slot with the lease are *shared inputs*. They are read by their ids without
//! the group, also by the leader, and each of them is judged by the clock of its own server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::watch;

use super::clocks::Clocks;
use super::connect::{Connect, RetryDelay};
use super::gap_detector::{Bookkeeping, Position};
use super::kill_gate::KillGate;
use super::lines::{Batch, WaitingLines};
use super::message::{LeaseState, Message};
use super::reader_status::ReaderStatus;
use super::source::{Connected, Source};
use crate::codec::decode::kills_when_read;
use crate::codec::line::{self, Fields, LineHead};
use crate::config::Start;
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::fault::{Fault, Faults};
use crate::domain::engine::IDS_AHEAD_MAX_MS;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::reorder::{ReadTo, ReorderBuffer};
use crate::shell::redis::{Answer, Membership, RawEntry, Round, Sent, ServerError, StreamFault, StreamStats, Take};

/// With a larger lag than this, the watermark is not sent, because no order is sent then. [ms]
const FAR_BEHIND_MS: u64 = 60_000;
/// The watermark is sent in steps of this size, because each one wakes the processor, even between a price and its
/// decision. [ms]
const READ_TO_STEP_MS: u64 = 50;
/// How long a read waits at the server for new entries: after a round with entries, and after one without.
const WAITS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(200)];
/// How long nothing is asked after the lease was found to be another's.
const FENCED_PAUSE: Duration = Duration::from_millis(10);
/// How long a node of a cluster may not know the lease that we hold. Then its successor is looked for.
const FENCED_MAX: Duration = Duration::from_secs(1);
/// Time between two gap checks of all streams.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);
/// The size of the entries that are read together, as far as it can be predicted. [bytes]
const READ_BYTES: usize = 16 << 20;
/// The size at which a batch goes to the processor. [bytes]
const BATCH_BYTES: usize = 1 << 20;

/// Everything that the reader needs to begin.
pub struct ReaderSetup {
    pub connect: Connect,
    pub membership: Membership,
    pub streams: Vec<String>,
    /// For each stream, whether it carries control entries.
    pub are_control: Vec<bool>,
    /// For each stream, whether its entries are facts about positions.
    pub are_facts: Vec<bool>,
    /// For each stream, whether it is read ahead at the start of a service.
    pub are_foreseen: Vec<bool>,
    pub kill_gate: Arc<KillGate>,
    /// Cursor and counts of each stream; `None` if it was never read.
    pub positions: Vec<Option<(EntryId, StreamPosition)>>,
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
#[derive(Debug)]
pub struct Over;

/// Why reading on one connection ended.
#[derive(Debug)]
pub enum Trouble {
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

/// An entry that waits for its turn. Its line waits among those of its stream.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    by_group: bool,
    /// Length of its line; 0 if it was trimmed. [byte]
    len: usize,
}

/// The server's clock in a round.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    /// [µs since 1970]
    time_us: u64,
    /// When it was read, by the clock of the source: halfway between asking and receiving.
    at: Duration,
}

/// A round that the server was asked for.
struct Asked {
    takes: Vec<Take>,
    /// By the clock of the source.
    sent: Duration,
    /// True if the group waits for an acknowledgement of what it delivers.
    by_group: bool,
}

/// The reader, between two requests.
pub struct Reader {
    setup: ReaderSetup,
    mode: Mode,
    /// The last entry of each stream in the rounds received.
    read: Vec<EntryId>,
    /// The last entry taken from each stream. It differs from the one before while a round is taken in.
    taken: Vec<EntryId>,
    /// The last entry that the group has delivered beyond that, to be read by range.
    range_to: Vec<Option<EntryId>>,
    /// True if the last read of a stream did not reach its end.
    was_full: Vec<bool>,
    /// Set if the key holds something else than a stream: only its type is read then.
    barred: Vec<Option<Barred>>,
    /// True for a stream that is read without the group: it does not share a slot with the lease.
    is_shared: Vec<bool>,
    /// By stream: the clock of its server in the last round. [ms since 1970]
    clocks_ms: Vec<u64>,
    books: Bookkeeping,
    reorder: ReorderBuffer<Waiting>,
    /// By stream: the beginning of its lines, and those that wait for their turn.
    heads: Vec<LineHead>,
    lines: Vec<WaitingLines>,
    /// The entries that may be released.
    batch: Batch,
    /// The round in flight.
    asked: Option<Asked>,
    count: usize,
    /// The watermark that was sent last. [ms since 1970]
    told_to_ms: u64,
    /// Entries about positions up to this time wait, because their ids were ahead of the clocks when they were read. [ms
    /// since 1970]
    facts_ahead_to_ms: Option<u64>,
    began: Instant,
    /// When the gap check was made last, by the clock of the source.
    surveyed: Option<Duration>,
    /// Nothing was read on this connection yet.
    is_connected_anew: bool,
    /// Since when the server does not know the lease that we hold, by the clock of the source.
    fenced: Option<Duration>,
}

/// Reads until it is stopped. Failures of the server are retried without limit, with growing delays.
pub fn run(setup: ReaderSetup) {
    if let Err(error) = exact_sleeps() {
        tracing::debug!(%error, "sleeps of the reader are longer than they need to be");
    }
    Reader::new(setup).run();
}

/// Makes sleeps of this thread end when they should. By default the kernel adds up to 50 µs, and an entry waits for the
/// server's next millisecond.
fn exact_sleeps() -> std::io::Result<()> {
    Ok(rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?)
}

/// Sleeps until the server's clock has passed a millisecond, when the entries of that one can be released. [ms since 1970]
fn rest(consumer: &mut impl Source, ms: u64, server: ClockReading) {
    let until_us = ms.saturating_add(1).saturating_mul(1000);
    let now_us = server.time_us + consumer.clock().saturating_sub(server.at).as_micros() as u64;
    // An entry of the future must not block the connection, nor a clock that was set back.
    consumer.pause(Duration::from_micros(until_us.saturating_sub(now_us).min(1000)));
}

impl Reader {
    pub fn new(setup: ReaderSetup) -> Self {
        let read: Vec<EntryId> =
            setup.positions.iter().map(|position| position.map_or_else(EntryId::default, |(id, _)| id)).collect();
        let books = Bookkeeping::new(&setup.positions, setup.faults);
        Self {
            reorder: ReorderBuffer::new(setup.streams.len()),
            heads: setup.streams.iter().map(|name| LineHead::new(name)).collect(),
            lines: setup.streams.iter().map(|_| WaitingLines::default()).collect(),
            batch: Batch::default(),
            asked: None,
            range_to: vec![None; setup.streams.len()],
            was_full: vec![true; setup.streams.len()],
            barred: vec![None; setup.streams.len()],
            is_shared: setup
                .streams
                .iter()
                .map(|name| !setup.connect.address().share_slot(name, &setup.membership.lease_key))
                .collect(),
            clocks_ms: vec![0; setup.streams.len()],
            mode: Mode::Unsettled,
            count: setup.count,
            told_to_ms: 0,
            facts_ahead_to_ms: None,
            began: Instant::now(),
            surveyed: None,
            is_connected_anew: true,
            fenced: None,
            taken: read.clone(),
            read,
            books,
            setup,
        }
    }

    fn run(mut self) {
        let mut delay = RetryDelay::default();
        while !self.setup.stop.load(Ordering::Relaxed) {
            match self.connected(&mut delay) {
                Ok(()) | Err(Trouble::Over) => return,
                Err(Trouble::Server(error)) => {
                    self.setup.status.failed(&error);
                    let pause = delay.next();
                    tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "reading failed, trying again");
                    std::thread::sleep(pause);
                }
            }
        }
    }

    /// Reads on one connection, from its beginning to its end.
    fn connected(&mut self, delay: &mut RetryDelay) -> Result<(), Trouble> {
        let ReaderSetup { connect, streams, membership, .. } = &self.setup;
        let mut links = connect.links(streams.clone(), membership)?;
        let read = self.read_on(&mut Connected { links: &mut links, began: self.began }, delay);
        if links.had_too_large_a_reply() {
            self.count = (self.count / 4).max(1);
        }
        read
    }

    fn read_on(&mut self, consumer: &mut impl Source, delay: &mut RetryDelay) -> Result<(), Trouble> {
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
    pub fn begin(&mut self, consumer: &mut impl Source) -> Result<(), Trouble> {
        self.mode = Mode::Unsettled;
        self.asked = None;
        self.fenced = None;
        self.is_connected_anew = true;
        self.stream_stats(consumer)?;
        self.is_connected_anew = false;
        self.setup.status.is_connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Asks for the next round unless one is in flight. Returns false if there is none: the lease is not ours.
    pub fn prepare(&mut self, consumer: &mut impl Source) -> Result<bool, Trouble> {
        if self.asked.is_some() {
            return Ok(true);
        }
        self.settle(consumer)?;
        if self.is_survey_due(consumer) {
            self.stream_stats(consumer)?;
        }
        if self.ask(consumer)? {
            self.fenced = None;
            return Ok(true);
        }
        // The lease was ours until a moment ago. The lease task will set the new role.
        self.mode = Mode::Unsettled;
        let since = *self.fenced.get_or_insert(consumer.clock());
        if self.setup.connect.address().is_cluster() && consumer.clock().saturating_sub(since) > FENCED_MAX {
            let server = self.setup.connect.address().name().to_owned();
            return Err(ServerError::LeaseElsewhere { server }.into());
        }
        consumer.pause(FENCED_PAUSE);
        Ok(false)
    }

    fn is_survey_due(&self, consumer: &impl Source) -> bool {
        self.surveyed.is_none_or(|at| consumer.clock().saturating_sub(at) >= SURVEY_INTERVAL)
    }

    /// Becomes leader or follower, as the lease says.
    fn settle(&mut self, consumer: &mut impl Source) -> Result<(), Trouble> {
        if self.is_settled() {
            return Ok(());
        }
        let lease = self.setup.role.borrow().lease().map(str::to_owned);
        self.send(Message::DeliveredAnew)?;
        match lease {
            None => {
                self.range_to.fill(None);
                self.mode = Mode::Follow;
            }
            Some(lease) => {
                self.take_over(consumer)?;
                self.mode = Mode::Group { lease };
            }
        }
        Ok(())
    }

    /// Returns true if the streams are read as the lease says.
    fn is_settled(&self) -> bool {
        match (self.setup.role.borrow().lease(), &self.mode) {
            (None, Mode::Follow) => true,
            (Some(lease), Mode::Group { lease: settled }) => lease == settled,
            (None | Some(_), Mode::Unsettled | Mode::Follow | Mode::Group { .. }) => false,
        }
    }

    /// Reads our own pending entries, then those of consumers that are gone, then our own range up to what was
    /// delivered.
    fn take_over(&mut self, consumer: &mut impl Source) -> Result<(), Trouble> {
        let is_ours = |stream: &usize| self.barred[*stream].is_none() && !self.is_shared[*stream];
        for stream in (0..self.setup.streams.len()).filter(is_ours).collect::<Vec<usize>>() {
            let state = consumer.join(stream, self.read[stream])?;
            if !self.setup.faults.has(Fault::SkipOwnRange) {
                self.range_to[stream] = Some(state.last_delivered).filter(|to| *to > self.read[stream]);
            }
            let mut after = EntryId::default();
            loop {
                let page = consumer.own_pending(stream, after)?;
                let Some(last) = page.last() else { break };
                after = last.id;
                self.tell_delivered(stream, &page)?;
            }
            let mut from = Some(EntryId::default());
            while let Some(start) = from {
                let (page, next) = consumer.claim(stream, start)?;
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
    fn stream_stats(&mut self, consumer: &mut impl Source) -> Result<(), Trouble> {
        let surveys = consumer.stream_stats(&self.read)?;
        let is_first = self.surveyed.replace(consumer.clock()).is_none();
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
                    self.books.begin(stream, stream_stats, self.setup.from[index], consumer)?;
                self.read[index] = cursor.unwrap_or_default();
                self.taken[index] = self.read[index];
                self.send(Message::Begin { stream, cursor, position })?;
                if let Some(loss) = loss {
                    self.send(Message::Lost(loss))?;
                }
            } else if self.was_skipped(index, stream_stats) {
                // The group's cursor was moved, or another process reads in our group. Those entries are read by their
                // ids.
                self.range_to[index] = Some(stream_stats.last_id);
            } else {
                let at = Position {
                    read: self.read[index],
                    is_at_end: !self.was_full[index],
                    is_connected_anew: self.is_connected_anew,
                };
                if let Some(loss) = self.books.check(stream, stream_stats, at, consumer)? {
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

    /// Returns true if the id of a stream's next entry is ahead of the clock of its server.
    fn is_ahead(&self, stream: StreamId) -> bool {
        let to_ms = self.clocks_ms[usize::from(stream.0)].saturating_add(IDS_AHEAD_MAX_MS);
        self.reorder.first_of(stream).is_some_and(|first| first.ms > to_ms)
    }

    /// Returns true if there are entries that `>` has not returned, although everything was read a moment ago.
    fn was_skipped(&self, index: usize, stream_stats: &StreamStats) -> bool {
        let is_by_group = matches!(self.mode, Mode::Group { .. }) && !self.is_shared[index];
        let is_new = is_by_group && self.range_to[index].is_none();
        is_new && !self.was_full[index] && stream_stats.next_id.is_some_and(|next| next > self.read[index])
    }

    /// Takes the round that was asked for, sends the entries that may be released, and waits if there were none.
    pub fn cycle(&mut self, consumer: &mut impl Source) -> Result<(), Trouble> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let round = match consumer.receive_round() {
            Ok(Answer::Read(round)) => round,
            Ok(Answer::Again) => return Ok(()),
            Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => {
                return self.find_barred(consumer, error);
            }
            Err(error) => return Err(error.into()),
        };
        let received = consumer.clock();
        if round.has_returned {
            // The entries that the round has delivered are read again by their ids.
            self.mode = Mode::Unsettled;
            return self.stream_stats(consumer);
        }
        let has_more = self.look_at(&asked.takes, &round);
        // What follows is asked for before this is taken in. What was read is taken in, whatever becomes of that.
        let is_next = has_more && self.is_settled() && !self.is_survey_due(consumer);
        let asked_next = if is_next { self.ask(consumer).map(drop) } else { Ok(()) };
        let clocks = Clocks::of(&round);
        let is_news = self.take_in(&round, asked.by_group)?;
        consumer.reuse(round);
        // Before anything is released that may cause an order.
        if let Some(ms) = self.facts_ahead(clocks)
            && self.facts_ahead_to_ms.replace(ms).is_none()
        {
            self.send(Message::FactsAhead(true))?;
        }
        let released = self.release()?;
        asked_next?;
        self.tell_how_far(clocks)?;
        let is_drained = !is_news && !released && self.reorder.is_empty();
        self.setup.status.is_drained.store(is_drained, Ordering::Relaxed);
        if self.asked.is_some() || has_more {
            return Ok(());
        }
        let now = ClockReading { time_us: clocks.slowest_us, at: (asked.sent + received) / 2 };
        match self.reorder.first() {
            Some(first) => rest(consumer, first.ms, now),
            // The entry that is waited for can be released a millisecond later, and is read then.
            None => {
                if let Some(came) = self.wait(consumer, WAITS[usize::from(is_drained)])? {
                    rest(consumer, came.ms, now);
                }
            }
        }
        Ok(())
    }

    /// Asks the server for the next round. Returns false if the lease is not ours.
    fn ask(&mut self, consumer: &mut impl Source) -> Result<bool, ServerError> {
        let takes: Vec<Take> = (0..self.setup.streams.len()).map(|stream| self.take(stream)).collect();
        let fence = match &self.mode {
            Mode::Group { lease } => Some(lease.as_str()),
            Mode::Follow | Mode::Unsettled => None,
        };
        let sent = consumer.clock();
        if consumer.send_round(&takes, self.count, fence)? == Sent::Fenced {
            return Ok(false);
        }
        self.asked = Some(Asked { takes, sent, by_group: fence.is_some() && self.setup.membership.pending_list });
        Ok(true)
    }

    /// Waits for an entry after those that were read. Returns the first one that came.
    fn wait(&mut self, consumer: &mut impl Source, limit: Duration) -> Result<Option<EntryId>, Trouble> {
        let after: Vec<Option<EntryId>> =
            self.read.iter().zip(&self.barred).map(|(read, barred)| barred.is_none().then_some(*read)).collect();
        match consumer.wait(&after, limit) {
            Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => {
                self.find_barred(consumer, error).map(|()| None)
            }
            waited => Ok(waited?),
        }
    }

    /// Returns the time of the last entry about positions whose id is ahead of all clocks, if one waits. [ms since 1970]
    fn facts_ahead(&self, clocks: Clocks) -> Option<u64> {
        let now_ms = clocks.fastest_us / 1000;
        let waits = |stream: usize| self.reorder.first_of(StreamId(stream as u16)).is_some();
        let facts = (0..self.setup.streams.len()).filter(|stream| self.setup.are_facts[*stream] && waits(*stream));
        facts.map(|stream| self.taken[stream].ms).filter(|ms| *ms > now_ms).max()
    }

    /// Publishes how far the streams were read, by the clock of the server that has the lease.
    fn tell_how_far(&mut self, clocks: Clocks) -> Result<(), Over> {
        let time_us = clocks.home_us;
        let read_to_ms = clocks.read_to_ms(self.reorder.complete_to_ms());
        self.setup.status.clocks_apart_ms.store(clocks.apart_ms(), Ordering::Relaxed);
        if self.facts_ahead_to_ms.is_some_and(|ms| self.reorder.complete_to_ms() > ms) {
            self.facts_ahead_to_ms = None;
            self.send(Message::FactsAhead(false))?;
        }
        let is_far_behind = read_to_ms.saturating_add(FAR_BEHIND_MS) < time_us / 1000;
        if !is_far_behind && read_to_ms >= self.told_to_ms.saturating_add(READ_TO_STEP_MS) {
            self.told_to_ms = read_to_ms;
            self.send(Message::ReadTo { ms: read_to_ms })?;
        }
        self.setup.status.server_ms.store(time_us / 1000, Ordering::Relaxed);
        self.setup.status.waiting.store(self.reorder.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Finds the key that is no stream, so that the others are read on.
    fn find_barred(&mut self, consumer: &mut impl Source, error: ServerError) -> Result<(), Trouble> {
        let before = self.barred.clone();
        self.mode = Mode::Unsettled;
        self.stream_stats(consumer)?;
        if self.barred == before { Err(error.into()) } else { Ok(()) }
    }

    fn take(&self, stream: usize) -> Take {
        if self.reorder.waiting_of(StreamId(stream as u16)) >= self.setup.count {
            return Take::Nothing;
        }
        if self.barred[stream].is_some() {
            return Take::Barred;
        }
        if self.is_shared[stream] {
            return Take::After(self.read[stream]);
        }
        match (&self.mode, self.range_to[stream]) {
            (Mode::Group { .. }, Some(to)) => Take::Range { after: self.read[stream], to },
            (Mode::Group { .. }, None) => Take::New,
            (Mode::Follow | Mode::Unsettled, _) => Take::After(self.read[stream]),
        }
    }

    /// Notes how far a round has read each stream, so that the next one can be asked for. Returns true if more entries
    /// follow.
    fn look_at(&mut self, takes: &[Take], round: &Round) -> bool {
        let mut has_more = false;
        for (index, take) in takes.iter().enumerate() {
            let stream = StreamId(index as u16);
            let entries = round.of(index);
            let is_full = entries.len() >= self.count;
            let time_ms = round.time_us_of(index) / 1000;
            self.clocks_ms[index] = time_ms;
            has_more |= is_full;
            if let Some(last) = entries.last() {
                self.read[index] = self.read[index].max(last.id);
            }
            self.was_full[index] = is_full || *take == Take::Nothing;
            match take {
                // What was read is complete. Entries with ids ahead of the clock would otherwise hold themselves back: they
                // wait for their stream to be read on, and it is not read on while so many wait.
                Take::Nothing => self.reorder.read_to(stream, ReadTo::Entry(self.read[index])),
                _ if is_full => self.reorder.read_to(stream, ReadTo::Entry(self.read[index])),
                Take::Range { to, .. } => {
                    self.range_to[index] = None;
                    self.reorder.read_to(stream, ReadTo::Entry((*to).max(self.read[index])));
                }
                Take::New | Take::After(_) | Take::Barred => {
                    let early_ms = if self.setup.faults.has(Fault::ReleaseAtOnce) { 1_000 } else { 0 };
                    self.reorder.read_to(stream, ReadTo::Time { ms: time_ms + early_ms });
                }
            }
        }
        has_more
    }

    /// Adds the entries of a round to the reorder buffer. Returns true if any of them had not been read before.
    fn take_in(&mut self, round: &Round, by_group: bool) -> Result<bool, Over> {
        let (mut bytes, mut entries_read) = (0, 0);
        for index in 0..self.setup.streams.len() {
            let stream = StreamId(index as u16);
            let by_group = by_group && !self.is_shared[index];
            let mut known = Vec::new();
            for entry in round.of(index) {
                if entry.id <= self.taken[index] {
                    known.push(entry.id);
                    continue;
                }
                self.taken[index] = entry.id;
                (bytes, entries_read) = (bytes + entry.size(), entries_read + 1);
                let pairs = round.pairs(index, *entry);
                if self.setup.are_control[index]
                    && let Some(pairs) = pairs
                    && kills_when_read(&Fields::of(pairs))
                {
                    self.setup.kill_gate.kill_is_read();
                    self.send(Message::KillRead { stream, id: entry.id })?;
                }
                let head = &self.heads[index];
                let len =
                    pairs.map_or(0, |pairs| self.lines[index].push(|text| line::append(text, head, entry.id, pairs)));
                self.books.count(index);
                let is_first = self.reorder.push(stream, entry.id, Waiting { by_group, len });
                assert!(is_first, "the entries of a stream come in the order of their ids");
            }
            if !known.is_empty() {
                self.send(Message::Delivered(vec![(stream, known)]))?;
            }
        }
        if let Some(entry_bytes) = usize::checked_div(bytes, entries_read) {
            let fits = READ_BYTES / entry_bytes.max(1);
            self.count = self.setup.count.min(fits.max(10));
        }
        Ok(entries_read > 0)
    }

    /// Sends the entries that may be released. Returns true if there were any.
    fn release(&mut self) -> Result<bool, Over> {
        let mut any = false;
        while let Some((key, Waiting { by_group, len })) = self.reorder.pop() {
            let (batch, id) = (&mut self.batch, EntryId::new(key.ms, key.seq));
            self.lines[usize::from(key.stream.0)].pop(len, |line| batch.push(key.stream, id, by_group, line));
            if self.batch.len() >= self.setup.count || self.batch.size() >= BATCH_BYTES {
                self.send_batch()?;
            }
            any = true;
        }
        if !self.batch.is_empty() {
            self.send_batch()?;
        }
        Ok(any)
    }

    fn send_batch(&mut self) -> Result<(), Over> {
        let next = self.setup.folded.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, next);
        self.send(Message::Entries(batch))
    }
}
