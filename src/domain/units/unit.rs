//! The units, and the operations that all of them have.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::decimals::{OutOfRange, add, div, mul, sub, write_plain};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        pub struct $name(pub(super) Decimal);

        impl $name {
            pub const ZERO: Self = Self(Decimal::ZERO);

            /// Takes a number in this unit, without trailing zeros.
            pub fn new(value: Decimal) -> Self {
                Self(value.normalize())
            }

            /// Returns the plain number.
            pub fn get(self) -> Decimal {
                self.0
            }

            pub fn is_zero(self) -> bool {
                self.0.is_zero()
            }

            /// Returns true if the value is above zero.
            pub fn is_positive(self) -> bool {
                self.0.is_sign_positive() && !self.0.is_zero()
            }

            /// Returns true if the value is below zero.
            pub fn is_negative(self) -> bool {
                self.0.is_sign_negative() && !self.0.is_zero()
            }

            pub fn abs(self) -> Self {
                Self(self.0.abs())
            }

            pub fn negated(self) -> Self {
                Self(-self.0)
            }

            /// Returns the sum. Errors if it is out of range.
            pub fn plus(self, other: Self) -> Result<Self, OutOfRange> {
                add(self.0, other.0).map(Self)
            }

            /// Returns the difference. Errors if it is out of range.
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
