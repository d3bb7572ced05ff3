//! A shortcut for prices that change nothing but the price in use. Nearly all entries are such prices.
//!
//! The engine has one door to it: `try_price` before the slow way, and `invalidate` when a symbol changes in any other
//! way. An evaluation asks `recall` first and ends with `remember`. Without this folder the engine gives the same results,
//! later.
//!
//! Promises: the shortcut never gives a result that the slow way would not give. Builds with debug assertions evaluate
//! each price that takes it, and compare.
//!
//! It pays: without it a replay of a recorded day takes 35 % more instructions, an audit 32 %. That a position of the
//! exchange which confirms ours keeps the band is 5.4 % of it in a replay, 4.9 % in an audit (docs/decisions/0010).
//!
//! In reading order: this file, `memory` (what is remembered of a symbol), `bands`.

mod bands;
pub(super) mod memory;

use super::Engine;
use crate::domain::book::symbol::Mark;
use crate::domain::event::ids::{SortKey, SymbolId};
use crate::domain::event::{Entry, Event};
use crate::domain::exit::{EntryTerms, Hold};

impl Engine {
    /// Takes a price into use, if it changes nothing else. Returns false for every other entry, to which it does
    /// nothing that `step` would not do.
    #[inline]
    pub(super) fn try_price(&mut self, entry: &Entry) -> bool {
        let (Ok(Event::Price(fact)), Some(id)) = (&entry.content, entry.symbol) else { return false };
        let (key, now_ms) = (SortKey::new(entry.stream, entry.id), entry.id.ms);
        // After all entries means after the cursor of its stream, too.
        let is_next = self.last_key.is_some_and(|last| last < key);
        let is_plain = self.globals.skipped.is_empty() && !self.recorded.reach_back_to(now_ms);
        if !is_next || !is_plain || !self.accepts(fact.source) {
            return false;
        }
        // A price whose event time is too old or unreadable is not used.
        let max_age_ms = self.globals.policy.max_price_age_ms;
        if fact.time.age_ms(now_ms).is_none_or(|age_ms| age_ms > max_age_ms) {
            return false;
        }
        self.expire_timeouts(now_ms);
        let slot = &mut self.slots[id];
        let known = slot.memory.hold_at(&slot.symbol, &self.globals.policy, fact.price, now_ms);
        let Some(hold) = known else { return false };
        slot.symbol.hot.mark = Some(Mark { price: fact.price, source: fact.source, entry: entry.id });
        debug_assert_eq!(self.hold_at(&self.slots[id].symbol, now_ms), hold, "the price changes the outcome");
        self.changes.touch_hot(id);
        self.counters.first.get_or_insert(entry.id);
        self.counters.last = Some(entry.id);
        self.counters.shape(entry.kind, entry.shape, 1);
        self.counters.applied += 1;
        self.cursors[usize::from(entry.stream.0)] = Some(entry.id);
        self.last_key = Some(key);
        self.globals.last = self.globals.last.max(entry.id);
        if let Some(hold) = hold {
            self.hold(id, hold, entry.id);
        }
        true
    }

    /// Notes that something changed on which the evaluation of a symbol depends.
    #[inline]
    pub(super) fn invalidate(&mut self, id: SymbolId) {
        self.slots[id].memory.forget();
        self.changes.touch_hot(id);
    }

    /// Notes that something changed on which the evaluation of every symbol depends.
    pub(super) fn invalidate_all(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.memory.forget());
    }

    /// Returns the hold of an evaluation at the price in use, if it is known: after a position that confirms ours.
    #[inline]
    pub(super) fn recall(&self, id: SymbolId, now_ms: u64) -> Option<Hold> {
        let (slot, policy) = (&self.slots[id], &self.globals.policy);
        let mark =
            slot.symbol.hot.mark.filter(|mark| now_ms.saturating_sub(mark.entry.ms) <= policy.max_price_age_ms)?;
        let hold = slot.memory.known_at(&slot.symbol, policy, mark.price, now_ms)?;
        debug_assert_eq!(self.hold_at(&slot.symbol, now_ms), hold, "the entry changes the outcome");
        hold
    }

    /// Remembers the outcome of an evaluation: a hold with what it used, or none.
    #[inline]
    pub(super) fn remember(&mut self, id: SymbolId, last: Option<(Hold, EntryTerms)>) {
        self.slots[id].memory.remember(last);
    }
}
