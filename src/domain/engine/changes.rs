//! What changed since the last commit: the rows that a store has to write.

use crate::domain::book::position::Position;
use crate::domain::event::ids::SymbolId;

/// The changes since the last call: the rows that a store has to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    hot: Marked,
    cold: Marked,
    /// Changes are not noted, because there is no store.
    pub(super) ignored: bool,
    /// Closed positions that changed, by symbol and index.
    pub closed: Vec<(SymbolId, usize)>,
    /// Closed positions that changed and were then forgotten.
    pub closed_forgotten: Vec<(SymbolId, Position)>,
    pub plans: Vec<Box<str>>,
    pub plans_forgotten: Vec<Box<str>>,
}

impl Changes {
    /// Returns changes that note nothing.
    pub(super) fn ignored() -> Self {
        Self { ignored: true, ..Self::default() }
    }

    /// Notes that price or position of a symbol changed.
    #[inline(always)]
    pub(super) fn touch_hot(&mut self, symbol: SymbolId) {
        if !self.ignored {
            self.hot.add(symbol);
        }
    }

    /// Notes that orders, intents or closed positions of a symbol changed.
    pub(super) fn touch_cold(&mut self, symbol: SymbolId) {
        if !self.ignored {
            self.cold.add(symbol);
        }
    }

    /// Returns the symbols whose price or position changed.
    pub fn hot(&self) -> &[SymbolId] {
        &self.hot.list
    }

    /// Returns the symbols whose orders, intents or closed positions changed.
    pub fn cold(&self) -> &[SymbolId] {
        &self.cold.list
    }
}

/// Symbols in the order in which they were first added.
#[derive(Clone, Debug, Default, PartialEq)]
struct Marked {
    list: Vec<SymbolId>,
    is_in: Vec<bool>,
}

impl Marked {
    #[inline]
    fn add(&mut self, symbol: SymbolId) {
        let index = symbol.0 as usize;
        if self.is_in.len() <= index {
            self.is_in.resize(index + 1, false);
        }
        if !self.is_in[index] {
            self.is_in[index] = true;
            self.list.push(symbol);
        }
    }
}
