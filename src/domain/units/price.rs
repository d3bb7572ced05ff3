//! Prices.

use rust_decimal::Decimal;

use super::decimals::{OutOfRange, mul, scaled};
use super::unit::{Price, Qty, Quote, Ratio};

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

    /// Returns true if an entry price of ours differs from that of the exchange by more than 0.1 % of it
    /// (docs/spec/fold.md, "Agreement").
    pub fn disagrees_with(self, exchange: Self) -> Result<bool, OutOfRange> {
        Ok(!self.is_near(exchange, Ratio::PERMILLE)?)
    }

    /// Returns the cost of a quantity at this price. [quote]
    pub fn for_qty(self, qty: Qty) -> Result<Quote, OutOfRange> {
        mul(self.0, qty.0).map(Quote)
    }
}
