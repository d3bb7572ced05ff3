//! Numbers with a unit. All arithmetic and all rounding of the rules is here.
//!
//! Everything is a decimal. An operation whose result cannot be represented to 10⁻¹² of itself returns [`OutOfRange`]:
//! it neither rounds silently nor panics.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The exact result does not fit a decimal of 28 digits closely enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exact result does not fit a decimal of 28 digits")
    }
}

impl std::error::Error for OutOfRange {}

/// Smallest mantissa of a rounded result: 14 digits, so that it is exact to the promised 10⁻¹².
const MANTISSA_MIN: u128 = 10u128.pow(13);

/// From here on a mantissa has more digits than an entry may have.
const MANTISSA_WIDE: u128 = 10u128.pow(DIGITS_MAX);
/// Significant digits of every number, read or written.
const DIGITS_MAX: u32 = 28;

/// Returns the number in at most 28 significant digits, so that each written number can be read again.
fn fit(value: Decimal) -> Result<Decimal, OutOfRange> {
    let mantissa = value.mantissa().unsigned_abs();
    if mantissa < MANTISSA_WIDE {
        return Ok(value);
    }
    if value.scale() > 0 {
        // 96 bits hold at most 29 digits. One is dropped, half to even.
        let (kept, cut) = (mantissa / 10, mantissa % 10);
        let rounded = kept + u128::from(cut > 5 || (cut == 5 && kept % 2 == 1));
        let mut fitting = Decimal::from_i128_with_scale(rounded as i128, value.scale() - 1);
        fitting.set_sign_negative(value.is_sign_negative());
        return Ok(fitting);
    }
    value.round_sf_with_strategy(DIGITS_MAX, RoundingStrategy::MidpointNearestEven).ok_or(OutOfRange)
}

/// Returns the product, if the decimal holds all of its digits.
fn exact_product(a: Decimal, b: Decimal) -> Option<Decimal> {
    if a.is_zero() || b.is_zero() {
        return Some(Decimal::ZERO);
    }
    let scale = a.scale() + b.scale();
    a.checked_mul(b).filter(|product| product.scale() == scale && scale <= Decimal::MAX_SCALE)
}

fn mul(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    if let Some(product) = short_mul(a, b) {
        return Ok(product);
    }
    let product = a.checked_mul(b).ok_or(OutOfRange)?;
    let is_small = product.mantissa().unsigned_abs() < MANTISSA_MIN;
    if is_small && a.scale() + b.scale() > Decimal::MAX_SCALE && !a.is_zero() && !b.is_zero() {
        return Err(OutOfRange);
    }
    fit(product)
}

fn div(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    let quotient = a.checked_div(b).ok_or(OutOfRange)?;
    let is_small = quotient.mantissa().unsigned_abs() < MANTISSA_MIN;
    // Trailing zeros of a divisor do not affect whether the quotient is exact.
    if is_small && !a.is_zero() && exact_product(quotient, b.normalize()) != Some(a) {
        return Err(OutOfRange);
    }
    fit(quotient)
}

fn add(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    short_add(a, b).map_or_else(|| fit(a.checked_add(b).ok_or(OutOfRange)?), Ok)
}

fn sub(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    short_add(a, -b).map_or_else(|| fit(a.checked_sub(b).ok_or(OutOfRange)?), Ok)
}

// ---- fast path for numbers that fit 64 bits, as nearly all do: the same digits with the same places -----------------

/// Powers of ten that fit.
const POWERS: [i64; 19] = {
    let mut powers = [1; 19];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = 10 * powers[i - 1];
        i += 1;
    }
    powers
};

/// Returns the mantissa, if it fits.
#[inline]
fn short(value: Decimal) -> Option<i64> {
    i64::try_from(value.mantissa()).ok()
}

/// Returns the value as a whole number of 10⁻ᵖˡᵃᶜᵉˢ, if it is one and its mantissa fits.
#[inline]
fn scaled(value: Decimal, scale: u32) -> Option<i128> {
    let power = POWERS.get(scale.checked_sub(value.scale())? as usize)?;
    Some(i128::from(short(value)?) * i128::from(*power))
}

/// Returns the decimal, if it is short. Returns `None` for zero, which the library treats in its own way.
#[inline]
fn short_of(mantissa: i128, scale: u32) -> Option<Decimal> {
    let is_short = mantissa != 0 && mantissa.unsigned_abs() < MANTISSA_WIDE && scale <= Decimal::MAX_SCALE;
    is_short.then(|| Decimal::from_i128_with_scale(mantissa, scale))
}

#[inline]
fn short_add(a: Decimal, b: Decimal) -> Option<Decimal> {
    if a.is_zero() || b.is_zero() {
        return None;
    }
    let scale = a.scale().max(b.scale());
    short_of(scaled(a, scale)?.checked_add(scaled(b, scale)?)?, scale)
}

#[inline]
fn short_mul(a: Decimal, b: Decimal) -> Option<Decimal> {
    short_of(i128::from(short(a)?) * i128::from(short(b)?), a.scale() + b.scale())
}

#[inline]
fn short_cmp(a: Decimal, b: Decimal) -> Option<Ordering> {
    if a.scale() == b.scale() {
        return Some(a.mantissa().cmp(&b.mantissa()));
    }
    let scale = a.scale().max(b.scale());
    Some(scaled(a, scale)?.cmp(&scaled(b, scale)?))
}

// ---------------------------------------------------------------------------------------------------------------------

/// Returns true if the quotient is certainly in range, by the lengths of both numbers. [bits, places]
fn surely_divides(a: Decimal, b: Decimal) -> bool {
    let bits = |value: Decimal| i64::from(u128::BITS - value.mantissa().unsigned_abs().leading_zeros());
    // One more place is a factor of 10, which is less than 3.4 bits.
    let scale = i64::from(b.scale()) - i64::from(a.scale());
    !b.is_zero() && 10 * (bits(a) - bits(b) + 1) + 34 * scale.max(0) < 10 * 95
}

/// Returns the quotient in 6 places, half to even, rounded once.
fn div_to_6_places(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    let quotient = a.checked_div(b).ok_or(OutOfRange)?;
    let rounded = quotient.round_dp_with_strategy(6, RoundingStrategy::MidpointNearestEven);
    // The quotient itself is rounded to 28 places. Near a half the remainder of the division decides.
    let cut = quotient.trunc_with_scale(6);
    let half = Decimal::new(5, 7);
    let is_near = |apart: Decimal| (apart.abs() - half).abs() <= Decimal::new(1, 20);
    if !is_near(quotient - cut) {
        return Ok(rounded);
    }
    let rest = exact_product(cut, b).and_then(|product| a.checked_sub(product)).map(|rest| rest.abs());
    let (Some(rest), Some(middle)) = (rest, exact_product(b.abs(), half)) else { return Ok(rounded) };
    let away = cut + if a.is_sign_negative() == b.is_sign_negative() { half + half } else { -(half + half) };
    Ok(match rest.cmp(&middle) {
        Ordering::Less => cut,
        Ordering::Equal => rounded,
        Ordering::Greater => away,
    })
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Default)]
        pub struct $name(Decimal);

        impl PartialEq for $name {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                short_cmp(self.0, other.0).map_or_else(|| self.0 == other.0, Ordering::is_eq)
            }
        }

        impl Ord for $name {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                short_cmp(self.0, other.0).unwrap_or_else(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            pub const ZERO: Self = Self(Decimal::ZERO);

            pub fn new(value: Decimal) -> Self {
                Self(value.normalize())
            }

            pub fn get(self) -> Decimal {
                self.0
            }

            pub fn is_zero(self) -> bool {
                self.0.is_zero()
            }

            pub fn is_positive(self) -> bool {
                self.0.is_sign_positive() && !self.0.is_zero()
            }

            pub fn is_negative(self) -> bool {
                self.0.is_sign_negative() && !self.0.is_zero()
            }

            pub fn abs(self) -> Self {
                Self(self.0.abs())
            }

            pub fn negated(self) -> Self {
                Self(-self.0)
            }

            pub fn plus(self, other: Self) -> Result<Self, OutOfRange> {
                add(self.0, other.0).map(Self)
            }

            pub fn minus(self, other: Self) -> Result<Self, OutOfRange> {
                sub(self.0, other.0).map(Self)
            }

            /// Returns the value times a plain number. Errors if the result is out of range.
            pub fn times(self, factor: Ratio) -> Result<Self, OutOfRange> {
                mul(self.0, factor.0).map(Self)
            }

            /// Returns the value divided by a plain number. Errors on zero, or if the result is out of range.
            pub fn over(self, divisor: Ratio) -> Result<Self, OutOfRange> {
                div(self.0, divisor.0).map(Self)
            }

            /// Returns the ratio of two values of one unit. Errors on zero, or if the result is out of range. [1]
            pub fn ratio(self, other: Self) -> Result<Ratio, OutOfRange> {
                div(self.0, other.0).map(Ratio)
            }
        }

        /// Writes a plain decimal: no exponent, no trailing zeros, no −0.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_plain(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_plain(self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                (self.0.mantissa(), self.0.scale() as u8).serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (mantissa, scale) = <(i128, u8)>::deserialize(deserializer)?;
                Decimal::try_from_i128_with_scale(mantissa, u32::from(scale)).map(Self).map_err(D::Error::custom)
            }
        }
    };
}

unit!(
    /// Price of one unit of the coin. [quote per base]
    Price
);
unit!(
    /// Quantity of the coin. Signed where documented (long positive, short negative). [base]
    Qty
);
unit!(
    /// Amount of money. [quote]
    Quote
);
unit!(
    /// Multiple of the risk taken at entry. [R]
    RMultiple
);
unit!(
    /// Plain number: a share, a factor, a volatility. [1]
    Ratio
);

fn write_plain(value: Decimal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let value = value.normalize();
    if value.is_zero() {
        return f.pad("0");
    }
    match f.precision() {
        Some(scale) => fmt::Display::fmt(
            &format_args!(
                "{:.*}",
                scale,
                value.round_dp_with_strategy(scale as u32, RoundingStrategy::MidpointNearestEven)
            ),
            f,
        ),
        None => f.pad(&value.to_string()),
    }
}

impl Ratio {
    /// Returns the value as a whole number of 10⁻ᵖˡᵃᶜᵉˢ, if it is one and fits.
    pub fn at_scale(self, scale: u32) -> Option<i64> {
        scaled(self.0, scale)?.try_into().ok()
    }

    pub const ONE: Self = Self(Decimal::ONE);
    /// One in a thousand.
    pub const PERMILLE: Self = Self(Decimal::from_parts(1, 0, 0, false, 3));
    /// The 10⁻¹² to which printed numbers are exact.
    pub const TRILLIONTH: Self = Self(Decimal::from_parts(1, 0, 0, false, 12));
    /// One in a hundred.
    pub const PERCENT: Self = Self(Decimal::from_parts(1, 0, 0, false, 2));
    /// Above this factor a confirmed price could come from a rescaled contract (docs/spec/fold.md, "Doubted prices").
    pub const RESCALED_PRICE: Self = Self(Decimal::from_parts(13, 0, 0, false, 1));
    /// From this factor on a quantity could come from a rescaled contract (docs/spec/fold.md, "Rescaled contract").
    pub const RESCALED_QTY: Self = Self(Decimal::from_parts(15, 0, 0, false, 1));

    /// Converts basis points to a plain ratio: 10 bps are 0.001.
    pub fn from_bps(bps: Ratio) -> Result<Self, OutOfRange> {
        mul(bps.0, Decimal::new(1, 4)).map(Self)
    }
}

impl Price {
    /// Returns the number of decimal places. [1]
    pub fn scale(self) -> u32 {
        self.0.scale()
    }

    /// Returns the price as a whole number of 10⁻ᵖˡᵃᶜᵉˢ, if it is one and fits.
    #[inline]
    pub fn at_scale(self, scale: u32) -> Option<i64> {
        scaled(self.0, scale)?.try_into().ok()
    }

    /// Returns the nearest prices with `scale` places below and above, or this price itself.
    pub fn neighbours(self, scale: u32) -> [Self; 2] {
        let below = self.0.trunc_with_scale(scale);
        [Self::new(below), Self::new(below.saturating_add(Decimal::new(1, scale)))]
    }

    /// Returns the price in 10⁻ᵖˡᵃᶜᵉˢ, rounded down to a whole number, if that fits.
    pub fn rounded_at_scale(self, scale: u32) -> Option<i64> {
        scaled(self.0.trunc_with_scale(scale), scale)?.try_into().ok()
    }

    /// Returns `number` × 10⁻ᵖˡᵃᶜᵉˢ. At most 28 places.
    pub fn of_scale(number: i64, scale: u32) -> Self {
        Self::new(Decimal::new(number, scale))
    }

    /// Returns true if this price differs from an earlier one by at most `share` of the earlier one.
    pub fn is_near(self, earlier: Self, share: Ratio) -> Result<bool, OutOfRange> {
        Ok(self.minus(earlier)?.abs() <= earlier.times(share)?)
    }

    /// Returns the cost of a quantity at this price. [quote]
    pub fn for_qty(self, qty: Qty) -> Result<Quote, OutOfRange> {
        mul(self.0, qty.0).map(Quote)
    }
}

impl Quote {
    /// Returns true if the value is so far from zero that no place of it is missing: at least 10⁻¹².
    pub fn is_clear(self) -> bool {
        self.0.abs() >= Decimal::new(1, 12)
    }

    /// Returns the price per unit of a quantity. [quote per base]
    pub fn per(self, qty: Qty) -> Result<Price, OutOfRange> {
        div(self.0, qty.0).map(Price)
    }

    /// Errors where [`Self::in_r`] does, mostly without a division.
    pub fn check_in_r(self, risk: Quote) -> Result<(), OutOfRange> {
        if surely_divides(self.0, risk.0) { Ok(()) } else { self.in_r(risk).map(drop) }
    }

    /// Returns the amount as a multiple of a risk, 6 places, half to even. [R]
    pub fn in_r(self, risk: Quote) -> Result<RMultiple, OutOfRange> {
        div_to_6_places(self.0, risk.0).map(|r| RMultiple(r.normalize()))
    }
}

impl RMultiple {
    /// Returns this multiple of a risk as an amount. [quote]
    pub fn of(self, risk: Quote) -> Result<Quote, OutOfRange> {
        mul(self.0, risk.0).map(Quote)
    }

    /// Returns this multiple of a risk per unit as a price distance. [quote per base]
    pub fn of_price(self, risk_price: Price) -> Result<Price, OutOfRange> {
        mul(self.0, risk_price.0).map(Price)
    }
}

impl Qty {
    /// Returns true if its product with the difference of two prices of at most `scale` places keeps all places.
    pub fn is_exact_with(self, scale: u32) -> bool {
        self.0.scale() + scale <= Decimal::MAX_SCALE
    }

    /// Returns the value rounded down to a whole number of steps.
    pub fn floor_to(self, step: Qty) -> Result<Self, OutOfRange> {
        let rest = self.0.checked_rem(step.0).ok_or(OutOfRange)?;
        self.minus(Self(rest))
    }

    /// Returns true if two quantities count as the same: they differ by at most max(10⁻⁹ × the larger, min(step / 2,
    /// 10⁻³ × the larger)) (docs/spec/fold.md, "Same quantity"). Half a step never hides more than a thousandth of the
    /// quantity.
    pub fn same(self, other: Self, step: Option<Qty>) -> bool {
        if self == other {
            return true;
        }
        let Some(apart) = self.0.checked_sub(other.0).map(|d| d.abs()) else { return false };
        let larger = self.0.abs().max(other.0.abs());
        let is_within = |part: i64| apart.checked_mul(Decimal::from(part)).is_some_and(|scaled| scaled <= larger);
        if let Some(step) = step
            && apart.checked_mul(Decimal::TWO).is_some_and(|twice| twice <= step.0)
            && is_within(1_000)
        {
            return true;
        }
        is_within(1_000_000_000)
    }

    pub fn sign(self) -> Ordering {
        self.0.cmp(&Decimal::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qty(text: &str) -> Qty {
        Qty::new(text.parse().unwrap())
    }

    #[test]
    fn a_short_quotient_is_exact_however_many_zeros_are_behind_it() {
        let cost = Quote("750.0000000000000000000000000".parse().unwrap());
        assert_eq!(cost.per(Qty("2.500000000000000000000000000".parse().unwrap())), Ok(Price(Decimal::from(300))));
    }

    #[test]
    fn prints_plain_decimals() {
        for (input, plain) in [("1.500", "1.5"), ("-0.0", "0"), ("100", "100"), ("0.00000001", "0.00000001")] {
            assert_eq!(qty(input).to_string(), plain);
        }
    }

    #[test]
    fn refuses_what_cannot_be_held_exactly_enough() {
        let huge = qty("900000000000000");
        assert_eq!(Price::new(huge.get()).for_qty(huge), Err(OutOfRange));
        let tiny = qty("0.00000000000000000001");
        assert_eq!(Price::new(tiny.get()).for_qty(tiny), Err(OutOfRange));
        assert!(Price::new(tiny.get()).for_qty(qty("0.001")).is_ok(), "exact in 28 places");
    }

    #[test]
    fn counts_quantities_as_the_same_within_half_a_step_and_a_thousandth_or_a_billionth() {
        for (a, b, step, same) in [
            ("1", "1.0000000005", None, true),
            ("1", "1.00000001", None, false),
            ("100", "100.05", Some("0.1"), true),
            ("100", "100.06", Some("0.1"), false),
            ("1", "1.05", Some("0.1"), false),
            ("1", "1.001", Some("0.1"), true),
            ("0.4", "0", Some("1"), false),
            ("1", "-1", None, false),
            ("0", "0.000001", None, false),
        ] {
            assert_eq!(qty(a).same(qty(b), step.map(qty)), same, "{a} {b} {step:?}");
        }
    }

    #[test]
    fn drops_the_digit_too_many_as_the_library_does() {
        let library = |value: Decimal| value.round_sf_with_strategy(DIGITS_MAX, RoundingStrategy::MidpointNearestEven);
        let wide = MANTISSA_WIDE as i128;
        let kept = [wide, wide + 10, 5 * wide + 30, 7 * wide + 9_999_999_990, 2 * wide - 10];
        for mantissa in kept.into_iter().flat_map(|kept| (0..20).map(move |cut| kept + cut)) {
            for (sign, scale) in [(1, 0), (-1, 0), (1, 1), (-1, 7), (1, 28)] {
                let value = Decimal::from_i128_with_scale(sign * mantissa, scale);
                let bytes = |value: Decimal| value.serialize();
                assert_eq!(fit(value).ok().map(bytes), library(value).map(bytes), "{value}");
            }
        }
    }

    /// Returns numbers around the lengths at which the fast path ends, of either sign, with many places.
    fn lengths() -> Vec<Decimal> {
        let (short, widest) = (i128::from(i64::MAX), 10i128.pow(28) - 1);
        let mantissas = [0, 1, 7, 10, 10i128.pow(14) + 1, short - 1, short, short + 1, widest];
        let of = |mantissa: i128| [0, 1, 7, 14, 18, 19, 28].map(|scale| Decimal::from_i128_with_scale(mantissa, scale));
        mantissas.into_iter().flat_map(|mantissa| [mantissa, -mantissa]).flat_map(of).collect()
    }

    #[test]
    fn the_short_way_comes_to_the_same_digits_in_the_same_places() {
        let bytes = |value: Decimal| value.serialize();
        let (mut sums, mut products, mut orders) = (0, 0, 0);
        for a in lengths() {
            for b in lengths() {
                if let Some(sum) = short_add(a, b) {
                    assert_eq!(
                        Some(bytes(sum)),
                        a.checked_add(b).and_then(|sum| fit(sum).ok()).map(bytes),
                        "{a} + {b}"
                    );
                    sums += 1;
                }
                if let Some(difference) = short_add(a, -b) {
                    let library = a.checked_sub(b).and_then(|difference| fit(difference).ok());
                    assert_eq!(Some(bytes(difference)), library.map(bytes), "{a} - {b}");
                }
                if let Some(product) = short_mul(a, b) {
                    assert_eq!(Some(bytes(product)), a.checked_mul(b).map(bytes), "{a} × {b}");
                    assert!(a.scale() + b.scale() <= Decimal::MAX_SCALE, "{a} × {b} would be rounded");
                    products += 1;
                }
                if let Some(order) = short_cmp(a, b) {
                    assert_eq!(order, a.cmp(&b), "{a} {b}");
                    orders += 1;
                }
            }
        }
        assert!(sums > 2_000 && products > 1_000 && orders > 2_000, "{sums} {products} {orders}");
    }

    #[test]
    fn knows_without_dividing_what_can_be_divided() {
        let quote = |mantissa: i128, scale| Quote(Decimal::from_i128_with_scale(mantissa, scale));
        let widest = 10i128.pow(28) - 1;
        let mantissas = [0, 1, 7, 10i128.pow(9), 10i128.pow(14) + 1, widest, -widest, -3];
        let scales = [0, 1, 7, 14, 20, 28];
        let all = || mantissas.into_iter().flat_map(|m| scales.map(|scale| quote(m, scale)));
        let mut sure = 0;
        for (gain, risk) in all().flat_map(|gain| all().map(move |risk| (gain, risk))) {
            assert_eq!(gain.check_in_r(risk), gain.in_r(risk).map(drop), "{gain} {risk}");
            sure += u32::from(surely_divides(gain.0, risk.0));
        }
        assert!(sure > 1500, "{sure}");
    }

    #[test]
    fn rounds_r_half_to_even() {
        let r =
            |a: &str, b: &str| Quote::new(a.parse().unwrap()).in_r(Quote::new(b.parse().unwrap())).unwrap().to_string();
        assert_eq!(r("0.0000005", "1"), "0");
        assert_eq!(r("0.0000015", "1"), "0.000002");
        assert_eq!(r("35.5", "1567.8896"), "0.022642");
    }
}
