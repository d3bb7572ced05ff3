//! Entries to acknowledge: those that are folded and durable in the journal.

use std::collections::VecDeque;

use crate::domain::event::ids::{EntryId, StreamId};

/// The acknowledgements of one group.
#[derive(Clone, Debug, Default)]
pub struct Acks {
    /// Entries that were folded, with the journal position that makes each durable. The positions ascend.
    folded: VecDeque<(u64, StreamId, EntryId)>,
    /// Entries that the group delivered and that are read from our own cursors.
    delivered: Vec<(StreamId, EntryId)>,
    /// Entries that the shell is acknowledging.
    in_flight: Vec<(StreamId, Vec<EntryId>)>,
}

impl Acks {
    /// Notes an entry that came through the group, durable at this journal position.
    pub fn folded(&mut self, position: u64, stream: StreamId, id: EntryId) {
        self.folded.push_back((position, stream, id));
    }

    /// Notes entries that the group delivered and that are read from our own cursors. Each is acknowledged once the
    /// cursor has reached it.
    pub fn delivered(&mut self, stream: StreamId, ids: impl IntoIterator<Item = EntryId>) {
        self.delivered.extend(ids.into_iter().map(|id| (stream, id)));
    }

    /// Forgets entries that were delivered and that the cursor has not reached. The group reports those that it still
    /// has again; the server may have lost the others.
    pub fn delivered_anew(&mut self, cursor: impl Fn(StreamId) -> Option<EntryId>) {
        self.delivered.retain(|(stream, id)| cursor(*stream).is_some_and(|cursor| *id <= cursor));
    }

    /// Takes the entries that are durable, by stream. `None` while an earlier acknowledgement is in flight.
    pub fn take(
        &mut self,
        folded: u64,
        durable: u64,
        cursor: impl Fn(StreamId) -> Option<EntryId>,
    ) -> Option<Vec<(StreamId, Vec<EntryId>)>> {
        if !self.in_flight.is_empty() {
            return None;
        }
        let reached = self.delivered.extract_if(.., |(stream, id)| cursor(*stream).is_some_and(|cursor| *id <= cursor));
        self.folded.extend(reached.map(|(stream, id)| (folded, stream, id)));
        let mut due: Vec<(StreamId, Vec<EntryId>)> = Vec::new();
        while let Some((_, stream, id)) = self.folded.front().copied().filter(|(position, _, _)| *position <= durable) {
            self.folded.pop_front();
            match due.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, ids)) => ids.push(id),
                None => due.push((stream, vec![id])),
            }
        }
        if due.is_empty() {
            return None;
        }
        self.in_flight.clone_from(&due);
        Some(due)
    }

    pub fn done(&mut self) {
        self.in_flight.clear();
    }

    /// Acknowledges the entries in flight again, because the acknowledgement may not have arrived.
    pub fn lost(&mut self) {
        for (stream, ids) in std::mem::take(&mut self.in_flight) {
            self.delivered(stream, ids);
        }
    }

    /// Returns true if folded entries wait for their acknowledgement.
    pub fn is_due_or_in_flight(&self) -> bool {
        !self.folded.is_empty() || !self.in_flight.is_empty()
    }

    pub fn is_settled(&self) -> bool {
        !self.is_due_or_in_flight() && self.delivered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivered_entry_that_the_server_has_lost_is_not_waited_for() {
        let (stream, at) = (StreamId(0), |ms| EntryId::new(ms, 0));
        let mut acks = Acks::default();
        acks.delivered(stream, [at(1), at(2)]);
        acks.delivered_anew(|_| Some(at(1)));
        assert!(!acks.is_settled(), "the first is folded, and to be acknowledged");
        assert_eq!(acks.take(5, 5, |_| Some(at(1))), Some(vec![(stream, vec![at(1)])]));
        acks.done();
        assert!(acks.is_settled());
    }
}
