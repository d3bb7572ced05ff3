//! A shortcut for prices that change nothing but the price in use. Nearly all entries are such prices.
//!
//! Three doors ask: `try_price` before the slow way of a price, `books_left` before all books of a symbol are evaluated
//! at one, `recall` before an evaluation. The others keep the memory: `remember` after an evaluation, and `invalidate`
//! for a book, an account, a symbol or all when anything changes that one reads. Without this folder the engine gives
//! the same results, later.
//!
//! Promises: the shortcut never gives a result that the slow way would not give. Builds with debug assertions evaluate
//! each price that takes it, and compare.
//!
//! It pays: without it a replay of a recorded day takes 35 % more instructions, an audit 32 %. That a position of the
//! exchange which confirms ours keeps the band is 5.4 % of it in a replay, 4.9 % in an audit (docs/decisions/0010).
//!
//! In reading order: this file, `memory` (the memory of a book), `bands`; for symbols with several books
//! `books` and `index` (which of them a price concerns).

mod bands;
mod books;
pub(super) mod index;
pub(super) mod memory;

use super::Engine;
use super::slots::Slot;
use crate::domain::book::symbol::Mark;
use crate::domain::book::view::BookView;
use crate::domain::event::ids::{AccountId, BookId, SortKey, SymbolId};
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
        let one_way = BookId::one_way(id);
        let slot = &mut self.slots[id];
        if !slot.others.is_empty() {
            return self.try_price_of_books(entry, fact, id, key);
        }
        let book = BookView { symbol: &slot.symbol, book: &slot.book };
        let Some(hold) = slot.memory.hold_at(book, &self.globals.policy, fact.price, now_ms) else { return false };
        slot.symbol.mark = Some(Mark { price: fact.price, source: fact.source, entry: entry.id });
        debug_assert_eq!(self.hold_at(self.slots.view(one_way), now_ms), hold, "the price changes the outcome");
        self.changes.touch_hot(one_way);
        self.count_entry(entry);
        self.advance(entry, key);
        self.counters.applied += 1;
        if let Some(hold) = hold {
            self.hold(one_way, hold, entry.id);
        }
        true
    }

    /// Notes that something changed on which the evaluation of a book depends.
    #[inline]
    pub(super) fn invalidate(&mut self, id: BookId) {
        self.slots[id.symbol].forget_memory(id.nth);
        self.changes.touch_hot(id);
    }

    /// Notes that something changed on which the evaluation of all books of a symbol depends.
    #[inline]
    pub(super) fn invalidate_symbol(&mut self, id: SymbolId) {
        self.slots[id].forget_memories();
        self.changes.touch_hot(BookId::one_way(id));
    }

    /// Notes that something changed on which the evaluation of the books of an account depends, in one symbol. Without
    /// a named account, it concerns all books of the symbol.
    pub(super) fn invalidate_account(&mut self, id: SymbolId, account: AccountId) {
        if !account.is_named() {
            return self.invalidate_symbol(id);
        }
        let slot = &mut self.slots[id];
        for nth in slot.of_account(account).collect::<Vec<_>>() {
            slot.forget_memory(nth);
        }
        self.changes.touch_hot(BookId::one_way(id));
    }

    /// Notes that something changed on which the evaluation of every book depends.
    pub(super) fn invalidate_all(&mut self) {
        self.slots.iter_mut().for_each(Slot::forget_memories);
    }

    /// Returns the hold of an evaluation at the price in use, if it is known: after a position that confirms ours.
    #[inline]
    pub(super) fn recall(&self, id: BookId, now_ms: u64) -> Option<Hold> {
        let book = self.slots.view(id);
        let policy = self.policy_of(book.account);
        let mark = book.symbol.mark?;
        let hold = self.slots.memory(id).known_at(book, policy, mark.price, now_ms)?;
        let is_stale = now_ms.saturating_sub(mark.entry.ms) > policy.max_price_age_ms;
        if is_stale && id != BookId::one_way(id.symbol) {
            // A quiet book of the index has noted the hold of its band, and no other one.
            return None;
        }
        // The price has become old since. The remembered hold stays if it comes before `stale_price` in the order of
        // holds; otherwise `stale_price` applies.
        let hold = hold.map(|hold| if is_stale { hold.min(Hold::StalePrice) } else { hold });
        debug_assert_eq!(self.hold_at(book, now_ms), hold, "the entry changes the outcome");
        hold
    }

    /// Remembers the outcome of an evaluation: a hold with the terms that it used, or none.
    #[inline]
    pub(super) fn remember(&mut self, id: BookId, last: Option<(Hold, EntryTerms)>) {
        self.slots[id.symbol].remember(id.nth, last);
    }
}
