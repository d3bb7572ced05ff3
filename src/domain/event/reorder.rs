//! The reorder buffer: merges several streams that are read piece by piece into one sequence in canonical order
//! (docs/spec/canonical-order.md, "Release").
//!
//! An entry is released only when no entry that sorts before it can still arrive. An entry that arrives too late anyway
//! (a clock went back, or a client chose the id) is released at once, because it cannot be put where it belongs. But
//! whatever was read before, no entry is released before the clock of its server has reached it.

use std::collections::VecDeque;

use super::ids::{EntryId, SortKey, StreamId};

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadTo {
    /// All that it contained at a time of the server's clock. Later entries have this millisecond or a later one.
    Time { ms: u64 },
    /// Up to an entry, and more entries follow.
    Entry(EntryId),
}

/// Entries that wait for their turn.
#[derive(Clone, Debug)]
pub struct ReorderBuffer<T> {
    /// By stream: its entries, in the order of their ids. They nearly always come in that order.
    waiting: Vec<VecDeque<(EntryId, T)>>,
    /// By stream: no entry that sorts before this can still arrive.
    next: Vec<SortKey>,
    /// By stream: the clock of its server, as it was read last. It can go back. [ms since 1970]
    clocks_ms: Vec<u64>,
}

impl<T> ReorderBuffer<T> {
    /// Creates a buffer for streams of which nothing has been read.
    pub fn new(streams: usize) -> Self {
        let next = (0..streams).map(|i| SortKey { ms: 0, stream: StreamId(i as u16), seq: 0 });
        let waiting = (0..streams).map(|_| VecDeque::new()).collect();
        Self { waiting, next: next.collect(), clocks_ms: vec![0; streams] }
    }

    /// Adds an entry. A second entry of the same id is dropped. Returns true if it was the first.
    pub fn push(&mut self, stream: StreamId, id: EntryId, entry: T) -> bool {
        let waiting = &mut self.waiting[usize::from(stream.0)];
        if waiting.back().is_none_or(|(last, _)| *last < id) {
            waiting.push_back((id, entry));
            return true;
        }
        match waiting.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(_) => false,
            Err(at) => {
                waiting.insert(at, (id, entry));
                true
            }
        }
    }

    /// Sets how far a stream has been read. It never goes back.
    pub fn read_to(&mut self, stream: StreamId, to: ReadTo) {
        let next = match to {
            ReadTo::Time { ms } => SortKey { ms, stream, seq: 0 },
            ReadTo::Entry(id) => SortKey { ms: id.ms, stream, seq: id.seq.saturating_add(1) },
        };
        let known = &mut self.next[usize::from(stream.0)];
        *known = next.max(*known);
    }

    /// Sets the clock of a stream's server. [ms since 1970]
    pub fn set_clock(&mut self, stream: StreamId, ms: u64) {
        self.clocks_ms[usize::from(stream.0)] = ms;
    }

    /// Returns the clock of a stream's server, as it was read last. [ms since 1970]
    pub fn clock_ms(&self, stream: StreamId) -> u64 {
        self.clocks_ms[usize::from(stream.0)]
    }

    /// Returns the watermark: all entries before this time can be released. It goes back with a clock. [ms since 1970]
    pub fn watermark_ms(&self) -> u64 {
        self.next.iter().map(|next| next.ms).chain(self.clocks_ms.iter().copied()).min().unwrap_or(0)
    }

    /// Returns the next entry in canonical order, if it can be released.
    pub fn pop(&mut self) -> Option<(SortKey, T)> {
        let watermark = *self.next.iter().min()?;
        let first = self.first().filter(|first| *first < watermark && first.ms <= self.clock_ms(first.stream))?;
        let (_, entry) = self.waiting[usize::from(first.stream.0)].pop_front()?;
        Some((first, entry))
    }

    /// Returns the sort key of the next entry.
    pub fn first(&self) -> Option<SortKey> {
        (0..self.waiting.len()).filter_map(|index| self.first_of(StreamId(index as u16))).min()
    }

    /// Returns the sort key of the next entry of a stream.
    pub fn first_of(&self, stream: StreamId) -> Option<SortKey> {
        let (id, _) = self.waiting[usize::from(stream.0)].front()?;
        Some(SortKey::new(stream, *id))
    }

    /// Returns the number of waiting entries of a stream. [1]
    pub fn waiting_of(&self, stream: StreamId) -> usize {
        self.waiting[usize::from(stream.0)].len()
    }

    pub fn len(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTENT: StreamId = StreamId(0);
    const PRICE: StreamId = StreamId(1);

    /// A buffer of two streams, whose servers have this clock.
    fn at(ms: u64) -> ReorderBuffer<()> {
        let mut reorder = ReorderBuffer::new(2);
        [INTENT, PRICE].into_iter().for_each(|stream| reorder.set_clock(stream, ms));
        reorder
    }

    fn released(reorder: &mut ReorderBuffer<()>) -> Vec<(u64, u16, u64)> {
        std::iter::from_fn(|| reorder.pop()).map(|(key, ())| (key.ms, key.stream.0, key.seq)).collect()
    }

    #[test]
    fn an_entry_waits_until_every_stream_was_read_past_its_millisecond() {
        let mut reorder = at(9);
        reorder.push(PRICE, EntryId::new(5, 0), ());
        reorder.read_to(PRICE, ReadTo::Time { ms: 7 });
        assert_eq!(released(&mut reorder), [], "the intents were not read");
        reorder.read_to(INTENT, ReadTo::Time { ms: 5 });
        assert_eq!(released(&mut reorder), [], "an intent of the same millisecond sorts before it");
        reorder.read_to(INTENT, ReadTo::Time { ms: 6 });
        assert_eq!(released(&mut reorder), [(5, 1, 0)]);
    }

    #[test]
    fn a_stream_with_more_behind_its_last_entry_delays_what_is_later() {
        let mut reorder = at(9);
        for seq in 0..2 {
            reorder.push(INTENT, EntryId::new(5, seq), ());
            reorder.push(PRICE, EntryId::new(5, seq), ());
        }
        reorder.read_to(INTENT, ReadTo::Entry(EntryId::new(5, 1)));
        reorder.read_to(PRICE, ReadTo::Time { ms: 9 });
        assert_eq!(released(&mut reorder), [(5, 0, 0), (5, 0, 1)], "a third intent of this millisecond may follow");
        reorder.read_to(INTENT, ReadTo::Time { ms: 6 });
        assert_eq!(released(&mut reorder), [(5, 1, 0), (5, 1, 1)]);
    }

    #[test]
    fn what_comes_too_late_is_released_at_once_and_duplicates_count_once() {
        let mut reorder = at(9);
        reorder.read_to(INTENT, ReadTo::Time { ms: 9 });
        reorder.read_to(PRICE, ReadTo::Time { ms: 9 });
        assert!(reorder.push(INTENT, EntryId::new(3, 0), ()));
        assert!(!reorder.push(INTENT, EntryId::new(3, 0), ()));
        assert_eq!(reorder.waiting_of(INTENT), 1);
        assert_eq!(released(&mut reorder), [(3, 0, 0)]);
        reorder.read_to(PRICE, ReadTo::Time { ms: 2 });
        reorder.push(PRICE, EntryId::new(8, 0), ());
        assert_eq!(released(&mut reorder), [(8, 1, 0)], "a clock that goes back takes nothing back");
        assert!(reorder.is_empty());
    }

    #[test]
    fn entries_ahead_of_a_clock_that_went_back_wait_for_it() {
        let mut reorder = at(9);
        [INTENT, PRICE].into_iter().for_each(|stream| reorder.read_to(stream, ReadTo::Time { ms: 9 }));
        [INTENT, PRICE].into_iter().for_each(|stream| reorder.set_clock(stream, 4));
        // The server gives no id before its last one, so new entries keep the time of the former clock.
        reorder.push(PRICE, EntryId::new(8, 1), ());
        reorder.push(INTENT, EntryId::new(3, 0), ());
        [INTENT, PRICE].into_iter().for_each(|stream| reorder.read_to(stream, ReadTo::Time { ms: 4 }));
        assert_eq!((released(&mut reorder), reorder.watermark_ms()), (vec![(3, 0, 0)], 4));
        [INTENT, PRICE].into_iter().for_each(|stream| reorder.set_clock(stream, 8));
        assert_eq!((released(&mut reorder), reorder.watermark_ms()), (vec![(8, 1, 1)], 8));
    }

    #[test]
    fn entries_of_one_stream_that_come_in_another_order_are_released_by_their_ids() {
        let mut reorder = at(9);
        let are_first = [5, 7, 3, 6, 7].map(|ms| reorder.push(PRICE, EntryId::new(ms, 0), ()));
        assert_eq!(are_first, [true, true, true, true, false]);
        assert_eq!((reorder.len(), reorder.first().map(|key| key.ms)), (4, Some(3)));
        reorder.read_to(INTENT, ReadTo::Time { ms: 7 });
        reorder.read_to(PRICE, ReadTo::Time { ms: 9 });
        assert_eq!(released(&mut reorder), [(3, 1, 0), (5, 1, 0), (6, 1, 0)]);
        assert_eq!(reorder.first_of(PRICE).map(|key| key.ms), Some(7));
    }
}
