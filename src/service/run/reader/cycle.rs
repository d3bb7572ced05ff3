//! One round after the other: ask, receive, send the entries that may be released, and wait if there were none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::lease::Mode;
use super::{ReadError, Reader, Shutdown};
use crate::domain::engine::IDS_AHEAD_MAX_MS;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::service::run::clocks::Clocks;
use crate::service::run::message::Message;
use crate::service::run::source::Source;
use crate::shell::redis::{BLOCK_MAX, RoundAnswer, ServerError, StreamFault};

/// With a larger lag than this the watermark is not sent, because no order is sent in this case. [ms]
const FAR_BEHIND_MS: u64 = 60_000;
/// The watermark is sent in steps of this size, because each one wakes the processor, possibly between a price and its
/// decision. [ms]
const WATERMARK_STEP_MS: u64 = 50;
/// How long a read waits at the server for new entries: after a round with entries, and after one without.
const WAITS: [Duration; 2] = [Duration::from_millis(20), BLOCK_MAX];
/// Pause without requests after the server has shown that the lease is another's.
const FENCED_PAUSE: Duration = Duration::from_millis(10);
/// How long a node of a cluster may not know the lease that we have. After that the reader looks for its successor.
const FENCED_MAX: Duration = Duration::from_secs(1);

/// The server's clock in a round.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    /// [µs since 1970]
    time_us: u64,
    /// The time when it was read, by the clock of the source: halfway between request and answer.
    at: Duration,
}

impl Reader {
    /// Asks for the next round unless one is in flight. Returns false if there is none: the lease is not ours.
    pub fn prepare(&mut self, consumer: &mut impl Source) -> Result<bool, ReadError> {
        if self.asked.is_some() {
            return Ok(true);
        }
        self.settle(consumer)?;
        if self.is_check_due(consumer) {
            self.check_streams(consumer)?;
        }
        if self.ask(consumer)? {
            self.fenced = None;
            return Ok(true);
        }
        // The lease was ours until a moment ago. The lease task is about to set the new role.
        self.mode = Mode::Unsettled;
        let since = *self.fenced.get_or_insert(consumer.clock());
        if self.setup.connect.address().is_cluster() && consumer.clock().saturating_sub(since) > FENCED_MAX {
            let server = self.setup.connect.address().name().to_owned();
            return Err(ServerError::LeaseElsewhere { server }.into());
        }
        consumer.pause(FENCED_PAUSE);
        Ok(false)
    }

    /// Takes the round that was asked for, sends the entries that may be released, and waits if there were none.
    pub fn cycle(&mut self, consumer: &mut impl Source) -> Result<(), ReadError> {
        let Some(asked) = self.asked.take() else { return Ok(()) };
        let round = match consumer.receive_round() {
            Ok(RoundAnswer::Read(round)) => round,
            Ok(RoundAnswer::LeaseChanged) => return Ok(()),
            Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => {
                return self.find_barred(consumer, error);
            }
            Err(error) => return Err(error.into()),
        };
        let received = consumer.clock();
        if round.has_returned {
            // The entries that the round has delivered are read again by their ids.
            self.mode = Mode::Unsettled;
            return self.check_streams(consumer);
        }
        let has_more = self.note_read(&asked.takes, &round);
        // Requests the next round before this one is buffered. If that request fails, the failure is reported after
        // these entries are sent.
        let is_next = has_more && self.is_settled() && !self.is_check_due(consumer);
        let asked_next = if is_next { self.ask(consumer).map(drop) } else { Ok(()) };
        let clocks = Clocks::of(&round);
        let is_news = self.buffer(&round, asked.by_group)?;
        consumer.reuse(round);
        // This comes before the release of any entry that may cause an order.
        if let Some(ms) = self.facts_ahead(clocks)
            && self.facts_ahead_to_ms.replace(ms).is_none()
        {
            self.send(Message::FactsAhead(true))?;
        }
        let released = self.release()?;
        asked_next?;
        self.publish_watermark(clocks)?;
        let is_drained = !is_news && !released && self.reorder.is_empty();
        self.setup.status.is_drained.store(is_drained, Ordering::Relaxed);
        if self.asked.is_some() || has_more {
            return Ok(());
        }
        let now = ClockReading { time_us: clocks.slowest_us, at: (asked.sent + received) / 2 };
        match self.reorder.first() {
            Some(first) => rest(consumer, first.ms, now),
            // The next entry can be released a millisecond later, and is read then.
            None => {
                if let Some(came) = self.wait(consumer, WAITS[usize::from(is_drained)])? {
                    rest(consumer, came.ms, now);
                }
            }
        }
        Ok(())
    }

    /// Waits for an entry after the ones that were read. Returns the first one.
    fn wait(&mut self, consumer: &mut impl Source, limit: Duration) -> Result<Option<EntryId>, ReadError> {
        let after: Vec<Option<EntryId>> =
            self.read.iter().zip(&self.barred).map(|(read, barred)| barred.is_none().then_some(*read)).collect();
        match consumer.wait(&after, limit) {
            Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => {
                self.find_barred(consumer, error).map(|()| None)
            }
            waited => Ok(waited?),
        }
    }

    /// Returns the time of the last entry about positions whose id is ahead of all clocks, if one waits. [ms since
    /// 1970]
    fn facts_ahead(&self, clocks: Clocks) -> Option<u64> {
        let now_ms = clocks.fastest_us / 1000;
        let waits = |stream: usize| self.reorder.first_of(StreamId(stream as u16)).is_some();
        let facts = (0..self.setup.streams.len())
            .filter(|stream| self.setup.kinds[*stream].is_of_positions() && waits(*stream));
        facts.map(|stream| self.buffered[stream].ms).filter(|ms| *ms > now_ms).max()
    }

    /// Publishes the time up to which the streams were read, by the clock of the server that has the lease.
    fn publish_watermark(&mut self, clocks: Clocks) -> Result<(), Shutdown> {
        let time_us = clocks.home_us;
        let watermark_ms = clocks.home_watermark_ms(self.reorder.watermark_ms());
        self.setup.status.clocks_apart_ms.store(clocks.apart_ms(), Ordering::Relaxed);
        if self.facts_ahead_to_ms.is_some_and(|ms| self.reorder.watermark_ms() > ms) {
            self.facts_ahead_to_ms = None;
            self.send(Message::FactsAhead(false))?;
        }
        let is_far_behind = watermark_ms.saturating_add(FAR_BEHIND_MS) < time_us / 1000;
        let is_further = watermark_ms >= self.published_watermark_ms.saturating_add(WATERMARK_STEP_MS);
        let clock_went_back = watermark_ms.saturating_add(IDS_AHEAD_MAX_MS) < self.published_watermark_ms;
        if !is_far_behind && (is_further || clock_went_back) {
            self.published_watermark_ms = watermark_ms;
            self.send(Message::Watermark { ms: watermark_ms })?;
        }
        self.setup.status.server_ms.store(time_us / 1000, Ordering::Relaxed);
        self.setup.status.waiting.store(self.reorder.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// Sleeps until the server's clock has passed a millisecond, so that its entries can be released. [ms since 1970]
fn rest(consumer: &mut impl Source, ms: u64, server: ClockReading) {
    let until_us = ms.saturating_add(1).saturating_mul(1000);
    let now_us = server.time_us + consumer.clock().saturating_sub(server.at).as_micros() as u64;
    // Neither an entry of the future nor a clock that was set back may block the connection.
    consumer.pause(Duration::from_micros(until_us.saturating_sub(now_us).min(1000)));
}
