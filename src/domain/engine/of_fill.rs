//! The book that a fill changes: that of its order, which may become known by the fill.

use super::Engine;
use super::books::{Belongs, Naming};
use super::rollback::Rollbacks;
use crate::domain::book::order::OrderKey;
use crate::domain::book::state::Book;
use crate::domain::event::ids::BookId;
use crate::domain::event::{Entry, Event, PositionSide, Unreadable};

/// The book that a result or a trade belongs to.
pub(super) enum BookFound {
    Known(BookId),
    /// The books in which orders with its id are known. It changes none of their positions.
    Ambiguous(Vec<BookId>),
}

impl Engine {
    /// Returns the book of a fill. If its order is ambiguous, flags the books of the order and returns them. An order
    /// whose book becomes known moves there.
    pub(super) fn book_to_fill(
        &mut self,
        naming: &Naming<'_>,
        entry: &Entry,
        event: &Event,
        rollbacks: &mut Rollbacks,
    ) -> Result<BookFound, Unreadable> {
        let symbol = naming.symbol;
        if self.accounts.is_plain() && naming.side.is_none_or(|side| !side.is_hedge()) {
            let book = BookId::one_way(symbol);
            rollbacks.save(event, entry.id, book, &self.slots);
            return Ok(BookFound::Known(book));
        }
        match self.belongs(naming) {
            Belongs::NoSide { account } => Err(Unreadable::sideless(account)),
            Belongs::Ambiguous(books) => {
                for book in &books {
                    rollbacks.save(event, entry.id, *book, &self.slots);
                }
                self.flag_ambiguous(&books);
                Ok(BookFound::Ambiguous(books))
            }
            Belongs::To { account, side, is_named } => {
                let is_both = is_named && side == PositionSide::Both;
                if is_both && naming.has_qty && self.has_open_hedge_book(account) {
                    return Err(Unreadable::sideless(account));
                }
                let book = self.intern_book(symbol, account, side);
                rollbacks.save(event, entry.id, book, &self.slots);
                Ok(BookFound::Known(book))
            }
            Belongs::ToOrder { book, is_other_side } => {
                self.check_order(book, is_other_side, naming, entry, event, rollbacks)?;
                Ok(BookFound::Known(book))
            }
            Belongs::Reuses { id_of, account, side } => {
                let book = self.intern_book(symbol, account, side);
                rollbacks.save(event, entry.id, id_of, &self.slots);
                rollbacks.save(event, entry.id, book, &self.slots);
                self.flag_reused(&[id_of, book]);
                Ok(BookFound::Known(book))
            }
            Belongs::Moves { from, account, side } => {
                let book = self.intern_book(symbol, account, side);
                rollbacks.save(event, entry.id, from, &self.slots);
                rollbacks.save(event, entry.id, book, &self.slots);
                let keys = self.orders_of(from, naming);
                rollbacks.add_orders(book, &keys, &self.slots);
                self.move_orders(&keys, from, book);
                Ok(BookFound::Known(book))
            }
        }
    }

    /// Compares an entry with the book of its order: flags the books whose quantities may differ, and lets the order keep an
    /// account that is named for it first. Errors if the entry lacks the side of a hedge position.
    fn check_order(
        &mut self,
        book: BookId,
        is_other_side: bool,
        naming: &Naming<'_>,
        entry: &Entry,
        event: &Event,
        rollbacks: &mut Rollbacks,
    ) -> Result<(), Unreadable> {
        let account = self.slots.book(book).account;
        // An entry without a side names that of its order.
        let names_both = naming.side.is_none_or(|side| !side.is_hedge()) && !self.slots.book(book).side.is_hedge();
        if names_both && naming.has_qty && self.has_open_hedge_book(account) {
            return Err(Unreadable::sideless(account));
        }
        rollbacks.save(event, entry.id, book, &self.slots);
        if is_other_side {
            self.flag_gap(book);
        }
        if is_other_side || self.contradicts_order(book, naming) {
            // The quantity may be missing in the book that it names.
            let account = if naming.account.is_named() { naming.account } else { account };
            let named = self.intern_book(naming.symbol, account, naming.side.unwrap_or_default());
            rollbacks.save(event, entry.id, named, &self.slots);
            self.flag_gap(named);
        }
        self.name_account(book, naming);
        Ok(())
    }

    /// Returns true if an entry names an account for an order of the account without a name, and fills on the other
    /// side (BUY, SELL) than the order.
    fn contradicts_order(&self, book: BookId, naming: &Naming<'_>) -> bool {
        let is_of_another_account = naming.account.is_named() && !self.slots.book(book).account.is_named();
        let side = naming.fill.and_then(|fill| fill.side);
        let is_other = |key: &OrderKey| self.slots.book(book).orders[key].side.is_some_and(|known| Some(known) != side);
        is_of_another_account && side.is_some() && self.orders_of(book, naming).iter().any(is_other)
    }

    /// Lets an order of the account without a name keep the account that an entry names for it first.
    fn name_account(&mut self, book: BookId, naming: &Naming<'_>) {
        if self.slots.book(book).account.is_named() || !naming.account.is_named() {
            return;
        }
        let name = &self.accounts.get(naming.account).name;
        for key in self.orders_of(book, naming) {
            if let Some(order) = self.slots.book_mut(book).orders.get_mut(&key) {
                order.account.get_or_insert_with(|| name.clone());
            }
        }
        self.changes.touch_cold(book);
    }

    /// Moves orders that have moved nothing yet to the book that is named for them.
    pub(super) fn move_orders(&mut self, keys: &[OrderKey], from: BookId, to: BookId) {
        for key in keys {
            if let Some(order) = self.slots.book_mut(from).orders.remove(key) {
                self.slots.book_mut(to).orders.insert(key.clone(), order);
            }
        }
        self.slots.book_mut(to).trade_index.clear();
        self.changes.touch_cold(from);
        self.changes.touch_cold(to);
    }

    /// Notes the mode of an account after a fill that names a side, or that is of an order or a plan with a side.
    pub(super) fn note_mode_of_fill(&mut self, naming: &Naming<'_>, book: BookId) {
        let Book { account, side, .. } = *self.slots.book(book);
        let by_plan = || {
            let plan = self.plans.of(account, naming.plan_id?, naming.symbol)?;
            plan.plan.position_side
        };
        // An entry that names another side than its order belongs to the order, and states no mode.
        let is_stated = side.is_hedge() || naming.side.or_else(by_plan) == Some(side);
        if naming.has_qty && is_stated {
            self.note_mode(account, side);
        }
    }
}
