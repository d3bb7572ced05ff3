//! How a result changes the books of its orders.

use super::books::{Belongs, Naming};
use super::fold::fold_of;
use super::of_fill::BookFound;
use super::rollback::Rollbacks;
use super::{BooksNamed, Engine};
use crate::domain::book::counters::Count;
use crate::domain::book::order::OrderKey;
use crate::domain::book::plans::KnownPlan;
use crate::domain::event::ids::{BookId, SymbolId};
use crate::domain::event::{Entry, Event, FillFact, Outcome, PositionSide, ResultFact, Unreadable};

impl Engine {
    /// Folds a result: each of its fills in the book of its order.
    pub(super) fn fold_result(
        &mut self,
        event: &Event,
        fact: &ResultFact,
        entry: &Entry,
        symbol: SymbolId,
        rollbacks: &mut Rollbacks,
    ) -> Result<BooksNamed, Unreadable> {
        let Outcome::Fills(fills) = &fact.outcome else { return Ok(self.fold_unfilled(fact, entry, symbol)) };
        let Self { globals, accounts, plans, counters, .. } = self;
        fold_of(globals, accounts, plans, counters, entry, entry.account).count_result_time(fact);
        let mut named: Vec<BookId> = Vec::new();
        for fill in fills {
            let naming = Naming {
                symbol,
                account: entry.account,
                side: fill.position_side,
                order_id: fill.order_id.as_deref(),
                plan_id: fact.plan_id.as_deref(),
                has_qty: true,
                fill: Some(fill),
                assigns: true,
                now_ms: entry.id.ms,
            };
            match self.book_to_fill(&naming, entry, event, rollbacks)? {
                BookFound::Known(book) => {
                    self.fold_fill(fact, fill, entry, book)?;
                    self.note_mode_of_fill(&naming, book);
                    named.push(book);
                }
                BookFound::Ambiguous(books) => named.extend(books),
            }
        }
        let mut books = named.clone();
        books.sort_unstable();
        books.dedup();
        books.iter().for_each(|book| self.after_positions(*book));
        Ok(match books.as_slice() {
            [one] => BooksNamed::Book(*one),
            _ => BooksNamed::Books(self.in_order(symbol, &books)),
        })
    }

    fn fold_fill(&mut self, fact: &ResultFact, fill: &FillFact, entry: &Entry, book: BookId) -> Result<(), Unreadable> {
        self.invalidate(book);
        self.changes.touch_cold(book);
        let (plan, decision_id) = self.plan_and_decision(fact, book);
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let account = slots.book(book).account;
        let mut fold = fold_of(globals, accounts, plans, counters, entry, account);
        let filled = fold.fill(&mut slots.edit(book), fact, fill, plan.as_ref(), decision_id.as_deref());
        filled.map_err(Unreadable::new)
    }

    /// Folds a result that fills nothing. It states no position, so it needs no side.
    fn fold_unfilled(&mut self, fact: &ResultFact, entry: &Entry, symbol: SymbolId) -> BooksNamed {
        let (order_id, accepts) = match &fact.outcome {
            Outcome::Accepted { order } => (order.order_id.as_deref(), true),
            Outcome::Refused { order, .. } => (order.order_id.as_deref(), false),
            Outcome::Fills(_) => (None, false),
        };
        let naming = Naming {
            symbol,
            account: entry.account,
            side: entry.position_side,
            order_id,
            plan_id: fact.plan_id.as_deref(),
            has_qty: false,
            fill: None,
            // Some executors refuse under ids that they use again, so a refusal does not show a book.
            assigns: accepts,
            now_ms: entry.id.ms,
        };
        // Without an order id, an acceptance of several orders names none of them.
        let flags = accepts && order_id.is_some();
        let book = match self.book_of_unfilled(&naming, accepts, flags) {
            BookFound::Known(book) => book,
            BookFound::Ambiguous(books) => {
                if flags {
                    self.flag_ambiguous(&books);
                }
                self.fold_outcome(fact, entry, self.book_of_outcome(&naming), None);
                return BooksNamed::Books(books);
            }
        };
        self.invalidate(book);
        self.changes.touch_cold(book);
        let (plan, decision_id) = self.plan_and_decision(fact, book);
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let account = slots.book(book).account;
        let mut fold = fold_of(globals, accounts, plans, counters, entry, account);
        let order = fold.unfilled_order(&mut slots.edit(book), fact, plan.as_ref(), decision_id.as_deref());
        self.after_positions(book);
        let of_outcome = self.book_of_outcome(&naming).unwrap_or(book);
        let order = order.filter(|_| of_outcome == book);
        self.fold_outcome(fact, entry, Some(of_outcome), order.as_ref());
        BooksNamed::Book(book)
    }

    /// Returns the book of an order that is accepted or refused. An order whose book becomes known moves there.
    /// `flags` is true if the books of an ambiguous one are flagged.
    fn book_of_unfilled(&mut self, naming: &Naming<'_>, accepts: bool, flags: bool) -> BookFound {
        let symbol = naming.symbol;
        if self.accounts.is_plain() && naming.side.is_none_or(|side| !side.is_hedge()) {
            return BookFound::Known(BookId::one_way(symbol));
        }
        BookFound::Known(match self.belongs(naming) {
            Belongs::ToOrder { book, .. } => book,
            Belongs::To { account, side, .. } => self.intern_book(symbol, account, side),
            Belongs::Reuses { id_of, account, side } => {
                let book = self.intern_book(symbol, account, side);
                if accepts {
                    self.flag_reused(&[id_of, book]);
                }
                book
            }
            Belongs::Moves { from, account, side } => {
                let book = self.intern_book(symbol, account, side);
                self.move_orders(&self.orders_of(from, naming), from, book);
                book
            }
            // An order whose side is not known yet waits in the one-way book.
            Belongs::NoSide { account } => self.intern_book(symbol, account, PositionSide::Both),
            Belongs::Ambiguous(books) => return BookFound::Ambiguous(books),
            Belongs::AmbiguousAccount(accounts) if flags => {
                return BookFound::Ambiguous(self.books_in_doubt(symbol, &accounts));
            }
            Belongs::AmbiguousAccount(accounts) => {
                return BookFound::Ambiguous(self.books_of_accounts(symbol, &accounts));
            }
        })
    }

    /// Returns the book of the decision that a result answers. An order that is known by its id may be in another one.
    fn book_of_outcome(&self, of: &Naming<'_>) -> Option<BookId> {
        let book = self.book_of_request(of.plan_id?, None)?;
        let is_of_account = !of.account.is_named() || of.account == self.slots.book(book).account;
        Some(book).filter(|book| is_of_account && book.symbol == of.symbol)
    }

    /// Applies a result that fills nothing as the outcome of the decision that it answers. Before that, applies the
    /// earlier fills of its order that did not name the plan of the decision.
    fn fold_outcome(&mut self, fact: &ResultFact, entry: &Entry, book: Option<BookId>, order: Option<&OrderKey>) {
        let Some(book) = book else { return };
        let (_, decision_id) = self.plan_and_decision(fact, book);
        self.invalidate(book);
        self.changes.touch_cold(book);
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let account = slots.book(book).account;
        let fold = fold_of(globals, accounts, plans, counters, entry, account);
        if let Some(order) = order {
            fold.outcome_of_order(slots.book_mut(book), order, decision_id.as_deref());
        }
        fold.unfilled_outcome(slots.book_mut(book), fact, decision_id.as_deref());
        self.after_positions(book);
    }

    /// Flags the books that an ambiguous order may belong to.
    pub(super) fn flag_ambiguous(&mut self, books: &[BookId]) {
        books.iter().for_each(|book| self.flag_gap(*book));
        self.counters.count(Count::AmbiguousOrder);
    }

    /// Flags the books of two orders with one id.
    pub(super) fn flag_reused(&mut self, books: &[BookId]) {
        books.iter().for_each(|book| self.flag_gap(*book));
        self.counters.count(Count::OrderIdReused);
    }

    /// Returns the plan of a result for a book, and the decision of ours that the result belongs to.
    fn plan_and_decision(&self, fact: &ResultFact, book: BookId) -> (Option<KnownPlan>, Option<Box<str>>) {
        let Some(plan_id) = fact.plan_id.as_deref() else { return (None, None) };
        let of = self.slots.book(book);
        let plan = self.plans.of(of.account, plan_id, book.symbol);
        let of_plan_id = self.decision_plans.get(plan_id).filter(|(of, _)| *of == book).map(|(_, decision)| decision);
        let of_plan_id = of_plan_id.filter(|decision| of.remembers(decision, self.globals.last.ms));
        let decision_id = of_plan_id.or(plan.and_then(|known| known.decision_id.as_ref())).cloned();
        (plan.cloned(), decision_id)
    }

    /// Returns books of a symbol in the order in which they are evaluated.
    fn in_order(&self, symbol: SymbolId, books: &[BookId]) -> Vec<BookId> {
        let all = self.slots[symbol].books().map(|(nth, _)| BookId { symbol, nth });
        all.filter(|book| books.contains(book)).collect()
    }
}
