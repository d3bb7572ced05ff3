//! Decisions that a history holds: facts to take over, not something to derive again (SPEC §4, *Own decisions*).

use std::collections::BTreeMap;

use crate::domain::event::DecisionFact;
use crate::domain::event::ids::{EntryId, SortKey, StreamId};
use crate::domain::event::streams::Streams;

/// Stands for a stream that is not read, behind all that are.
const UNREAD: StreamId = StreamId(u16::MAX);
/// An entry that comes so much later than its id says is not waited for any longer. [ms]
const LATE_MAX_MS: u64 = 60_000;

/// The decision entries of a history, found before it is replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordedDecisions {
    /// By the entry that caused them, first to last.
    by_cause: BTreeMap<(EntryId, StreamId), Vec<DecisionFact>>,
    /// Place of the last cause among them: up to here our own decisions are only compared.
    watermark: Option<SortKey>,
}

impl RecordedDecisions {
    /// Adds a decision that was emitted.
    ///
    /// It says that everything was decided up to its cause, and nothing of what stands between there and its own entry: of a
    /// backlog the decisions have ids of the time when it was worked off. An entry that is no readable decision is no fact, and
    /// reaches nothing: anybody can write one under whatever id.
    pub fn add(&mut self, fact: DecisionFact, streams: &Streams) {
        let (stream, cause) = (streams.id_of(&fact.cause_stream), fact.cause_id);
        let key = match stream {
            Some(stream) => SortKey::new(stream, cause),
            None => SortKey { ms: cause.ms, stream: UNREAD, seq: u64::MAX },
        };
        self.watermark = self.watermark.max(Some(key));
        let caused = self.by_cause.entry((cause, stream.unwrap_or(UNREAD))).or_default();
        // The same entry in two files is one decision.
        if caused.iter().all(|known| known.decision_id != fact.decision_id) {
            caused.push(fact);
        }
    }

    /// Did an entry cause decisions, of which nothing was made yet.
    #[inline]
    pub fn names(&self, stream: StreamId, id: EntryId) -> bool {
        // Before the first that is left, which is nearly always, there is nothing to look for.
        self.by_cause.first_key_value().is_some_and(|((first, _), _)| *first <= id)
            && self.by_cause.contains_key(&(id, stream))
    }

    /// Is anything left that was caused at a time or before. [ms since 1970]
    #[inline]
    pub fn reach_back_to(&self, ms: u64) -> bool {
        self.by_cause.first_key_value().is_some_and(|((first, _), _)| first.ms <= ms)
    }

    /// The decisions that an entry caused.
    pub fn caused_by(&mut self, stream: StreamId, id: EntryId) -> Vec<DecisionFact> {
        if self.by_cause.is_empty() {
            return Vec::new();
        }
        self.by_cause.remove(&(id, stream)).unwrap_or_default()
    }

    /// The decisions whose cause does not come any more, as an entry is reached: it is not in the history, was not evaluated,
    /// or was folded before. `read_to` tells how far a stream was read before the entry.
    pub fn passed_by(
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

    /// Is our own decision at this place only compared.
    pub fn cover(&self, key: SortKey) -> bool {
        self.watermark.is_some_and(|watermark| key <= watermark)
    }
}
