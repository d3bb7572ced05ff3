//! The changes since the last commit: the rows that a store has to write.

use std::collections::BTreeSet;

use super::routes::NoteKey;
use crate::domain::book::plans::PlanKey;
use crate::domain::book::position::Position;
use crate::domain::event::ids::{AccountId, BookId, SymbolId};

/// The rows that changed since they were last taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    hot: Marked,
    cold: Marked,
    /// Changes are not noted, because there is no store.
    pub(super) ignored: bool,
    /// Closed positions that changed, by book and index.
    pub closed: Vec<(BookId, usize)>,
    /// Closed positions that changed and were then forgotten.
    pub closed_forgotten: Vec<(BookId, Position)>,
    pub plans: Vec<PlanKey>,
    pub plans_forgotten: Vec<PlanKey>,
    pub accounts: BTreeSet<AccountId>,
    /// Accounts of orders and plans that were noted or forgotten.
    pub notes: BTreeSet<NoteKey>,
    /// Intents of accounts that changed.
    pub intents: BTreeSet<(SymbolId, AccountId)>,
}

impl Changes {
    /// Returns changes that note nothing.
    pub(super) fn ignored() -> Self {
        Self { ignored: true, ..Self::default() }
    }

    /// Notes that the position of a book changed. With the one-way book of the account without a name this includes the
    /// prices of its symbol.
    #[inline(always)]
    pub(super) fn touch_hot(&mut self, book: BookId) {
        if !self.ignored {
            self.hot.add(book);
        }
    }

    /// Notes that orders or closed positions of a book changed. With the one-way book of the account without a name
    /// this includes the intents that name no account.
    pub(super) fn touch_cold(&mut self, book: BookId) {
        if !self.ignored {
            self.cold.add(book);
        }
    }

    /// Notes that the intents of a symbol changed that name an account, or those that name none.
    pub(super) fn touch_intents(&mut self, symbol: SymbolId, account: AccountId) {
        if !account.is_named() {
            self.touch_cold(BookId::one_way(symbol));
        } else if !self.ignored {
            self.intents.insert((symbol, account));
        }
    }

    /// Returns the books whose position changed, or the prices of their symbols.
    pub fn hot(&self) -> impl Iterator<Item = BookId> {
        self.hot.iter()
    }

    /// Returns the books whose orders or closed positions changed, or the intents of their symbols.
    pub fn cold(&self) -> impl Iterator<Item = BookId> {
        self.cold.iter()
    }
}

/// Books in the order in which they were first added: first the one-way books of the account without a name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Marked {
    list: Vec<SymbolId>,
    is_in: Vec<bool>,
    others: BTreeSet<BookId>,
}

impl Marked {
    #[inline]
    fn add(&mut self, book: BookId) {
        if book.nth > 0 {
            self.others.insert(book);
            return;
        }
        let index = book.symbol.0 as usize;
        if self.is_in.len() <= index {
            self.is_in.resize(index + 1, false);
        }
        if !self.is_in[index] {
            self.is_in[index] = true;
            self.list.push(book.symbol);
        }
    }

    fn iter(&self) -> impl Iterator<Item = BookId> {
        self.list.iter().copied().map(BookId::one_way).chain(self.others.iter().copied())
    }
}
