//! The ladder: from a gain to the rungs that it reaches, their share, and the quantity to close.

use super::guards::{EvalContext, Hindrance};
use super::hold::Hold;
use super::policy::{Base, LadderStep, Policy};
use super::valuation::Gain;
use crate::domain::book::position::Position;
use crate::domain::book::rung::RungState;
use crate::domain::book::view::BookView;
use crate::domain::event::Instrument;
use crate::domain::units::{OutOfRange, Qty, RMultiple, Ratio};

/// The rungs, share and quantity to harvest.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The armed rungs that are reached, ascending. [R]
    pub rungs: Vec<RMultiple>,
    /// [1]
    pub share: Ratio,
    /// [base]
    pub qty: Qty,
    pub attempt: u32,
    /// The quantity is limited to the largest that the exchange accepts in one order.
    pub is_capped: bool,
}

/// Returns the rungs of the ladder that a gain has reached.
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

/// Returns the rungs, the share and the quantity for a gain (docs/spec/decision.md, "Ladder", "Quantity"). Errors with
/// the first hold that applies to the numbers.
pub fn select_rungs(
    book: BookView<'_>,
    policy: &Policy,
    gain: &Gain,
    at: EvalContext<'_>,
) -> Result<Choice, Hindrance> {
    let Some(open) = &book.hot.open else { return Err(Hold::NoRung.into()) };
    let Some(mark) = book.symbol.mark else { return Err(Hold::NoPrice.into()) };
    if !gain.reaches_min()? {
        return Err(Hold::BelowMinR.into());
    }
    let reached = reached(policy, gain)?;
    let in_state = |state| reached.iter().filter(move |step| open.rung_state(step.r, at.now_ms) == state);
    let rungs: Vec<RMultiple> = in_state(RungState::Armed).map(|step| step.r).collect();
    let waiting = in_state(RungState::Refused).count();
    let fractions = reached.iter().try_fold(Ratio::ZERO, |sum, step| sum.plus(step.fraction))?;
    let share = fractions.minus(open.share_taken()?)?;
    if rungs.len() + waiting == 0 || !share.is_positive() {
        return Err(Hold::NoRung.into());
    }
    if rungs.is_empty() {
        return Err(Hold::RetryWait.into());
    }
    let filters = book.symbol.instrument.unwrap_or_default();
    let Sized { qty, share, is_capped } = sized(open, policy, &filters, share)?;
    // The exchange's minimum notional does not count, because it exempts orders that only reduce.
    let is_below = filters.qty_min.is_some_and(|qty_min| qty < qty_min);
    if qty.is_zero() || is_below || mark.price.for_qty(qty)? < policy.min_notional {
        return Err(Hold::BelowMinimum.into());
    }
    if at.decisions_recent() >= policy.max_actions_per_min {
        return Err(Hold::RateLimited.into());
    }
    let attempt = 1 + rungs.iter().filter_map(|&r| open.rung(r)).map(|rung| rung.attempt).max().unwrap_or(0);
    Ok(Choice { rungs, share, qty, attempt, is_capped })
}

/// A quantity, and its share of the position.
struct Sized {
    /// [base]
    qty: Qty,
    /// [1]
    share: Ratio,
    is_capped: bool,
}

/// The quantity that a share is taken of (docs/spec/decision.md, "Quantity").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShareBase {
    /// |qty|.
    Open,
    /// The largest |qty| of the position.
    Largest,
    /// |qty| / (1 − shares filled): others have reduced the position.
    OpenOverUnfilled {
        /// [1]
        filled: Ratio,
    },
}

impl ShareBase {
    /// Returns the base as a quantity. [base]
    pub fn qty(self, open: &Position) -> Result<Qty, OutOfRange> {
        let open_qty = open.totals.qty.abs();
        match self {
            Self::Open => Ok(open_qty),
            Self::Largest => Ok(open.totals.qty_largest),
            Self::OpenOverUnfilled { filled } => open_qty.over(Ratio::ONE.minus(filled)?),
        }
    }
}

/// Returns the quantity of which a share of a position is taken.
pub fn share_base(open: &Position, base: Base, share: Ratio) -> Result<ShareBase, OutOfRange> {
    match base {
        Base::Current => Ok(ShareBase::Open),
        Base::Initial => {
            let of_largest = open.totals.qty_largest.times(share)?;
            let filled = open.share_filled()?;
            let unfilled = Ratio::ONE.minus(filled)?;
            let is_reduced = unfilled.is_positive() && open.totals.qty.abs().times(share)?.over(unfilled)? < of_largest;
            Ok(if is_reduced { ShareBase::OpenOverUnfilled { filled } } else { ShareBase::Largest })
        }
    }
}

/// Returns the quantity of a share. `initial`: share × min(largest |qty|, |qty| / (1 − shares filled)); `current`:
/// share × |qty|. At most |qty| and the largest quantity of an order, rounded down to the step. A quantity that is
/// limited by the largest order has a smaller share of its own: the rest comes with the next rung
/// (docs/spec/decision.md, "Share", "Quantity").
fn sized(open: &Position, policy: &Policy, filters: &Instrument, share: Ratio) -> Result<Sized, OutOfRange> {
    let open_qty = open.totals.qty.abs();
    // |qty| of all shares, as far as no other order has reduced the position.
    let base = share_base(open, policy.base, share)?;
    let whole = base.qty(open)?;
    let wanted = match base {
        ShareBase::Open | ShareBase::Largest => whole.times(share)?,
        // The division comes last, so that an even result is exact.
        ShareBase::OpenOverUnfilled { filled } => open_qty.times(share)?.over(Ratio::ONE.minus(filled)?)?,
    };
    let step = |qty: Qty| filters.step_size.map_or(Ok(qty), |step| qty.floor_to(step));
    let wanted = wanted.min(open_qty);
    match filters.qty_max.filter(|qty_max| wanted > *qty_max) {
        Some(qty_max) => {
            let qty = step(qty_max)?;
            Ok(Sized { qty, share: qty.ratio(whole)?.min(share), is_capped: true })
        }
        None => Ok(Sized { qty: step(wanted)?, share, is_capped: false }),
    }
}
