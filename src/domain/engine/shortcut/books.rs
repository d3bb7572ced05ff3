//! Prices of a symbol with several books: all of them are quiet, or a few have to be evaluated.

use crate::domain::book::symbol::Mark;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::engine::accounts::Accounts;
use crate::domain::engine::globals::Globals;
use crate::domain::engine::slots::Slot;
use crate::domain::event::ids::{BookId, EntryId, SortKey, SymbolId};
use crate::domain::event::{Entry, PositionSide, PriceFact};
use crate::domain::exit::{EntryTerms, Hold};
use crate::domain::units::Price;

use super::index::InIndex;

impl Engine {
    /// Takes a price into use, if it changes nothing else for any book of its symbol.
    #[inline(never)]
    pub(super) fn try_price_of_books(&mut self, entry: &Entry, fact: &PriceFact, id: SymbolId, key: SortKey) -> bool {
        let (Self { slots, accounts, globals, .. }, now_ms) = (&mut *self, entry.id.ms);
        let slot = &mut slots[id];
        slot.ask_loose(accounts, globals, fact.price, now_ms);
        let Some(hold) = slot.plain_hold_at(accounts, globals, fact.price, now_ms) else { return false };
        if !slot.index.is_quiet_at(fact.price) {
            return false;
        }
        self.count_entry(entry);
        self.advance(entry, key);
        self.counters.applied += 1;
        self.use_price(fact, entry.id, id);
        self.hold_quiet(id, hold, entry.id);
        true
    }

    /// Takes a price into use and counts the holds of all books of its symbol for which it changes nothing. Returns the
    /// other ones, which have to be evaluated, in their order.
    ///
    /// `None`: it has done nothing, and all books have to be evaluated. The price may be held or refused.
    pub(in crate::domain::engine) fn books_left(
        &mut self,
        entry: &Entry,
        fact: &PriceFact,
        id: SymbolId,
    ) -> Option<Vec<BookId>> {
        let accepted = self.accepts(fact.source);
        let Self { slots, accounts, globals, recorded, .. } = self;
        let (slot, policy, now_ms) = (&mut slots[id], &globals.policy, entry.id.ms);
        if slot.others.is_empty()
            || !accepted
            || recorded.names(entry.stream, entry.id)
            || slot.symbol.held_price.is_some()
        {
            return None;
        }
        let used = slot.symbol.mark?.price;
        let is_fresh = fact.time.age_ms(now_ms)? <= policy.max_price_age_ms;
        if !is_fresh || fact.price.is_near(used, policy.max_price_jump) != Ok(true) {
            return None;
        }
        slot.ask_loose(accounts, globals, fact.price, now_ms);
        let hold = slot.plain_hold_at(accounts, globals, fact.price, now_ms);
        let mut left = slot.index.left_at(fact.price);
        left.extend(slot.index.loose());
        left.sort_unstable_by(|a, b| slot.order_of(*a).cmp(&slot.order_of(*b)));
        let quiet: usize = slot.index.holds().map(|(_, books)| books as usize).sum();
        if left.len() == quiet + slot.index.loose().len() {
            // The numbers of the books that are left may all not fit, and then the price is refused.
            return None;
        }
        left.iter().for_each(|nth| slot.forget_memory(*nth));
        if hold.is_none() {
            slot.memory.forget();
            left.insert(0, 0);
        }
        self.use_price(fact, entry.id, id);
        self.hold_quiet(id, hold.flatten(), entry.id);
        Some(left.into_iter().map(|nth| BookId { symbol: id, nth }).collect())
    }

    fn use_price(&mut self, fact: &PriceFact, at: EntryId, id: SymbolId) {
        self.slots[id].symbol.mark = Some(Mark { price: fact.price, source: fact.source, entry: at });
        self.changes.touch_hot(BookId::one_way(id));
    }

    /// Counts the holds of the quiet books, and of the one-way book of the account without a name if its hold is known.
    fn hold_quiet(&mut self, id: SymbolId, plain: Option<Hold>, at: EntryId) {
        if cfg!(debug_assertions) {
            self.check_quiet(id, plain, at.ms);
        }
        if let Some(hold) = plain {
            self.hold(BookId::one_way(id), hold, at);
        }
        for (hold, books) in self.slots[id].index.holds() {
            self.counters.hold(hold, books);
        }
    }

    /// Asserts that each quiet book has the hold of an evaluation, and has noted it.
    fn check_quiet(&self, id: SymbolId, plain: Option<Hold>, now_ms: u64) {
        let slot = &self.slots[id];
        if let Some(hold) = plain {
            let view = BookView { symbol: &slot.symbol, book: &slot.book };
            assert_eq!(self.hold_at(view, now_ms), Some(hold), "the price changes the outcome of {}", slot.book.name);
        }
        for (other, nth) in slot.others.iter().zip(1..) {
            match other.in_index {
                InIndex::Quiet(quiet) => {
                    let view = BookView { symbol: &slot.symbol, book: &other.book };
                    let noted = other.book.hot.open.as_ref().and_then(|open| open.holds.last());
                    let (ours, noted) = (self.hold_at(view, now_ms), noted.and_then(|last| last.hold));
                    assert_eq!(ours, Some(quiet.hold), "the price changes the outcome of {}", other.book.name);
                    assert_eq!(noted, Some(quiet.hold), "{} has noted another hold", other.book.name);
                }
                InIndex::Closed => assert!(other.book.hot.open.is_none(), "{} is open", other.book.name),
                InIndex::Loose => assert!(slot.index.loose().contains(&nth), "{} is nowhere", other.book.name),
            }
        }
    }
}

impl Slot {
    /// Returns the key that defines the order in which books are evaluated.
    fn order_of(&self, nth: u32) -> (&[u8], PositionSide) {
        let book = &self.others[nth as usize - 1].book;
        (book.account_name.as_bytes(), book.side)
    }

    /// Returns the hold of the one-way book of the account without a name, if it is known. `Some(None)`: it has no
    /// position.
    fn plain_hold_at(
        &mut self,
        accounts: &Accounts,
        globals: &Globals,
        price: Price,
        now_ms: u64,
    ) -> Option<Option<Hold>> {
        let policy = accounts.policy_of(self.book.account, globals);
        self.memory.hold_at(BookView { symbol: &self.symbol, book: &self.book }, policy, price, now_ms)
    }

    /// Asks the loose books, and those whose confirmation may be too old, whether they are quiet at a price.
    fn ask_loose(&mut self, accounts: &Accounts, globals: &Globals, price: Price, now_ms: u64) {
        while let Some(nth) = self.index.overdue(now_ms) {
            self.loosen(nth);
        }
        for nth in self.index.take_loose() {
            let other = &mut self.others[nth as usize - 1];
            let view = BookView { symbol: &self.symbol, book: &other.book };
            let policy = accounts.policy_of(view.account, globals);
            other.in_index = match other.memory.quiet_at(view, policy, price, now_ms) {
                _ if view.hot.open.is_none() => InIndex::Closed,
                Some(quiet) => InIndex::Quiet(quiet),
                None => InIndex::Loose,
            };
            match &other.in_index {
                InIndex::Closed => {}
                InIndex::Loose => self.index.add_loose(nth),
                InIndex::Quiet(quiet) => self.index.add_quiet(nth, quiet),
            }
        }
    }

    /// Lets a book be asked at the next price.
    fn loosen(&mut self, nth: u32) {
        let other = &mut self.others[nth as usize - 1];
        match std::mem::replace(&mut other.in_index, InIndex::Loose) {
            InIndex::Loose => return,
            InIndex::Closed => {}
            InIndex::Quiet(quiet) => self.index.remove_quiet(nth, &quiet),
        }
        self.index.add_loose(nth);
    }

    /// Forgets the memory of a book.
    #[inline]
    pub fn forget_memory(&mut self, nth: u32) {
        if nth == 0 {
            self.memory.forget();
        } else {
            self.loosen(nth);
            self.others[nth as usize - 1].memory.forget();
        }
    }

    /// Forgets the memory of all books.
    pub fn forget_memories(&mut self) {
        self.memory.forget();
        if self.others.is_empty() {
            return;
        }
        self.index.clear();
        for (other, nth) in self.others.iter_mut().zip(1..) {
            other.memory.forget();
            other.in_index = InIndex::Loose;
            self.index.add_loose(nth);
        }
    }

    /// Remembers the outcome of an evaluation. A quiet book has noted the hold of its band, so another outcome ends the
    /// band.
    #[inline]
    pub fn remember(&mut self, nth: u32, last: Option<(Hold, EntryTerms)>) {
        if nth == 0 {
            self.memory.remember(last);
        } else {
            self.forget_memory(nth);
            self.others[nth as usize - 1].memory.remember(last);
        }
    }
}
