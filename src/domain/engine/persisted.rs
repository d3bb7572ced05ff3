//! The engine's state in a store: the values that are written, and how they are restored.

use std::collections::BTreeSet;

use super::Engine;
use super::accounts::{AcceptedGap, Account, Accounts};
use super::changes::Changes;
use super::globals::Globals;
use super::routes::Noted;
use crate::domain::book::plans::{KnownPlan, PlanKey};
use crate::domain::book::state::Book;
use crate::domain::book::symbol::Symbol;
use crate::domain::book::view::BookView;
use crate::domain::event::PositionSide;
use crate::domain::event::ids::{AccountId, BookId, EntryId, StreamId, SymbolId};
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::domain::exit::policy::Policy;

impl Engine {
    /// Restores stored state and rebuilds the indices.
    pub fn restore(&mut self, stored: StoredState) {
        let StoredState { globals, accounts, gaps_accepted, symbols, books, plans, notes } = stored;
        self.globals = globals;
        for account in accounts {
            match self.accounts.find(&account.name) {
                Some(known) => *self.accounts.get_mut(known) = account,
                None => {
                    self.accounts.push(account);
                }
            }
        }
        if self.globals.policy_adopted {
            self.accounts.drop_configured();
        }
        self.accounts.combine(&self.globals.policy);
        let is_split = |known: &KnownPlan| known.plan.account.is_named() || known.plan.position_side.is_some();
        self.accounts.is_split |= self.accounts.get(AccountId::NONE).hedged || plans.iter().any(is_split);
        for known in plans {
            self.plans.insert(known);
        }
        for (symbol, book) in symbols {
            let name = symbol.name.clone();
            let id = self.slots.push(symbol, book);
            self.by_name.insert(name, id);
            self.index_decisions(BookId::one_way(id));
        }
        for (symbol, book) in books {
            let id = self.add_book(symbol, book);
            self.index_decisions(id);
        }
        for (noted, hash, account, ms) in notes {
            let account = self.accounts.intern(&account);
            self.routes.put((noted, hash, account), ms);
        }
        self.accounts.gaps_accepted = gaps_accepted;
        self.accounts.take_touched();
        self.accept_sources();
        if !self.changes.ignored {
            self.changes = Changes::default();
        }
    }

    fn index_decisions(&mut self, id: BookId) {
        for position in self.slots.book(id).positions() {
            for decision in &position.decisions {
                self.decision_plans.insert(decision.plan_id.clone(), (id, decision.decision_id.clone()));
            }
            if position.awaits_time() {
                self.in_flight.insert(id);
            }
        }
    }

    /// Sets the configured policy of an account, before the first entry.
    pub fn configure_account(&mut self, name: &str, policy: Policy) {
        let account = self.accounts.intern(name);
        let of_account = self.accounts.get_mut(account);
        if !of_account.policy_adopted && !self.globals.policy_adopted {
            of_account.policy = Some(policy);
        }
        self.accounts.combine(&self.globals.policy);
    }

    pub fn set_cursor(&mut self, stream: StreamId, id: EntryId) {
        self.cursors[usize::from(stream.0)] = Some(id);
    }

    pub fn cursor(&self, stream: StreamId) -> Option<EntryId> {
        self.cursors[usize::from(stream.0)]
    }

    /// Returns the time of the last entry after which symbols are evaluated: neither a control entry nor one of our own
    /// decisions. [ms since 1970]
    pub fn evaluated_ms(&self) -> u64 {
        let counts = |(stream, _): &(StreamId, &Stream)| {
            !matches!(self.streams.kind(*stream), StreamKind::Control | StreamKind::Decision)
        };
        self.streams
            .iter()
            .filter(counts)
            .filter_map(|(stream, _)| self.cursor(stream))
            .map(|id| id.ms)
            .max()
            .unwrap_or(0)
    }

    pub fn take_changes(&mut self) -> Changes {
        let mut changes = std::mem::take(&mut self.changes);
        changes.accounts = self.accounts.take_touched();
        for id in changes.cold().collect::<Vec<_>>() {
            for (place, position) in self.slots.book_mut(id).closed.iter_mut().enumerate() {
                if std::mem::take(&mut position.dirty.0) {
                    changes.closed.push((id, place));
                }
            }
        }
        changes
    }

    /// Stops noting changes, because there is no store to write them to.
    pub fn ignore_changes(&mut self) {
        self.changes = Changes::ignored();
    }

    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Returns the general policy in force.
    pub fn policy(&self) -> &Policy {
        &self.globals.policy
    }

    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Returns all symbols, in the order in which they were first named.
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = &Symbol> + Clone {
        self.slots.iter().map(|slot| &slot.symbol)
    }

    pub fn symbol(&self, id: SymbolId) -> &Symbol {
        &self.slots[id].symbol
    }

    pub fn find(&self, name: &str) -> Option<SymbolId> {
        self.by_name.get(name).copied()
    }

    /// Returns all books: by symbol as they were first named, and within a symbol in the order in which they are
    /// evaluated.
    pub fn books(&self) -> impl Iterator<Item = BookView<'_>> + Clone {
        let slots = self.slots.iter();
        slots.flat_map(|slot| slot.books().map(move |(_, book)| BookView { symbol: &slot.symbol, book }))
    }

    /// Returns the books of a symbol, in the order in which they are evaluated.
    pub fn books_of(&self, symbol: SymbolId) -> impl Iterator<Item = BookView<'_>> {
        let slot = &self.slots[symbol];
        slot.books().map(move |(_, book)| BookView { symbol: &slot.symbol, book })
    }

    pub fn book(&self, id: BookId) -> BookView<'_> {
        self.slots.view(id)
    }

    /// Returns the books with decisions that time can change: an entry of any book may expire them.
    pub fn in_flight(&self) -> impl Iterator<Item = BookId> {
        self.in_flight.iter().copied()
    }

    /// Returns all plans that are remembered, by plan id and account.
    pub fn plans(&self) -> impl Iterator<Item = &KnownPlan> {
        self.plans.iter()
    }

    pub fn plan(&self, key: &PlanKey) -> Option<&KnownPlan> {
        self.plans.get(key)
    }

    /// Returns the index of a symbol by name. A new name is appended.
    pub fn intern(&mut self, name: &str) -> SymbolId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let symbol = Symbol { name: name.into(), ..Symbol::default() };
        let mut book = Book::new(AccountId::NONE, "", name, PositionSide::Both);
        book.hot.history_gap = self.globals.gap_everywhere;
        let id = self.slots.push(symbol, book);
        self.by_name.insert(name.into(), id);
        id
    }

    /// Returns the index of an account by name. A new name is appended.
    pub fn intern_account(&mut self, name: &str) -> AccountId {
        self.accounts.intern(name)
    }
}

/// The state as a store keeps it.
pub struct StoredState {
    pub globals: Globals,
    pub accounts: Vec<Account>,
    pub gaps_accepted: BTreeSet<AcceptedGap>,
    /// By index, each with the one-way book of the account without a name.
    pub symbols: Vec<(Symbol, Book)>,
    pub books: Vec<(SymbolId, Book)>,
    pub plans: Vec<KnownPlan>,
    /// Accounts of orders and plans: hash, name of the account, time. [ms since 1970]
    pub notes: Vec<(Noted, u64, Box<str>, u64)>,
}
