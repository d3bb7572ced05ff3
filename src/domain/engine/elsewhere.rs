//! Entries of accounts that another cell reads (docs/spec/fold.md, "Accounts of other cells").
//!
//! They are skipped and counted. Only which orders and plans they name is noted, in a few bytes each: a result that names
//! no account belongs to the account of its order or plan, and exactly one cell may fold it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::Engine;
use super::books::Naming;
use crate::domain::book::counters::Count;
use crate::domain::book::intents::INTENT_MEMORY_MS;
use crate::domain::book::order::ORDER_MEMORY_MS;
use crate::domain::book::state::Book;
use crate::domain::event::ids::{AccountId, BookId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Entry, Event, Outcome, ResultFact, TradeFact};

/// Notes after which all that are too old are forgotten. [1]
const NOTES_PER_SWEEP: u32 = 4096;

/// What is known of an account of another cell: an order, or a plan. The hash covers kind, symbol and id.
pub type NoteKey = (u64, AccountId);

/// The orders and plans that entries of accounts of other cells have named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Time of the last entry of an order, under its id and under its plan. [ms since 1970]
    pub(super) orders: BTreeMap<NoteKey, u64>,
    /// Time of the first plan of an id. [ms since 1970]
    pub(super) plans: BTreeMap<NoteKey, u64>,
    /// Notes since the last sweep. [1]
    noted: u32,
}

/// Which of the two maps a note is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    Order,
    Plan,
}

/// Who folds an entry that names no account.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// An account of this cell: the fold finds which.
    Here,
    /// The account without a name.
    Nameless,
    /// These accounts of other cells.
    Elsewhere(Vec<AccountId>),
    /// Accounts of this cell and of others. It is known in these books here.
    Both(Vec<BookId>),
}

impl Elsewhere {
    fn accounts(notes: &BTreeMap<NoteKey, u64>, hash: u64, from_ms: u64) -> Vec<AccountId> {
        let all = notes.range((hash, AccountId::NONE)..=(hash, AccountId(u32::MAX)));
        all.filter(|(_, ms)| **ms >= from_ms).map(|((_, account), _)| *account).collect()
    }

    fn orders_of(&self, hash: u64, now_ms: u64) -> Vec<AccountId> {
        Self::accounts(&self.orders, hash, now_ms.saturating_sub(ORDER_MEMORY_MS))
    }

    fn plans_of(&self, hash: u64, now_ms: u64) -> Vec<AccountId> {
        Self::accounts(&self.plans, hash, now_ms.saturating_sub(INTENT_MEMORY_MS))
    }

    /// Returns all notes that are remembered, for a store.
    pub fn notes(&self, now_ms: u64) -> impl Iterator<Item = (Noted, NoteKey, u64)> + '_ {
        let orders = self.orders.iter().map(|(key, ms)| (Noted::Order, *key, *ms));
        let plans = self.plans.iter().map(|(key, ms)| (Noted::Plan, *key, *ms));
        orders.chain(plans).filter(move |(noted, _, ms)| *ms >= now_ms.saturating_sub(noted.memory_ms()))
    }

    /// Returns the time of a note.
    pub fn get(&self, noted: Noted, key: NoteKey) -> Option<u64> {
        self.of(noted).get(&key).copied()
    }

    pub(super) fn restore(&mut self, noted: Noted, key: NoteKey, ms: u64) {
        match noted {
            Noted::Order => self.orders.insert(key, ms),
            Noted::Plan => self.plans.insert(key, ms),
        };
    }

    fn of(&self, noted: Noted) -> &BTreeMap<NoteKey, u64> {
        match noted {
            Noted::Order => &self.orders,
            Noted::Plan => &self.plans,
        }
    }
}

impl Noted {
    /// Returns how long a note is remembered. [ms]
    const fn memory_ms(self) -> u64 {
        match self {
            Self::Order => ORDER_MEMORY_MS,
            Self::Plan => INTENT_MEMORY_MS,
        }
    }
}

/// Returns the key of an order or plan among the notes.
fn hash(kind: &str, symbol: &str, id: &str) -> u64 {
    let mut hashed = Sha256::new();
    for part in [kind, "\0", symbol, "\0", id] {
        hashed.update(part.as_bytes());
    }
    let digest = hashed.finalize();
    let first = digest.first_chunk().expect("a SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}

impl Engine {
    /// Returns true if another cell folds the entry. It is counted, and the orders and plans that it names are noted.
    pub(super) fn try_elsewhere(&mut self, entry: &Entry) -> bool {
        if self.accounts.reads_all() {
            return false;
        }
        let is_elsewhere = if entry.account.is_named() { self.is_of_others(entry) } else { self.is_unnamed_of_others(entry) };
        if is_elsewhere {
            self.counters.count(Count::OtherCells);
        }
        is_elsewhere
    }

    /// Returns true if an entry with an account is for another cell.
    fn is_of_others(&mut self, entry: &Entry) -> bool {
        if !self.accounts.is_elsewhere(entry.account) || entry.kind == StreamKind::Decision {
            return false;
        }
        match &entry.content {
            // What tightens always counts.
            Err(unreadable) => entry.kind != StreamKind::Control && !unreadable.any_account,
            Ok(event) => {
                self.note_others(event, entry, &[entry.account]);
                self.give_orders_away(event, entry);
                true
            }
        }
    }

    /// Returns true if an entry without an account is for another cell.
    fn is_unnamed_of_others(&mut self, entry: &Entry) -> bool {
        let is_nameless_elsewhere = self.accounts.is_elsewhere(AccountId::NONE);
        let Some(symbol) = entry.symbol else {
            return is_nameless_elsewhere && entry.kind == StreamKind::Snapshot && entry.content.is_ok();
        };
        match &entry.content {
            Ok(Event::Position(_) | Event::Legacy(_)) => is_nameless_elsewhere,
            Ok(event @ Event::Result(fact)) => self.is_result_of_others(fact, event, entry, symbol),
            Ok(event @ Event::Trade(fact)) => {
                let naming = of_trade(fact, entry, symbol);
                self.follow(&naming, event, entry, true, true)
            }
            Ok(_) => false,
            // A snapshot without an account is of the account without a name; a result or a trade may be of any.
            Err(unreadable) => {
                is_nameless_elsewhere && entry.kind == StreamKind::Snapshot && !unreadable.any_account
            }
        }
    }

    fn is_result_of_others(&mut self, fact: &ResultFact, event: &Event, entry: &Entry, symbol: SymbolId) -> bool {
        let naming = |order_id| Naming {
            symbol,
            account: AccountId::NONE,
            side: entry.position_side,
            order_id,
            plan_id: fact.plan_id.as_deref(),
            has_qty: false,
            assigns: false,
            now_ms: entry.id.ms,
        };
        match &fact.outcome {
            // The fills of one entry are steps of one plan.
            Outcome::Fills(fills) => {
                let order_id = fills.iter().find_map(|fill| fill.order_id.as_deref());
                self.follow(&naming(order_id), event, entry, true, true)
            }
            Outcome::Accepted { order } => {
                let order_id = order.order_id.as_deref();
                self.follow(&naming(order_id), event, entry, false, order_id.is_some())
            }
            Outcome::Refused { order, .. } => self.follow(&naming(order.order_id.as_deref()), event, entry, false, false),
        }
    }

    /// Follows the route of an entry without an account. Returns true if it is not folded here.
    fn follow(&mut self, naming: &Naming<'_>, event: &Event, entry: &Entry, moves: bool, flags: bool) -> bool {
        match self.route(naming) {
            Route::Here => false,
            // What moves nothing waits in the one-way book of every cell until a fill names its account.
            Route::Nameless if moves && self.accounts.is_elsewhere(AccountId::NONE) => {
                self.note_others(event, entry, &[AccountId::NONE]);
                true
            }
            Route::Nameless => false,
            Route::Elsewhere(accounts) => {
                self.note_others(event, entry, &accounts);
                true
            }
            Route::Both(books) => {
                if flags {
                    self.flag_ambiguous(&books);
                    for book in &books {
                        self.changes.touch_hot(*book);
                    }
                }
                true
            }
        }
    }

    /// Finds who folds an entry without an account: by its order id, else by its plan, else by our decision.
    fn route(&self, of: &Naming<'_>) -> Route {
        let name = &self.slots[of.symbol].symbol.name;
        let by_id = of.order_id.map(|id| (hash("order", name, id), Naming { plan_id: None, ..*of }));
        let by_plan = of.plan_id.map(|id| (hash("plan", name, id), Naming { order_id: None, ..*of }));
        for (hash, naming) in by_id.into_iter().chain(by_plan) {
            let here = self.books_of_order(&naming);
            let there = self.elsewhere.orders_of(hash, of.now_ms);
            if let Some(route) = self.between(here, there) {
                return route;
            }
        }
        let Some(plan_id) = of.plan_id else { return Route::Nameless };
        let here: Vec<AccountId> = self.plans.of_all(plan_id, of.symbol).map(|known| known.plan.account).collect();
        if here.first() == Some(&AccountId::NONE) {
            return Route::Nameless;
        }
        let there = self.elsewhere.plans_of(hash("planned", name, plan_id), of.now_ms);
        match (here.is_empty(), there.is_empty()) {
            (false, true) => Route::Here,
            (true, false) => Route::Elsewhere(there),
            (false, false) => Route::Both(self.books_where(of.symbol, |book: &Book| here.contains(&book.account))),
            (true, true) => match self.book_of_request(plan_id, None) {
                Some(book) if book.symbol == of.symbol && self.slots.book(book).account.is_named() => Route::Here,
                Some(_) | None => Route::Nameless,
            },
        }
    }

    /// Returns the route of an order that is known in books here and in accounts of other cells; `None` if it is not
    /// known.
    fn between(&self, here: Vec<BookId>, there: Vec<AccountId>) -> Option<Route> {
        let is_named = |book: &BookId| self.slots.book(*book).account.is_named();
        let (is_here, is_there) = (here.iter().any(is_named), there.iter().any(|account| account.is_named()));
        let is_nameless = there.contains(&AccountId::NONE) || !here.iter().all(is_named);
        match (is_here, is_there, is_nameless) {
            (false, false, false) => None,
            (false, false, true) => Some(Route::Nameless),
            (true, false, false) => Some(Route::Here),
            (false, true, false) => Some(Route::Elsewhere(there)),
            // Of several accounts none folds it, and each holds.
            (true, true, _) | (true, false, true) | (false, true, true) => Some(Route::Both(here)),
        }
    }

    /// Lets go of the waiting orders that an entry of another cell names with its account.
    fn give_orders_away(&mut self, event: &Event, entry: &Entry) {
        let Some(symbol) = entry.symbol else { return };
        let of = |order_id, plan_id| Naming {
            symbol,
            account: entry.account,
            side: entry.position_side,
            order_id,
            plan_id,
            has_qty: true,
            assigns: true,
            now_ms: entry.id.ms,
        };
        match event {
            Event::Trade(fact) => self.give_order_away(&of(Some(&fact.order_id), None)),
            Event::Result(fact) => match &fact.outcome {
                Outcome::Fills(fills) => fills
                    .iter()
                    .for_each(|fill| self.give_order_away(&of(fill.order_id.as_deref(), fact.plan_id.as_deref()))),
                Outcome::Accepted { order } => {
                    self.give_order_away(&of(order.order_id.as_deref(), fact.plan_id.as_deref()));
                }
                Outcome::Refused { .. } => {}
            },
            Event::Price(_)
            | Event::Intent(_)
            | Event::ExitIntent(_)
            | Event::Plan(_)
            | Event::PlanIgnored
            | Event::Position(_)
            | Event::Instrument(_)
            | Event::Legacy(_)
            | Event::Control(_)
            | Event::Decision(_) => {}
        }
    }

    /// Lets go of an order that has moved nothing and waits in the one-way book for its account: an entry has named an
    /// account of another cell for it.
    fn give_order_away(&mut self, of: &Naming<'_>) {
        let waiting = self.books_of_order(of).into_iter().filter(|book| !self.slots.book(*book).account.is_named());
        for book in waiting.collect::<Vec<_>>() {
            for key in self.orders_of(book, of) {
                if self.slots.book(book).orders.get(&key).is_some_and(|order| order.parts.is_empty()) {
                    self.slots.book_mut(book).orders.remove(&key);
                    self.changes.touch_cold(book);
                }
            }
        }
    }

    /// Notes the order and the plan that an entry of accounts of other cells names.
    fn note_others(&mut self, event: &Event, entry: &Entry, accounts: &[AccountId]) {
        let Some(symbol) = entry.symbol else { return };
        let name = self.slots[symbol].symbol.name.clone();
        let now_ms = entry.id.ms;
        let mut orders: Vec<u64> = Vec::new();
        let mut keeps_only = false;
        match event {
            Event::Plan(plan) => {
                let hash = hash("planned", &name, &plan.plan_id);
                let from_ms = now_ms.saturating_sub(INTENT_MEMORY_MS);
                for account in accounts {
                    // The first plan of an id counts.
                    let known = self.elsewhere.plans.get(&(hash, *account));
                    if known.is_none_or(|ms| *ms < from_ms) {
                        self.put_note(Noted::Plan, (hash, *account), now_ms);
                    }
                }
            }
            Event::Result(fact) => {
                match &fact.outcome {
                    Outcome::Fills(fills) => {
                        orders.extend(fills.iter().filter_map(|f| f.order_id.as_deref()).map(|id| hash("order", &name, id)));
                    }
                    Outcome::Accepted { order } => {
                        orders.extend(order.order_id.as_deref().map(|id| hash("order", &name, id)));
                    }
                    Outcome::Refused { order, .. } => {
                        // A refusal makes no order known.
                        keeps_only = true;
                        orders.extend(order.order_id.as_deref().map(|id| hash("order", &name, id)));
                    }
                }
                orders.extend(fact.plan_id.as_deref().map(|id| hash("plan", &name, id)));
            }
            Event::Trade(fact) => orders.push(hash("order", &name, &fact.order_id)),
            Event::Price(_)
            | Event::Intent(_)
            | Event::ExitIntent(_)
            | Event::PlanIgnored
            | Event::Position(_)
            | Event::Instrument(_)
            | Event::Legacy(_)
            | Event::Control(_)
            | Event::Decision(_) => {}
        }
        for hash in orders {
            for account in accounts {
                let key = (hash, *account);
                if !keeps_only || self.elsewhere.orders.contains_key(&key) {
                    self.put_note(Noted::Order, key, now_ms);
                }
            }
        }
    }

    fn put_note(&mut self, noted: Noted, key: NoteKey, now_ms: u64) {
        self.elsewhere.restore(noted, key, now_ms);
        if !self.changes.ignored {
            self.changes.notes.insert((noted, key));
        }
        self.elsewhere.noted += 1;
        if self.elsewhere.noted >= NOTES_PER_SWEEP {
            self.elsewhere.noted = 0;
            self.forget_notes();
        }
    }

    /// Forgets notes that are too old. Whether one still counts does not depend on it.
    fn forget_notes(&mut self) {
        let last_ms = self.globals.last.ms;
        let Self { elsewhere, changes, .. } = self;
        for (noted, notes) in [(Noted::Order, &mut elsewhere.orders), (Noted::Plan, &mut elsewhere.plans)] {
            let from_ms = last_ms.saturating_sub(noted.memory_ms());
            notes.retain(|key, ms| {
                let is_kept = *ms >= from_ms;
                if !is_kept && !changes.ignored {
                    changes.notes.insert((noted, *key));
                }
                is_kept
            });
        }
    }

    /// Returns the orders and plans of accounts of other cells.
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }
}

fn of_trade<'a>(fact: &'a TradeFact, entry: &Entry, symbol: SymbolId) -> Naming<'a> {
    Naming {
        symbol,
        account: AccountId::NONE,
        side: entry.position_side,
        order_id: Some(&fact.order_id),
        plan_id: None,
        has_qty: true,
        assigns: true,
        now_ms: entry.id.ms,
    }
}
