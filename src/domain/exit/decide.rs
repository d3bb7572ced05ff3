//! The decision: a pure function of policy, position and price. Harvest, or hold with a reason.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::policy::{AtrUnit, Base, LadderStep, Mode, Policy, RiskTooLarge};
use crate::domain::book::position::{EntryPrice, Position};
use crate::domain::book::rungs::RungState;
use crate::domain::book::symbol::{Mark, Symbol};
use crate::domain::event::{Instrument, InstrumentStatus};
use crate::domain::units::{OutOfRange, Price, Qty, Quote, RMultiple, Ratio};

/// How long a decision counts for the rate limit. [ms]
pub const RATE_WINDOW_MS: u64 = 60_000;

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
    NotTrading,
    BelowMinR,
    NoRung,
    RetryWait,
    BelowMinimum,
    RateLimited,
    /// The numbers do not fit exact arithmetic; a last resort, so that the evaluation is total.
    OutOfRange,
}

impl Hold {
    pub const ALL: [Self; 23] = [
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
        Self::NotTrading,
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
            Self::NotTrading => "not_trading",
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
    /// The contract was rescaled while the position was open.
    Rescaled,
    /// A decision asks for no more than the exchange takes in one order.
    Capped,
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
            Self::Rescaled => "rescaled",
            Self::Capped => "capped",
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
pub fn risk(position: &Position, policy: &Policy) -> Result<Option<Risk>, OutOfRange> {
    let Some(fields) = &position.risk else { return Ok(None) };
    let entry = position.totals.entry.map(|e| e.price);
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

/// What an evaluation needs of a position and no price changes. Prices are nearly all there is: the engine keeps it
/// until a fact or a policy comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntryTerms {
    risk: Result<Option<Risk>, OutOfRange>,
    /// `None` while the entry price or the risk is missing.
    stakes: Result<Option<Exposure>, OutOfRange>,
}

/// The money of a position that stays the same whatever its price.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Exposure {
    /// `cost_bps / 10 000 × |qty| × entry`, a round trip. [quote]
    cost: Quote,
    /// `|qty| × risk_price`. [quote]
    entry_risk: Quote,
    /// What `min_r` is in money. [quote]
    gain_min: Result<Quote, OutOfRange>,
}

impl EntryTerms {
    pub fn of(open: &Position, policy: &Policy) -> Self {
        let risk = risk(open, policy);
        let stakes = match (open.totals.entry, risk) {
            (Some(entry), Ok(Some(risk))) => Exposure::of(open.totals.qty, entry, risk, policy).map(Some),
            _ => Ok(None),
        };
        Self { risk, stakes }
    }
}

impl Exposure {
    fn of(qty: Qty, entry: EntryPrice, risk: Risk, policy: &Policy) -> Result<Self, OutOfRange> {
        let cost = cost(qty, entry, policy)?;
        let entry_risk = risk.risk_price.for_qty(qty.abs())?;
        Ok(Self { cost, entry_risk, gain_min: policy.min_r.of(entry_risk) })
    }
}

/// What a position has gained at a price, as far as every evaluation needs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// `(mark − entry) × qty`. [quote]
    pnl: Quote,
    /// `pnl − cost`. [quote]
    net: Quote,
    entry_risk: Quote,
    gain_min: Result<Quote, OutOfRange>,
}

impl Gain {
    /// Errors also where the gain does not fit as a multiple of the risk, whoever asks for it.
    fn of(open: &Position, price: Price, entry: EntryPrice, stakes: &Exposure) -> Result<Self, OutOfRange> {
        let Exposure { cost, entry_risk, gain_min } = *stakes;
        let pnl = price.minus(entry.price)?.for_qty(open.totals.qty)?;
        let net = pnl.minus(cost)?;
        net.check_in_r(entry_risk)?;
        Ok(Self { pnl, net, entry_risk, gain_min })
    }

    /// Is `r_net ≥ r`, compared without dividing.
    fn reaches(&self, r: RMultiple) -> Result<bool, OutOfRange> {
        Ok(self.net >= r.of(self.entry_risk)?)
    }

    /// Is `r_net ≥ min_r`.
    fn reaches_min(&self) -> Result<bool, OutOfRange> {
        Ok(self.net >= self.gain_min?)
    }
}

/// The numbers of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Valuation {
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

/// What a position has gained, `None` while something that says it is missing.
pub fn gain(symbol: &Symbol, policy: &Policy) -> Result<Option<Gain>, OutOfRange> {
    let Some(open) = &symbol.hot.open else { return Ok(None) };
    let terms = EntryTerms::of(open, policy);
    let (Some(mark), Some(entry), Some(_)) = (symbol.hot.mark, open.totals.entry, terms.risk?) else {
        return Ok(None);
    };
    let Some(stakes) = &terms.stakes? else { return Ok(None) };
    Gain::of(open, mark.price, entry, stakes).map(Some)
}

/// The numbers of a position, `None` while something that they need is missing.
pub fn read(symbol: &Symbol, policy: &Policy) -> Result<Option<Valuation>, OutOfRange> {
    let Some(Gain { pnl, net, entry_risk, .. }) = gain(symbol, policy)? else { return Ok(None) };
    let Some(open) = &symbol.hot.open else { return Ok(None) };
    let (Some(mark), Some(entry), Some(risk)) = (symbol.hot.mark, open.totals.entry, risk(open, policy)?) else {
        return Ok(None);
    };
    let cost = cost(open.totals.qty, entry, policy)?;
    Ok(Some(Valuation { mark, entry, risk, entry_risk, pnl, cost, r_net: net.in_r(entry_risk)? }))
}

/// `cost_bps / 10 000 × |qty| × entry`, a round trip. [quote]
fn cost(qty: Qty, entry: EntryPrice, policy: &Policy) -> Result<Quote, OutOfRange> {
    entry.price.for_qty(qty.abs())?.times(policy.cost)
}

/// What is known outside of the symbol when it is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct EvalContext<'a> {
    /// Time of the entry that is processed. [ms since 1970]
    pub now_ms: u64,
    pub killed: bool,
    /// Times of the last decisions, of all symbols. [ms since 1970]
    pub decided_ms: &'a VecDeque<u64>,
}

impl EvalContext<'_> {
    /// Decisions of all symbols that are less than a minute old.
    fn decisions_recent(&self) -> u64 {
        self.decided_ms.iter().filter(|&&ms| self.now_ms.saturating_sub(ms) < RATE_WINDOW_MS).count() as u64
    }
}

/// Everything up to the numbers: a reason to hold, or the gain to choose by. `terms` are those of the open position.
pub fn check_guards(
    symbol: &Symbol,
    policy: &Policy,
    terms: &EntryTerms,
    at: EvalContext<'_>,
) -> Result<Result<Gain, Hold>, OutOfRange> {
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
    let (Some(fields), Some(risk)) = (&open.risk, terms.risk?) else { return hold(Hold::MissingRisk) };
    if risk.too_small {
        return hold(Hold::RiskTooSmall);
    }
    if risk.too_large && policy.risk_too_large == RiskTooLarge::Refuse {
        return hold(Hold::RiskTooLarge);
    }
    if hot.held_price.is_some() || open.price_doubted.is_some() {
        return hold(Hold::PriceJump);
    }
    let Some(mark) = hot.mark else { return hold(Hold::NoPrice) };
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
        if !policy.live_symbols.is_empty() && !policy.live_symbols.contains(&symbol.name) {
            return hold(Hold::NotLive);
        }
        if policy.require_instrument && symbol.step_size().is_none() {
            return hold(Hold::NoInstrument);
        }
        if hot.instrument.is_some_and(|instrument| instrument.status == Some(InstrumentStatus::NotTrading)) {
            return hold(Hold::NotTrading);
        }
    }
    let Some(stakes) = &terms.stakes? else { return hold(Hold::MissingRisk) };
    Gain::of(open, mark.price, entry, stakes).map(Ok)
}

/// Where an evaluation comes to the same as at the price in use.
pub struct Same<'a>(Option<Level<'a>>);

/// Gains at which it comes to the same.
struct Level<'a> {
    open: &'a Position,
    policy: &'a Policy,
    entry: EntryPrice,
    risk: Risk,
    stakes: Exposure,
    /// Below the least R; else from there on.
    is_below: bool,
    /// … and below this rung, the first that is not taken. [R]
    next: Option<RMultiple>,
}

/// Says at which prices, of so many places, the evaluation of a symbol that has come to `hold` at the price in use comes
/// to it again, while neither the position nor the policy changes. `None` where that depends on more than the price.
pub fn same_at<'a>(
    symbol: &'a Symbol,
    policy: &'a Policy,
    terms: Option<&EntryTerms>,
    hold: Option<Hold>,
    scale: u32,
) -> Option<Same<'a>> {
    match hold {
        None => symbol.hot.open.is_none().then_some(Same(None)),
        Some(
            Hold::Killed
            | Hold::AwaitingResult
            | Hold::HistoryGap
            | Hold::Diverged
            | Hold::MissingEntryPrice
            | Hold::MissingRisk
            | Hold::RiskTooSmall
            | Hold::RiskTooLarge
            | Hold::WeakEntry
            | Hold::WeakRisk
            | Hold::NotLive
            | Hold::NoInstrument
            | Hold::NotTrading,
        ) => Some(Same(None)),
        Some(Hold::BelowMinR | Hold::NoRung) => {
            let open = symbol.hot.open.as_ref()?;
            let (entry, risk, stakes) = (open.totals.entry?, terms?.risk.ok()??, terms?.stakes.ok()??);
            is_steady(open.totals.qty, entry.price, scale).then_some(())?;
            let is_free = |step: &&LadderStep| {
                matches!(open.rung(step.r).map(|rung| rung.state), None | Some(RungState::Armed | RungState::Refused))
            };
            let next = policy.ladder.iter().find(is_free).map(|step| step.r);
            let same =
                Same(Some(Level { open, policy, entry, risk, stakes, is_below: hold == Some(Hold::BelowMinR), next }));
            // A rung that is reached may be held for its share, which is another matter.
            same.holds(symbol.hot.mark?.price).then_some(same)
        }
        Some(
            Hold::NoPrice
            | Hold::PriceJump
            | Hold::StalePrice
            | Hold::StalePosition
            | Hold::RetryWait
            | Hold::BelowMinimum
            | Hold::RateLimited
            | Hold::OutOfRange,
        ) => None,
    }
}

/// Is a gain in range at each price of so many places between two at which it is. It is out of range there only where it is
/// next to nothing and has more places than a decimal holds; nothing is nearer to the entry than its neighbours.
fn is_steady(qty: Qty, entry: Price, scale: u32) -> bool {
    let is_clear = |price: Price| {
        let pnl = price.minus(entry).and_then(|apart| apart.for_qty(qty));
        pnl.is_ok_and(|pnl| pnl.is_zero() || pnl.is_clear())
    };
    qty.is_exact_with(scale.max(entry.scale())) || entry.neighbours(scale).into_iter().all(is_clear)
}

impl Same<'_> {
    /// About where it comes to something else: below and above.
    pub fn edges(&self) -> [Option<Price>; 2] {
        let Some(Level { open, policy, entry, risk, is_below, next, .. }) = &self.0 else { return [None; 2] };
        let (least, next) = if *is_below { (None, Some(policy.min_r)) } else { (Some(policy.min_r), *next) };
        let edge = |r: Option<RMultiple>| price_of(open, policy, *entry, *risk, r?).ok()?;
        if open.totals.qty.is_negative() { [edge(next), edge(least)] } else { [edge(least), edge(next)] }
    }

    /// Does it come to the same at this price, and at each one between this and the price in use: the gain, rounded as it
    /// is, only rises or only falls with the price.
    pub fn holds(&self, price: Price) -> bool {
        let Some(Level { open, policy, entry, stakes, is_below, next, .. }) = &self.0 else { return true };
        let Ok(gain) = Gain::of(open, price, *entry, stakes) else { return false };
        match (gain.reaches_min(), is_below, next) {
            (Ok(false), true, _) => true,
            // Each rung on the way is asked for, also where it is taken.
            (Ok(true), false, None) => reached(policy, &gain).is_ok(),
            (Ok(true), false, Some(next)) => gain.reaches(*next) == Ok(false) && reached(policy, &gain).is_ok(),
            (Ok(_) | Err(OutOfRange), ..) => false,
        }
    }
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
    /// The quantity is the most that the exchange takes in one order.
    pub is_capped: bool,
}

/// The rungs of the ladder that a gain has reached.
pub fn reached<'a>(policy: &'a Policy, gain: &Gain) -> Result<&'a [LadderStep], OutOfRange> {
    let mut count = 0;
    for step in &policy.ladder {
        if !gain.reaches(step.r)? {
            break;
        }
        count += 1;
    }
    Ok(&policy.ladder[..count])
}

/// From the gain to the rungs, the share and the quantity (SPEC §5, *Ladder*).
pub fn select_rungs(
    symbol: &Symbol,
    policy: &Policy,
    gain: &Gain,
    at: EvalContext<'_>,
) -> Result<Result<Choice, Hold>, OutOfRange> {
    let Some(open) = &symbol.hot.open else { return Ok(Err(Hold::NoRung)) };
    let Some(mark) = symbol.hot.mark else { return Ok(Err(Hold::NoPrice)) };
    if !gain.reaches_min()? {
        return Ok(Err(Hold::BelowMinR));
    }
    let reached = reached(policy, gain)?;
    let in_state = |state| reached.iter().filter(move |step| open.rung_state(step.r, at.now_ms) == state);
    let rungs: Vec<RMultiple> = in_state(RungState::Armed).map(|step| step.r).collect();
    let waiting = in_state(RungState::Refused).count();
    let fractions = reached.iter().try_fold(Ratio::ZERO, |sum, step| sum.plus(step.fraction))?;
    let share = fractions.minus(open.share_taken()?)?;
    if rungs.len() + waiting == 0 || !share.is_positive() {
        return Ok(Err(Hold::NoRung));
    }
    if rungs.is_empty() {
        return Ok(Err(Hold::RetryWait));
    }
    let filters = symbol.hot.instrument.unwrap_or_default();
    let Sized { qty, share, is_capped } = sized(open, policy, &filters, share)?;
    // The exchange's own minimum notional does not count: it exempts orders that only reduce.
    let is_below = filters.qty_min.is_some_and(|qty_min| qty < qty_min);
    if qty.is_zero() || is_below || mark.price.for_qty(qty)? < policy.min_notional {
        return Ok(Err(Hold::BelowMinimum));
    }
    if at.decisions_recent() >= policy.max_actions_per_min {
        return Ok(Err(Hold::RateLimited));
    }
    let attempt = 1 + rungs.iter().filter_map(|&r| open.rung(r)).map(|rung| rung.attempt).max().unwrap_or(0);
    Ok(Ok(Choice { rungs, share, qty, attempt, is_capped }))
}

/// A quantity, and the share of the position that it is.
struct Sized {
    /// [base]
    qty: Qty,
    /// [1]
    share: Ratio,
    is_capped: bool,
}

/// `initial`: share × min(largest |qty|, |qty| / (1 − shares filled)); `current`: share × |qty|. At most |qty| and the
/// largest quantity of an order, rounded down to the step. What is asked for less than the share has its own share: the
/// rest comes with the next rung (SPEC §5, *Ladder*).
fn sized(open: &Position, policy: &Policy, filters: &Instrument, share: Ratio) -> Result<Sized, OutOfRange> {
    let held = open.totals.qty.abs();
    // |qty| of all shares, as far as nobody else has reduced the position.
    let (whole, wanted) = match policy.base {
        Base::Current => (held, held.times(share)?),
        Base::Initial => {
            let largest = open.totals.qty_largest;
            let of_largest = largest.times(share)?;
            let unfilled = Ratio::ONE.minus(open.share_filled()?)?;
            if unfilled.is_positive() {
                let of_held = held.times(share)?.over(unfilled)?;
                if of_held < of_largest { (held.over(unfilled)?, of_held) } else { (largest, of_largest) }
            } else {
                (largest, of_largest)
            }
        }
    };
    let step = |qty: Qty| filters.step_size.map_or(Ok(qty), |step| qty.floor_to(step));
    let wanted = wanted.min(held);
    match filters.qty_max.filter(|qty_max| wanted > *qty_max) {
        Some(qty_max) => {
            let qty = step(qty_max)?;
            Ok(Sized { qty, share: qty.ratio(whole)?.min(share), is_capped: true })
        }
        None => Ok(Sized { qty: step(wanted)?, share, is_capped: false }),
    }
}

/// Price that reaches an R: entry ± (r × risk_price + cost per unit). `None` where no positive price does.
pub fn price_at(open: &Position, policy: &Policy, r: RMultiple) -> Result<Option<Price>, OutOfRange> {
    let (Some(entry), Some(risk)) = (open.totals.entry, risk(open, policy)?) else { return Ok(None) };
    price_of(open, policy, entry, risk, r)
}

fn price_of(
    open: &Position,
    policy: &Policy,
    entry: EntryPrice,
    risk: Risk,
    r: RMultiple,
) -> Result<Option<Price>, OutOfRange> {
    let cost = entry.price.times(policy.cost)?;
    let distance = r.of_price(risk.risk_price)?.plus(cost)?;
    let price =
        if open.totals.qty.is_negative() { entry.price.minus(distance)? } else { entry.price.plus(distance)? };
    Ok(Some(price).filter(|p| p.is_positive()))
}

/// What is remarkable about an open position.
pub fn flags(symbol: &Symbol, position: &Position, policy: &Policy) -> Vec<Flag> {
    let risk = risk(position, policy).ok().flatten();
    let any = |state| position.rungs.iter().any(|rung| rung.state == state);
    let open = position.is_open();
    [
        (open && symbol.hot.history_gap, Flag::HistoryGap),
        (open && symbol.hot.diverged, Flag::Diverged),
        (position.entry_price_disagrees, Flag::EntryPriceDisagrees),
        (risk.is_some_and(|r| r.too_large), Flag::RiskTooLarge),
        (risk.is_some_and(|r| r.too_small), Flag::RiskTooSmall),
        (risk.is_some_and(|r| r.as_fraction), Flag::RiskAsFraction),
        (position.risk_accepted, Flag::RiskAccepted),
        (any(RungState::Unknown), Flag::ResultUnknown),
        (any(RungState::Failed), Flag::RungFailed),
        (!position.rescales.is_empty(), Flag::Rescaled),
    ]
    .into_iter()
    .filter_map(|(holds, flag)| holds.then_some(flag))
    .collect()
}
