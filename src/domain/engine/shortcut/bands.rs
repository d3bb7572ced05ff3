//! Price bands: ranges of prices in which an evaluation has the same outcome.
//!
//! Nearly all entries are prices, and nearly all of them find their position far from its next rung. The band is found
//! by evaluating at its ends; between them the gain only rises or only falls with the price. It never gives an outcome
//! that an evaluation would not give: builds with debug assertions evaluate each price and compare.

use super::price_run::PriceRun;
use crate::domain::book::symbol::Symbol;
use crate::domain::exit::policy::{EntrySource, Mode, Policy};
use crate::domain::exit::{self, EntryTerms, EvalContext, Hold};
use crate::domain::units::{Price, Qty};

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
    /// The band ends when the position is no longer confirmed. [ms since 1970]
    until_ms: u64,
    /// State of the kill switch.
    killed: bool,
    /// `None`: no position is open.
    hold: Option<Hold>,
}

impl PriceBand {
    /// Returns the band around the price in use, where an evaluation has just returned `hold`. Returns `None` if no
    /// other price is known to have the same outcome.
    pub fn around(
        symbol: &Symbol,
        policy: &Policy,
        terms: Option<&EntryTerms>,
        at: EvalContext<'_>,
        hold: Option<Hold>,
    ) -> Option<Self> {
        let mark = symbol.hot.mark.filter(|_| symbol.hot.held_price.is_none())?;
        let scale = mark.price.scale() + SCALE_FINER;
        let middle = mark.price.at_scale(scale).filter(|middle| *middle > 0 && scale <= SCALE_MAX)?;
        let one = 10i128.pow(JUMP_SCALE);
        let jump = i128::from(policy.max_price_jump.at_scale(JUMP_SCALE)?).min(one);
        // A change from one end to the other must not be a price jump either: 2 × side ≤ jump × (middle − side).
        let side = i64::try_from(i128::from(middle) * jump / (2 * one + jump)).ok().filter(|side| *side > 0)?;
        let same = exit::same_at(symbol, policy, terms, hold, scale)?;
        let [below, above] = same.edges().map(|edge| edge?.rounded_at_scale(scale));
        let is_same = |end: &i64| same.holds(Price::of_scale(*end, scale));
        let end = |furthest: i64, sign: i64| {
            let nearer = PARTS.iter().map(|part| middle + sign * (side / part));
            [furthest].into_iter().chain(nearer).filter(|end| (end - middle) * sign > 0).find(is_same).unwrap_or(middle)
        };
        let low = end(below.map_or(middle - side, |edge| edge.saturating_add(EDGE).max(middle - side)), -1);
        let high = end(above.map_or(middle + side, |edge| edge.saturating_sub(EDGE).min(middle + side)), 1);
        (low < high).then_some(Self { low, high, scale, until_ms: until_ms(symbol, policy), killed: at.killed, hold })
    }

    /// Returns the outcome of an evaluation at this price and time. `None`: evaluate.
    #[inline]
    pub fn hold_at(&self, price: Price, now_ms: u64, killed: bool) -> Option<Option<Hold>> {
        let price = price.at_scale(self.scale)?;
        let is_in = self.low <= price && price <= self.high && now_ms <= self.until_ms && killed == self.killed;
        is_in.then_some(self.hold)
    }

    /// Returns the outcome of an evaluation at each price of a price run. `None`: at least one has to be evaluated.
    #[inline]
    pub fn hold_over(&self, run: &PriceRun, killed: bool) -> Option<Option<Hold>> {
        let now_ms = run.last_entry.ms;
        self.hold_at(run.high, now_ms, killed)?;
        self.hold_at(run.low, now_ms, killed).filter(|_| run.scale <= self.scale)
    }
}

/// Returns the time at which an open position is no longer confirmed. [ms since 1970]
fn until_ms(symbol: &Symbol, policy: &Policy) -> u64 {
    match (&symbol.hot.open, policy.mode) {
        (Some(open), Mode::Live) => open.confirmed_ms.saturating_add(policy.max_position_age_ms),
        _ => u64::MAX,
    }
}

/// The band around the price in use, and the band that the price came from: prices often return there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BandCache {
    now: Option<PriceBand>,
    former: Option<PriceBand>,
}

impl BandCache {
    /// Returns the band around the price in use.
    #[inline]
    pub fn now(&self) -> Option<&PriceBand> {
        self.now.as_ref()
    }

    /// Returns the cache after the price left its band for another one.
    pub fn entered(self, now: Option<PriceBand>) -> Self {
        Self { now, former: self.now.or(self.former) }
    }

    /// Returns the cache after the price left its band for the former one, and the outcome of an evaluation there.
    /// Returns `None` if the former band does not contain the price.
    pub fn went_back(self, price: Price, now_ms: u64, killed: bool) -> Option<(Self, Option<Hold>)> {
        let hold = self.former?.hold_at(price, now_ms, killed)?;
        Some((Self { now: self.former, former: self.now }, hold))
    }
}

/// The bands before a fact that should change nothing, and the part of the position that shows whether it did.
#[derive(Clone, Copy, Debug)]
pub struct Stability {
    band: PriceBand,
    former: Option<PriceBand>,
    held: Option<Held>,
}

/// Quantity, and entry price with its source: what an evaluation reads. The entry that they came from does not matter.
type Held = (Qty, Option<(Price, EntrySource)>);

impl Stability {
    /// Returns `None` if no band is known for the price in use.
    pub fn new(bands: BandCache, symbol: &Symbol) -> Option<Self> {
        Some(Self { band: bands.now?, former: bands.former, held: held(symbol) })
    }

    /// Returns the bands after the fact, and the outcome of an evaluation there. Returns `None` if the fact changed the
    /// position.
    pub fn after(self, symbol: &Symbol, policy: &Policy, at: EvalContext<'_>) -> Option<(BandCache, Option<Hold>)> {
        let band = PriceBand { until_ms: until_ms(symbol, policy), ..self.band };
        let is_same = held(symbol) == self.held && at.killed == band.killed && at.now_ms <= band.until_ms;
        let mark = symbol.hot.mark.filter(|_| is_same)?;
        // The price is the former one. It may be too old by now, unless a hold of a higher rank applies.
        let is_stale = at.now_ms.saturating_sub(mark.entry.ms) > policy.max_price_age_ms;
        let hold = band.hold.map(|hold| if is_stale { hold.min(Hold::StalePrice) } else { hold });
        Some((BandCache { now: Some(band), former: self.former }, hold))
    }
}

fn held(symbol: &Symbol) -> Option<Held> {
    let totals = symbol.hot.open.as_ref()?.totals;
    Some((totals.qty, totals.entry.map(|entry| (entry.price, entry.source))))
}
