//! Decisions that a history holds: facts to take over, not something to derive again (SPEC §4, *Own decisions*).

use std::collections::BTreeMap;

use super::event::DecisionFact;
use super::ids::{CanonicalKey, EntryId, StreamId};
use super::streams::Streams;

/// The decision entries of a history, found before it is replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// By the entry that caused them, first to last.
    by_cause: BTreeMap<(EntryId, StreamId), Vec<DecisionFact>>,
    /// Place of the last of them: up to here our own decisions are only compared.
    horizon: Option<CanonicalKey>,
}

impl Facts {
    /// A decision entry stands here, whatever it says: up to here nothing of ours is emitted.
    pub fn reach(&mut self, place: CanonicalKey) {
        self.horizon = self.horizon.max(Some(place));
    }

    /// Adds a decision to a state that was folded up to here by what it emitted itself: only up to its cause was
    /// everything decided that had to be.
    pub fn add_emitted(&mut self, place: CanonicalKey, fact: DecisionFact, streams: &Streams) {
        let cause = streams.id_of(&fact.cause_stream).map(|stream| CanonicalKey::new(stream, fact.cause_id));
        self.horizon = self.horizon.max(Some(cause.unwrap_or(place)));
        self.add_by_cause(fact, streams);
    }

    /// Adds the decision that the entry at `place` holds.
    pub fn add(&mut self, place: CanonicalKey, fact: DecisionFact, streams: &Streams) {
        self.reach(place);
        self.add_by_cause(fact, streams);
    }

    fn add_by_cause(&mut self, fact: DecisionFact, streams: &Streams) {
        // A cause in a stream that is not read: the decision is taken over where its own entry stands.
        if let Some(stream) = streams.id_of(&fact.cause_stream) {
            let caused = self.by_cause.entry((fact.cause_id, stream)).or_default();
            // The same entry in two files is one decision.
            if caused.iter().all(|known| known.decision_id != fact.decision_id) {
                caused.push(fact);
            }
        }
    }

    /// Did an entry cause decisions, of which nothing was made yet.
    #[inline]
    pub fn names(&self, stream: StreamId, id: EntryId) -> bool {
        // Before the first that is left, which is nearly always, there is nothing to look for.
        self.by_cause.first_key_value().is_some_and(|((first, _), _)| *first <= id)
            && self.by_cause.contains_key(&(id, stream))
    }

    /// Did any entry between two times, these included, cause decisions, of which nothing was made yet. [ms since 1970]
    pub fn name_any(&self, first_ms: u64, last_ms: u64) -> bool {
        let first = (EntryId::new(first_ms, 0), StreamId(0));
        self.by_cause.range(first..).next().is_some_and(|((cause, _), _)| cause.ms <= last_ms)
    }

    /// The decisions that an entry caused.
    pub fn caused_by(&mut self, stream: StreamId, id: EntryId) -> Vec<DecisionFact> {
        if self.by_cause.is_empty() {
            return Vec::new();
        }
        self.by_cause.remove(&(id, stream)).unwrap_or_default()
    }

    /// Is our own decision at this place only compared.
    pub fn cover(&self, place: CanonicalKey) -> bool {
        self.horizon.is_some_and(|horizon| place <= horizon)
    }
}
