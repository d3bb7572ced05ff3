//! Which book an entry belongs to (docs/spec/fold.md, "Books", "Hedged accounts").
//!
//! Promises: a book is found by the names in the entry, else by its order, else by its plan, and never by a guess.
//! Where nothing but one-way books of the account without a name was ever named, it is that book.

use super::Engine;
use crate::domain::book::order::{Order, OrderKey};
use crate::domain::book::state::{Book, parts_of_name};
use crate::domain::event::ids::{AccountId, BookId, SymbolId};
use crate::domain::event::{FillFact, PositionSide};

/// The names in an entry by which its book is found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming<'a> {
    pub symbol: SymbolId,
    pub account: AccountId,
    pub side: Option<PositionSide>,
    pub order_id: Option<&'a str>,
    pub plan_id: Option<&'a str>,
    /// It states a quantity that is not 0.
    pub has_qty: bool,
    /// The fill, if it is a result that fills.
    pub fill: Option<&'a FillFact>,
    /// It gives an order that has moved nothing yet its account and its side: a fill, a trade or an acceptance.
    pub assigns: bool,
    pub now_ms: u64,
}

/// The book of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Belongs {
    To {
        account: AccountId,
        side: PositionSide,
        /// The side is named, by the entry or by its plan, and not only known from its order.
        is_named: bool,
    },
    /// To a known order, which is named with another side.
    ToOrder { book: BookId, is_other_side: bool },
    /// To an order without a quantity, whose account or side becomes known.
    Moves { from: BookId, account: AccountId, side: PositionSide },
    /// To a new order with the id of a known one: it names another plan, and another account or side. Both books are
    /// flagged.
    ///
    /// ```text
    ///  t1  order 7, plan A, account X   is known in the book of X
    ///  t2  order 7, plan B, account Y   belongs to Y: `id_of` is the book of X
    /// ```
    Reuses { id_of: BookId, account: AccountId, side: PositionSide },
    /// To one of several orders.
    Ambiguous(Vec<BookId>),
    /// To one of several accounts, whose plans have its plan id. They may have no book of the symbol.
    AmbiguousAccount(Vec<AccountId>),
    /// The account is hedged, and nothing names the side.
    NoSide { account: AccountId },
}

/// The book of an entry, by the orders that are known.
enum ByOrder {
    /// No order of the entry is known.
    Unknown,
    Belongs(Belongs),
    /// The book of an order that has moved nothing and names no side, while its account is hedged.
    Sideless(BookId),
}

impl Engine {
    /// Finds the book of a result or trade: by its order, else by the names in the entry, else by its plan.
    pub(super) fn belongs(&self, of: &Naming<'_>) -> Belongs {
        let known = self.books_of_order(of);
        let mut from = None;
        match self.by_order(of, &known) {
            ByOrder::Belongs(found) => return found,
            ByOrder::Sideless(book) => from = Some(book),
            ByOrder::Unknown => {}
        }
        let mut account = of.account;
        if !account.is_named()
            && let Some(plan_id) = of.plan_id
        {
            let accounts: Vec<AccountId> =
                self.plans.of_all(plan_id, of.symbol).map(|known| known.plan.account).collect();
            match accounts.as_slice() {
                [] | [AccountId::NONE, ..] => {}
                [one] => account = *one,
                _ => return Belongs::AmbiguousAccount(accounts),
            }
        }
        let plan = of.plan_id.and_then(|plan_id| self.plans.of(account, plan_id, of.symbol));
        let decided =
            of.plan_id.and_then(|plan_id| self.book_of_request(plan_id, plan.and_then(|p| p.decision_id.as_deref())));
        let decided = decided.filter(|book| book.symbol == of.symbol).map(|book| self.slots.book(book));
        if let Some(book) = decided.filter(|_| !account.is_named()) {
            account = book.account;
        }
        let decided = decided.filter(|book| book.account == account);
        let named = of.side.or_else(|| plan.and_then(|known| known.plan.position_side));
        let side = named.or(decided.map(|book| book.side));
        let from = from.filter(|from| side.is_some_and(|side| self.slots.book(*from).side != side));
        if let (Some(from), Some(side)) = (from, side) {
            return Belongs::Moves { from, account, side };
        }
        match side {
            Some(side) => Belongs::To { account, side, is_named: named.is_some() },
            None if self.accounts.get(account).hedged => Belongs::NoSide { account },
            None => Belongs::To { account, side: PositionSide::Both, is_named: false },
        }
    }

    /// Returns the book of one of our decisions, by the plan id of its request or by the decision that a plan carries.
    pub(super) fn book_of_request(&self, plan_id: &str, decision_id: Option<&str>) -> Option<BookId> {
        let of_plan = self.decision_plans.get(plan_id);
        of_plan.map(|(book, _)| *book).or_else(|| self.book_of_decision(decision_id?))
    }

    /// Returns the book of a decision that is remembered.
    pub fn book_of_decision(&self, decision_id: &str) -> Option<BookId> {
        // The plan id of a decision is the beginning of its id, unless its entry named another one.
        let by_plan = decision_id.get(..16).and_then(|plan_id| self.decision_plans.get(plan_id));
        let found = by_plan.filter(|(_, of)| **of == *decision_id).map(|(book, _)| *book);
        found.or_else(|| self.decision_plans.values().find(|(_, of)| **of == *decision_id).map(|(book, _)| *book))
    }

    /// Returns the books of a symbol in which the order of an entry is known: by its id, else by its plan.
    fn books_of_order(&self, of: &Naming<'_>) -> Vec<BookId> {
        let is_compatible =
            |book: &Book| book.account == of.account || !book.account.is_named() || !of.account.is_named();
        // An order of entries without an account is of the first account that is named for it.
        let name = &*self.accounts.get(of.account).name;
        let is_of_account =
            |order: &Order| !of.account.is_named() || order.account.as_deref().is_none_or(|account| account == name);
        let is_fresh = |order: &Order| order.is_remembered(of.now_ms) && is_of_account(order);
        if let Some(id) = of.order_id {
            let is_it = |order: &Order| is_fresh(order) && order.counts_for(of.plan_id);
            let has_id = |book: &Book| book.orders_of_id(id).any(|(_, order)| is_it(order));
            let known = self.books_where(of.symbol, |book| is_compatible(book) && has_id(book));
            if !known.is_empty() {
                return known;
            }
        }
        let Some(plan_id) = of.plan_id else { return Vec::new() };
        if of.order_id.is_some() {
            // The order was known by its plan only, and gets its id now.
            let key = OrderKey::Plan(plan_id.into());
            let has_key = |book: &Book| book.orders.get(&key).is_some_and(|order| is_fresh(order));
            return self.books_where(of.symbol, |book| is_compatible(book) && has_key(book));
        }
        let has_plan = |book: &Book| book.orders.values().any(|order| order.has_plan(plan_id) && is_fresh(order));
        self.books_where(of.symbol, |book| is_compatible(book) && has_plan(book))
    }

    /// Returns the keys of the order of an entry in a book that knows it: by its id, else by its plan.
    pub(super) fn orders_of(&self, book: BookId, of: &Naming<'_>) -> Vec<OrderKey> {
        let orders = &self.slots.book(book).orders;
        let is_fresh = |order: &Order| order.is_remembered(of.now_ms);
        if let Some(id) = of.order_id {
            let is_it = |order: &Order| is_fresh(order) && order.counts_for(of.plan_id);
            let known = self.slots.book(book).orders_of_id(id).filter(|(_, order)| is_it(order));
            let keys: Vec<OrderKey> = known.map(|(key, _)| key.clone()).collect();
            let by_plan = of.plan_id.map(|plan_id| OrderKey::Plan(plan_id.into()));
            let by_plan = by_plan.filter(|key| keys.is_empty() && orders.get(key).is_some_and(|order| is_fresh(order)));
            return keys.into_iter().chain(by_plan).collect();
        }
        let Some(plan_id) = of.plan_id else { return Vec::new() };
        let of_plan = orders.iter().filter(|(_, order)| order.has_plan(plan_id) && is_fresh(order));
        of_plan.map(|(key, _)| key.clone()).collect()
    }

    /// Finds the book by the orders that are known.
    fn by_order(&self, of: &Naming<'_>, known: &[BookId]) -> ByOrder {
        let narrowed = |known: &[BookId], is_it: &dyn Fn(&Book) -> bool| -> Vec<BookId> {
            known.iter().copied().filter(|book| is_it(self.slots.book(*book))).collect()
        };
        // The account's own orders go before those of entries without an account.
        let own = narrowed(known, &|book| book.account == of.account);
        let known = if of.account.is_named() && !own.is_empty() { own } else { known.to_vec() };
        let known = match of.side {
            Some(side) if known.len() > 1 => {
                let of_side = narrowed(&known, &|book| book.side == side);
                if of_side.is_empty() { known } else { of_side }
            }
            Some(_) | None => known,
        };
        match known.as_slice() {
            [] => ByOrder::Unknown,
            [book] => self.reuses(of, *book).map_or_else(|| self.by_one_order(of, *book), ByOrder::Belongs),
            _ => ByOrder::Belongs(Belongs::Ambiguous(known)),
        }
    }

    /// Returns the book of an entry that names another plan, and another account or side, than the order with its id.
    /// An order has one plan, so the entry is of another one.
    fn reuses(&self, of: &Naming<'_>, id: BookId) -> Option<Belongs> {
        let (order_id, plan_id) = (of.order_id?, of.plan_id?);
        let book = self.slots.book(id);
        let is_of_another_side =
            of.side.is_some_and(|side| side.is_hedge() && book.side.is_hedge() && side != book.side);
        let is_of_another_account = of.account.is_named() && !book.account.is_named();
        if !is_of_another_side && !is_of_another_account {
            return None;
        }
        let is_of_another = |order: &Order| {
            let is_repeated =
                of.fill.is_some_and(|fill| order.is_repeated_by(fill.side, fill.cumulative, fill.average));
            order.plan_id.is_some() && !order.has_plan(plan_id) && (is_of_another_side || !is_repeated)
        };
        let mut orders = book.orders_of_id(order_id).filter(|(_, order)| order.is_remembered(of.now_ms)).peekable();
        let is_reused = orders.peek().is_some() && orders.all(|(_, order)| is_of_another(order));
        let account = if of.account.is_named() { of.account } else { book.account };
        let side = of.side.unwrap_or(book.side);
        is_reused.then_some(Belongs::Reuses { id_of: id, account, side })
    }

    fn by_one_order(&self, of: &Naming<'_>, id: BookId) -> ByOrder {
        let book = self.slots.book(id);
        let keys = self.orders_of(id, of);
        let is_empty = keys.iter().all(|key| book.orders[key].parts.is_empty());
        // A refusal does not show a book.
        let is_refused_only = keys.iter().all(|key| book.orders[key].refused_only);
        // An order that has moved nothing takes the account and the side that are named for it first.
        let account = if book.account.is_named() { book.account } else { of.account };
        let side = match of.side {
            Some(side) if !book.side.is_hedge() || is_refused_only => side,
            Some(_) | None => book.side,
        };
        if is_empty && of.assigns && (account, side) != (book.account, book.side) {
            return ByOrder::Belongs(Belongs::Moves { from: id, account, side });
        }
        let is_sideless = !side.is_hedge() && of.side.is_none() && self.accounts.get(account).hedged;
        if is_empty && of.has_qty && is_sideless {
            return ByOrder::Sideless(id);
        }
        let is_other_side = of.has_qty && of.side.is_some_and(|side| side != book.side);
        ByOrder::Belongs(Belongs::ToOrder { book: id, is_other_side })
    }

    /// Returns the books of a symbol with a property, in the order in which they are evaluated.
    pub(super) fn books_where(&self, symbol: SymbolId, is_it: impl Fn(&Book) -> bool) -> Vec<BookId> {
        let books = self.slots[symbol].books().filter(|(_, book)| is_it(book));
        books.map(|(nth, _)| BookId { symbol, nth }).collect()
    }

    /// Returns the books of a symbol that accounts have.
    pub(super) fn books_of_accounts(&self, symbol: SymbolId, accounts: &[AccountId]) -> Vec<BookId> {
        self.books_where(symbol, |book| accounts.contains(&book.account))
    }

    /// Returns the books of a symbol that one of these accounts may have filled. An account that has none gets its
    /// one-way book, or LONG and SHORT if it is hedged: without a book there is nothing to flag, and the fill would be
    /// lost without a hold. An account that the policy refuses gets none.
    pub(super) fn books_in_doubt(&mut self, symbol: SymbolId, accounts: &[AccountId]) -> Vec<BookId> {
        for account in accounts {
            if self.books_of_accounts(symbol, &[*account]).is_empty() && !self.refuses(*account) {
                for side in self.sides_of(*account) {
                    self.intern_book(symbol, *account, *side);
                }
            }
        }
        self.books_of_accounts(symbol, accounts)
    }

    /// Returns the sides of the books that an entry of an account may concern if it names no side.
    pub(super) fn sides_of(&self, account: AccountId) -> &'static [PositionSide] {
        if self.accounts.get(account).hedged {
            &[PositionSide::Long, PositionSide::Short]
        } else {
            &[PositionSide::Both]
        }
    }

    /// Returns a book that was named before.
    pub(super) fn known_book(&self, symbol: SymbolId, account: AccountId, side: PositionSide) -> Option<BookId> {
        self.slots[symbol].find(account, side).map(|nth| BookId { symbol, nth })
    }

    /// Returns the index of a book. A new one is added.
    pub(super) fn intern_book(&mut self, symbol: SymbolId, account: AccountId, side: PositionSide) -> BookId {
        if let Some(known) = self.known_book(symbol, account, side) {
            return known;
        }
        let mut book = Book::new(account, &self.accounts.get(account).name, &self.slots[symbol].symbol.name, side);
        book.hot.history_gap = self.has_gap_from_the_start(symbol, account);
        self.add_book(symbol, book)
    }

    /// Returns true if a book that is named now for the first time has a gap already.
    pub(super) fn has_gap_from_the_start(&self, symbol: SymbolId, account: AccountId) -> bool {
        self.globals.gap_everywhere && !self.accounts.is_gap_accepted(account, symbol)
    }

    /// Adds a book that is not known yet.
    pub(super) fn add_book(&mut self, symbol: SymbolId, book: Book) -> BookId {
        let (account, is_hedge) = (book.account, book.side.is_hedge());
        let id = self.slots.push_book(symbol, book);
        if is_hedge {
            self.accounts.add_hedge_book(account, id);
        }
        self.changes.touch_hot(id);
        id
    }

    /// Returns a book by its name, `ACCOUNT/SYMBOL:SIDE`.
    pub fn find_book(&self, name: &str) -> Option<BookId> {
        let (account, symbol, side) = parts_of_name(name);
        self.known_book(*self.by_name.get(symbol)?, self.accounts.find(account)?, side)
    }

    /// Returns true if a LONG or SHORT book of an account is open, of whatever symbol.
    pub(super) fn has_open_hedge_book(&self, account: AccountId) -> bool {
        self.accounts.hedge_books(account).iter().any(|book| self.slots.book(*book).hot.open.is_some())
    }

    /// Notes the mode of an account: an entry has named a side, with a quantity that is not 0. Open one-way books of an
    /// account that becomes hedged are flagged: it is no longer known what belongs to them.
    pub(super) fn note_mode(&mut self, account: AccountId, side: PositionSide) {
        if self.accounts.get(account).hedged != side.is_hedge() {
            self.accounts.get_mut(account).hedged = side.is_hedge();
            if side.is_hedge() {
                for id in self.slots.book_ids() {
                    let book = self.slots.book(id);
                    if book.account == account && !book.side.is_hedge() && book.hot.open.is_some() {
                        self.flag_gap(id);
                    }
                }
            }
        }
        self.accounts.is_split |= side.is_hedge();
    }
}
