//! Numbers in the exchange's JSON: texts of decimals, and whole numbers.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::codec::number;

/// A decimal in a text, or a whole number. One written with a point and no quotes is refused: it would have gone
/// through a float by the time that it is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Number(pub Decimal);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal as text, or a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        // The text is the exchange's; it is shown short, whatever it is.
        let shown = || text.chars().take(40).collect::<String>();
        number::decimal(text).map(Number).map_err(|_| E::custom(format_args!("{:?} is no number", shown())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number(value.into()))
    }
}
