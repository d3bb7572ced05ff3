//! How one fact changes one symbol (SPEC §4): intents and prices here, fills and the exchange's word below.

use super::event::{Intent, LegacyFact, PriceFact, Reason, RiskPair};
use super::ids::EntryRef;
use super::plans::Plans;
use super::policy::{EntrySource, Policy, RiskSource};
use super::position::{Cause, EntryPrice, Movement, RiskFields};
use super::streams::StreamKind;
use super::symbol::{Mark, Symbol};
use super::tally::{Count, Tally};
use super::units::{OutOfRange, Price, Qty};

mod exchange;
mod fills;

/// How long a used price keeps the next ones from jumping. [ms]
const JUMP_MEMORY_MS: u64 = 60_000;
/// A fill of an unknown order that is older than this by its own word is too late. [ms]
const TOO_LATE_MS: u64 = 24 * 3_600_000;

impl From<OutOfRange> for Reason {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

/// The entry that is folded, and what is known around the symbol.
pub struct Fold<'a> {
    pub entry: EntryRef,
    pub policy: &'a Policy,
    pub plans: &'a Plans,
    pub tally: &'a mut Tally,
}

impl Fold<'_> {
    fn now_ms(&self) -> u64 {
        self.entry.id.ms
    }

    /// Remembers an entry intent; the first one after an opening supplies risk fields that nothing before had.
    pub fn intent(&mut self, symbol: &mut Symbol, intent: &Intent) {
        symbol.cold.forget(self.now_ms());
        symbol.cold.remember(intent.clone());
        if let Some(open) = &mut symbol.hot.open
            && open.direction == intent.direction
            && open.risk.as_ref().is_none_or(|risk| risk.source == RiskSource::Legacy)
            && let Some(risk) = risk_of(intent, RiskSource::IntentNearest)
        {
            open.risk = Some(risk);
        }
    }

    /// What an old hash held supplies what is missing, and nothing else.
    pub fn legacy(&mut self, symbol: &mut Symbol, fact: &LegacyFact) -> Result<(), Reason> {
        let entry = self.entry;
        let Some(open) = &mut symbol.hot.open else { return Ok(()) };
        if fact.direction.is_some_and(|direction| direction != open.direction) {
            return Ok(());
        }
        if open.totals.entry.is_none()
            && let Some(price) = fact.entry_price
        {
            let price = Some(EntryPrice { price, source: EntrySource::Legacy, entry });
            open.apply(Movement { cause: Cause::EntrySet, delta: Qty::ZERO, price, entry })?;
        }
        if open.risk.is_none()
            && let Some(pair) = RiskPair::of(fact.atr_value, fact.volatility_factor)
        {
            open.risk = Some(RiskFields::new(pair, RiskSource::Legacy, entry, None));
        }
        Ok(())
    }

    /// Takes a price into use, or holds it back if it jumped (SPEC §4, *Price jump*). The source is accepted.
    pub fn price(&mut self, symbol: &mut Symbol, fact: PriceFact) -> Result<(), Reason> {
        let now_ms = self.now_ms();
        if fact.own_ms.is_some_and(|own_ms| own_ms.saturating_add(self.policy.max_price_age_ms) < now_ms) {
            self.tally.count(Count::LatePrice);
            return Ok(());
        }
        let near = |of: Price| -> Result<bool, OutOfRange> {
            Ok(fact.price.minus(of)?.abs() <= of.times(self.policy.max_price_jump)?)
        };
        let used = symbol.hot.mark.filter(|mark| now_ms.saturating_sub(mark.entry.ms) <= JUMP_MEMORY_MS);
        let usable = match (used, symbol.hot.held_price) {
            (None, _) => true,
            (Some(mark), None) => near(mark.price)?,
            (Some(mark), Some(held)) => near(mark.price)? || near(held)?,
        };
        if usable {
            symbol.hot.mark = Some(Mark { price: fact.price, source: fact.source, entry: self.entry.id });
            symbol.hot.held_price = None;
        } else {
            self.tally.count(Count::PriceHeld);
            symbol.hot.held_price = Some(fact.price);
        }
        Ok(())
    }
}

fn risk_of(intent: &Intent, source: RiskSource) -> Option<RiskFields> {
    let entry = EntryRef::new(StreamKind::Intent, intent.id);
    Some(RiskFields::new(intent.risk_pair()?, source, entry, intent.producer.clone()))
}
