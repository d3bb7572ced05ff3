//! History gaps: which symbols an entry puts in doubt that cannot be read, or is skipped.

use super::{Decisions, Engine};
use crate::domain::book::counters::{Count, Unreadables};
use crate::domain::event::ids::SymbolId;
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Entry, Reason, Unreadable};

impl Engine {
    pub(super) fn quarantine(&mut self, entry: &Entry, unreadable: &Unreadable) {
        if unreadable.kills {
            self.set_killed(true);
        }
        // A contract that is settled in coins is never a position of ours.
        let is_ours = unreadable.reason != Reason::InverseContract;
        let flags = match entry.kind {
            StreamKind::Result => is_ours && !unreadable.refusal && unreadable.reason != Reason::TooLate,
            StreamKind::Snapshot => is_ours,
            StreamKind::Decision => self.decisions == Decisions::Recorded,
            // Treated as skipped, as a replay without the key treats it.
            StreamKind::Control => unreadable.reason == Reason::BadSignature,
            StreamKind::Observation | StreamKind::Intent | StreamKind::Plan | StreamKind::Price => false,
        };
        match entry.kind {
            StreamKind::Result if flags => self.counters.unreadable(Unreadables::Results, entry.id.ms),
            StreamKind::Snapshot if flags => self.counters.unreadable(Unreadables::Snapshots, entry.id.ms),
            // It takes no rung and no place in the chain. It is a finding, as a decision is that does not verify.
            StreamKind::Decision if flags => self.counters.count(Count::DecisionForeign),
            _ => {}
        }
        match entry.symbol {
            _ if unreadable.gap => self.flag_gap_everywhere(),
            Some(symbol) if flags => self.flag_gap(symbol),
            None if flags && entry.kind != StreamKind::Control => self.flag_named_or_open(&unreadable.named),
            Some(_) | None => {}
        }
    }

    pub(super) fn flag_gap(&mut self, symbol: SymbolId) {
        self.slots[symbol].symbol.hot.history_gap = true;
        self.invalidate(symbol);
    }

    /// Flags the symbols that an unreadable text names. If it names none, flags all with a position.
    fn flag_named_or_open(&mut self, named: &[SymbolId]) {
        let has_position = |id: &SymbolId| self.slots[*id].symbol.hot.open.is_some();
        let flagged: Vec<SymbolId> = match named {
            [] => self.slots.ids().filter(has_position).collect(),
            named => named.to_vec(),
        };
        for symbol in flagged {
            self.flag_gap(symbol);
        }
    }

    pub(super) fn flag_gap_everywhere(&mut self) {
        self.globals.gap_everywhere = true;
        for symbol in self.slots.ids() {
            self.flag_gap(symbol);
        }
    }
}
