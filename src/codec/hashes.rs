//! Redis hashes of other services: prices with a time to live, and positions of the old service.
//!
//! A hash is never an input by itself: an accepted value becomes an observation first.

use rust_decimal::Decimal;

use super::number;
use super::time;
use crate::domain::event::Direction;
use crate::domain::units::Price;

/// A price of a hash, with its event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashPrice {
    /// [quote per base]
    pub price: Price,
    /// [ms since 1970]
    pub observed_ms: u64,
}

/// Why a hash has no usable price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPrice {
    /// The hash or the field does not exist.
    Absent,
    /// Zero, negative, absurdly large, or not a number.
    Unbelievable(String),
    /// It has no time, so its age is unknown.
    NoTime,
    /// [ms]
    TooOld { age_ms: u64 },
    /// Further in the future than the largest age of a price. [ms]
    Ahead { by_ms: u64 },
}

/// Reads a price and its event time (epoch s or ms, or ISO-8601). A price that is too old counts as absent.
pub fn price(price: Option<&str>, timestamp: Option<&str>, now_ms: u64, age_max_ms: u64) -> Result<HashPrice, NoPrice> {
    let text = price.filter(|text| !number::is_absent(text)).ok_or(NoPrice::Absent)?;
    let value = number::decimal(text).ok().filter(|value| *value > Decimal::ZERO);
    let price = value.map(Price::new).ok_or_else(|| NoPrice::Unbelievable(text.to_owned()))?;
    let observed_ms = timestamp.and_then(time::business_ms).ok_or(NoPrice::NoTime)?;
    let age_ms = now_ms.saturating_sub(observed_ms);
    let by_ms = observed_ms.saturating_sub(now_ms);
    match () {
        () if age_ms > age_max_ms => Err(NoPrice::TooOld { age_ms }),
        () if by_ms > age_max_ms => Err(NoPrice::Ahead { by_ms }),
        () => Ok(HashPrice { price, observed_ms }),
    }
}

/// Field and value of a hash that was not accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disbelief {
    pub field: &'static str,
    pub value: String,
    pub why: String,
}

/// The accepted values of a position hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyPosition {
    pub side: Option<Direction>,
    /// Magnitude. [base]
    pub quantity: Option<Decimal>,
    /// [quote per base]
    pub entry_price: Option<Decimal>,
    pub atr_value: Option<Decimal>,
    /// [1]
    pub volatility_factor: Option<Decimal>,
}

impl LegacyPosition {
    /// Returns true if it supplies anything that a position may lack.
    pub fn has_something(&self) -> bool {
        self.entry_price.is_some() || (self.atr_value.is_some() && self.volatility_factor.is_some())
    }

    /// Returns the signed quantity, if side and quantity are known. [base]
    pub fn signed_qty(&self) -> Option<Decimal> {
        let qty = self.quantity?;
        Some(match self.side? {
            Direction::Long => qty,
            Direction::Short => -qty,
        })
    }
}

/// Largest accepted factor between an entry price and the present price: ten times, or a tenth.
const BELIEVABLE_FACTOR: Decimal = Decimal::TEN;

/// Reads a position hash. `price_now` is a known price of the symbol, whatever its age. [quote per base]
pub fn legacy_position(fields: &[(String, String)], price_now: Option<Decimal>) -> (LegacyPosition, Vec<Disbelief>) {
    let mut doubts = Vec::new();
    let get = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let mut positive = |field: &'static str, names: &[&str]| {
        let value = names.iter().find_map(|name| get(name))?;
        match believed(value) {
            Ok(value) => value,
            Err(why) => {
                doubts.push(Disbelief { field, value: value.to_owned(), why: why.to_owned() });
                None
            }
        }
    };
    let mut position = LegacyPosition {
        quantity: positive("quantity", &["quantity", "qty", "position_qty"]),
        entry_price: positive("entry_price", &["entry_price"]),
        atr_value: positive("atr_value", &["atr_value"]),
        volatility_factor: positive("volatility_factor", &["volatility_factor"]),
        side: None,
    };
    match get("side").map(|side| side.trim().to_ascii_uppercase()).as_deref() {
        Some("LONG" | "BUY") => position.side = Some(Direction::Long),
        Some("SHORT" | "SELL") => position.side = Some(Direction::Short),
        None | Some("") => {}
        Some(other) => {
            doubts.push(Disbelief { field: "side", value: other.to_owned(), why: "neither LONG nor SHORT".to_owned() })
        }
    }
    if let (Some(entry), Some(now)) = (position.entry_price, price_now) {
        let far = |a: Decimal, b: Decimal| b.checked_mul(BELIEVABLE_FACTOR).is_some_and(|limit| a > limit);
        if far(entry, now) || far(now, entry) {
            let why = format!("more than ten times apart from the price of today, {}", now.normalize());
            doubts.push(Disbelief { field: "entry_price", value: entry.normalize().to_string(), why });
            position.entry_price = None;
        }
    }
    if position.atr_value.is_some() != position.volatility_factor.is_some() {
        let (field, value) = match position.atr_value {
            Some(atr) => ("atr_value", atr),
            None => ("volatility_factor", position.volatility_factor.unwrap_or_default()),
        };
        let why = "alone: a risk needs both ATR and volatility".to_owned();
        doubts.push(Disbelief { field, value: value.normalize().to_string(), why });
        (position.atr_value, position.volatility_factor) = (None, None);
    }
    (position, doubts)
}

/// Reads a positive number of a hash. Returns `None` if it is absent, and an error with the reason if it is not
/// accepted.
fn believed(text: &str) -> Result<Option<Decimal>, &'static str> {
    if number::is_absent(text) {
        return Ok(None);
    }
    match number::decimal(text) {
        Ok(value) if value.is_zero() => Err("a 0 is not a value"),
        Ok(value) if value < Decimal::ZERO => Err("negative"),
        Ok(value) => Ok(Some(value)),
        Err(crate::domain::event::Reason::OutOfRange) => Err("out of range"),
        Err(_) => Err("no number"),
    }
}

/// Returns true if two texts mean the same number or the same word.
pub fn same_value(a: &str, b: &str) -> bool {
    match (number::decimal(a), number::decimal(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a.trim() == b.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_770_170_824_000;

    fn read(value: Option<&str>, timestamp: Option<&str>) -> Result<String, NoPrice> {
        price(value, timestamp, NOW_MS, 10_000).map(|found| found.price.to_string())
    }

    #[test]
    fn i01_a_price_hash_is_judged_by_its_own_time() {
        assert_eq!(read(Some("0.07498"), Some("1770170823000")), Ok("0.07498".to_owned()));
        assert_eq!(read(Some("0.07498"), Some("1770170823.5")), Ok("0.07498".to_owned()), "seconds");
        for (value, timestamp, want) in [
            (None, Some("1770170823000"), NoPrice::Absent),
            (Some(""), Some("1770170823000"), NoPrice::Absent),
            (Some("0"), Some("1770170823000"), NoPrice::Unbelievable("0".to_owned())),
            (Some("-3"), Some("1770170823000"), NoPrice::Unbelievable("-3".to_owned())),
            (Some("abc"), Some("1770170823000"), NoPrice::Unbelievable("abc".to_owned())),
            (Some("1"), None, NoPrice::NoTime),
            (Some("1"), Some("0"), NoPrice::NoTime),
            (Some("1"), Some("1770170813999"), NoPrice::TooOld { age_ms: 10_001 }),
            (Some("1"), Some("1770170835000"), NoPrice::Ahead { by_ms: 11_000 }),
        ] {
            assert_eq!(read(value, timestamp), Err(want), "{value:?} {timestamp:?}");
        }
    }

    fn hash(fields: &[(&str, &str)]) -> (LegacyPosition, Vec<String>) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (position, doubts) = legacy_position(&fields, Some(Decimal::new(75, 3)));
        (position, doubts.into_iter().map(|doubt| format!("{}: {}", doubt.field, doubt.why)).collect())
    }

    #[test]
    fn i03_a_zero_is_not_a_price() {
        let (position, doubts) = hash(&[("side", "LONG"), ("quantity", "666.22"), ("entry_price", "0")]);
        assert!(!position.has_something());
        assert_eq!(doubts, ["entry_price: a 0 is not a value"]);
        assert_eq!(position.signed_qty().map(|qty| qty.to_string()), Some("666.22".to_owned()));
    }

    #[test]
    fn i05_absurd_numbers_are_not_believed() {
        let (position, doubts) = hash(&[
            ("side", "long"),
            ("entry_price", "96106059.76"),
            ("atr_value", "1e20"),
            ("volatility_factor", "5"),
        ]);
        assert!(!position.has_something());
        assert_eq!(
            doubts,
            [
                "atr_value: out of range",
                "entry_price: more than ten times apart from the price of today, 0.075",
                "volatility_factor: alone: a risk needs both ATR and volatility",
            ]
        );
        let (position, doubts) =
            hash(&[("side", "SHORT"), ("entry_price", "0.0636"), ("atr_value", "0.1"), ("volatility_factor", "5.0")]);
        assert!(position.has_something() && doubts.is_empty());
    }

    #[test]
    fn the_same_number_is_the_same_however_it_is_written() {
        for (a, b, same) in [
            ("5.0", "5", true),
            ("0.1", "0.10", true),
            ("1e-1", "0.1", true),
            ("0", "0.0", true),
            ("true", "true ", true),
            ("5", "6", false),
            ("", "0", false),
        ] {
            assert_eq!(same_value(a, b), same, "{a:?} {b:?}");
        }
    }
}
