//! Exact arithmetic, for comparison with printed numbers: fractions of whole numbers, slow and exact.

use num_rational::BigRational;
use rust_decimal::Decimal;

/// A fraction of whole numbers of any size.
pub type Exact = BigRational;

pub fn zero() -> Exact {
    whole(0)
}

pub fn whole(n: i128) -> Exact {
    Exact::from_integer(n.into())
}

/// Parses a decimal text, with or without an exponent.
pub fn exact(text: &str) -> Exact {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (before, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let mantissa = format!("{before}{behind}").parse().unwrap_or_else(|_| panic!("{text:?} is a decimal"));
    let exponent: i32 = exponent.parse().unwrap_or_else(|_| panic!("{text:?} has an exponent"));
    Exact::from_integer(mantissa) * whole(10).pow(exponent - behind.len() as i32)
}

pub fn of(value: Decimal) -> Exact {
    whole(value.mantissa()) / whole(10).pow(value.scale() as i32)
}

pub fn abs(value: &Exact) -> Exact {
    if *value < zero() { -value.clone() } else { value.clone() }
}

/// Returns true if a printed number is the exact one, to 10⁻¹² of itself.
pub fn agrees(printed: &str, wanted: &Exact) -> bool {
    abs(&(exact(printed) - wanted)) <= abs(wanted) * whole(10).pow(-12)
}

/// Does the same as [`agrees`], but where larger numbers nearly cancel, the difference may be off by `part` of these.
pub fn agrees_within(printed: &str, wanted: &Exact, larger: &Exact, part: &Exact) -> bool {
    agrees(printed, wanted) || abs(&(exact(printed) - wanted)) <= abs(larger) * part
}

/// Returns the value with six places, half to even, without trailing zeros.
pub fn six_places(value: &Exact) -> String {
    let scaled = abs(value) * whole(1_000_000);
    let below = scaled.floor();
    let rest = &scaled - &below;
    let half = whole(1) / whole(2);
    let is_odd = !(&below / whole(2)).is_integer();
    let rounded = if rest > half || (rest == half && is_odd) { below + whole(1) } else { below };
    let digits = format!("{:0>7}", rounded.to_integer().to_string());
    let (before, behind) = digits.split_at(digits.len() - 6);
    let plain = format!("{before}.{behind}").trim_end_matches('0').trim_end_matches('.').to_owned();
    if *value < zero() && plain != "0" { format!("-{plain}") } else { plain }
}
