//! The slots: one for each symbol, in the order in which symbols were first named.

use std::ops::{Index, IndexMut};

use super::shortcut::memory::Memory;
use crate::domain::book::symbol::Symbol;
use crate::domain::event::ids::SymbolId;

/// A symbol, and what the shortcuts remember about it.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub symbol: Symbol,
    pub memory: Memory,
}

/// The slots, by symbol.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// Adds a symbol.
    pub fn push(&mut self, symbol: Symbol) -> SymbolId {
        let id = SymbolId(self.0.len() as u32);
        self.0.push(Slot { symbol, memory: Memory::default() });
        id
    }

    /// Returns all symbols, as they are now.
    pub fn ids(&self) -> impl Iterator<Item = SymbolId> + use<> {
        (0..self.0.len() as u32).map(SymbolId)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Slot> + Clone {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.0.iter_mut()
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
