//! Decision entries that come back: our own, or foreign ones (docs/spec/emission.md, "Decisions that come back").
//!
//! The decisions that the look-ahead found were verified as a chain before the fold began (`domain/engine/chain.rs`)
//! and were adopted at their cause. Here each entry is judged when the fold reaches it: the chain known so far must
//! contain it or be continued by it.

use super::chain;
use super::{Decisions, Engine};
use crate::domain::book::counters::Count;
use crate::domain::event::DecisionFact;
use crate::domain::event::ids::{EntryId, StreamId};

/// Decisions whose hashes are remembered. [1]
const TAIL_MAX: usize = 256;

/// The relation of a decision entry to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChainRelation {
    /// Already part of it.
    Known,
    /// The next one.
    Follows,
    /// Not ours, or altered. It changes nothing and is a finding.
    Foreign,
}

impl Engine {
    /// Folds a decision entry.
    pub(super) fn decision_entry(&mut self, fact: &DecisionFact, id: EntryId) {
        if self.recorded.is_refused(id) {
            self.refuse_foreign(fact);
            return;
        }
        // An entry whose cause is still to come (a clock went back) is adopted at its cause.
        if fact.is_sealed && !fact.is_early && self.awaits_cause_of(fact) {
            return;
        }
        // An audit has verified the chain as a whole, and passes on only its parts and what a service refused.
        let relation = match self.decisions {
            Decisions::Audited => ChainRelation::Follows,
            Decisions::Recorded | Decisions::Derived => self.relation(fact),
        };
        match relation {
            ChainRelation::Known => {}
            ChainRelation::Follows if self.is_before_its_cause(fact) => self.recorded.add(fact.clone(), &self.streams),
            ChainRelation::Follows => {
                if !self.adopt(fact) {
                    self.counters.comparison.orphaned += 1;
                }
            }
            ChainRelation::Foreign => self.refuse_foreign(fact),
        }
    }

    fn refuse_foreign(&mut self, fact: &DecisionFact) {
        self.counters.count(Count::DecisionForeign);
        self.flag_foreign(fact);
    }

    /// Flags the books that a decision which is not ours could be about: those of its account, else of all accounts.
    fn flag_foreign(&mut self, fact: &DecisionFact) {
        if fact.account.is_named() {
            self.flag_account(fact.symbol, fact.account, fact.position_side);
        } else {
            for book in self.books_where(fact.symbol, |_| true) {
                self.flag_gap(book);
            }
        }
    }

    /// Returns true if a decision entry would count as foreign here.
    pub fn is_foreign(&self, fact: &DecisionFact) -> bool {
        self.decisions == Decisions::Recorded && self.relation(fact) == ChainRelation::Foreign
    }

    fn relation(&self, fact: &DecisionFact) -> ChainRelation {
        match self.relation_to_chain(fact) {
            // Ours are known by then, also where a clock went back.
            ChainRelation::Follows if fact.is_early => ChainRelation::Foreign,
            relation => relation,
        }
    }

    fn relation_to_chain(&self, fact: &DecisionFact) -> ChainRelation {
        let globals = &self.globals;
        if !fact.is_sealed {
            return ChainRelation::Foreign;
        }
        let begins = chain::beginning(&fact.hash);
        match fact.seq {
            // Without a number it is identified by its hash, or by what was adopted at its cause.
            0 if self.knows_decision(fact) => ChainRelation::Known,
            0 if *fact.prev == *globals.chain.hash => ChainRelation::Follows,
            0 => ChainRelation::Foreign,
            seq if seq > globals.chain.seq => {
                let head = self.recorded.head_after(&globals.chain);
                let is_next = seq == head.seq + 1 && *fact.prev == *head.hash;
                if is_next { ChainRelation::Follows } else { ChainRelation::Foreign }
            }
            // A decision older than the tail can no longer be compared, and changes nothing either way.
            seq if globals.chain_tail.get(&seq).is_none_or(|known| *known == begins) => ChainRelation::Known,
            _ => ChainRelation::Foreign,
        }
    }

    /// Returns true if a decision waits for its cause, at which it is adopted.
    pub fn awaits_cause_of(&self, fact: &DecisionFact) -> bool {
        self.streams.id_of(&fact.cause_stream).is_some_and(|stream| self.recorded.names(stream, fact.cause_id))
    }

    /// Returns true if the entry that caused a decision is still to come: the clock went back in between. The others up
    /// to its place were decided by then, too.
    fn is_before_its_cause(&self, fact: &DecisionFact) -> bool {
        let cause = self.streams.id_of(&fact.cause_stream);
        let is_to_come = |of: StreamId| self.cursors[usize::from(of.0)].is_none_or(|cursor| cursor < fact.cause_id);
        self.decisions == Decisions::Recorded && fact.seq > 0 && cause.is_some_and(is_to_come)
    }

    /// Remembers the hash of a decision of the chain.
    pub(super) fn note_link(&mut self, seq: u64, hash: &str) {
        let tail = &mut self.globals.chain_tail;
        tail.entry(seq).or_insert_with(|| chain::beginning(hash));
        while tail.len() > TAIL_MAX {
            tail.pop_first();
        }
    }
}
