//! Plain numbers.

use rust_decimal::Decimal;

use super::decimals::{OutOfRange, mul, scaled};
use super::unit::Ratio;

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
