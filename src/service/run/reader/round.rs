//! One round: the requests for each stream, and the way of its entries through the reorder buffer to the event loop.

use std::time::Duration;

use super::lease::Mode;
use super::{Reader, Shutdown};
use crate::codec::decode::kills_when_read;
use crate::codec::line::{self, Fields};
use crate::domain::delivery::fault::Fault;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::reorder::ReadTo;
use crate::domain::event::streams::StreamKind;
use crate::service::run::message::Message;
use crate::service::run::source::Source;
use crate::shell::redis::{Round, Sent, ServerError, Take};

/// Target size of the entries that are read together. [bytes]
const READ_BYTES: usize = 16 << 20;
/// The size at which a batch goes to the processor. [bytes]
const BATCH_BYTES: usize = 1 << 20;

/// An entry that waits for its turn. Its line waits among the lines of its stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    by_group: bool,
    /// Length of its line; 0 if it was trimmed. [byte]
    len: usize,
}

/// A round that was requested from the server.
pub(super) struct Asked {
    pub(super) takes: Vec<Take>,
    /// By the clock of the source.
    pub(super) sent: Duration,
    /// True if the group waits for an acknowledgement of the entries that it delivers.
    pub(super) by_group: bool,
}

impl Reader {
    /// Asks the server for the next round. Returns false if the lease is not ours.
    pub(super) fn ask(&mut self, consumer: &mut impl Source) -> Result<bool, ServerError> {
        let takes: Vec<Take> = (0..self.setup.streams.len()).map(|stream| self.next_take(stream)).collect();
        let fence = match &self.mode {
            Mode::Leader { lease } => Some(lease.as_str()),
            Mode::Standby | Mode::Unsettled => None,
        };
        let sent = consumer.clock();
        if consumer.send_round(&takes, self.count, fence)? == Sent::Fenced {
            return Ok(false);
        }
        self.asked = Some(Asked { takes, sent, by_group: fence.is_some() && self.setup.membership.pending_list });
        Ok(true)
    }

    fn next_take(&self, stream: usize) -> Take {
        if self.reorder.waiting_of(StreamId(stream as u16)) >= self.setup.count {
            return Take::Nothing;
        }
        if self.barred[stream].is_some() {
            return Take::Barred;
        }
        if self.is_ungrouped[stream] {
            return Take::After(self.read[stream]);
        }
        match (&self.mode, self.range_to[stream]) {
            (Mode::Leader { .. }, Some(to)) => Take::Range { after: self.read[stream], to },
            (Mode::Leader { .. }, None) => Take::New,
            (Mode::Standby | Mode::Unsettled, _) => Take::After(self.read[stream]),
        }
    }

    /// Notes how far a round has read each stream, so that the next one can be requested. Returns true if more entries
    /// follow.
    pub(super) fn note_read(&mut self, takes: &[Take], round: &Round) -> bool {
        let mut has_more = false;
        for (index, take) in takes.iter().enumerate() {
            let stream = StreamId(index as u16);
            let entries = round.of(index);
            let is_full = entries.len() >= self.count;
            let time_ms = round.time_us_of(index) / 1000;
            let early_ms = if self.setup.faults.has(Fault::ReleaseAtOnce) { 1_000 } else { 0 };
            self.reorder.set_clock(stream, time_ms + early_ms);
            has_more |= is_full;
            if let Some(last) = entries.last() {
                self.read[index] = self.read[index].max(last.id);
            }
            self.was_full[index] = is_full || *take == Take::Nothing;
            match take {
                // Otherwise a buffer full of ids ahead of the clock would never drain: it waits until the stream is
                // read further, and the stream is not read while the buffer is full.
                Take::Nothing => self.reorder.read_to(stream, ReadTo::Entry(self.read[index])),
                _ if is_full => self.reorder.read_to(stream, ReadTo::Entry(self.read[index])),
                Take::Range { to, .. } => {
                    self.range_to[index] = None;
                    self.reorder.read_to(stream, ReadTo::Entry((*to).max(self.read[index])));
                }
                Take::New | Take::After(_) | Take::Barred => {
                    self.reorder.read_to(stream, ReadTo::Time { ms: time_ms + early_ms });
                }
            }
        }
        has_more
    }

    /// Adds the entries of a round to the reorder buffer. Returns true if any of them had not been read before.
    pub(super) fn buffer(&mut self, round: &Round, by_group: bool) -> Result<bool, Shutdown> {
        let (mut bytes, mut entries_read) = (0, 0);
        for index in 0..self.setup.streams.len() {
            let stream = StreamId(index as u16);
            let by_group = by_group && !self.is_ungrouped[index];
            let mut known = Vec::new();
            for entry in round.of(index) {
                if entry.id <= self.buffered[index] {
                    known.push(entry.id);
                    continue;
                }
                self.buffered[index] = entry.id;
                (bytes, entries_read) = (bytes + entry.size(), entries_read + 1);
                let pairs = round.pairs(index, *entry);
                if self.setup.kinds[index] == StreamKind::Control
                    && let Some(pairs) = pairs
                    && kills_when_read(&Fields::of(pairs))
                {
                    self.setup.kill_gate.kill_is_read();
                    self.send(Message::KillRead { stream, id: entry.id })?;
                }
                let head = &self.heads[index];
                let len =
                    pairs.map_or(0, |pairs| self.lines[index].push(|text| line::append(text, head, entry.id, pairs)));
                self.gap_detector.count(index);
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
    pub(super) fn release(&mut self) -> Result<bool, Shutdown> {
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

    fn send_batch(&mut self) -> Result<(), Shutdown> {
        let next = self.setup.folded.try_recv().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, next);
        self.send(Message::Entries(batch))
    }
}
