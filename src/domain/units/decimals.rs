//! Decimal arithmetic: exact to 28 digits, or an error. All rounding is here.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};

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
/// Smallest rounded quotient: it has as many digits in 28 places.
const QUOTIENT_MIN: Decimal = Decimal::from_parts(1, 0, 0, false, 15);

/// From here on a mantissa has more digits than an entry may have.
const MANTISSA_WIDE: u128 = 10u128.pow(DIGITS_MAX);
/// Significant digits of every number, read or written.
const DIGITS_MAX: u32 = 28;

/// Returns the number in at most 28 significant digits, so that each written number can be read again.
pub(super) fn fit(value: Decimal) -> Result<Decimal, OutOfRange> {
    let mantissa = value.mantissa().unsigned_abs();
    if mantissa < MANTISSA_WIDE {
        return Ok(value);
    }
    if value.scale() > 0 {
        // 96 bits have at most 29 digits. One is dropped, half to even.
        let (kept, cut) = (mantissa / 10, mantissa % 10);
        let rounded = kept + u128::from(cut > 5 || (cut == 5 && kept % 2 == 1));
        let mut fitting = Decimal::from_i128_with_scale(rounded as i128, value.scale() - 1);
        fitting.set_sign_negative(value.is_sign_negative());
        return Ok(fitting);
    }
    value.round_sf_with_strategy(DIGITS_MAX, RoundingStrategy::MidpointNearestEven).ok_or(OutOfRange)
}

/// Returns the product, if a decimal can have all of its digits.
fn exact_product(a: Decimal, b: Decimal) -> Option<Decimal> {
    if a.is_zero() || b.is_zero() {
        return Some(Decimal::ZERO);
    }
    let scale = a.scale() + b.scale();
    a.checked_mul(b).filter(|product| product.scale() == scale && scale <= Decimal::MAX_SCALE)
}

pub(super) fn mul(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    let product = a.checked_mul(b).ok_or(OutOfRange)?;
    let is_small = product.mantissa().unsigned_abs() < MANTISSA_MIN;
    if is_small && a.scale() + b.scale() > Decimal::MAX_SCALE && !a.is_zero() && !b.is_zero() {
        return Err(OutOfRange);
    }
    fit(product)
}

pub(super) fn div(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    let quotient = a.checked_div(b).ok_or(OutOfRange)?;
    // A quotient has no trailing zeros, so a short one may be rounded, and exact to 28 digits all the same.
    let is_small = quotient.abs() < QUOTIENT_MIN;
    // Trailing zeros of a divisor do not affect whether the quotient is exact.
    if is_small && !a.is_zero() && exact_product(quotient, b.normalize()) != Some(a) {
        return Err(OutOfRange);
    }
    fit(quotient)
}

pub(super) fn add(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    fit(a.checked_add(b).ok_or(OutOfRange)?)
}

pub(super) fn sub(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
    fit(a.checked_sub(b).ok_or(OutOfRange)?)
}

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

/// Returns the value as a whole number of 10⁻ᵖˡᵃᶜᵉˢ, if it is one and its mantissa fits.
#[inline]
pub(super) fn scaled(value: Decimal, scale: u32) -> Option<i128> {
    let power = POWERS.get(scale.checked_sub(value.scale())? as usize)?;
    Some(i128::from(i64::try_from(value.mantissa()).ok()?) * i128::from(*power))
}

/// Returns the quotient in 6 places, half to even, rounded once.
pub(super) fn div_to_6_places(a: Decimal, b: Decimal) -> Result<Decimal, OutOfRange> {
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

pub(super) fn write_plain(value: Decimal, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotient_that_rounds_to_few_digits_is_one_unless_it_is_tiny() {
        let of = |text: &str| text.parse::<Decimal>().expect("a number");
        // 100 / (10/11 in 28 digits) is 109.999…, which rounds to 110.
        assert_eq!(div(of("100"), of("0.9090909090909090909090909091")), Ok(of("110")));
        assert_eq!(div(of("-100"), of("0.9090909090909090909090909091")), Ok(of("-110")));
        // 10⁻¹⁵ / 3 has 13 digits in 28 places; 10⁻¹⁵ / 4 is exact.
        assert_eq!(div(of("0.000000000000001"), of("3")), Err(OutOfRange));
        assert_eq!(div(of("0.000000000000001"), of("4")), Ok(of("0.00000000000000025")));
        assert_eq!(div(of("0.0000000000000000000000000001"), of("3")), Err(OutOfRange), "it rounds to zero");
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
}
