//! Money, and money as a multiple of the risk.

use rust_decimal::Decimal;

use super::decimals::{OutOfRange, div, div_to_6_places, mul};
use super::unit::{Price, Qty, Quote, RMultiple};

impl Quote {
    /// Returns true if the value is so far from zero that no place of it is missing: at least 10⁻¹².
    pub fn is_clear(self) -> bool {
        self.0.abs() >= Decimal::new(1, 12)
    }

    /// Returns the price per unit of a quantity. [quote per base]
    pub fn per(self, qty: Qty) -> Result<Price, OutOfRange> {
        div(self.0, qty.0).map(Price)
    }

    /// Returns the amount as a multiple of a risk, 6 places, half to even. [R]
    ///
    /// ```
    /// use harvester::domain::units::{Price, Qty, RMultiple, Ratio};
    ///
    /// let number = |text: &str| text.parse().expect("a number");
    /// let (entry, mark, qty) = (Price::new(number("100")), Price::new(number("101.1")), Qty::new(number("10")));
    ///
    /// // ATR 2 × volatility factor 1 is the risk of one SOL; 10 SOL risk 20 USDT.
    /// let risk = Price::new(number("2")).for_qty(qty)?;
    /// // (101.1 − 100) × 10 = 11 USDT; 10 basis points of 100 × 10 are 1 USDT; 11 − 1 = 10 USDT.
    /// let cost = entry.for_qty(qty)?.times(Ratio::from_bps(Ratio::new(number("10")))?)?;
    /// let gain = mark.minus(entry)?.for_qty(qty)?.minus(cost)?;
    /// // 10 / 20 = 0.5
    /// assert_eq!(gain.in_r(risk)?, RMultiple::new(number("0.5")));
    /// # Ok::<(), harvester::domain::units::OutOfRange>(())
    /// ```
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
    fn refuses_what_cannot_be_exact_enough() {
        let huge = qty("900000000000000");
        assert_eq!(Price::new(huge.get()).for_qty(huge), Err(OutOfRange));
        let tiny = qty("0.00000000000000000001");
        assert_eq!(Price::new(tiny.get()).for_qty(tiny), Err(OutOfRange));
        assert!(Price::new(tiny.get()).for_qty(qty("0.001")).is_ok(), "exact in 28 places");
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
