//! The gap detector: finds entries that can never be read. A trimmed stream shows no trace of them, so it counts.
//!
//! `entries-added` is the number of entries that were ever added to a stream. `seen` is the number of those that we
//! have read or know to be lost. The difference is left to read. Each check has one of these findings:
//!
//! | finding | test |
//! |---|---|
//! | *whole* | nothing below applies |
//! | *doubtful* | entries are left, and the stream was trimmed or deleted beyond the point to which it was complete, or few are left: the entries left are counted, and the missing ones were trimmed |
//! | *trimmed somewhere* | the server does not count (before 7.0), and the first entry is after the last one that was read |
//! | *forgotten* | fewer entries were added than before or than we have seen; or the stream ends before what we have read; or, on a new connection, it lacks the entry that was read last and the counts agree: it was deleted or flushed, or a replica that lagged has taken over |
//!
//! Counting the entries left takes as long as reading them. So it is done for *doubtful* and *forgotten* only.

use super::source::Source;
use crate::config::Start;
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::fault::{Fault, Faults};
use crate::domain::delivery::gap::{GapReason, StreamGap};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::shell::redis::{ServerError, StreamFault, StreamStats};

/// Counts the entries of each stream, and finds those that are missing.
pub struct GapDetector {
    streams: Vec<Option<StreamCounts>>,
    faults: Faults,
}

#[derive(Clone, Copy, Debug)]
struct StreamCounts {
    position: StreamPosition,
    /// No entry up to this one is missing, or the gap was reported.
    whole_to: EntryId,
    /// The first entry at the time when this stream was begun. Entries that were missing before it are counted already.
    first: EntryId,
    /// The end of a stream that had forgotten entries, at the time of the report.
    forgotten_at: Option<EntryId>,
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug)]
pub struct ReadState {
    /// The last entry that was read.
    pub read: EntryId,
    /// True if the last read reached the end: few entries are left.
    pub is_at_end: bool,
    /// True if nothing was read on this connection yet: another server that lacks entries may have taken over.
    pub is_connected_anew: bool,
}

/// The finding that the statistics of a stream show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamFinding {
    Whole,
    /// The entries that are left to read must be counted.
    Doubtful,
    /// Something was trimmed, and the server does not count.
    TrimmedSomewhere,
    /// The server has lost entries that it had returned.
    Forgotten,
}

/// Entries that a check found to be missing.
struct Missing {
    /// Their number, if it is known. [1]
    count: Option<u64>,
    /// The number of entries that are seen or known to be lost, after this check. [1]
    seen: u64,
    after: EntryId,
    before: Option<EntryId>,
    why: GapReason,
}

impl GapDetector {
    pub fn new(positions: &[Option<(EntryId, StreamPosition)>], faults: Faults) -> Self {
        let counts =
            |(id, position)| StreamCounts { position, whole_to: id, first: EntryId::default(), forgotten_at: None };
        Self { streams: positions.iter().map(|position| position.map(counts)).collect(), faults }
    }

    pub fn has_begun(&self, stream: usize) -> bool {
        self.streams[stream].is_some()
    }

    /// Counts an entry that was read.
    pub fn count(&mut self, stream: usize) {
        if let Some(counts) = &mut self.streams[stream] {
            counts.position.seen += 1;
        }
    }

    /// Returns where a stream begins that was never read, and which entries are missing before that.
    pub fn begin(
        &mut self,
        stream: StreamId,
        stream_stats: &StreamStats,
        from: Start,
        consumer: &mut impl Source,
    ) -> Result<(Option<EntryId>, StreamPosition, Option<StreamGap>), ServerError> {
        let added = stream_stats.entries_added.unwrap_or(0);
        let index = usize::from(stream.0);
        let (cursor, unread) = match from {
            Start::Earliest => (None, stream_stats.length),
            Start::Latest => (Some(stream_stats.last_id), 0),
            // The count does not include entries that were added after the statistics were read.
            Start::After(id) => (Some(id), consumer.count_between(index, id, stream_stats.last_id)?),
        };
        let cursor = cursor.filter(|id| *id != EntryId::default());
        let position = StreamPosition { seen: added.saturating_sub(unread), added };
        let whole_to = cursor.unwrap_or_default();
        let first = stream_stats.first_id.unwrap_or_default();
        self.streams[index] = Some(StreamCounts { position, whole_to, first, forgotten_at: None });
        let before = match cursor.filter(|_| position.seen > 0) {
            None => before(index, stream_stats, EntryId::default(), consumer)?,
            Some(cursor) => {
                let next = cursor.next().unwrap_or(EntryId::MAX);
                Some(consumer.next_after(index, cursor)?.unwrap_or(next))
            }
        };
        // Missing entries before the start count as seen only after the gap is in the log. Until then a new start finds
        // the gap again.
        let begun = StreamPosition { seen: 0, added };
        let gap = (position.seen > 0).then_some(StreamGap {
            stream,
            after: None,
            before,
            count: Some(position.seen),
            shift: position.seen as i64,
            added,
            why: GapReason::NotFromBeginning,
        });
        Ok((cursor, if gap.is_some() { begun } else { position }, gap))
    }

    /// Compares the statistics of a stream with our counts.
    pub fn check(
        &mut self,
        stream: StreamId,
        stream_stats: &StreamStats,
        at: ReadState,
        consumer: &mut impl Source,
    ) -> Result<Option<StreamGap>, ServerError> {
        let index = usize::from(stream.0);
        let Some(counts) = self.streams[index] else { return Ok(None) };
        let added = if stream_stats.exists { stream_stats.entries_added.unwrap_or(counts.position.added) } else { 0 };
        let missing = self.missing(index, stream_stats, at, (counts, added), consumer)?;
        let Some(Missing { count, seen, after, before, why }) = missing else {
            let whole_to = counts.whole_to.max(at.read);
            self.streams[index] =
                Some(StreamCounts { position: StreamPosition { added, ..counts.position }, whole_to, ..counts });
            return Ok(None);
        };
        let shift = seen as i64 - counts.position.seen as i64;
        self.streams[index] = Some(StreamCounts {
            position: StreamPosition { seen, added },
            whole_to: at.read.max(before.unwrap_or_default()).max(stream_stats.max_deleted.unwrap_or_default()),
            forgotten_at: Some(stream_stats.last_id).filter(|_| why == GapReason::Forgotten),
            ..counts
        });
        let after = Some(after).filter(|id| *id != EntryId::default());
        Ok(Some(StreamGap { stream, after, before, count, shift, added, why }))
    }

    /// Finds the missing entries of a stream, and counts them if that is necessary.
    fn missing(
        &self,
        index: usize,
        stream_stats: &StreamStats,
        at: ReadState,
        (counts, added): (StreamCounts, u64),
        consumer: &mut impl Source,
    ) -> Result<Option<Missing>, ServerError> {
        let mut finding = find(stream_stats, &counts, at);
        // The counts would show a loss later, too. But by then later entries are read, and nothing shows where the loss
        // was.
        if finding == StreamFinding::Whole && at.is_connected_anew && stream_stats.entries_added.is_some() {
            let is_gone = stream_stats.first_id.is_some_and(|first| first <= at.read)
                && consumer.last_until(index, at.read)? != Some(at.read);
            finding = if is_gone { StreamFinding::Doubtful } else { StreamFinding::Whole };
        }
        let mut unread = 0;
        if matches!(finding, StreamFinding::Doubtful | StreamFinding::Forgotten) {
            unread = consumer.count_between(index, at.read, stream_stats.last_id)?;
        }
        if finding == StreamFinding::Doubtful && counts.position.seen.saturating_add(unread) > added {
            finding = StreamFinding::Forgotten;
        }
        Ok(match finding {
            StreamFinding::Whole => None,
            StreamFinding::Doubtful if self.faults.has(Fault::NoCount) => None,
            StreamFinding::Forgotten if self.faults.has(Fault::NoticeNothingForgotten) => None,
            StreamFinding::Doubtful => {
                let count = added.saturating_sub(counts.position.seen).saturating_sub(unread);
                let before = if count > 0 { before(index, stream_stats, at.read, consumer)? } else { None };
                let seen = counts.position.seen + count;
                let why = GapReason::Trimmed;
                (count > 0).then_some(Missing { count: Some(count), seen, after: counts.whole_to, before, why })
            }
            StreamFinding::TrimmedSomewhere => Some(Missing {
                count: None,
                seen: counts.position.seen,
                after: at.read,
                before: stream_stats.first_id,
                why: GapReason::Trimmed,
            }),
            StreamFinding::Forgotten => {
                let kept = match stream_stats.fault {
                    Some(StreamFault::NotAStream) => None,
                    Some(StreamFault::IdsExhausted) | None => consumer.last_until(index, at.read)?,
                };
                let kept = kept.unwrap_or_default();
                Some(Missing {
                    count: None,
                    seen: added.saturating_sub(unread),
                    after: kept.min(at.read),
                    before: stream_stats.next_id,
                    why: GapReason::Forgotten,
                })
            }
        })
    }
}

/// Returns the first entry after all possible losses: the first one after the last deletion, the first one that was not
/// trimmed, or the last one that was read.
fn before(
    stream: usize,
    stream_stats: &StreamStats,
    read: EntryId,
    consumer: &mut impl Source,
) -> Result<Option<EntryId>, ServerError> {
    // If no entry is left, no entry follows the gap.
    let Some(first) = stream_stats.first_id else { return Ok(Some(read).filter(|read| *read >= stream_stats.last_id)) };
    match stream_stats.max_deleted.filter(|deleted| *deleted > read && *deleted > first) {
        Some(deleted) => consumer.next_after(stream, deleted),
        None => Ok(Some(first.max(read))),
    }
}

fn find(stream_stats: &StreamStats, counts: &StreamCounts, at: ReadState) -> StreamFinding {
    let position = counts.position;
    // A reader that begins after the end of a stream has read nothing that the server could forget.
    let has_grown = !stream_stats.exists || stream_stats.entries_added.is_some();
    let is_as_it_was = has_grown && stream_stats.entries_added.unwrap_or(0) == position.added;
    let is_shorter = stream_stats.last_id < at.read
        && position.seen > 0
        && !is_as_it_was
        && counts.forgotten_at.is_none_or(|reported| stream_stats.last_id < reported);
    if is_shorter {
        return StreamFinding::Forgotten;
    }
    let added = if stream_stats.exists { stream_stats.entries_added } else { Some(0) };
    let Some(added) = added else {
        let is_behind =
            stream_stats.first_id.is_some_and(|first| first > at.read.max(counts.whole_to)) && position.seen > 0;
        return if is_behind { StreamFinding::TrimmedSomewhere } else { StreamFinding::Whole };
    };
    // Every entry that we have seen was added, even if the statistics are older.
    if added < position.added.max(position.seen) {
        return StreamFinding::Forgotten;
    }
    // No entry is left to read by the counts, and yet an entry follows: the server forgot entries that we had seen, and
    // the same number was added since.
    let left = added - position.seen;
    if left == 0 && stream_stats.next_id.is_some_and(|next| next > at.read) {
        return StreamFinding::Forgotten;
    }
    let known_to = counts.whole_to.max(counts.first);
    let is_trimmed = stream_stats.first_id.is_some_and(|first| first > known_to);
    let is_deleted = stream_stats.max_deleted.is_some_and(|deleted| deleted > known_to);
    let may_lack =
        is_trimmed || is_deleted || at.is_at_end || stream_stats.next_id.is_none() || left > stream_stats.length;
    if left > 0 && may_lack { StreamFinding::Doubtful } else { StreamFinding::Whole }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::shell::redis::{GroupState, RawEntry, Round, RoundAnswer, Sent, Take};

    fn stream_stats(added: u64, length: u64, next: Option<u64>) -> StreamStats {
        StreamStats {
            exists: true,
            length,
            entries_added: Some(added),
            last_id: EntryId::new(added, 0),
            first_id: Some(EntryId::new(added - length + 1, 0)),
            next_id: next.map(|ms| EntryId::new(ms, 0)),
            ..StreamStats::default()
        }
    }

    fn counts(seen: u64, added: u64) -> StreamCounts {
        let position = StreamPosition { seen, added };
        StreamCounts { position, whole_to: EntryId::new(3, 0), first: EntryId::default(), forgotten_at: None }
    }

    /// Counting a backlog takes as long as reading it.
    #[test]
    fn a_backlog_is_counted_only_if_its_first_entry_has_gone() {
        let at = ReadState { read: EntryId::new(5, 0), is_at_end: false, is_connected_anew: false };
        // Of 100 entries added, the last 96 were there at the start, and 4 are missing.
        let counts = StreamCounts { whole_to: EntryId::default(), first: EntryId::new(5, 0), ..counts(5, 100) };
        assert_eq!(find(&stream_stats(100, 96, Some(6)), &counts, at), StreamFinding::Whole);
        assert_eq!(find(&stream_stats(100, 95, Some(6)), &counts, at), StreamFinding::Doubtful);
        let deleted = |ms| Some(EntryId::new(ms, 0));
        let is_deleted = |ms| StreamStats { max_deleted: deleted(ms), ..stream_stats(100, 96, Some(6)) };
        assert_eq!(find(&is_deleted(4), &counts, at), StreamFinding::Whole, "before the start");
        assert_eq!(find(&is_deleted(50), &counts, at), StreamFinding::Doubtful);
    }

    #[test]
    fn i11_a_range_that_may_be_missing_is_noticed_by_counting() {
        let at = |ms| ReadState { read: EntryId::new(ms, 0), is_at_end: false, is_connected_anew: false };
        // Of 10 entries added, 3 were read; the cases differ in the entries that are left after trimming.
        let cases = [
            (stream_stats(10, 10, Some(4)), counts(3, 3), at(3), StreamFinding::Whole),
            (stream_stats(10, 8, Some(4)), counts(3, 3), at(3), StreamFinding::Whole),
            (stream_stats(10, 4, Some(7)), counts(3, 3), at(3), StreamFinding::Doubtful),
            (stream_stats(10, 1, None), counts(10, 10), at(10), StreamFinding::Whole),
            // The reader went on beyond the gap before a check. Only a full count shows it.
            (stream_stats(10, 4, None), counts(7, 3), at(10), StreamFinding::Doubtful),
            // An old entry was deleted by hand after it had been seen.
            (stream_stats(10, 10, Some(4)), counts(3, 10), at(3), StreamFinding::Whole),
            // An entry was deleted that had not been read.
            (
                StreamStats { max_deleted: Some(EntryId::new(6, 0)), ..stream_stats(10, 10, Some(4)) },
                counts(3, 3),
                at(3),
                StreamFinding::Doubtful,
            ),
            (stream_stats(8, 8, Some(4)), counts(3, 10), at(3), StreamFinding::Forgotten),
            (stream_stats(2, 2, None), counts(3, 0), at(3), StreamFinding::Forgotten),
            // The number added equals the number that the server had forgotten: an entry follows, although by the
            // counts all were read.
            (stream_stats(10, 10, Some(11)), counts(10, 10), at(10), StreamFinding::Forgotten),
            (StreamStats::default(), counts(3, 10), at(3), StreamFinding::Forgotten),
            (StreamStats::default(), counts(0, 0), at(0), StreamFinding::Whole),
            // The start is after the end: of an empty stream, and of a stream with earlier entries.
            (StreamStats::default(), counts(0, 0), at(3), StreamFinding::Whole),
            (stream_stats(2, 2, None), counts(2, 2), at(3), StreamFinding::Whole),
        ];
        for (stream_stats, counts, at, want) in cases {
            assert_eq!(find(&stream_stats, &counts, at), want, "{stream_stats:?} {counts:?}");
        }
        let near = ReadState { read: EntryId::new(3, 0), is_at_end: true, is_connected_anew: false };
        assert_eq!(
            find(&stream_stats(10, 10, Some(4)), &counts(3, 3), near),
            StreamFinding::Doubtful,
            "little is left: it is counted"
        );
    }

    /// A stream with these entries.
    struct Entries(Vec<u64>);

    impl Source for Entries {
        fn count_between(&mut self, _: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
            Ok(self.0.iter().filter(|ms| **ms > after.ms && **ms <= to.ms).count() as u64)
        }

        fn last_until(&mut self, _: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
            Ok(self.0.iter().rev().find(|ms| **ms <= to.ms).map(|ms| EntryId::new(*ms, 0)))
        }

        fn stream_stats(&mut self, _: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
            unreachable!("they are given")
        }

        fn next_after(&mut self, _: usize, _: EntryId) -> Result<Option<EntryId>, ServerError> {
            unreachable!("the statistics have it")
        }

        fn join(&mut self, _: usize, _: EntryId) -> Result<GroupState, ServerError> {
            unreachable!("no group")
        }

        fn own_pending(&mut self, _: usize, _: EntryId) -> Result<Vec<RawEntry>, ServerError> {
            unreachable!("no group")
        }

        fn claim(&mut self, _: usize, _: EntryId) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
            unreachable!("no group")
        }

        fn send_round(&mut self, _: &[Take], _: usize, _: Option<&str>) -> Result<Sent, ServerError> {
            unreachable!("nothing is read")
        }

        fn receive_round(&mut self) -> Result<RoundAnswer, ServerError> {
            unreachable!("nothing is read")
        }

        fn reuse(&mut self, _: Round) {}

        fn wait(&mut self, _: &[Option<EntryId>], _: Duration) -> Result<Option<EntryId>, ServerError> {
            unreachable!("nothing is read")
        }

        fn pause(&mut self, _: Duration) {}

        fn clock(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// Of the entries 1 to 6, the server has lost 4 to 6, and has received 7 to 12 since. More were added than we had
    /// seen, so the counts show nothing before those are read.
    #[test]
    fn i11_a_loss_is_found_before_the_entries_after_it_are_read() {
        let server = |entries: &[u64]| StreamStats {
            exists: true,
            length: entries.len() as u64,
            entries_added: Some(entries.len() as u64),
            last_id: EntryId::new(*entries.last().expect("one"), 0),
            first_id: Some(EntryId::new(1, 0)),
            next_id: entries.iter().find(|ms| **ms > 6).map(|ms| EntryId::new(*ms, 0)),
            ..StreamStats::default()
        };
        let detectors = || {
            let seen = StreamPosition { seen: 6, added: 6 };
            GapDetector::new(&[Some((EntryId::new(6, 0), seen))], Faults::default())
        };
        let at = ReadState { read: EntryId::new(6, 0), is_at_end: false, is_connected_anew: true };
        let entries = vec![1, 2, 3, 7, 8, 9, 10, 11, 12];
        let (mut detector, stats) = (detectors(), server(&entries));
        let gap = detector.check(StreamId(0), &stats, at, &mut Entries(entries.clone())).expect("it is answered");
        let want = StreamGap {
            stream: StreamId(0),
            after: Some(EntryId::new(3, 0)),
            before: Some(EntryId::new(7, 0)),
            count: None,
            shift: -3,
            added: 9,
            why: GapReason::Forgotten,
        };
        assert_eq!(gap, Some(want));
        let again = detector.check(StreamId(0), &stats, at, &mut Entries(entries)).expect("it is answered");
        assert_eq!(again, None, "on the next connection it is known");
        // A deleted old entry is not a loss: the number of added entries did not change.
        let deleted = vec![1, 2, 3, 4, 5, 7];
        let stats = StreamStats { entries_added: Some(7), max_deleted: Some(EntryId::new(6, 0)), ..server(&deleted) };
        let gap = detectors().check(StreamId(0), &stats, at, &mut Entries(deleted)).expect("it is answered");
        assert_eq!(gap, None);
    }

    #[test]
    fn i11_a_server_that_does_not_count_proves_a_loss_by_its_last_id() {
        let at = ReadState { read: EntryId::new(3, 0), is_at_end: true, is_connected_anew: false };
        let old = |stream_stats: StreamStats| StreamStats { entries_added: None, ..stream_stats };
        assert_eq!(find(&old(stream_stats(10, 4, Some(7))), &counts(3, 0), at), StreamFinding::TrimmedSomewhere);
        assert_eq!(find(&old(stream_stats(10, 9, Some(4))), &counts(3, 0), at), StreamFinding::Whole);
        assert_eq!(
            find(&old(stream_stats(2, 2, None)), &counts(3, 0), at),
            StreamFinding::Forgotten,
            "it ends before what was read"
        );
        let reported = StreamCounts { forgotten_at: Some(EntryId::new(2, 0)), ..counts(3, 0) };
        assert_eq!(find(&old(stream_stats(2, 2, None)), &reported, at), StreamFinding::Whole, "it was reported");
        assert_eq!(find(&old(stream_stats(1, 1, None)), &reported, at), StreamFinding::Forgotten, "and has lost more");
    }
}
