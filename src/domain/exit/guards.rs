//! The guards: every hold that is checked before the numbers.

use std::collections::VecDeque;

use super::hold::Hold;
use super::policy::{Mode, Policy, RiskTooLarge};
use super::valuation::{EntryTerms, Gain};
use crate::domain::book::view::BookView;
use crate::domain::event::InstrumentStatus;
use crate::domain::units::OutOfRange;

/// Why an evaluation makes no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    Hold(Hold),
    /// The numbers do not fit exact arithmetic.
    OutOfRange,
}

impl From<Hold> for Hindrance {
    fn from(hold: Hold) -> Self {
        Self::Hold(hold)
    }
}

impl From<OutOfRange> for Hindrance {
    fn from(OutOfRange: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

/// How long a decision counts for the rate limit. [ms]
pub const RATE_WINDOW_MS: u64 = 60_000;

/// The context of an evaluation, outside of the symbol.
#[derive(Clone, Copy, Debug)]
pub struct EvalContext<'a> {
    /// Time of the entry that is processed. [ms since 1970]
    pub now_ms: u64,
    pub killed: bool,
    /// Times of the last decisions of the account, of all its symbols. [ms since 1970]
    pub decided_ms: &'a VecDeque<u64>,
}

impl EvalContext<'_> {
    /// Returns the number of decisions of the account that are less than a minute old.
    pub(super) fn decisions_recent(&self) -> u64 {
        self.decided_ms.iter().filter(|&&ms| self.now_ms.saturating_sub(ms) < RATE_WINDOW_MS).count() as u64
    }
}

/// Returns the gain to evaluate. `terms` are those of the open position. Errors with the first hold that applies before
/// the numbers.
pub fn check_guards(
    book: BookView<'_>,
    policy: &Policy,
    terms: &EntryTerms,
    at: EvalContext<'_>,
) -> Result<Gain, Hindrance> {
    let hot = &book.book.hot;
    let Some(open) = &hot.open else { return Err(Hold::NoRung.into()) };
    let hold = |hold| Err(Hindrance::Hold(hold));
    if at.killed {
        return hold(Hold::Killed);
    }
    if open.awaits_result() {
        return hold(Hold::AwaitingResult);
    }
    if hot.history_gap {
        return hold(Hold::HistoryGap);
    }
    if hot.diverged {
        return hold(Hold::Diverged);
    }
    let Some(entry) = open.totals.entry else { return hold(Hold::MissingEntryPrice) };
    let (Some(fields), Some(risk)) = (&open.risk, terms.risk?) else { return hold(Hold::MissingRisk) };
    if risk.too_small {
        return hold(Hold::RiskTooSmall);
    }
    if risk.too_large && policy.risk_too_large == RiskTooLarge::Refuse {
        return hold(Hold::RiskTooLarge);
    }
    // `PriceJump` comes before `NoPrice`: after a rescale there may be no price in use while this position still doubts
    // one (docs/spec/decision.md, "Reasons to hold").
    if book.symbol.held_price.is_some() || open.price_doubted.is_some() {
        return hold(Hold::PriceJump);
    }
    let Some(mark) = book.symbol.mark else { return hold(Hold::NoPrice) };
    if at.now_ms.saturating_sub(mark.entry.ms) > policy.max_price_age_ms {
        return hold(Hold::StalePrice);
    }
    if policy.mode == Mode::Live {
        if !open.risk_accepted && !policy.live_entry_sources.contains(&entry.source) {
            return hold(Hold::WeakEntry);
        }
        let is_weak = !policy.live_risk_sources.contains(&fields.source) || !open.rescales.is_empty();
        if !open.risk_accepted && is_weak {
            return hold(Hold::WeakRisk);
        }
        if at.now_ms.saturating_sub(open.confirmed_ms) > policy.max_position_age_ms {
            return hold(Hold::StalePosition);
        }
        if !policy.live_symbols.is_empty() && !policy.live_symbols.contains(&book.symbol.name) {
            return hold(Hold::NotLive);
        }
        if policy.require_instrument && book.step_size().is_none() {
            return hold(Hold::NoInstrument);
        }
        if book.symbol.instrument.is_some_and(|instrument| instrument.status == Some(InstrumentStatus::NotTrading)) {
            return hold(Hold::NotTrading);
        }
    }
    let Some(exposure) = &terms.exposure? else { return hold(Hold::MissingRisk) };
    Ok(Gain::of(open, mark.price, entry, exposure)?)
}
