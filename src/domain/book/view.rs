//! A book together with its symbol: an evaluation reads them, and a fact changes them.

use std::ops::{Deref, DerefMut};

use super::state::Book;
use super::symbol::Symbol;
use crate::domain::exit::Hold;
use crate::domain::units::Qty;

/// A book and its symbol.
#[derive(Clone, Copy, Debug)]
pub struct BookView<'a> {
    pub symbol: &'a Symbol,
    pub book: &'a Book,
}

/// The same, to change them.
#[derive(Debug)]
pub struct BookMut<'a> {
    pub symbol: &'a mut Symbol,
    pub book: &'a mut Book,
}

impl<'a> Deref for BookView<'a> {
    type Target = Book;

    #[inline]
    fn deref(&self) -> &Book {
        self.book
    }
}

impl Deref for BookMut<'_> {
    type Target = Book;

    #[inline]
    fn deref(&self) -> &Book {
        self.book
    }
}

impl DerefMut for BookMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Book {
        self.book
    }
}

impl<'a> BookMut<'a> {
    pub fn view(&self) -> BookView<'_> {
        BookView { symbol: self.symbol, book: self.book }
    }

    pub fn step_size(&self) -> Option<Qty> {
        self.symbol.step_size()
    }
}

impl<'a> BookView<'a> {
    pub fn step_size(&self) -> Option<Qty> {
        self.symbol.step_size()
    }

    /// Returns true if the position of a decision is still open, with at least the quantity that the decision closes.
    pub fn covers(&self, decision_id: &str) -> bool {
        self.hot.open.as_ref().is_some_and(|open| {
            let (open_qty, step) = (open.totals.qty.abs(), self.step_size());
            let mut decisions = open.decisions.iter().filter(|decision| &*decision.decision_id == decision_id);
            decisions.any(|decision| open_qty >= decision.qty || open_qty.same(decision.qty, step))
        })
    }

    /// Returns the hold that forbids sending an order that was decided before: the position or its price became
    /// uncertain.
    pub fn uncertain(&self) -> Option<Hold> {
        let is_price_doubted = self.hot.open.as_ref().is_some_and(|open| open.price_doubted.is_some());
        match &self.hot {
            hot if hot.history_gap => Some(Hold::HistoryGap),
            hot if hot.diverged => Some(Hold::Diverged),
            _ if self.symbol.held_price.is_some() || is_price_doubted => Some(Hold::PriceJump),
            _ => None,
        }
    }
}
