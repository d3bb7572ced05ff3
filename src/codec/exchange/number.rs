//! Numbers and names in an exchange's JSON: decimals as text, whole numbers, ids, times, symbols, sides.

use std::fmt;

use rust_decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::facts::Unreadable;
use crate::codec::{depth, number};
use crate::domain::event::PositionSide;
use crate::domain::units::Price;

/// A decimal as text, or a whole number. A number with a decimal point and no quotes is refused, because the parser
/// would have passed it through a float.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Number(pub Decimal);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

/// The same for an average. It is rounded where it has more digits than a decimal can have, because an average is
/// computed and not agreed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Average(pub Decimal);

impl<'de> Deserialize<'de> for Average {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let exact = serde_json::from_str::<Number>(raw.get());
        let text = serde_json::from_str::<String>(raw.get());
        match (exact, text) {
            (Ok(number), _) => Ok(Self(number.0)),
            (Err(error), Ok(text)) => number::rounded(&text).map(Self).map_err(|_| D::Error::custom(error)),
            (Err(error), Err(_)) => Err(D::Error::custom(error)),
        }
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal as text, or a whole number")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        // The text comes from outside, so it is shown shortened.
        let shown = || text.chars().take(40).collect::<String>();
        number::decimal(text).map(Number).map_err(|_| E::custom(format_args!("{:?} is not a number", shown())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number(value.into()))
    }
}

/// Longest symbol. [bytes]
const SYMBOL_MAX: usize = 64;

/// A symbol: letters of any script, digits and `_ - .`, so that it can be shown and compared unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(pub String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if text.is_empty() || text.len() > SYMBOL_MAX || !text.chars().all(is_plain) {
            let shown: String = text.chars().take(40).collect();
            return Err(D::Error::custom(format_args!("{shown:?} is not a symbol")));
        }
        Ok(Self(text))
    }
}

/// The position side of a row. Where it is not stated, the account is one-way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StatedSide(pub PositionSide);

impl<'de> Deserialize<'de> for StatedSide {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        PositionSide::of_name(&text).map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            D::Error::custom(format_args!("{shown:?} is no position side"))
        })
    }
}

/// An id that counts up. It has at most 19 digits, so that the next id is a number too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub u64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = u64::deserialize(deserializer)?;
        if i64::try_from(id).is_ok() { Ok(Self(id)) } else { Err(D::Error::custom(format_args!("{id} is not an id"))) }
    }
}

/// First and last accepted time: 2010 to 2200. [ms since 1970]
const TIMES: std::ops::Range<u64> = 1_262_304_000_000..7_258_118_400_000;

/// A time of the server, on which signatures depend. [ms since 1970]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub u64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ms = u64::deserialize(deserializer)?;
        if TIMES.contains(&ms) { Ok(Self(ms)) } else { Err(D::Error::custom(format_args!("{ms} is not a time"))) }
    }
}

/// Reads a JSON text of bounded depth.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    if !depth::is_bounded(body) {
        return Err(Unreadable::new(format!("it nests deeper than {}", depth::DEPTH_MAX)));
    }
    serde_json::from_slice(body).map_err(|error| Unreadable::new(error.to_string()))
}

pub(super) fn positive(value: Number) -> Option<Price> {
    above_zero(value).map(Price::new)
}

pub(super) fn above_zero(value: Number) -> Option<Decimal> {
    Some(value.0).filter(|value| value.is_sign_positive() && !value.is_zero())
}
