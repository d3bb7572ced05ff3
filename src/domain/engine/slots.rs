//! The slots: one for each symbol, in the order in which symbols were first named. A slot has the books of its symbol.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use super::shortcut::index::{BandIndex, InIndex};
use super::shortcut::memory::Memory;
use crate::domain::book::state::Book;
use crate::domain::book::symbol::Symbol;
use crate::domain::book::view::{BookMut, BookView};
use crate::domain::event::PositionSide;
use crate::domain::event::ids::{AccountId, BookId, SymbolId};

/// A symbol with its books, and the memory that the shortcuts have of them.
///
/// The one-way book of the account without a name always exists. It is beside the symbol, so that the prices of a
/// symbol with no other book find it without a detour.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub symbol: Symbol,
    pub book: Book,
    pub memory: Memory,
    /// The other books. The book with number n is at n − 1.
    pub others: Vec<OtherBook>,
    /// The price bands of the other books.
    pub index: BandIndex,
    /// Numbers of the other books, in the order in which they are evaluated.
    pub evaluation_order: Vec<u32>,
    by_key: BTreeMap<(AccountId, PositionSide), u32>,
}

/// A book of an account or of a hedge account.
#[derive(Clone, Debug)]
pub(super) struct OtherBook {
    pub book: Book,
    pub memory: Memory,
    /// Where it is in the index of its slot.
    pub in_index: InIndex,
}

impl Slot {
    pub fn find(&self, account: AccountId, side: PositionSide) -> Option<u32> {
        if !account.is_named() && !side.is_hedge() {
            return Some(0);
        }
        self.by_key.get(&(account, side)).copied()
    }

    /// Adds a book, and returns its number. Books are evaluated by account (in the order of its bytes; the one without
    /// a name first), then by side.
    fn push(&mut self, book: Book) -> u32 {
        let nth = self.others.len() as u32 + 1;
        let place = self.evaluation_order.partition_point(|other| {
            let other = &self.others[*other as usize - 1].book;
            (other.account_name.as_bytes(), other.side) < (book.account_name.as_bytes(), book.side)
        });
        self.evaluation_order.insert(place, nth);
        self.by_key.insert((book.account, book.side), nth);
        self.others.push(OtherBook { book, memory: Memory::default(), in_index: InIndex::Loose });
        self.index.add_loose(nth);
        nth
    }

    /// Returns the books, in the order in which they are evaluated, with their numbers.
    pub fn books(&self) -> impl Iterator<Item = (u32, &Book)> + Clone {
        let others = self.evaluation_order.iter().map(|nth| (*nth, &self.others[*nth as usize - 1].book));
        std::iter::once((0, &self.book)).chain(others)
    }

    /// Returns the numbers of the books of an account other than the one without a name.
    pub fn of_account(&self, account: AccountId) -> impl Iterator<Item = u32> {
        let sides = (account, PositionSide::Both)..=(account, PositionSide::Short);
        self.by_key.range(sides).map(|(_, nth)| *nth)
    }

    /// Returns the book of a number, with the memory that the shortcut has of it. Number 0 is the one-way book of the
    /// account without a name.
    #[inline]
    fn at(&self, nth: u32) -> (&Book, &Memory) {
        if nth == 0 {
            return (&self.book, &self.memory);
        }
        let other = &self.others[nth as usize - 1];
        (&other.book, &other.memory)
    }

    /// Returns the symbol and the book of a number.
    #[inline]
    fn at_mut(&mut self, nth: u32) -> (&mut Symbol, &mut Book) {
        let book = if nth == 0 { &mut self.book } else { &mut self.others[nth as usize - 1].book };
        (&mut self.symbol, book)
    }
}

/// The slots, by symbol.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// Adds a symbol, with its one-way book.
    pub fn push(&mut self, symbol: Symbol, book: Book) -> SymbolId {
        let id = SymbolId(self.0.len() as u32);
        let (memory, others, index, evaluation_order, by_key) = Default::default();
        self.0.push(Slot { symbol, book, memory, others, index, evaluation_order, by_key });
        id
    }

    /// Adds a book to a symbol.
    pub fn push_book(&mut self, symbol: SymbolId, book: Book) -> BookId {
        BookId { symbol, nth: self[symbol].push(book) }
    }

    /// Returns all symbols, as they are now.
    pub fn ids(&self) -> impl Iterator<Item = SymbolId> + use<> {
        (0..self.0.len() as u32).map(SymbolId)
    }

    /// Returns all books, as they are now: by symbol, in the order in which they are evaluated.
    pub fn book_ids(&self) -> Vec<BookId> {
        let of_slot = |(slot, symbol): (&Slot, u32)| {
            let symbol = SymbolId(symbol);
            let all: Vec<BookId> = slot.books().map(|(nth, _)| BookId { symbol, nth }).collect();
            all
        };
        self.0.iter().zip(0..).flat_map(of_slot).collect()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Slot> + Clone {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.0.iter_mut()
    }

    #[inline]
    pub fn book(&self, id: BookId) -> &Book {
        self[id.symbol].at(id.nth).0
    }

    #[inline]
    pub fn book_mut(&mut self, id: BookId) -> &mut Book {
        self[id.symbol].at_mut(id.nth).1
    }

    #[inline]
    pub fn view(&self, id: BookId) -> BookView<'_> {
        let slot = &self[id.symbol];
        BookView { symbol: &slot.symbol, book: slot.at(id.nth).0 }
    }

    #[inline]
    pub fn edit(&mut self, id: BookId) -> BookMut<'_> {
        let (symbol, book) = self[id.symbol].at_mut(id.nth);
        BookMut { symbol, book }
    }

    #[inline]
    pub fn memory(&self, id: BookId) -> &Memory {
        self[id.symbol].at(id.nth).1
    }
}

impl Index<SymbolId> for Slots {
    type Output = Slot;

    #[inline]
    fn index(&self, id: SymbolId) -> &Slot {
        &self.0[id.0 as usize]
    }
}

impl IndexMut<SymbolId> for Slots {
    #[inline]
    fn index_mut(&mut self, id: SymbolId) -> &mut Slot {
        &mut self.0[id.0 as usize]
    }
}
