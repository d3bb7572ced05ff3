//! Quantities of the coin.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::decimals::OutOfRange;
use super::unit::Qty;

impl Qty {
    /// Returns true if its product with the difference of two prices of at most `scale` places keeps all places.
    pub fn is_exact_with(self, scale: u32) -> bool {
        self.0.scale() + scale <= Decimal::MAX_SCALE
    }

    /// Returns the value rounded down to a whole number of steps.
    ///
    /// ```
    /// use harvester::domain::units::Qty;
    ///
    /// let qty = |text: &str| Qty::new(text.parse().expect("a number"));
    ///
    /// // A quarter of 49.396 SOL is 12.349 SOL; 1234 steps of 0.01 SOL are 12.34 SOL.
    /// assert_eq!(qty("12.349").floor_to(qty("0.01")), Ok(qty("12.34")));
    /// assert_eq!(qty("0.009").floor_to(qty("0.01")), Ok(Qty::ZERO));
    /// assert!(qty("12.349").floor_to(Qty::ZERO).is_err());
    /// ```
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
    fn prints_plain_decimals() {
        for (input, plain) in [("1.500", "1.5"), ("-0.0", "0"), ("100", "100"), ("0.00000001", "0.00000001")] {
            assert_eq!(qty(input).to_string(), plain);
        }
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
}
