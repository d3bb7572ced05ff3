//! Business times as producers write them, and times that people type.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::number;

/// From here on an epoch number is taken for milliseconds: as seconds it would be the year 5138.
const SECONDS_MAX: u64 = 100_000_000_000;

/// A time in epoch s, ms or fractional s, or ISO-8601 (no zone = UTC), as ms since 1970.
///
/// `None` for what is no time, and for 0: business time is information, and there is no epoch zero.
pub fn business_ms(text: &str) -> Option<u64> {
    if let Some(plain) = number::Plain::read(text.as_bytes()) {
        return plain_ms(plain);
    }
    let text = text.trim();
    let ms = match number::decimal(text) {
        Ok(value) if value.abs() < Decimal::from(SECONDS_MAX) => (value * Decimal::ONE_THOUSAND).to_u64()?,
        Ok(value) => value.to_u64()?,
        Err(_) => iso_ms(text)?,
    };
    (ms > 0).then_some(ms)
}

/// The same of a plain number, in whole numbers.
pub(super) fn plain_ms(number::Plain { mantissa, scale }: number::Plain) -> Option<u64> {
    let power = |places: u32| number::POWERS_OF_TEN[places as usize];
    let whole = mantissa / power(scale);
    let ms = match scale {
        _ if whole >= SECONDS_MAX => whole,
        0..=3 => mantissa * power(3 - scale),
        _ => mantissa / power(scale - 3),
    };
    (ms > 0).then_some(ms)
}

/// The same of bytes, which are looked at as text only where they are no plain number.
pub(super) fn business_ms_of_bytes(text: &[u8]) -> Option<u64> {
    match number::Plain::read(text) {
        Some(plain) => plain_ms(plain),
        None => business_ms(std::str::from_utf8(text).ok()?),
    }
}

/// ISO-8601 with or without zone or time of day, as ms since 1970.
pub fn iso_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let zoned = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z"));
    if let Ok(time) = zoned {
        return u64::try_from(time.timestamp_millis()).ok();
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text.trim_end_matches(['Z', 'z']), format) {
            return u64::try_from(time.and_utc().timestamp_millis()).ok();
        }
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    u64::try_from(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis()).ok()
}

/// `2026-02-04T02:07:00.000Z` of ms since 1970.
pub fn iso(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_business_times_in_every_form() {
        for (text, want) in [
            ("1770163395", Some(1_770_163_395_000)),
            ("1770163395196", Some(1_770_163_395_196)),
            ("1770163200.062", Some(1_770_163_200_062)),
            ("1770163200.06", Some(1_770_163_200_060)),
            ("1770163200.0629", Some(1_770_163_200_062)),
            (" 1770163200.0629", Some(1_770_163_200_062)),
            ("99999999999.999999", Some(99_999_999_999_999)),
            ("100000000000", Some(100_000_000_000)),
            ("100000000000.9", Some(100_000_000_000)),
            ("0.0009", None),
            ("2026-02-04T00:00:00+00:00", Some(1_770_163_200_000)),
            ("2026-02-04T01:00:00+01:00", Some(1_770_163_200_000)),
            ("2026-02-04T00:00:00", Some(1_770_163_200_000)),
            ("2026-02-04 00:00:00.5", Some(1_770_163_200_500)),
            ("2026-02-04", Some(1_770_163_200_000)),
            ("0", None),
            ("-5", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(business_ms(text), want, "{text}");
        }
        assert_eq!(iso(1_770_163_200_062), "2026-02-04T00:00:00.062Z");
    }
}
