//! Control entries: policy, kill switch, gaps, and acceptances by operators.

use super::shortcut::bands::BandCache;
use super::{Engine, Gap};
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
            Control::KillChanged { kill } => self.globals.killed = *kill,
            Control::HistoryGap { stream, after, before } => {
                self.counters.count(Count::GapRecorded);
                self.globals.gaps.push(Gap { stream: stream.clone(), after: *after, before: *before, told: id });
                // An unknown stream may have carried results. It is safer to hold than to trade.
                if self.streams.id_of(stream).is_none_or(|s| self.streams.kind(s) == StreamKind::Result) {
                    self.flag_gap_everywhere();
                }
            }
            Control::GapAccepted => match symbol {
                Some(symbol) => {
                    self.symbols[symbol.0 as usize].hot.history_gap = false;
                    self.touch(symbol);
                }
                None => {
                    self.globals.gap_everywhere = false;
                    for index in 0..self.symbols.len() {
                        self.symbols[index].hot.history_gap = false;
                        self.touch(SymbolId(index as u32));
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
                let found = self.symbols.iter_mut().zip(0..).find_map(|(symbol, index)| {
                    let hears = |i: &mut Position| {
                        i.apply_outcome(decision_id, DecisionOutcome::Expired, id, Qty::ZERO, policy)
                    };
                    symbol.positions_mut().any(hears).then_some(SymbolId(index))
                });
                match found {
                    Some(symbol) => {
                        self.touch(symbol);
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
        let symbol = &mut self.symbols[id.0 as usize];
        let answer = {
            let position = symbol.positions_mut().find(|i| i.id.with_symbol(name) == position_id)?;
            position.dirty.0 = true;
            change(position)
        };
        self.touch(id);
        self.changes.touch_cold(id);
        self.after_positions(id);
        Some(answer)
    }

    fn adopt_policy(&mut self, policy: Policy) {
        let becomes_live = self.globals.policy.mode == Mode::Shadow && policy.mode == Mode::Live;
        self.globals.policy = policy;
        self.globals.policy_adopted = true;
        self.terms.fill(None);
        self.band.fill(BandCache::default());
        self.accept_sources();
        if !becomes_live {
            return;
        }
        let on_live = self.globals.policy.on_live.unwrap_or(OnLive::Skip);
        for index in 0..self.symbols.len() {
            let policy = &self.globals.policy;
            let symbol = &mut self.symbols[index];
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
            self.touch(SymbolId(index as u32));
        }
    }

    pub(super) fn accept_sources(&mut self) {
        let sources = &self.globals.policy.price_sources;
        let accepts = |name: &str| sources.is_empty() || sources.iter().any(|s| **s == *name);
        self.accepted_streams = self.streams.iter().map(|(_, stream)| accepts(stream.short_name())).collect();
    }

    #[inline]
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
