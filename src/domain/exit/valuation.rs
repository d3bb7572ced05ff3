//! The valuation of a position at a price: entry risk, gain, cost and R.

use super::policy::{AtrUnit, Policy, RiskTooLarge};
use crate::domain::book::change::EntryPrice;
use crate::domain::book::position::{Position, RiskFields};
use crate::domain::book::symbol::Mark;
use crate::domain::book::view::BookView;
use crate::domain::units::{OutOfRange, Price, Qty, Quote, RMultiple, Ratio};

/// The entry risk, as the policy interprets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Risk {
    /// Risk per unit. [quote per base]
    pub risk_price: Price,
    pub too_large: bool,
    pub too_small: bool,
    /// The ATR was read as a fraction because it was too large to be a price.
    pub as_fraction: bool,
}

/// Returns the risk per unit: `atr × vol`, times the entry price where the ATR is a fraction (docs/spec/fold.md, "Risk
/// fields").
///
/// Returns `None` while a field that it needs is missing.
pub fn risk(position: &Position, policy: &Policy) -> Result<Option<Risk>, OutOfRange> {
    let Some(fields) = &position.risk else { return Ok(None) };
    let entry = position.totals.entry.map(|e| e.price);
    // A fraction has no unit, so a rescaled contract does not change it.
    let of_price = |entry: Price| entry.times(fields.factor);
    let (risk_price, as_fraction) = match (read_as(fields, entry, policy), entry) {
        (ReadAs::TooLarge, Some(entry)) => (of_price(entry)?, true),
        (ReadAs::Absolute | ReadAs::TooLarge, _) => (fields.absolute(), false),
        (ReadAs::Fraction, Some(entry)) => (of_price(entry)?, false),
        (ReadAs::Fraction, None) => return Ok(None),
    };
    let too_small = match entry {
        Some(entry) => risk_price < entry.times(policy.risk_floor)?,
        None => false,
    };
    let too_large = entry.is_some_and(|entry| risk_price >= entry);
    Ok(Some(Risk { risk_price, too_large, too_small, as_fraction }))
}

/// How an ATR is read.
enum ReadAs {
    Absolute,
    Fraction,
    /// As a fraction, because it is too large to be a price.
    TooLarge,
}

fn read_as(fields: &RiskFields, entry: Option<Price>, policy: &Policy) -> ReadAs {
    let is_too_large = || entry.is_some_and(|entry| fields.absolute() >= entry);
    match policy.atr_unit_of(fields.producer.as_deref()) {
        AtrUnit::Absolute if policy.risk_too_large == RiskTooLarge::AsFraction && is_too_large() => ReadAs::TooLarge,
        AtrUnit::Absolute => ReadAs::Absolute,
        AtrUnit::Fraction => ReadAs::Fraction,
    }
}

/// Returns the ATR as the policy reads it: as it was stated where it is a fraction, else in the present unit of the
/// contract.
pub fn atr_value(position: &Position, policy: &Policy) -> Option<Ratio> {
    let fields = position.risk.as_ref()?;
    Some(match read_as(fields, position.totals.entry.map(|entry| entry.price), policy) {
        ReadAs::Absolute => fields.rescaled.map_or(fields.atr_value, |rescaled| rescaled.atr_value),
        ReadAs::Fraction | ReadAs::TooLarge => fields.atr_value,
    })
}

/// The part of an evaluation that no price changes. Nearly all entries are prices, so the engine keeps it until another
/// fact or a policy comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntryTerms {
    pub(super) risk: Result<Option<Risk>, OutOfRange>,
    /// `None` while the entry price or the risk is missing.
    pub(super) exposure: Result<Option<Exposure>, OutOfRange>,
}

/// The amounts of a position that do not depend on the price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exposure {
    /// `cost_bps / 10 000 × |qty| × entry`, a round trip. [quote]
    cost: Quote,
    /// `|qty| × risk_price`. [quote]
    entry_risk: Quote,
    /// `min_r` as an amount. [quote]
    gain_min: Result<Quote, OutOfRange>,
}

impl EntryTerms {
    pub fn of(open: &Position, policy: &Policy) -> Self {
        let risk = risk(open, policy);
        let exposure = match (open.totals.entry, risk) {
            (Some(entry), Ok(Some(risk))) => Exposure::of(open.totals.qty, entry, risk, policy).map(Some),
            _ => Ok(None),
        };
        Self { risk, exposure }
    }
}

impl Exposure {
    fn of(qty: Qty, entry: EntryPrice, risk: Risk, policy: &Policy) -> Result<Self, OutOfRange> {
        let cost = cost(qty, entry, policy)?;
        let entry_risk = risk.risk_price.for_qty(qty.abs())?;
        Ok(Self { cost, entry_risk, gain_min: policy.min_r.of(entry_risk) })
    }
}

/// The gain of a position at a price, as far as every evaluation needs it.
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
    /// Computes the gain. Errors also if the gain does not fit as a multiple of the risk, in every use.
    pub(super) fn of(
        open: &Position,
        price: Price,
        entry: EntryPrice,
        exposure: &Exposure,
    ) -> Result<Self, OutOfRange> {
        let Exposure { cost, entry_risk, gain_min } = *exposure;
        let pnl = price.minus(entry.price)?.for_qty(open.totals.qty)?;
        let net = pnl.minus(cost)?;
        net.in_r(entry_risk)?;
        Ok(Self { pnl, net, entry_risk, gain_min })
    }

    /// Returns true if `r_net ≥ r`, compared without division.
    pub(super) fn reaches(&self, r: RMultiple) -> Result<bool, OutOfRange> {
        Ok(self.net >= r.of(self.entry_risk)?)
    }

    /// Returns true if `r_net ≥ min_r`.
    pub(super) fn reaches_min(&self) -> Result<bool, OutOfRange> {
        Ok(self.net >= self.gain_min?)
    }
}

/// The numbers of one evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Valuation {
    pub mark: Mark,
    pub entry_price: EntryPrice,
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

/// Returns the gain of a position, or `None` while a value that it needs is missing.
pub fn gain(book: BookView<'_>, policy: &Policy) -> Result<Option<Gain>, OutOfRange> {
    let Some(open) = &book.hot.open else { return Ok(None) };
    let terms = EntryTerms::of(open, policy);
    let (Some(mark), Some(entry), Some(_)) = (book.symbol.mark, open.totals.entry, terms.risk?) else {
        return Ok(None);
    };
    let Some(exposure) = &terms.exposure? else { return Ok(None) };
    Gain::of(open, mark.price, entry, exposure).map(Some)
}

impl Valuation {
    /// Returns the valuation of a position, or `None` while a value that it needs is missing.
    pub fn of(book: BookView<'_>, policy: &Policy) -> Result<Option<Self>, OutOfRange> {
        let Some(Gain { pnl, net, entry_risk, .. }) = gain(book, policy)? else { return Ok(None) };
        let Some(open) = &book.hot.open else { return Ok(None) };
        let (Some(mark), Some(entry), Some(risk)) = (book.symbol.mark, open.totals.entry, risk(open, policy)?) else {
            return Ok(None);
        };
        let cost = cost(open.totals.qty, entry, policy)?;
        Ok(Some(Self { mark, entry_price: entry, risk, entry_risk, pnl, cost, r_net: net.in_r(entry_risk)? }))
    }
}

/// Returns the cost of a round trip: `cost_bps / 10 000 × |qty| × entry`. [quote]
fn cost(qty: Qty, entry: EntryPrice, policy: &Policy) -> Result<Quote, OutOfRange> {
    entry.price.for_qty(qty.abs())?.times(policy.cost)
}

/// Returns the price that reaches an R: entry ± (r × risk_price + cost per unit). `None` if no positive price does.
pub fn price_at(open: &Position, policy: &Policy, r: RMultiple) -> Result<Option<Price>, OutOfRange> {
    let (Some(entry), Some(risk)) = (open.totals.entry, risk(open, policy)?) else { return Ok(None) };
    price_of(open, policy, entry, risk, r)
}

pub(super) fn price_of(
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
