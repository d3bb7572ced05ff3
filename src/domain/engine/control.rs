//! Control entries: policy, kill switch, gaps, and acceptances by operators.

use super::Engine;
use super::globals::Gap;
use crate::domain::book::counters::Count;
use crate::domain::book::position::Position;
use crate::domain::book::rung::DecisionOutcome;
use crate::domain::event::ids::{EntryId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Control, PriceSource};
use crate::domain::exit;
use crate::domain::exit::policy::{Mode, OnLive, Policy};
use crate::domain::units::Qty;

impl Engine {
    pub(super) fn control(&mut self, control: &Control, symbol: Option<SymbolId>, id: EntryId) {
        match control {
            Control::PolicyAdopted(policy) => self.adopt_policy((**policy).clone()),
            Control::KillChanged { kill } => self.set_killed(*kill),
            Control::HistoryGap { stream, after, before } => {
                self.counters.count(Count::GapRecorded);
                self.globals.gaps.push(Gap { stream: stream.clone(), after: *after, before: *before, reported: id });
                // An unknown stream may have carried results. It is safer to hold than to trade.
                if self.streams.id_of(stream).is_none_or(|s| self.streams.kind(s) == StreamKind::Result) {
                    self.flag_gap_everywhere();
                }
            }
            Control::GapAccepted => match symbol {
                Some(symbol) => {
                    self.slots[symbol].symbol.hot.history_gap = false;
                    self.invalidate(symbol);
                }
                None => {
                    self.globals.gap_everywhere = false;
                    for symbol in self.slots.ids() {
                        self.slots[symbol].symbol.hot.history_gap = false;
                        self.invalidate(symbol);
                    }
                }
            },
            Control::RiskAccepted { position_id } => {
                let known = self.with_position(position_id, |position| position.risk_accepted = true).is_some();
                if !known {
                    self.counters.count(Count::UnknownPosition);
                }
            }
            Control::RungRearmed { position_id, r } => {
                let armed = self.with_position(position_id, |position| position.rearm(*r, id));
                if armed != Some(true) {
                    self.counters.count(Count::UnknownPosition);
                }
            }
            Control::DecisionExpired { decision_id } => {
                let policy = &self.globals.policy;
                let found = self.slots.iter_mut().zip(0..).find_map(|(slot, index)| {
                    let expires = |position: &mut Position| {
                        position.apply_outcome(decision_id, DecisionOutcome::Expired, id, Qty::ZERO, policy)
                    };
                    slot.symbol.positions_mut().any(expires).then_some(SymbolId(index))
                });
                match found {
                    Some(symbol) => {
                        self.invalidate(symbol);
                        self.changes.touch_cold(symbol);
                        self.after_positions(symbol);
                    }
                    None => self.counters.count(Count::UnknownDecision),
                }
            }
            Control::EntrySkipped { stream, id } => self.skip(stream, *id),
        }
    }

    fn with_position<T>(&mut self, position_id: &str, change: impl FnOnce(&mut Position) -> T) -> Option<T> {
        let name = position_id.rsplit_once('@')?.0;
        let &id = self.by_name.get(name)?;
        let symbol = &mut self.slots[id].symbol;
        let answer = {
            let position = symbol.positions_mut().find(|i| i.id.with_symbol(name) == position_id)?;
            position.dirty.0 = true;
            change(position)
        };
        self.invalidate(id);
        self.changes.touch_cold(id);
        self.after_positions(id);
        Some(answer)
    }

    fn adopt_policy(&mut self, policy: Policy) {
        let becomes_live = self.globals.policy.mode == Mode::Shadow && policy.mode == Mode::Live;
        self.globals.policy = policy;
        self.globals.policy_adopted = true;
        self.invalidate_all();
        self.accept_sources();
        if !becomes_live {
            return;
        }
        let on_live = self.globals.policy.on_live.unwrap_or(OnLive::Skip);
        for id in self.slots.ids() {
            let policy = &self.globals.policy;
            let symbol = &mut self.slots[id].symbol;
            let gain = exit::gain(symbol, policy).ok().flatten();
            let Some(open) = &mut symbol.hot.open else { continue };
            open.release_shadowed(on_live);
            if on_live == OnLive::Skip {
                // Without a gain now, the first price that gives one determines the reached rungs.
                match gain.and_then(|gain| exit::reached(policy, &gain).ok()) {
                    Some(reached) => open.skip(reached),
                    None => open.skips_reached = true,
                }
            }
            self.invalidate(id);
        }
    }

    /// Sets the kill switch.
    pub(super) fn set_killed(&mut self, is_killed: bool) {
        self.globals.killed = is_killed;
        self.invalidate_all();
    }

    pub(super) fn accept_sources(&mut self) {
        let sources = &self.globals.policy.price_sources;
        let accepts = |name: &str| sources.is_empty() || sources.iter().any(|s| **s == *name);
        self.accepted_streams = self.streams.iter().map(|(_, stream)| accepts(stream.short_name())).collect();
    }

    #[inline(always)]
    pub(super) fn accepts(&self, source: PriceSource) -> bool {
        match source {
            PriceSource::Stream(stream) => self.accepted_streams[usize::from(stream.0)],
            PriceSource::RedisTicker | PriceSource::RedisMarket | PriceSource::Api => {
                let sources = &self.globals.policy.price_sources;
                sources.is_empty() || sources.iter().any(|s| &**s == self.source_name(source))
            }
        }
    }

    /// Returns the name of a price source in policies and outputs.
    pub fn source_name(&self, source: PriceSource) -> &str {
        match source {
            PriceSource::Stream(stream) => self.streams.get(stream).short_name(),
            PriceSource::RedisTicker => "redis_ticker",
            PriceSource::RedisMarket => "redis_market",
            PriceSource::Api => "api",
        }
    }
}
