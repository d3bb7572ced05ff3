//! The decision: a pure function of policy, position and price. Harvest, or hold with a reason.

use serde::{Deserialize, Serialize};

use super::policy::{AtrUnit, Base, LadderStep, Mode, Policy, RiskTooLarge};
use super::position::{EntryPrice, Instance};
use super::rungs::RungState;
use super::symbol::{Mark, Symbol};
use super::units::{OutOfRange, Price, Qty, Quote, RMultiple, Ratio};

/// Why nothing is harvested, in the order of SPEC §5: the first that applies counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hold {
    Killed,
    AwaitingResult,
    HistoryGap,
    Diverged,
    MissingEntryPrice,
    MissingRisk,
    RiskTooSmall,
    RiskTooLarge,
    NoPrice,
    PriceJump,
    StalePrice,
    WeakEntry,
    WeakRisk,
    StalePosition,
    NotLive,
    NoInstrument,
    BelowMinR,
    NoRung,
    RetryWait,
    BelowMinimum,
    RateLimited,
    /// The numbers do not fit exact arithmetic; a last resort, so that the evaluation is total.
    OutOfRange,
}

impl Hold {
    pub const ALL: [Self; 22] = [
        Self::Killed,
        Self::AwaitingResult,
        Self::HistoryGap,
        Self::Diverged,
        Self::MissingEntryPrice,
        Self::MissingRisk,
        Self::RiskTooSmall,
        Self::RiskTooLarge,
        Self::NoPrice,
        Self::PriceJump,
        Self::StalePrice,
        Self::WeakEntry,
        Self::WeakRisk,
        Self::StalePosition,
        Self::NotLive,
        Self::NoInstrument,
        Self::BelowMinR,
        Self::NoRung,
        Self::RetryWait,
        Self::BelowMinimum,
        Self::RateLimited,
        Self::OutOfRange,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::AwaitingResult => "awaiting_result",
            Self::HistoryGap => "history_gap",
            Self::Diverged => "diverged",
            Self::MissingEntryPrice => "missing_entry_price",
            Self::MissingRisk => "missing_risk",
            Self::RiskTooSmall => "risk_too_small",
            Self::RiskTooLarge => "risk_too_large",
            Self::NoPrice => "no_price",
            Self::PriceJump => "price_jump",
            Self::StalePrice => "stale_price",
            Self::WeakEntry => "weak_entry",
            Self::WeakRisk => "weak_risk",
            Self::StalePosition => "stale_position",
            Self::NotLive => "not_live",
            Self::NoInstrument => "no_instrument",
            Self::BelowMinR => "below_min_r",
            Self::NoRung => "no_rung",
            Self::RetryWait => "retry_wait",
            Self::BelowMinimum => "below_minimum",
            Self::RateLimited => "rate_limited",
            Self::OutOfRange => "out_of_range",
        }
    }
}

/// What is remarkable about a position without stopping its evaluation by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    HistoryGap,
    Diverged,
    EntryPriceDisagrees,
    RiskTooLarge,
    RiskTooSmall,
    RiskAsFraction,
    RiskAccepted,
    ResultUnknown,
    RungFailed,
}

impl Flag {
    pub const fn name(self) -> &'static str {
        match self {
            Self::HistoryGap => "history_gap",
            Self::Diverged => "diverged",
            Self::EntryPriceDisagrees => "entry_price_disagrees",
            Self::RiskTooLarge => "risk_too_large",
            Self::RiskTooSmall => "risk_too_small",
            Self::RiskAsFraction => "risk_as_fraction",
            Self::RiskAccepted => "risk_accepted",
            Self::ResultUnknown => "result_unknown",
            Self::RungFailed => "rung_failed",
        }
    }
}

/// The risk taken at entry, as the policy reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Risk {
    /// Risk per unit. [quote per base]
    pub risk_price: Price,
    pub too_large: bool,
    pub too_small: bool,
    /// The ATR was read as a fraction because it was too large to be a price.
    pub as_fraction: bool,
}

/// Risk per unit: `atr × vol`, times the entry price where the ATR is a fraction (SPEC §4).
///
/// `None` while a field that it needs is missing.
pub fn risk(instance: &Instance, policy: &Policy) -> Result<Option<Risk>, OutOfRange> {
    let Some(fields) = &instance.risk else { return Ok(None) };
    let entry = instance.totals.entry.map(|e| e.price);
    let factor = fields.factor;
    let absolute = Price::new(factor.get());
    let of_price = |entry: Price| entry.times(factor);
    let (risk_price, as_fraction) = match (policy.atr_unit_of(fields.producer.as_deref()), entry) {
        (AtrUnit::Absolute, Some(entry)) if policy.risk_too_large == RiskTooLarge::AsFraction && absolute >= entry => {
            (of_price(entry)?, true)
        }
        (AtrUnit::Absolute, _) => (absolute, false),
        (AtrUnit::Fraction, Some(entry)) => (of_price(entry)?, false),
        (AtrUnit::Fraction, None) => return Ok(None),
    };
    let too_small = match entry {
        Some(entry) => risk_price < entry.times(policy.risk_floor)?,
        None => false,
    };
    let too_large = entry.is_some_and(|entry| risk_price >= entry);
    Ok(Some(Risk { risk_price, too_large, too_small, as_fraction }))
}

/// The numbers of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub mark: Mark,
    pub entry: EntryPrice,
    pub risk: Risk,
    /// `|qty| × risk_price`. [quote]
    pub entry_risk: Quote,
    /// `(mark − entry) × qty`. [quote]
    pub pnl: Quote,
    /// `cost_bps / 10 000 × |qty| × entry`, a round trip. [quote]
    pub cost: Quote,
    /// `(pnl − cost) / entry_risk`, 6 places. [R]
    pub r_net: RMultiple,
}

impl Reading {
    /// Is `r_net ≥ r`, compared without dividing.
    pub fn reaches(&self, r: RMultiple) -> Result<bool, OutOfRange> {
        Ok(self.pnl.minus(self.cost)? >= r.of(self.entry_risk)?)
    }
}

/// The numbers of a position, `None` while something that they need is missing.
pub fn read(symbol: &Symbol, policy: &Policy) -> Result<Option<Reading>, OutOfRange> {
    let Some(open) = &symbol.hot.open else { return Ok(None) };
    let (Some(mark), Some(entry), Some(risk)) = (symbol.hot.mark, open.totals.entry, risk(open, policy)?) else {
        return Ok(None);
    };
    reading(open, policy, mark, entry, risk).map(Some)
}

fn reading(open: &Instance, policy: &Policy, mark: Mark, entry: EntryPrice, risk: Risk) -> Result<Reading, OutOfRange> {
    let qty = open.totals.qty;
    let pnl = mark.price.minus(entry.price)?.for_qty(qty)?;
    let cost = entry.price.for_qty(qty.abs())?.times(policy.cost)?;
    let entry_risk = risk.risk_price.for_qty(qty.abs())?;
    let r_net = pnl.minus(cost)?.in_r(entry_risk)?;
    Ok(Reading { mark, entry, risk, entry_risk, pnl, cost, r_net })
}

/// What is known outside of the symbol when it is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Time of the entry that is processed. [ms since 1970]
    pub now_ms: u64,
    pub killed: bool,
    /// Decisions of all symbols that are less than a minute old.
    pub decisions_recent: u64,
}

/// Everything up to the numbers: a reason to hold, or the reading to choose from.
pub fn assess(symbol: &Symbol, policy: &Policy, at: Circumstances) -> Result<Result<Reading, Hold>, OutOfRange> {
    let hot = &symbol.hot;
    let Some(open) = &hot.open else { return Ok(Err(Hold::NoRung)) };
    let hold = |hold| Ok(Err(hold));
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
    let (Some(fields), Some(risk)) = (&open.risk, risk(open, policy)?) else { return hold(Hold::MissingRisk) };
    if risk.too_small {
        return hold(Hold::RiskTooSmall);
    }
    if risk.too_large && policy.risk_too_large == RiskTooLarge::Refuse {
        return hold(Hold::RiskTooLarge);
    }
    let Some(mark) = hot.mark else { return hold(Hold::NoPrice) };
    if hot.held_price.is_some() {
        return hold(Hold::PriceJump);
    }
    if at.now_ms.saturating_sub(mark.entry.ms) > policy.max_price_age_ms {
        return hold(Hold::StalePrice);
    }
    if policy.mode == Mode::Live {
        if !open.risk_accepted && !policy.live_entry_sources.contains(&entry.source) {
            return hold(Hold::WeakEntry);
        }
        if !open.risk_accepted && !policy.live_risk_sources.contains(&fields.source) {
            return hold(Hold::WeakRisk);
        }
        if at.now_ms.saturating_sub(open.confirmed_ms) > policy.max_position_age_ms {
            return hold(Hold::StalePosition);
        }
        if !policy.live_symbols.is_empty() && !policy.live_symbols.contains(&symbol.name) {
            return hold(Hold::NotLive);
        }
        if policy.require_instrument && symbol.step_size().is_none() {
            return hold(Hold::NoInstrument);
        }
    }
    reading(open, policy, mark, entry, risk).map(Ok)
}

/// What to harvest.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Armed rungs that are reached, ascending. [R]
    pub rungs: Vec<RMultiple>,
    /// [1]
    pub share: Ratio,
    /// [base]
    pub qty: Qty,
    pub attempt: u32,
}

/// The rungs of the ladder that a reading has reached.
pub fn passed(policy: &Policy, reading: &Reading) -> Result<Vec<LadderStep>, OutOfRange> {
    let mut passed = Vec::new();
    for step in &policy.ladder {
        if !reading.reaches(step.r)? {
            break;
        }
        passed.push(*step);
    }
    Ok(passed)
}

/// From the numbers to the rungs, the share and the quantity (SPEC §5, *Ladder*).
pub fn choose(
    symbol: &Symbol,
    policy: &Policy,
    reading: &Reading,
    at: Circumstances,
) -> Result<Result<Choice, Hold>, OutOfRange> {
    let Some(open) = &symbol.hot.open else { return Ok(Err(Hold::NoRung)) };
    if !reading.reaches(policy.min_r)? {
        return Ok(Err(Hold::BelowMinR));
    }
    let passed = passed(policy, reading)?;
    let in_state = |state| passed.iter().filter(move |step| open.rung_state(step.r, at.now_ms) == state);
    let rungs: Vec<RMultiple> = in_state(RungState::Armed).map(|step| step.r).collect();
    let waiting = in_state(RungState::Refused).count();
    let fractions = passed.iter().try_fold(Ratio::ZERO, |sum, step| sum.plus(step.fraction))?;
    let share = fractions.minus(open.share_taken()?)?;
    if rungs.len() + waiting == 0 || !share.is_positive() {
        return Ok(Err(Hold::NoRung));
    }
    if rungs.is_empty() {
        return Ok(Err(Hold::RetryWait));
    }
    let qty = qty_of(symbol, open, policy, share)?;
    let filters = symbol.hot.instrument.unwrap_or_default();
    let notional_min = filters.notional_min.unwrap_or(policy.min_notional);
    if qty.is_zero()
        || filters.qty_min.is_some_and(|qty_min| qty < qty_min)
        || reading.mark.price.for_qty(qty)? < notional_min
    {
        return Ok(Err(Hold::BelowMinimum));
    }
    if at.decisions_recent >= policy.max_actions_per_min {
        return Ok(Err(Hold::RateLimited));
    }
    let attempt = 1 + rungs.iter().filter_map(|&r| open.rung(r)).map(|rung| rung.attempt).max().unwrap_or(0);
    Ok(Ok(Choice { rungs, share, qty, attempt }))
}

/// `initial`: share × min(largest |qty|, |qty| / (1 − shares filled)); `current`: share × |qty|. At most |qty|,
/// rounded down to the step.
fn qty_of(symbol: &Symbol, open: &Instance, policy: &Policy, share: Ratio) -> Result<Qty, OutOfRange> {
    let held = open.totals.qty.abs();
    let wanted = match policy.base {
        Base::Current => held.times(share)?,
        Base::Initial => {
            let of_largest = open.totals.qty_largest.times(share)?;
            let unfilled = Ratio::ONE.minus(open.share_filled()?)?;
            if unfilled.is_positive() { of_largest.min(held.times(share)?.over(unfilled)?) } else { of_largest }
        }
    };
    let qty = wanted.min(held);
    match symbol.step_size() {
        Some(step) => qty.floor_to(step),
        None => Ok(qty),
    }
}

/// Price that reaches an R: entry ± (r × risk_price + cost per unit). `None` where no positive price does.
pub fn price_at(open: &Instance, policy: &Policy, r: RMultiple) -> Result<Option<Price>, OutOfRange> {
    let (Some(entry), Some(risk)) = (open.totals.entry, risk(open, policy)?) else { return Ok(None) };
    let cost = entry.price.times(policy.cost)?;
    let distance = r.of_price(risk.risk_price)?.plus(cost)?;
    let price =
        if open.totals.qty.is_negative() { entry.price.minus(distance)? } else { entry.price.plus(distance)? };
    Ok(Some(price).filter(|p| p.is_positive()))
}

/// What is remarkable about an open position.
pub fn flags(symbol: &Symbol, instance: &Instance, policy: &Policy) -> Vec<Flag> {
    let risk = risk(instance, policy).ok().flatten();
    let any = |state| instance.rungs.iter().any(|rung| rung.state == state);
    let open = instance.is_open();
    [
        (open && symbol.hot.history_gap, Flag::HistoryGap),
        (open && symbol.hot.diverged, Flag::Diverged),
        (instance.entry_price_disagrees, Flag::EntryPriceDisagrees),
        (risk.is_some_and(|r| r.too_large), Flag::RiskTooLarge),
        (risk.is_some_and(|r| r.too_small), Flag::RiskTooSmall),
        (risk.is_some_and(|r| r.as_fraction), Flag::RiskAsFraction),
        (instance.risk_accepted, Flag::RiskAccepted),
        (any(RungState::Unknown), Flag::ResultUnknown),
        (any(RungState::Failed), Flag::RungFailed),
    ]
    .into_iter()
    .filter_map(|(holds, flag)| holds.then_some(flag))
    .collect()
}
