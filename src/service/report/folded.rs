//! The part of the report that comes from the engine.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{AccountTotals, Past, Positions, Report, RunTotals};
use crate::codec::live::Finding;
use crate::codec::view;
use crate::domain::book::counters::{Counters, Unreadables};
use crate::domain::book::position::Position;
use crate::domain::book::rung::{DecisionRecord, RungState};
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;

impl Report {
    /// Copies the data of the engine: counts, positions, decisions, policy, kill switch.
    ///
    /// `now_ms` is the server's time. It makes a price stale that no entry updates any more. [ms since 1970] `unsent`
    /// has the ids of the decisions that were certainly never sent.
    pub fn take_from(&mut self, engine: &Engine, now_ms: u64, unsent: &BTreeSet<&str>) {
        let globals = engine.globals();
        self.last = (globals.last != EntryId::default()).then(|| globals.last.to_string());
        let RunTotals { emitted, refused, .. } = std::mem::take(&mut self.totals);
        self.totals = RunTotals { emitted, refused, ..totals(&engine.counters, now_ms) };
        self.positions = positions(engine, now_ms, unsent);
        self.killed = globals.killed;
        let (accounts, ids) = (engine.accounts(), engine.accounts().ids());
        let own = ids.filter(|id| accounts.get(*id).killed && !accounts.is_elsewhere(*id));
        self.killed_accounts = own.map(|id| accounts.get(id).name.to_string()).collect();
        self.killed_accounts.sort();
        self.policy.hash = globals.policy.hash.to_string();
        self.policy.mode = globals.policy.mode.name().to_owned();
    }

    /// Copies the findings about entries since the store began: entries that could not be read, and entries that were
    /// not believed.
    pub fn take_findings(&mut self, findings: BTreeMap<String, Finding>, now_ms: u64) {
        let is_unreadable = |name: &str| Unreadables::ALL.iter().any(|what| what.name() == name);
        let aged = |(name, Finding { entries, last_ms })| (name, aged(entries, last_ms, now_ms));
        let (unreadable, refused) =
            findings.into_iter().map(aged).partition(|(name, _): &(String, Past)| is_unreadable(name));
        (self.totals.unreadable, self.totals.refused) = (unreadable, refused);
    }
}

/// Returns true if an engine is that of a cell without an account: the configuration names accounts and none of this
/// cell, and no entry has named one. Then there is no position that could be known. `has_unnamed` is true if the account
/// without a name has credentials.
pub fn has_no_accounts(engine: &Engine, configured: &BTreeSet<String>, has_unnamed: bool) -> bool {
    let (selection, accounts) = (engine.streams().selection(), engine.accounts());
    // Without any name in the configuration, entries of every account are expected.
    let is_cell = !selection.is_all() && !configured.is_empty();
    let is_configured =
        || configured.iter().any(|name| selection.contains(name)) || (has_unnamed && selection.contains(""));
    let is_named = || accounts.ids().any(|id| id.is_named() && !accounts.is_elsewhere(id));
    // Each symbol has a book of the account without a name, whether or not an entry was for it.
    let is_used = |book: BookView<'_>| {
        let has_state = !book.book.orders.is_empty() || book.is_unconfirmed() || book.hot.history_gap;
        has_state && !accounts.is_elsewhere(book.account)
    };
    let is_seen = || is_named() || engine.books().any(is_used);
    is_cell && !is_configured() && !is_seen()
}

fn totals(counters: &Counters, now_ms: u64) -> RunTotals {
    let shapes = counters.shapes().into_iter().map(|(kind, shapes)| (kind.to_owned(), named(shapes))).collect();
    RunTotals {
        entries: counters.entries(),
        applied: counters.applied,
        duplicates: counters.duplicates,
        quarantined: named(counters.quarantined.iter().map(|(reason, n)| (reason.name(), *n))),
        shapes,
        counts: named(counters.counts.iter().map(|(count, n)| (count.name(), *n))),
        unreadable: counters
            .unreadable
            .iter()
            .map(|(what, count)| (what.name().to_owned(), aged(count.entries, count.last_ms, now_ms)))
            .collect(),
        holds: named(counters.holds().map(|(hold, n)| (hold.name(), n))),
        evaluations: counters.evaluations,
        decided: counters.decisions,
        emitted: 0,
        refused: BTreeMap::new(),
    }
}

fn aged(entries: u64, last_ms: u64, now_ms: u64) -> Past {
    Past { entries, last_age_ms: now_ms.saturating_sub(last_ms) }
}

fn named(counts: impl IntoIterator<Item = (&'static str, u64)>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect()
}

fn positions(engine: &Engine, now_ms: u64, unsent: &BTreeSet<&str>) -> Positions {
    let mut all = Positions { unknown: !engine.globals().positions_known, ..Positions::default() };
    for book in view::by_name(engine) {
        all.gap_flat += u64::from(book.hot.history_gap && book.hot.open.is_none());
        if book.is_unconfirmed() {
            all.unconfirmed.push(book.name.to_string());
        }
        for position in &book.book.closed {
            count_decisions(position, unsent, &mut all.decisions_closed);
        }
        if let Some(open) = &book.book.hot.open {
            open_position(engine, book, open, now_ms, &mut all);
            count_decisions(open, unsent, &mut all.decisions_open);
        }
    }
    if all.accounts.keys().all(String::is_empty) {
        all.accounts.clear();
    }
    all
}

fn open_position(engine: &Engine, book: BookView<'_>, open: &Position, now_ms: u64, all: &mut Positions) {
    all.open += 1;
    let missing = view::missing(book, open);
    all.evaluable += u64::from(missing.is_empty());
    let of_one =
        AccountTotals { open: 1, evaluable: u64::from(missing.is_empty()), gap_open: u64::from(book.hot.history_gap) };
    match all.accounts.get_mut(&*book.account_name) {
        Some(totals) => totals.add(of_one),
        None => drop(all.accounts.insert(book.account_name.to_string(), of_one)),
    }
    for field in missing {
        count(&mut all.missing, field);
    }
    if let Some(hold) = engine.hold_at(book, now_ms) {
        count(&mut all.held, hold.name());
    }
    all.gap_open += u64::from(book.hot.history_gap);
    if let Some(mark) = book.symbol.mark {
        all.mark_age_ms.insert(book.symbol.name.to_string(), now_ms.saturating_sub(mark.entry.ms));
    }
}

fn count_decisions(position: &Position, unsent: &BTreeSet<&str>, by_state: &mut BTreeMap<String, u64>) {
    for decision in &position.decisions {
        count(by_state, state_name(position, decision, unsent));
    }
}

/// Returns the state of a decision in common words: a decision whose rung was given up is `failed`, a withdrawn one is
/// `expired`, one without a result that was never sent `unsent`.
fn state_name(position: &Position, decision: &DecisionRecord, unsent: &BTreeSet<&str>) -> &'static str {
    let own = |r: &&crate::domain::book::rung::Rung| r.decision_id.as_ref() == Some(&decision.decision_id);
    if position.rungs.iter().filter(own).any(|rung| rung.state == RungState::Failed) {
        return RungState::Failed.name();
    }
    if decision.state == RungState::Unknown && unsent.contains(&*decision.decision_id) {
        return "unsent";
    }
    if decision.expired && decision.state == RungState::Armed { "expired" } else { decision.state.name() }
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(n) => *n += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}
