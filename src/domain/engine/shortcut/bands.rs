//! Price bands: ranges of prices in which an evaluation has the same outcome.
//!
//! Nearly all entries are prices, and nearly all of them find their position far from its next rung. The band is found
//! by evaluating at its ends; between them the gain only rises or only falls with the price. It never gives an outcome
//! that an evaluation would not give: builds with debug assertions evaluate each price and compare.

use crate::domain::book::view::BookView;
use crate::domain::exit::policy::Policy;
use crate::domain::exit::{self, EntryTerms, Hold};
use crate::domain::units::Price;

/// Extra decimal places of a band's ends, compared with the price. [1]
const SCALE_FINER: u32 = 2;
/// Prices with more decimal places are evaluated one by one. [1]
const SCALE_MAX: u32 = 12;
/// Decimal places of the policy's price jump that are used. [1]
const JUMP_SCALE: u32 = 6;
/// Distance between the end of a band and the price where a rung is reached. The exact price is found only by trying.
/// [10⁻ᵖˡᵃᶜᵉˢ]
const EDGE: i64 = 2;
/// Parts of the widest band that are tried if that distance was too small.
const PARTS: [i64; 2] = [16, 256];

/// A band of prices, and the outcome of an evaluation in it until the position or the policy changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceBand {
    /// The lowest and the highest price, in units of the last decimal place.
    low: i64,
    high: i64,
    /// Decimal places of both. [1]
    scale: u32,
    /// `None`: no position is open.
    hold: Option<Hold>,
}

impl PriceBand {
    /// Returns the band around the price in use, where an evaluation has the outcome `last`. Returns `None` if no other
    /// price is known to have the same outcome.
    pub fn around(book: BookView<'_>, policy: &Policy, last: Option<(Hold, EntryTerms)>) -> Option<Self> {
        let mark = book.symbol.mark.filter(|_| book.symbol.held_price.is_none())?;
        let scale = mark.price.scale() + SCALE_FINER;
        let middle = mark.price.at_scale(scale).filter(|middle| *middle > 0 && scale <= SCALE_MAX)?;
        let one = 10i128.pow(JUMP_SCALE);
        let jump = i128::from(policy.max_price_jump.at_scale(JUMP_SCALE)?).min(one);
        // A change from one end to the other must not be a price jump either: 2 × side ≤ jump × (middle − side).
        let side = i64::try_from(i128::from(middle) * jump / (2 * one + jump)).ok().filter(|side| *side > 0)?;
        let stability = exit::stability(book, policy, last.as_ref(), scale)?;
        let [below, above] = stability.edges().map(|edge| edge?.rounded_at_scale(scale));
        let is_stable = |end: &i64| stability.contains(Price::of_scale(*end, scale));
        let end = |furthest: i64, sign: i64| {
            let nearer = PARTS.iter().map(|part| middle + sign * (side / part));
            [furthest]
                .into_iter()
                .chain(nearer)
                .filter(|end| (end - middle) * sign > 0)
                .find(is_stable)
                .unwrap_or(middle)
        };
        let low = end(below.map_or(middle - side, |edge| edge.saturating_add(EDGE).max(middle - side)), -1);
        let high = end(above.map_or(middle + side, |edge| edge.saturating_sub(EDGE).min(middle + side)), 1);
        (low < high).then_some(Self { low, high, scale, hold: last.map(|(hold, _)| hold) })
    }

    /// Returns the lowest and the highest price, in units of the last decimal place, and the number of those places.
    pub const fn ends(&self) -> (i64, i64, u32) {
        (self.low, self.high, self.scale)
    }

    /// Returns the outcome of an evaluation at this price. `None`: evaluate.
    #[inline]
    pub fn hold_at(&self, price: Price) -> Option<Option<Hold>> {
        let price = price.at_scale(self.scale)?;
        (self.low <= price && price <= self.high).then_some(self.hold)
    }
}
