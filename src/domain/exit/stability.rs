//! Stability: the range of prices in which an evaluation has the same outcome.

use super::hold::{Hold, PriceDependence};
use super::ladder::reached;
use super::policy::{LadderStep, Policy};
use super::valuation::{EntryTerms, Exposure, Gain, Risk, price_of};
use crate::domain::book::change::EntryPrice;
use crate::domain::book::position::Position;
use crate::domain::book::rung::RungState;
use crate::domain::book::view::BookView;
use crate::domain::units::{OutOfRange, Price, Qty, RMultiple};

/// The range in which an evaluation has the same outcome as at the price in use.
pub struct Stability<'a>(Option<Level<'a>>);

/// The range of gains with the same outcome.
struct Level<'a> {
    open: &'a Position,
    policy: &'a Policy,
    entry: EntryPrice,
    risk: Risk,
    exposure: Exposure,
    /// True: gains below `min_r`. False: gains from `min_r` on.
    is_below: bool,
    /// … and below this rung, the first that is not taken. [R]
    next: Option<RMultiple>,
}

/// Returns the prices, with `scale` decimal places, at which the evaluation of a symbol has the outcome `last`, as at
/// the price in use, while neither the position nor the policy changes. `None` if the outcome depends on more than the
/// price.
pub fn stability<'a>(
    book: BookView<'a>,
    policy: &'a Policy,
    last: Option<&(Hold, EntryTerms)>,
    scale: u32,
) -> Option<Stability<'a>> {
    let Some((hold, terms)) = last else { return book.hot.open.is_none().then_some(Stability(None)) };
    match hold.price_dependence() {
        PriceDependence::Fixed => Some(Stability(None)),
        PriceDependence::Gain => {
            let open = book.book.hot.open.as_ref()?;
            let (entry, risk, exposure) = (open.totals.entry?, terms.risk.ok()??, terms.exposure.ok()??);
            is_steady(open.totals.qty, entry.price, scale).then_some(())?;
            let is_free = |step: &&LadderStep| {
                matches!(open.rung(step.r).map(|rung| rung.state), None | Some(RungState::Armed | RungState::Refused))
            };
            let next = policy.ladder.iter().find(is_free).map(|step| step.r);
            let stability = Stability(Some(Level {
                open,
                policy,
                entry,
                risk,
                exposure,
                is_below: *hold == Hold::BelowMinR,
                next,
            }));
            // A reached rung may be held for its share, which is another case.
            stability.contains(book.symbol.mark?.price).then_some(stability)
        }
        PriceDependence::Changes => None,
    }
}

/// Returns true if the gain is in range at each price with `scale` places between two prices at which it is in range.
/// The gain is out of range only where it is nearly zero and has more places than a decimal can have. No price is
/// nearer to the entry price than its neighbours.
fn is_steady(qty: Qty, entry: Price, scale: u32) -> bool {
    let is_clear = |price: Price| {
        let pnl = price.minus(entry).and_then(|apart| apart.for_qty(qty));
        pnl.is_ok_and(|pnl| pnl.is_zero() || pnl.is_clear())
    };
    qty.is_exact_with(scale.max(entry.scale())) || entry.neighbours(scale).into_iter().all(is_clear)
}

impl Stability<'_> {
    /// Returns the approximate prices where the outcome changes: below and above.
    pub fn edges(&self) -> [Option<Price>; 2] {
        let Some(Level { open, policy, entry, risk, is_below, next, .. }) = &self.0 else { return [None; 2] };
        let (least, next) = if *is_below { (None, Some(policy.min_r)) } else { (Some(policy.min_r), *next) };
        let edge = |r: Option<RMultiple>| price_of(open, policy, *entry, *risk, r?).ok()?;
        if open.totals.qty.is_negative() { [edge(next), edge(least)] } else { [edge(least), edge(next)] }
    }

    /// Returns true if the outcome is the same at this price and at each price between it and the price in use. The
    /// gain, with its rounding, only rises or only falls with the price.
    pub fn contains(&self, price: Price) -> bool {
        let Some(Level { open, policy, entry, exposure, is_below, next, .. }) = &self.0 else { return true };
        let Ok(gain) = Gain::of(open, price, *entry, exposure) else { return false };
        match (gain.reaches_min(), is_below, next) {
            (Ok(false), true, _) => true,
            // Each rung on the way is compared, also a taken one.
            (Ok(true), false, None) => reached(policy, &gain).is_ok(),
            (Ok(true), false, Some(next)) => gain.reaches(*next) == Ok(false) && reached(policy, &gain).is_ok(),
            (Ok(_) | Err(OutOfRange), ..) => false,
        }
    }
}
