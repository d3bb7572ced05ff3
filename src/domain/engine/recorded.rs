//! Decisions that a history contains. They are facts to adopt, not to derive again (docs/spec/fold.md, "Recorded
//! decisions").

use std::collections::{BTreeMap, BTreeSet};

use super::chain::ChainHead;
use crate::domain::event::DecisionFact;
use crate::domain::event::ids::{EntryId, SortKey, StreamId};
use crate::domain::event::streams::Streams;

/// Represents a stream that is not read. It sorts after all that are.
const UNREAD: StreamId = StreamId(u16::MAX);
/// An entry that comes this much later than its id is no longer waited for. [ms]
const LATE_MAX_MS: u64 = 60_000;

/// The decision entries of a history, found before it is replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedDecisions {
    /// By the entry that caused them, in order.
    by_cause: BTreeMap<(EntryId, StreamId), Vec<DecisionFact>>,
    /// Sort key of the last cause among them. Up to here our own decisions are only compared.
    last_cause: Option<SortKey>,
    /// The last of them by number, adopted or not.
    last: ChainHead,
    /// In an audit: the entries that a service refused as foreign.
    refused: BTreeSet<EntryId>,
}

impl RecordedDecisions {
    /// Adds a recorded decision.
    ///
    /// It proves that everything up to its cause was decided, and nothing about the entries between the cause and its
    /// own entry: after a backlog the ids of decisions are from the time of processing. An entry that is not a readable
    /// decision is not a fact and proves nothing, because any client can write one under any id.
    pub fn add(&mut self, fact: DecisionFact, streams: &Streams) {
        let (stream, cause) = (streams.id_of(&fact.cause_stream), fact.cause_id);
        let key = match stream {
            Some(stream) => SortKey::new(stream, cause),
            None => SortKey { ms: cause.ms, stream: UNREAD, seq: u64::MAX },
        };
        self.last_cause = self.last_cause.max(Some(key));
        if fact.seq > self.last.seq && !fact.is_former {
            self.last = ChainHead { seq: fact.seq, hash: fact.hash.clone() };
        }
        let caused = self.by_cause.entry((cause, stream.unwrap_or(UNREAD))).or_default();
        // The same entry in two files is one decision.
        if caused.iter().all(|known| known.decision_id != fact.decision_id) {
            caused.push(fact);
        }
    }

    /// Sets the entries that a service refused as foreign, as an audit found. They are no decisions.
    pub fn refuse(&mut self, ids: BTreeSet<EntryId>) {
        self.refused = ids;
    }

    /// Returns true if an audit found that a service refused a decision entry.
    pub fn is_refused(&self, id: EntryId) -> bool {
        self.refused.contains(&id)
    }

    /// Returns the head of the chain once all of them are adopted.
    pub fn head_after<'a>(&'a self, head: &'a ChainHead) -> &'a ChainHead {
        if self.last.seq > head.seq { &self.last } else { head }
    }

    /// Returns true if an entry caused decisions that are not adopted yet.
    #[inline]
    pub fn names(&self, stream: StreamId, id: EntryId) -> bool {
        // The entry is nearly always before the first cause that is left, so there is nothing to look for.
        self.by_cause.first_key_value().is_some_and(|((first, _), _)| *first <= id)
            && self.by_cause.contains_key(&(id, stream))
    }

    /// Returns true if a decision is left that was caused at or before a time. [ms since 1970]
    #[inline]
    pub fn reach_back_to(&self, ms: u64) -> bool {
        self.by_cause.first_key_value().is_some_and(|((first, _), _)| first.ms <= ms)
    }

    /// Removes and returns the decisions that an entry caused.
    pub fn caused_by(&mut self, stream: StreamId, id: EntryId) -> Vec<DecisionFact> {
        if self.by_cause.is_empty() {
            return Vec::new();
        }
        self.by_cause.remove(&(id, stream)).unwrap_or_default()
    }

    /// Puts back decisions that an entry caused and that were not adopted.
    pub fn put_back(&mut self, stream: StreamId, id: EntryId, facts: Vec<DecisionFact>) {
        if !facts.is_empty() {
            self.by_cause.insert((id, stream), facts);
        }
    }

    /// Removes and returns the decisions whose cause no longer comes, at the time an entry is reached: the cause is not
    /// in the history, was not evaluated, or was folded before. `read_to` returns how far a stream was read before the
    /// entry.
    pub fn orphaned_by(
        &mut self,
        stream: StreamId,
        id: EntryId,
        read_to: impl Fn(StreamId) -> Option<EntryId>,
    ) -> Vec<DecisionFact> {
        let is_reached = |(cause, of): (EntryId, StreamId)| {
            cause.ms < id.ms.saturating_sub(LATE_MAX_MS)
                || (of == UNREAD && cause.ms < id.ms)
                || (of == stream && cause < id)
                || (of != UNREAD && of != stream && read_to(of).is_some_and(|last| cause <= last))
        };
        let reached = self.by_cause.range(..=(EntryId::new(id.ms, u64::MAX), UNREAD));
        let passed: Vec<_> = reached.map(|(key, _)| *key).filter(|key| is_reached(*key)).collect();
        let mut facts: Vec<_> = passed.iter().filter_map(|key| self.by_cause.remove(key)).flatten().collect();
        facts.sort_by_key(|fact| fact.seq);
        facts
    }

    /// Lets our own decisions only be compared, however late their causes are.
    pub fn cover_everything(&mut self) {
        self.last_cause = Some(SortKey { ms: u64::MAX, stream: UNREAD, seq: u64::MAX });
    }

    /// Returns true if this is the sort key of the last cause. Of its decisions, those after the last recorded one are
    /// still to be made.
    pub fn ends_at(&self, key: SortKey) -> bool {
        self.last_cause == Some(key)
    }

    /// Returns true if our own decision at this sort key is only compared.
    pub fn cover(&self, key: SortKey) -> bool {
        self.last_cause.is_some_and(|last| key <= last)
    }
}
