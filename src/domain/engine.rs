//! `step`: fold one entry, then decide. It is the only entrance to the rules, for replay and live alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::book::apply::Fold;
use super::book::counters::{Count, Counters, Unreadables};
use super::book::plans::Plans;
use super::book::position::{Position, RiskFields};
use super::book::symbol::{Hot, Mark, Symbol};
use super::event::ids::{EntryId, EntryRef, SortKey, StreamId, SymbolId};
use super::event::streams::{StreamKind, Streams};
use super::event::{Entry, Event, PriceFact, Reason, Side, Unreadable};
use super::exit::policy::{Base, Mode, Policy};
use super::exit::{EntryTerms, Flag, Hold, Valuation};
use super::units::{OutOfRange, Qty, RMultiple, Ratio};
use nonces::Nonces;
use recorded::RecordedDecisions;
use shortcut::bands::BandCache;

pub mod chain;
mod control;
mod deciding;
pub mod needs;
pub mod nonces;
mod persisted;
mod published;
pub mod recorded;
mod rollback;
pub mod shortcut;
pub mod skips;

pub use deciding::decision_id;
use rollback::Backup;
use shortcut::many_prices::Taken;

/// Version of the rules. A store of another version is folded again.
pub const RULES_VERSION: &str = "2";

/// Earlier ids are not times: 2010-01-01, before the first Redis stream. [ms since 1970]
pub const FIRST_TIME_MS: u64 = 1_262_304_000_000;
/// Ids further ahead of the server's clock than this are named as ahead, and wait (docs/spec/canonical-order.md, "Ids
/// ahead"). [ms]
pub const IDS_AHEAD_MAX_MS: u64 = 2_000;

/// How the decisions count that the history contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decisions {
    /// They are facts: adopted, and not made again.
    #[default]
    Recorded,
    /// They are ignored, and everything is derived again.
    Derived,
    /// They are compared over the whole history, and ours are returned beside them. The state follows the recorded ones
    /// and, where one is missing, ours. So each later decision is judged by itself.
    Audited,
}

/// The effect of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Applied,
    /// At or before the cursor of its stream. It has no effect.
    Duplicate,
    Quarantined(Reason),
}

/// The result of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub disposition: Disposition,
    /// A decision of ours that takes effect. At most one, because an entry names one symbol.
    pub decision: Option<Box<Decision>>,
}

/// A decision to close a part of a position, with the evidence it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub decision_id: String,
    pub plan_id: String,
    pub position_id: String,
    pub symbol: SymbolId,
    pub side: Side,
    /// [base]
    pub qty: Qty,
    /// Share of the position to close. [1]
    pub share: Ratio,
    pub base: Base,
    pub rungs: Vec<RMultiple>,
    pub attempt: u32,
    pub reading: Valuation,
    /// Source of the risk in the valuation.
    pub risk_fields: RiskFields,
    pub mode: Mode,
    pub policy_hash: Box<str>,
    pub flags: Vec<Flag>,
    pub cause_stream: StreamId,
    pub cause: EntryId,
    /// Counts from 1.
    pub seq: u64,
}

/// Head of the chain of decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    pub seq: u64,
    /// Hash of the last decision; 64 zeros before the first.
    pub hash: Box<str>,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self { seq: 0, hash: "0".repeat(64).into() }
    }
}

/// A range of a stream that is missing, as a `history.gap` entry reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub stream: Box<str>,
    pub after: Option<EntryId>,
    pub before: Option<EntryId>,
    pub told: EntryId,
}

/// State that belongs to no single symbol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Globals {
    pub policy: Policy,
    /// A `policy.adopted` was folded, so the configured policy no longer counts.
    pub policy_adopted: bool,
    pub killed: bool,
    pub chain: ChainHead,
    /// Times of the decisions of the last minute. [ms since 1970]
    pub decided_ms: VecDeque<u64>,
    /// Symbols that were never seen before start with a history gap.
    pub gap_everywhere: bool,
    pub gaps: Vec<Gap>,
    /// A position, or a flat state, was seen from any source.
    pub positions_known: bool,
    /// The last decisions of the chain: the beginnings of their hashes, by number.
    pub chain_tail: BTreeMap<u64, u64>,
    /// Nonces of entries that loosened, with their times of issue: none is accepted twice.
    pub nonces: Nonces,
    /// Entries that are skipped, by stream name.
    pub skipped: BTreeSet<(Box<str>, EntryId)>,
    /// Id of the entry that was applied last.
    pub last: EntryId,
}

/// The changes since the last call: the rows that a store has to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    hot: Vec<SymbolId>,
    cold: Vec<SymbolId>,
    is_hot: Vec<bool>,
    is_cold: Vec<bool>,
    /// Changes are not noted, because there is no store.
    ignored: bool,
    /// Closed positions that changed, by symbol and index.
    pub closed: Vec<(SymbolId, usize)>,
    /// Closed positions that changed and were then forgotten.
    pub closed_forgotten: Vec<(SymbolId, Position)>,
    pub plans: Vec<Box<str>>,
    pub plans_forgotten: Vec<Box<str>>,
}

impl Changes {
    fn touch_hot(&mut self, symbol: SymbolId) {
        if self.ignored {
            return;
        }
        touch(&mut self.hot, &mut self.is_hot, symbol);
    }

    fn touch_cold(&mut self, symbol: SymbolId) {
        if self.ignored {
            return;
        }
        touch(&mut self.cold, &mut self.is_cold, symbol);
    }

    /// Returns the symbols whose price or position changed.
    pub fn hot(&self) -> &[SymbolId] {
        &self.hot
    }

    /// Returns the symbols whose orders, intents or closed positions changed.
    pub fn cold(&self) -> &[SymbolId] {
        &self.cold
    }
}

fn touch(list: &mut Vec<SymbolId>, is_in: &mut Vec<bool>, symbol: SymbolId) {
    let index = symbol.0 as usize;
    if is_in.len() <= index {
        is_in.resize(index + 1, false);
    }
    if !is_in[index] {
        is_in[index] = true;
        list.push(symbol);
    }
}

/// The fold over all entries, and the decisions that follow from it.
#[derive(Clone, Debug)]
pub struct Engine {
    streams: Streams,
    globals: Globals,
    symbols: Vec<Symbol>,
    /// Entry terms of the open positions, by symbol. Filled when first used after the position or the policy changed.
    terms: Vec<Option<EntryTerms>>,
    /// Band in which the next price changes nothing, by symbol. Any other change of the symbol clears it.
    band: Vec<BandCache>,
    taken: Taken,
    by_name: BTreeMap<Box<str>, SymbolId>,
    plans: Plans,
    /// Plan ids of our decisions.
    decision_plans: BTreeMap<Box<str>, (SymbolId, Box<str>)>,
    cursors: Vec<Option<EntryId>>,
    in_flight: BTreeSet<SymbolId>,
    facts: RecordedDecisions,
    decisions: Decisions,
    last_key: Option<SortKey>,
    accepted_streams: Vec<bool>,
    changes: Changes,
    pub counters: Counters,
}

impl Engine {
    /// Creates an engine before the first entry, under the configured policy.
    pub fn new(streams: Streams, policy: Policy) -> Self {
        let cursors = vec![None; streams.len()];
        let mut engine = Self {
            streams,
            globals: Globals {
                policy,
                policy_adopted: false,
                killed: false,
                chain: ChainHead::default(),
                decided_ms: VecDeque::new(),
                gap_everywhere: false,
                gaps: Vec::new(),
                positions_known: false,
                chain_tail: BTreeMap::new(),
                nonces: Nonces::default(),
                skipped: BTreeSet::new(),
                last: EntryId::default(),
            },
            symbols: Vec::new(),
            terms: Vec::new(),
            band: Vec::new(),
            taken: Taken::default(),
            by_name: BTreeMap::new(),
            plans: Plans::default(),
            decision_plans: BTreeMap::new(),
            cursors,
            in_flight: BTreeSet::new(),
            facts: RecordedDecisions::default(),
            decisions: Decisions::default(),
            last_key: None,
            accepted_streams: Vec::new(),
            changes: Changes::default(),
            counters: Counters::default(),
        };
        engine.accept_sources();
        engine
    }

    /// Sets the recorded decisions of the history.
    pub fn set_facts(&mut self, facts: RecordedDecisions) {
        self.facts = facts;
    }

    /// Chooses how the decisions of the history count. Without this they are recorded.
    #[must_use]
    pub fn with_decisions(self, decisions: Decisions) -> Self {
        Self { decisions, ..self }
    }

    /// Returns how the decisions of the history count.
    pub fn decisions(&self) -> Decisions {
        self.decisions
    }

    /// Notes that the history skips an entry. It has no effect on an entry that was folded, or on a stream that is not
    /// read.
    pub fn skip(&mut self, stream: &str, id: EntryId) {
        let is_ahead = |of: StreamId| self.cursors[usize::from(of.0)].is_none_or(|cursor| cursor < id);
        if self.streams.id_of(stream).is_some_and(is_ahead) {
            self.globals.skipped.insert((stream.into(), id));
        }
    }

    /// Returns true if an entry is known to be skipped.
    pub fn is_skipped(&self, stream: &str, id: EntryId) -> bool {
        !self.globals.skipped.is_empty() && self.globals.skipped.contains(&(stream.into(), id))
    }

    /// Links the decision that was just made into the chain. The next decision follows its hash.
    ///
    /// The hash covers the text of the decision, which only the codec knows. So the driver brings it here, and nothing
    /// else does.
    pub(crate) fn link(&mut self, made: &Decision, hash: &str) {
        assert_eq!(made.seq, self.globals.chain.seq, "only the decision that was just made is linked");
        self.globals.chain.hash = hash.into();
        self.note_link(made.seq, hash);
    }

    /// Makes the next decision the first of a chain.
    pub fn begin_chain(&mut self) {
        self.globals.chain = ChainHead::default();
        self.globals.chain_tail.clear();
    }

    /// Resets all counters, so that a report begins here.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// Folds one entry, then decides for its symbol.
    pub fn step(&mut self, entry: &Entry) -> Step {
        if self.step_in_band(entry).is_some() {
            return Step { disposition: Disposition::Applied, decision: None };
        }
        let index = usize::from(entry.stream.0);
        self.counters.first.get_or_insert(entry.id);
        self.counters.last = Some(entry.id);
        self.counters.shape(entry.kind, entry.shape, 1);
        if self.cursors[index].is_some_and(|cursor| entry.id <= cursor) {
            self.counters.duplicates += 1;
            return Step { disposition: Disposition::Duplicate, decision: None };
        }
        self.cursors[index] = Some(entry.id);
        let key = SortKey::new(entry.stream, entry.id);
        if self.last_key.is_some_and(|last| key < last) {
            self.counters.count(Count::LateOrder);
        }
        // A late entry gets the sort key that the order of application has reached.
        let key = self.last_key.map_or(key, |last| last.max(key));
        self.last_key = Some(key);
        self.globals.last = self.globals.last.max(entry.id);
        if self.facts.reach_back_to(entry.id.ms) {
            self.take_over_passed(entry);
        }
        self.expire_timeouts(entry.id.ms);
        if let Some(symbol) = entry.symbol.filter(|_| entry.kind != StreamKind::Price) {
            self.name(symbol);
        }
        if self.passes_over(entry) {
            self.counters.count(Count::Skipped);
            self.counters.applied += 1;
            return Step { disposition: Disposition::Applied, decision: None };
        }
        match self.fold_and_decide(entry, key) {
            Ok(decision) => {
                self.counters.applied += 1;
                Step { disposition: Disposition::Applied, decision }
            }
            Err(unreadable) => {
                self.quarantine(entry, &unreadable);
                *self.counters.quarantined.entry(unreadable.reason).or_default() += 1;
                Step { disposition: Disposition::Quarantined(unreadable.reason), decision: None }
            }
        }
    }

    /// Handles the most frequent entry quickly: a price that changes nothing, where nothing else has to be examined.
    /// Returns `None` for all others, to which it does nothing.
    #[inline]
    fn step_in_band(&mut self, entry: &Entry) -> Option<()> {
        let (Ok(Event::Price(fact)), Some(symbol)) = (&entry.content, entry.symbol) else { return None };
        let key = SortKey::new(entry.stream, entry.id);
        // After all entries means after the cursor of its stream, too.
        let is_next = self.last_key.is_some_and(|last| last < key);
        let is_alone = self.in_flight.is_empty() && self.globals.skipped.is_empty();
        if !is_next || !is_alone || !self.accepts(fact.source) || self.facts.reach_back_to(entry.id.ms) {
            return None;
        }
        let hold = self.band_hold(symbol.0 as usize, *fact, entry.id.ms)?;
        self.counters.first.get_or_insert(entry.id);
        self.counters.last = Some(entry.id);
        self.counters.shape(entry.kind, entry.shape, 1);
        self.counters.applied += 1;
        self.cursors[usize::from(entry.stream.0)] = Some(entry.id);
        self.last_key = Some(key);
        self.globals.last = self.globals.last.max(entry.id);
        self.use_in_band(symbol, *fact, entry.id, hold);
        Some(())
    }

    fn fold_and_decide(&mut self, entry: &Entry, key: SortKey) -> Result<Option<Box<Decision>>, Unreadable> {
        let event = entry.content.as_ref().map_err(Unreadable::clone)?;
        let is_time = entry.id.ms >= FIRST_TIME_MS;
        if !is_time {
            self.counters.count(Count::IdsNotTime);
        }
        match (event, entry.symbol) {
            (Event::Control(fact), symbol) => {
                if let Some(issue) = fact.issue.as_ref().filter(|_| fact.control.loosens())
                    && !self.globals.nonces.take(issue, entry.id.ms)
                {
                    return Err(Unreadable::new(Reason::BadSignature));
                }
                self.control(&fact.control, symbol, entry.id);
                Ok(None)
            }
            (Event::Decision(fact), _) => {
                if self.decisions != Decisions::Derived {
                    self.come_back(fact);
                }
                Ok(None)
            }
            (_, None) => Ok(None),
            (Event::Price(_), Some(symbol)) if !is_time => Ok(self.settle(entry, symbol, key, None)),
            (Event::Price(fact), Some(symbol)) => self.price(entry, *fact, symbol, key),
            (event, Some(symbol)) => {
                let index = symbol.0 as usize;
                let is_known = self.is_known(event, index);
                let before = if is_known { None } else { Backup::before(event, entry.id, &self.symbols[index]) };
                let band = if is_known { self.stability(index) } else { None };
                self.touch(symbol);
                let folded = self.fold(event, entry, symbol);
                // If the numbers do not fit, the entry is not wrong: the state that it meets is.
                let decided = folded.map(|()| {
                    if !is_time {
                        return self.settle(entry, symbol, key, None);
                    }
                    if let Some(hold) = band.and_then(|band| self.stay_in_band(band, index, entry.id)) {
                        hold.into_iter().for_each(|hold| self.hold(symbol, hold, entry.id));
                        return self.settle(entry, symbol, key, None);
                    }
                    self.decide(entry, symbol, key).unwrap_or_else(|OutOfRange| {
                        self.hold(symbol, Hold::OutOfRange, entry.id);
                        None
                    })
                });
                decided.map_err(|reason| {
                    if let Some(before) = before {
                        before.restore(&mut self.symbols[index]);
                        self.terms[index] = None;
                    }
                    Unreadable::new(reason)
                })
            }
        }
    }

    fn price(
        &mut self,
        entry: &Entry,
        fact: PriceFact,
        symbol: SymbolId,
        key: SortKey,
    ) -> Result<Option<Box<Decision>>, Unreadable> {
        let index = symbol.0 as usize;
        let is_accepted = self.accepts(fact.source);
        let bands = self.band[index];
        if is_accepted {
            if let Some(hold) = self.band_hold(index, fact, entry.id.ms) {
                self.use_in_band(symbol, fact, entry.id, hold);
                return Ok(self.settle(entry, symbol, key, None));
            }
            self.touch(symbol);
        }
        let before = PriceState::of(&self.symbols[index]);
        let folded = if is_accepted {
            let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
            fold.price(&mut self.symbols[index], fact)
        } else {
            self.counters.count(Count::PriceUnaccepted);
            Ok(())
        };
        // A decision that is adopted here changes the outcome of the evaluation before it.
        let keeps_bands = is_accepted && !self.facts.names(entry.stream, entry.id);
        if keeps_bands
            && folded.is_ok()
            && let Some((bands, hold)) = self.go_back(bands, index, entry.id)
        {
            self.band[index] = bands;
            hold.into_iter().for_each(|hold| self.hold(symbol, hold, entry.id));
            return Ok(self.settle(entry, symbol, key, None));
        }
        let decided = folded.and_then(|()| self.decide(entry, symbol, key).map_err(|OutOfRange| Reason::OutOfRange));
        match decided {
            Ok(decision) => {
                if keeps_bands && decision.is_none() {
                    self.band[index] = bands.entered(self.band_around(index, entry.id));
                }
                Ok(decision)
            }
            Err(reason) => {
                before.restore(&mut self.symbols[index]);
                Err(Unreadable::new(reason))
            }
        }
    }

    /// Takes a price into use that changes nothing, and counts the outcome that its evaluation would have had.
    #[inline]
    fn use_in_band(&mut self, id: SymbolId, fact: PriceFact, at: EntryId, hold: Option<Hold>) {
        let index = id.0 as usize;
        self.changes.touch_hot(id);
        self.symbols[index].hot.mark = Some(Mark { price: fact.price, source: fact.source, entry: at });
        debug_assert_eq!(self.hold_at(&self.symbols[index], at.ms), hold, "a price was not quiet");
        if let Some(hold) = hold {
            self.hold(id, hold, at);
        }
    }

    /// Changes the symbol by an event other than a price, a control entry or a decision.
    fn fold(&mut self, event: &Event, entry: &Entry, id: SymbolId) -> Result<(), Reason> {
        let index = id.0 as usize;
        let now_ms = entry.id.ms;
        self.terms[index] = None;
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
                    let (symbol, now_ms) = (&self.symbols[index], self.globals.last.ms);
                    let of_plan_id = of_plan_id.filter(|decision| symbol.remembers(decision, now_ms));
                    of_plan_id.or(plan.and_then(|known| known.decision_id.as_ref())).cloned()
                });
                let plan = plan.cloned();
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.result(&mut self.symbols[index], fact, plan.as_ref(), decision_id.as_deref())?;
                self.after_positions(id);
            }
            Event::Position(fact) => {
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                let held = |symbol: &Symbol| symbol.hot.open.as_ref().map(|open| (open.id, open.totals.qty));
                let before = held(&self.symbols[index]);
                fold.position(&mut self.symbols[index], *fact)?;
                self.globals.positions_known |= fact.qty.is_zero();
                let after = held(&self.symbols[index]);
                if after.map(|(position, _)| position) != before.map(|(position, _)| position) {
                    self.changes.touch_cold(id);
                }
                // A confirmation by the exchange, many times a minute, moves nothing.
                if after != before {
                    self.after_positions(id);
                }
            }
            Event::Trade(fact) => {
                self.changes.touch_cold(id);
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.trade(&mut self.symbols[index], fact)?;
                self.after_positions(id);
            }
            Event::Legacy(fact) => {
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.legacy(&mut self.symbols[index], fact)?;
            }
            Event::Intent(intent) => {
                self.changes.touch_cold(id);
                let mut fold = fold_of(&self.globals, &self.plans, &mut self.counters, entry);
                fold.intent(&mut self.symbols[index], intent);
                self.forget(id);
            }
            Event::ExitIntent(intent) => {
                self.changes.touch_cold(id);
                let cold = &mut self.symbols[index].cold;
                cold.exit_intents.push_back((**intent).clone());
                self.forget(id);
            }
            Event::Plan(plan) => {
                let cold = &self.symbols[index].cold;
                if self.plans.remember((**plan).clone(), cold) && !self.changes.ignored {
                    self.changes.plans.push(plan.plan_id.clone());
                }
            }
            Event::Instrument(instrument) => self.symbols[index].hot.instrument = Some(**instrument),
            Event::PlanIgnored | Event::Price(_) | Event::Control(_) | Event::Decision(_) => {}
        }
        Ok(())
    }

    /// Notes that a symbol changes in another way than by a price inside its band.
    fn touch(&mut self, id: SymbolId) {
        self.band[id.0 as usize] = BandCache::default();
        self.changes.touch_hot(id);
    }

    fn forget(&mut self, id: SymbolId) {
        let forgotten = self.symbols[id.0 as usize].forget(self.globals.last.ms);
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

    fn after_positions(&mut self, id: SymbolId) {
        self.forget(id);
        let symbol = &mut self.symbols[id.0 as usize];
        self.globals.positions_known |= symbol.hot.last_opening.is_some();
        if symbol.positions().any(Position::awaits_time) {
            self.in_flight.insert(id);
        } else {
            self.in_flight.remove(&id);
        }
    }

    /// Expires the timeouts of decisions that wait for their results.
    fn expire_timeouts(&mut self, now_ms: u64) {
        if self.in_flight.is_empty() {
            return;
        }
        let waiting: Vec<SymbolId> = self.in_flight.iter().copied().collect();
        for id in waiting {
            let policy = &self.globals.policy;
            let mut changed = false;
            for position in self.symbols[id.0 as usize].positions_mut() {
                changed |= position.expire_timeouts(now_ms, policy);
            }
            if changed {
                self.touch(id);
                self.changes.touch_cold(id);
            }
        }
    }

    fn quarantine(&mut self, entry: &Entry, unreadable: &Unreadable) {
        if unreadable.kills {
            self.globals.killed = true;
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
            None if flags && entry.kind != StreamKind::Control => self.flag_whom_it_may_concern(&unreadable.named),
            Some(_) | None => {}
        }
    }

    /// Notes that an entry other than a price named a symbol: it no longer counts against the limit of symbols.
    fn name(&mut self, id: SymbolId) {
        if !std::mem::replace(&mut self.symbols[id.0 as usize].hot.named, true) {
            self.changes.touch_hot(id);
        }
    }

    fn flag_gap(&mut self, symbol: SymbolId) {
        self.symbols[symbol.0 as usize].hot.history_gap = true;
        self.touch(symbol);
    }

    /// Flags the symbols that an unreadable text names. If it names none, flags all with a position.
    fn flag_whom_it_may_concern(&mut self, named: &[SymbolId]) {
        let has_position = |id: &SymbolId| self.symbols[id.0 as usize].hot.open.is_some();
        let flagged: Vec<SymbolId> = match named {
            [] => (0..self.symbols.len()).map(|index| SymbolId(index as u32)).filter(has_position).collect(),
            named => named.to_vec(),
        };
        for symbol in flagged {
            self.flag_gap(symbol);
        }
    }

    fn flag_gap_everywhere(&mut self) {
        self.globals.gap_everywhere = true;
        for index in 0..self.symbols.len() {
            self.flag_gap(SymbolId(index as u32));
        }
    }

    fn passes_over(&mut self, entry: &Entry) -> bool {
        if self.globals.skipped.is_empty()
            || !self.globals.skipped.remove(&(self.streams.get(entry.stream).name.as_str().into(), entry.id))
        {
            return false;
        }
        match entry.symbol {
            Some(symbol) => self.flag_gap(symbol),
            None if entry.kind == StreamKind::Result => self.flag_gap_everywhere(),
            None => {}
        }
        true
    }
}

/// The part of a symbol that a price can change, saved before the fold.
struct PriceState {
    mark: Option<Mark>,
    held_price: Option<Mark>,
    price_doubted: Option<EntryId>,
}

impl PriceState {
    fn of(symbol: &Symbol) -> Self {
        let Hot { mark, held_price, open, .. } = &symbol.hot;
        let price_doubted = open.as_ref().and_then(|open| open.price_doubted);
        Self { mark: *mark, held_price: *held_price, price_doubted }
    }

    fn restore(self, symbol: &mut Symbol) {
        symbol.hot.mark = self.mark;
        symbol.hot.held_price = self.held_price;
        if let Some(open) = &mut symbol.hot.open {
            open.price_doubted = self.price_doubted;
        }
    }
}

fn fold_of<'a>(globals: &'a Globals, plans: &'a Plans, counters: &'a mut Counters, entry: &Entry) -> Fold<'a> {
    Fold { entry: EntryRef::new(entry.kind, entry.id), symbol: entry.symbol, policy: &globals.policy, plans, counters }
}
