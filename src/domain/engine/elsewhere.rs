//! Entries of accounts that another cell reads (docs/spec/fold.md, "Accounts of other cells").
//!
//! They are skipped and counted. A result that names no account belongs to the account of its order or plan. Every cell
//! notes the orders and plans of all accounts and follows the same rule, so exactly one of them folds it.

use super::Engine;
use super::routes::{FoldedBy, NoteKey, Noted, Routes, hash};
use crate::domain::book::counters::Count;
use crate::domain::event::ids::{AccountId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Entry, Event, Outcome, ResultFact};

/// The names in an entry by which its order is found.
#[derive(Clone, Copy, Debug)]
struct OrderNames<'a> {
    symbol: SymbolId,
    order_id: Option<&'a str>,
    plan_id: Option<&'a str>,
    now_ms: u64,
}

/// The effect of an entry on its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OrderEffect {
    /// It fills the order.
    Fills,
    /// It makes the order known.
    MakesKnown,
    /// It is a refusal, or an acceptance without an order id.
    Nothing,
}

impl Engine {
    /// Finds out who folds an entry. One of another cell is counted.
    pub(super) fn folded_by(&mut self, entry: &Entry) -> FoldedBy {
        if self.accounts.reads_all() {
            return FoldedBy::Us;
        }
        let folded_by =
            if entry.account.is_named() { self.named_folded_by(entry) } else { self.unnamed_folded_by(entry) };
        if folded_by == FoldedBy::Others {
            self.counters.count(Count::OtherCells);
        }
        folded_by
    }

    fn named_folded_by(&mut self, entry: &Entry) -> FoldedBy {
        if let Ok(event) = &entry.content {
            self.note_routes(event, entry, entry.account);
        }
        let is_elsewhere = self.accounts.is_elsewhere(entry.account);
        let may_concern_us = match (&entry.content, entry.kind) {
            // The chain of decisions is whole, whatever the accounts.
            (_, StreamKind::Decision) => true,
            // An entry that tightens always counts.
            (Err(_), StreamKind::Control) => true,
            (Err(unreadable), _) => unreadable.any_account,
            (Ok(_), _) => false,
        };
        if is_elsewhere && !may_concern_us { FoldedBy::Others } else { FoldedBy::Us }
    }

    fn unnamed_folded_by(&mut self, entry: &Entry) -> FoldedBy {
        let is_nameless_elsewhere = self.accounts.is_elsewhere(AccountId::NONE);
        let of_nameless = if is_nameless_elsewhere { FoldedBy::Others } else { FoldedBy::Us };
        match (&entry.content, entry.symbol) {
            (Ok(Event::Position(_) | Event::Legacy(_)), _) => of_nameless,
            (Ok(Event::Trade(fact)), Some(symbol)) => {
                let named = OrderNames { symbol, order_id: Some(&fact.order_id), plan_id: None, now_ms: entry.id.ms };
                self.order_folded_by(&named, entry, OrderEffect::Fills)
            }
            (Ok(Event::Result(fact)), Some(symbol)) => self.result_folded_by(fact, entry, symbol),
            (Ok(Event::Plan(_)), _) => {
                if let Ok(event) = &entry.content {
                    self.note_routes(event, entry, AccountId::NONE);
                }
                FoldedBy::Us
            }
            (Ok(_), _) => FoldedBy::Us,
            // A snapshot without an account is of the account without a name; a result or a trade may be of any.
            (Err(unreadable), _) if entry.kind == StreamKind::Snapshot && !unreadable.any_account => of_nameless,
            (Err(_), _) => FoldedBy::Us,
        }
    }

    fn result_folded_by(&mut self, fact: &ResultFact, entry: &Entry, symbol: SymbolId) -> FoldedBy {
        let named = |order_id| OrderNames { symbol, order_id, plan_id: fact.plan_id.as_deref(), now_ms: entry.id.ms };
        match &fact.outcome {
            // The fills of one entry are steps of one plan.
            Outcome::Fills(fills) => {
                let order_id = fills.iter().find_map(|fill| fill.order_id.as_deref());
                self.order_folded_by(&named(order_id), entry, OrderEffect::Fills)
            }
            Outcome::Accepted { order } => {
                let order_id = order.order_id.as_deref();
                let effect = if order_id.is_some() { OrderEffect::MakesKnown } else { OrderEffect::Nothing };
                self.order_folded_by(&named(order_id), entry, effect)
            }
            Outcome::Refused { order, .. } => {
                self.order_folded_by(&named(order.order_id.as_deref()), entry, OrderEffect::Nothing)
            }
        }
    }

    /// Finds out who folds an entry without an account. `moves` is true for one that fills, `flags` for one that makes
    /// its order known.
    fn order_folded_by(&mut self, named: &OrderNames<'_>, entry: &Entry, effect: OrderEffect) -> FoldedBy {
        let accounts = self.accounts_of(named);
        let account = match accounts.as_slice() {
            [] if effect != OrderEffect::Fills => return FoldedBy::Us,
            [] => AccountId::NONE,
            [one] => *one,
            several => {
                if effect != OrderEffect::Nothing {
                    self.hold_for_ambiguous(named.symbol, several);
                }
                return FoldedBy::Others;
            }
        };
        if let Ok(event) = &entry.content {
            self.note_routes(event, entry, account);
        }
        if self.accounts.is_elsewhere(account) { FoldedBy::Others } else { FoldedBy::UsFor(account) }
    }

    /// Flags the books of a symbol in those of these accounts that this cell reads.
    fn hold_for_ambiguous(&mut self, symbol: SymbolId, accounts: &[AccountId]) {
        let ours: Vec<AccountId> =
            accounts.iter().copied().filter(|account| !self.accounts.is_elsewhere(*account)).collect();
        let books = self.books_in_doubt(symbol, &ours);
        if !books.is_empty() {
            self.flag_ambiguous(&books);
            books.iter().for_each(|book| self.changes.touch_hot(*book));
        }
    }

    /// Returns the accounts that an entry without one can belong to: by its order id, else by its plan, else by our
    /// decision.
    fn accounts_of(&self, named: &OrderNames<'_>) -> Vec<AccountId> {
        let OrderNames { symbol, order_id, plan_id, now_ms } = *named;
        let name = &self.slots[symbol].symbol.name;
        let noted = |noted: Noted, id: Option<&str>| match id {
            Some(id) => self.routes.accounts(noted, hash(name, id), now_ms),
            None => Vec::new(),
        };
        // A plan without an account serves all accounts.
        let planned = || match noted(Noted::Plan, plan_id) {
            accounts if accounts.first() == Some(&AccountId::NONE) => vec![AccountId::NONE],
            accounts => accounts,
        };
        let of_order = || noted(Noted::PlanOfOrder, plan_id);
        let of_decision = || {
            let book = plan_id.and_then(|plan_id| self.book_of_request(plan_id, None));
            let book = book.filter(|book| book.symbol == symbol);
            book.map(|book| self.slots.book(book).account).into_iter().collect()
        };
        let first = |all: [&dyn Fn() -> Vec<AccountId>; 4]| {
            all.into_iter().map(|of| of()).find(|accounts| !accounts.is_empty()).unwrap_or_default()
        };
        let by_id = || noted(Noted::Order, order_id);
        // With an id of its own it is another order than those that are known for the plan.
        if order_id.is_some() {
            first([&by_id, &planned, &of_order, &of_decision])
        } else {
            first([&by_id, &of_order, &planned, &of_decision])
        }
    }

    /// Notes the order and the plan that an entry of an account names.
    fn note_routes(&mut self, event: &Event, entry: &Entry, account: AccountId) {
        let Some(symbol) = entry.symbol else { return };
        let name = self.slots[symbol].symbol.name.clone();
        let now_ms = entry.id.ms;
        let order = |id: Option<&str>| id.map(|id| (Noted::Order, hash(&name, id), account));
        let plan_of_order =
            |id: &Option<Box<str>>| id.as_deref().map(|id| (Noted::PlanOfOrder, hash(&name, id), account));
        match event {
            Event::Plan(plan) => {
                let key = (Noted::Plan, hash(&name, &plan.plan_id), account);
                // The first plan of an id counts.
                if !self.routes.has(key, now_ms) {
                    self.put_note(key, now_ms);
                }
            }
            Event::Trade(fact) => order(Some(&fact.order_id)).into_iter().for_each(|key| self.put_note(key, now_ms)),
            Event::Result(fact) => match &fact.outcome {
                Outcome::Fills(fills) => {
                    let orders = fills.iter().filter_map(|fill| order(fill.order_id.as_deref()));
                    let keys: Vec<NoteKey> = orders.chain(plan_of_order(&fact.plan_id)).collect();
                    keys.into_iter().for_each(|key| self.put_note(key, now_ms));
                }
                Outcome::Accepted { order: of } => {
                    let keys = order(of.order_id.as_deref()).into_iter().chain(plan_of_order(&fact.plan_id));
                    keys.collect::<Vec<_>>().into_iter().for_each(|key| self.put_note(key, now_ms));
                }
                // Some executors refuse under ids that they use again. A known order is remembered for longer.
                Outcome::Refused { order: of, .. } => {
                    let known = order(of.order_id.as_deref()).filter(|key| self.routes.has(*key, now_ms));
                    known.into_iter().for_each(|key| self.put_note(key, now_ms));
                }
            },
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
    }

    fn put_note(&mut self, key: NoteKey, now_ms: u64) {
        self.routes.put(key, now_ms);
        let forgotten = self.routes.sweep(self.globals.last.ms);
        if !self.changes.ignored {
            self.changes.notes.extend(forgotten);
            self.changes.notes.insert(key);
        }
    }

    /// Returns the accounts of orders and plans, as a cell that does not read all accounts notes them.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }
}
