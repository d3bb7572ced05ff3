//! The engine's state in a store: what is written, and how it is restored.

use super::Engine;
use super::changes::Changes;
use super::globals::Globals;
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::symbol::Symbol;
use crate::domain::event::ids::{EntryId, StreamId, SymbolId};
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::domain::exit::policy::Policy;

impl Engine {
    /// Restores stored state and rebuilds the indices.
    pub fn restore(&mut self, globals: Globals, symbols: Vec<Symbol>, plans: Vec<KnownPlan>) {
        self.globals = globals;
        for known in plans {
            self.plans.insert(known);
        }
        for symbol in symbols {
            let id = self.slots.push(symbol);
            let symbol = &self.slots[id].symbol;
            for position in symbol.positions() {
                for decision in &position.decisions {
                    self.decision_plans.insert(decision.plan_id.clone(), (id, decision.decision_id.clone()));
                }
                if position.awaits_time() {
                    self.in_flight.insert(id);
                }
            }
            self.by_name.insert(symbol.name.clone(), id);
        }
        self.accept_sources();
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
        for id in changes.cold().to_vec() {
            for (place, position) in self.slots[id].symbol.closed.iter_mut().enumerate() {
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

    pub fn policy(&self) -> &Policy {
        &self.globals.policy
    }

    /// Returns all symbols, in the order in which they were first named.
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = &Symbol> + Clone {
        self.slots.iter().map(|slot| &slot.symbol)
    }

    pub fn symbol(&self, id: SymbolId) -> &Symbol {
        &self.slots[id].symbol
    }

    pub fn find(&self, name: &str) -> Option<&Symbol> {
        self.by_name.get(name).map(|&id| self.symbol(id))
    }

    /// Returns the symbols with decisions that time can change: an entry of any symbol may expire them.
    pub fn in_flight(&self) -> impl Iterator<Item = SymbolId> {
        self.in_flight.iter().copied()
    }

    /// Returns all plans that are remembered, by plan id.
    pub fn plans(&self) -> impl Iterator<Item = &KnownPlan> {
        self.plans.iter()
    }

    pub fn plan(&self, plan_id: &str) -> Option<&KnownPlan> {
        self.plans.get(plan_id)
    }

    /// Returns the index of a symbol by name. A new name is appended.
    pub fn intern(&mut self, name: &str) -> SymbolId {
        if let Some(&id) = self.by_name.get(name) {
            return id;
        }
        let mut symbol = Symbol { name: name.into(), ..Symbol::default() };
        symbol.hot.history_gap = self.globals.gap_everywhere;
        let id = self.slots.push(symbol);
        self.by_name.insert(name.into(), id);
        id
    }
}
