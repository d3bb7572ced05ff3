//! Where a price changes nothing: a band of prices at which an evaluation comes to the same.
//!
//! Nearly all entries are prices, and nearly all of them find their position far from its next rung. The band is found
//! by evaluating at its ends; between them the gain rises or falls with the price. It says nothing that an evaluation
//! would not say: builds with debug assertions make each one and compare.

use super::price_run::PriceRun;
use crate::domain::book::symbol::Symbol;
use crate::domain::exit::policy::{EntrySource, Mode, Policy};
use crate::domain::exit::{self, EntryTerms, EvalContext, Hold};
use crate::domain::units::{Price, Qty};

/// Places of a price that the ends of a band have more. [1]
const SCALE_FINER: u32 = 2;
/// Prices of more places are evaluated each by itself. [1]
const SCALE_MAX: u32 = 12;
/// Places of the policy's jump that are looked at. [1]
const JUMP_SCALE: u32 = 6;
/// How far a band ends from where a rung is reached, which is told to the last places only by trying.
/// [10⁻ᵖˡᵃᶜᵉˢ]
const EDGE: i64 = 2;
/// Parts of the widest band that are tried where that was not far enough.
const PARTS: [i64; 2] = [16, 256];

/// A band of prices, and what an evaluation comes to there until the position or the policy changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceBand {
    /// The lowest and the highest price, in units of the last place.
    low: i64,
    high: i64,
    /// Places of both. [1]
    scale: u32,
    /// A position that is confirmed no more ends it. [ms since 1970]
    until_ms: u64,
    /// How the kill switch stood.
    killed: bool,
    /// `None` where no position is open.
    hold: Option<Hold>,
}

impl PriceBand {
    /// The band around the price in use, at which an evaluation has just come to `hold`. `None` if it is not known to come
    /// to the same at any other price.
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
        // From one end to the other is no jump either: 2 × side ≤ jump × (middle − side).
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

    /// What an evaluation at this price and time comes to; `None` where it has to be made.
    #[inline]
    pub fn hold_at(&self, price: Price, now_ms: u64, killed: bool) -> Option<Option<Hold>> {
        let price = price.at_scale(self.scale)?;
        let is_in = self.low <= price && price <= self.high && now_ms <= self.until_ms && killed == self.killed;
        is_in.then_some(self.hold)
    }

    /// What an evaluation at each price of a stretch comes to; `None` where any of them has to be made.
    #[inline]
    pub fn hold_over(&self, run: &PriceRun, killed: bool) -> Option<Option<Hold>> {
        let now_ms = run.last_entry.ms;
        self.hold_at(run.high, now_ms, killed)?;
        self.hold_at(run.low, now_ms, killed).filter(|_| run.scale <= self.scale)
    }
}

/// When an open position is confirmed no more. [ms since 1970]
fn until_ms(symbol: &Symbol, policy: &Policy) -> u64 {
    match (&symbol.hot.open, policy.mode) {
        (Some(open), Mode::Live) => open.confirmed_ms.saturating_add(policy.max_position_age_ms),
        _ => u64::MAX,
    }
}

/// The band around the price in use and the one that the price came from: it often goes back there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BandCache {
    now: Option<PriceBand>,
    former: Option<PriceBand>,
}

impl BandCache {
    /// The band around the price in use.
    #[inline]
    pub fn now(&self) -> Option<&PriceBand> {
        self.now.as_ref()
    }

    /// The price has left its band for another one.
    pub fn entered(self, now: Option<PriceBand>) -> Self {
        Self { now, former: self.now.or(self.former) }
    }

    /// The price has left its band for the former one, if that holds it. Answers what an evaluation there comes to.
    pub fn went_back(self, price: Price, now_ms: u64, killed: bool) -> Option<(Self, Option<Hold>)> {
        let hold = self.former?.hold_at(price, now_ms, killed)?;
        Some((Self { now: self.former, former: self.now }, hold))
    }
}

/// Bands beside a fact that should change nothing, and what of the position would be changed if it did.
#[derive(Clone, Copy, Debug)]
pub struct Stability {
    band: PriceBand,
    former: Option<PriceBand>,
    held: Option<Held>,
}

/// Quantity, and entry price with its source: what an evaluation looks at. Which entry said it is another matter.
type Held = (Qty, Option<(Price, EntrySource)>);

impl Stability {
    /// `None` if nothing is known of the price in use.
    pub fn new(bands: BandCache, symbol: &Symbol) -> Option<Self> {
        Some(Self { band: bands.now?, former: bands.former, held: held(symbol) })
    }

    /// The bands behind the fact, and what an evaluation there comes to. `None` if the fact changed the position.
    pub fn after(self, symbol: &Symbol, policy: &Policy, at: EvalContext<'_>) -> Option<(BandCache, Option<Hold>)> {
        let band = PriceBand { until_ms: until_ms(symbol, policy), ..self.band };
        let is_same = held(symbol) == self.held && at.killed == band.killed && at.now_ms <= band.until_ms;
        let mark = symbol.hot.mark.filter(|_| is_same)?;
        // The price is that of before: it may be too old by now, unless something that is asked first holds.
        let is_stale = at.now_ms.saturating_sub(mark.entry.ms) > policy.max_price_age_ms;
        let hold = band.hold.map(|hold| if is_stale { hold.min(Hold::StalePrice) } else { hold });
        Some((BandCache { now: Some(band), former: self.former }, hold))
    }
}

fn held(symbol: &Symbol) -> Option<Held> {
    let totals = symbol.hot.open.as_ref()?.totals;
    Some((totals.qty, totals.entry.map(|entry| (entry.price, entry.source))))
}
