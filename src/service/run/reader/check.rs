//! Checks of the streams: gaps, entries that the group skipped, and keys that contain something else than a stream.

use std::time::Duration;

use super::lease::Mode;
use super::{ReadError, Reader, Shutdown};
use crate::domain::engine::IDS_AHEAD_MAX_MS;
use crate::domain::event::ids::StreamId;
use crate::drive::look_ahead::is_read_ahead;
use crate::service::run::gap_detector::ReadState;
use crate::service::run::message::Message;
use crate::service::run::source::Source;
use crate::shell::redis::{ServerError, StreamFault, StreamStats};

/// Time between two reads of the statistics of all streams, for the gap detector.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// When the reader found that a key contains something else than a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barred {
    /// At the start. Then its entries were not read ahead.
    AtStart,
    Since,
}

impl Reader {
    pub(super) fn is_check_due(&self, consumer: &impl Source) -> bool {
        self.checked_at.is_none_or(|at| consumer.clock().saturating_sub(at) >= CHECK_INTERVAL)
    }

    /// Checks all streams for trimmed, deleted or forgotten entries. Reports them before it sends any entry after them.
    pub(super) fn check_streams(&mut self, consumer: &mut impl Source) -> Result<(), ReadError> {
        let stats = consumer.stream_stats(&self.read)?;
        let is_first = self.checked_at.replace(consumer.clock()).is_none();
        for (index, stream_stats) in stats.iter().enumerate() {
            self.bar(index, stream_stats, is_first)?;
        }
        for (index, stream_stats) in stats.iter().enumerate() {
            let stream = StreamId(index as u16);
            if self.barred[index].is_some() && !self.gap_detector.has_begun(index) {
                continue;
            }
            if !self.gap_detector.has_begun(index) {
                let (cursor, position, gap) =
                    self.gap_detector.begin(stream, stream_stats, self.setup.from[index], consumer)?;
                self.read[index] = cursor.unwrap_or_default();
                self.buffered[index] = self.read[index];
                self.send(Message::Begin { stream, cursor, position })?;
                if let Some(gap) = gap {
                    self.send(Message::Gap(gap))?;
                }
            } else if self.was_skipped(index, stream_stats) {
                // The group's cursor was moved, or another process reads in our group. The skipped entries are read by
                // their ids.
                self.range_to[index] = Some(stream_stats.last_id);
                // An entry that came since the last round looks the same, but nobody has read it.
                if consumer.join(index, self.read[index])?.last_delivered > self.read[index]
                    && self.setup.status.entries_are_taken()
                {
                    tracing::error!(
                        finding = "group_shared",
                        stream = self.setup.streams[index],
                        group = self.setup.membership.group,
                        "another process reads in our consumer group, or moved its cursor: each gets a part of the entries; give \
                         it a group of its own (run.group)"
                    );
                }
            } else {
                let at = ReadState {
                    read: self.read[index],
                    is_at_end: !self.was_full[index],
                    is_connected_anew: self.is_connected_anew,
                };
                if let Some(gap) = self.gap_detector.check(stream, stream_stats, at, consumer)? {
                    self.send(Message::Gap(gap))?;
                }
            }
        }
        let ahead = (0..stats.len()).map(|stream| self.is_ahead(StreamId(stream as u16))).collect();
        self.send(Message::StreamStats(stats, ahead))?;
        Ok(())
    }

    /// Bars a key that contains something else than a stream, and one that is no longer a stream.
    fn bar(&mut self, index: usize, stream_stats: &StreamStats, is_first: bool) -> Result<(), Shutdown> {
        let is_barred = stream_stats.fault == Some(StreamFault::NotAStream);
        match (self.barred[index], is_barred) {
            (None, true) => {
                self.barred[index] = Some(if is_first { Barred::AtStart } else { Barred::Since });
                self.range_to[index] = None;
            }
            (Some(since), false) => {
                if since == Barred::AtStart && is_read_ahead(self.setup.kinds[index]) && stream_stats.exists {
                    let name = &self.setup.streams[index];
                    self.send(Message::Ended(anyhow::anyhow!(
                        "{name} is a stream again, and was none when this service began: its entries must be read before the first \
                         one is folded. Restart the service"
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
        let to_ms = self.reorder.clock_ms(stream).saturating_add(IDS_AHEAD_MAX_MS);
        self.reorder.first_of(stream).is_some_and(|first| first.ms > to_ms)
    }

    /// Returns true if there are entries that `>` has not returned, although everything was read a moment ago.
    fn was_skipped(&self, index: usize, stream_stats: &StreamStats) -> bool {
        let is_by_group = matches!(self.mode, Mode::Leader { .. }) && !self.is_ungrouped[index];
        let is_new = is_by_group && self.range_to[index].is_none();
        is_new && !self.was_full[index] && stream_stats.next_id.is_some_and(|next| next > self.read[index])
    }

    /// Finds the key that is not a stream, so that the others can be read.
    pub(super) fn find_barred(&mut self, consumer: &mut impl Source, error: ServerError) -> Result<(), ReadError> {
        let before = self.barred.clone();
        self.mode = Mode::Unsettled;
        self.check_streams(consumer)?;
        if self.barred == before { Err(error.into()) } else { Ok(()) }
    }
}
