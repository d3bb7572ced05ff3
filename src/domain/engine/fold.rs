//! How an event changes its symbol, and what time changes. The changes themselves are in `book/apply`.

use super::Engine;
use super::globals::Globals;
use crate::domain::book::apply::Fold;
use crate::domain::book::counters::{Count, Counters};
use crate::domain::book::plans::Plans;
use crate::domain::book::position::Position;
use crate::domain::book::symbol::{Hot, Symbol};
use crate::domain::event::ids::{EntryId, EntryRef, PositionId, SymbolId};
use crate::domain::event::{Entry, Event, PositionFact, PriceFact, Reason};
use crate::domain::exit::policy::EntrySource;
use crate::domain::units::{Price, Qty};

impl Engine {
    /// Takes a price into use, if its source is accepted and it is near the one in use.
    pub(super) fn fold_price(&mut self, fact: PriceFact, entry: &Entry, id: SymbolId) -> Result<(), Reason> {
        if !self.accepts(fact.source) {
            self.counters.count(Count::PriceUnaccepted);
            return Ok(());
        }
        self.invalidate(id);
        let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
        fold.price(&mut self.slots[id].symbol, fact)
    }

    /// Changes the symbol by an event other than a price, a control entry or a decision.
    pub(super) fn fold(&mut self, event: &Event, entry: &Entry, id: SymbolId) -> Result<(), Reason> {
        // Nearly every position confirms ours, and changes no evaluation.
        if !matches!(event, Event::Position(_)) {
            self.invalidate(id);
        }
        let now_ms = entry.id.ms;
        let forgotten = self.plans.forget(now_ms);
        if !self.changes.ignored {
            self.changes.plans_forgotten.extend(forgotten);
        }
        match event {
            Event::Result(fact) => {
                self.changes.touch_cold(id);
                let plan = fact.plan_id.as_deref().and_then(|plan_id| self.plans.of(plan_id, id));
                let decision_id = fact.plan_id.as_deref().and_then(|plan_id| {
                    let of_plan_id = self.decision_plans.get(plan_id).filter(|(of, _)| *of == id).map(|(_, d)| d);
                    let (symbol, now_ms) = (&self.slots[id].symbol, self.globals.last.ms);
                    let of_plan_id = of_plan_id.filter(|decision| symbol.remembers(decision, now_ms));
                    of_plan_id.or(plan.and_then(|known| known.decision_id.as_ref())).cloned()
                });
                let plan = plan.cloned();
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.result(&mut self.slots[id].symbol, fact, plan.as_ref(), decision_id.as_deref())?;
                self.after_positions(id);
            }
            Event::Position(fact) => self.fold_position(*fact, entry, id)?,
            Event::Trade(fact) => {
                self.changes.touch_cold(id);
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.trade(&mut self.slots[id].symbol, fact)?;
                self.after_positions(id);
            }
            Event::Legacy(fact) => {
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.legacy(&mut self.slots[id].symbol, fact)?;
            }
            Event::Intent(intent) => {
                self.changes.touch_cold(id);
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.intent(&mut self.slots[id].symbol, intent);
                self.forget(id);
            }
            Event::ExitIntent(intent) => {
                self.changes.touch_cold(id);
                let cold = &mut self.slots[id].symbol.cold;
                cold.exit_intents.push_back((**intent).clone());
                self.forget(id);
            }
            Event::Plan(plan) => {
                let cold = &self.slots[id].symbol.cold;
                if self.plans.remember((**plan).clone(), cold) && !self.changes.ignored {
                    self.changes.plans.push(plan.plan_id.clone());
                }
            }
            Event::Instrument(instrument) => self.slots[id].symbol.hot.instrument = Some(**instrument),
            Event::PlanIgnored | Event::Price(_) | Event::Control(_) | Event::Decision(_) => {}
        }
        Ok(())
    }

    /// Folds a position of the exchange.
    fn fold_position(&mut self, fact: PositionFact, entry: &Entry, id: SymbolId) -> Result<(), Reason> {
        self.changes.touch_hot(id);
        let before = Evaluated::of(&self.slots[id].symbol);
        let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
        let folded = fold.position(&mut self.slots[id].symbol, fact);
        let after = Evaluated::of(&self.slots[id].symbol);
        if after != before {
            self.invalidate(id);
        }
        folded?;
        self.globals.positions_known |= fact.qty.is_zero();
        if after.position != before.position {
            self.changes.touch_cold(id);
        }
        if (after.position, after.qty) != (before.position, before.qty) {
            self.after_positions(id);
        }
        Ok(())
    }

    pub(super) fn after_positions(&mut self, id: SymbolId) {
        self.forget(id);
        let symbol = &mut self.slots[id].symbol;
        self.globals.positions_known |= symbol.hot.last_opening.is_some();
        if symbol.positions().any(Position::awaits_time) {
            self.in_flight.insert(id);
        } else {
            self.in_flight.remove(&id);
        }
    }

    fn forget(&mut self, id: SymbolId) {
        let forgotten = self.slots[id].symbol.forget(self.globals.last.ms);
        if forgotten.cold {
            self.changes.touch_cold(id);
        }
        for position in forgotten.closed {
            for decision in &position.decisions {
                self.decision_plans.remove(&decision.plan_id);
            }
            if position.dirty.0 && !self.changes.ignored {
                self.changes.closed_forgotten.push((id, position));
            }
        }
    }

    /// Expires the timeouts of decisions that wait for their results.
    #[inline(always)]
    pub(super) fn expire_timeouts(&mut self, now_ms: u64) {
        if !self.in_flight.is_empty() {
            self.expire_in_flight(now_ms);
        }
    }

    fn expire_in_flight(&mut self, now_ms: u64) {
        let waiting: Vec<SymbolId> = self.in_flight.iter().copied().collect();
        for id in waiting {
            let policy = &self.globals.policy;
            let mut changed = false;
            for position in self.slots[id].symbol.positions_mut() {
                changed |= position.expire_timeouts(now_ms, policy);
            }
            if changed {
                self.invalidate(id);
                self.changes.touch_cold(id);
            }
        }
    }
}

/// The values that an evaluation reads and a position of the exchange can change. The time of its confirmation is not
/// one of them: that is looked up at each use.
#[derive(PartialEq)]
struct Evaluated {
    history_gap: bool,
    diverged: bool,
    position: Option<PositionId>,
    qty: Option<Qty>,
    entry: Option<(Price, EntrySource)>,
    price_doubted: Option<EntryId>,
}

impl Evaluated {
    fn of(symbol: &Symbol) -> Self {
        let Hot { history_gap, diverged, open, .. } = &symbol.hot;
        let open = open.as_ref();
        Self {
            history_gap: *history_gap,
            diverged: *diverged,
            position: open.map(|open| open.id),
            qty: open.map(|open| open.totals.qty),
            entry: open.and_then(|open| open.totals.entry).map(|entry| (entry.price, entry.source)),
            price_doubted: open.and_then(|open| open.price_doubted),
        }
    }
}

pub(super) fn fold_of<'a>(
    globals: &'a Globals,
    plans: &'a Plans,
    counters: &'a mut Counters,
    entry: &Entry,
) -> Fold<'a> {
    Fold { entry: EntryRef::new(entry.kind, entry.id), symbol: entry.symbol, policy: &globals.policy, plans, counters }
}
