//! Event times as producers write them, and times that people type.
//!
//! The spellings are read by hand: producers mix four units of epochs, ISO-8601 with and without separators, fractions
//! after a comma, and names of zones, which no parser of `chrono` accepts together. `chrono` has the calendar, and
//! reads RFC 2822.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime};

use super::number;
use crate::domain::event::StatedTime;

/// One day. [ms]
pub const DAY_MS: u64 = 86_400_000;

const NANOS_PER_MS: u32 = 1_000_000;
/// From here on an epoch number is read as milliseconds: as seconds it would be the year 5138. [s]
const SECONDS_MAX: u64 = 100_000_000_000;
/// From here on an epoch number is read as microseconds. [ms]
const MILLIS_MAX: u64 = 100_000_000_000_000;
/// From here on an epoch number is read as nanoseconds. [µs]
const MICROS_MAX: u64 = 100_000_000_000_000_000;

/// A time that a producer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Absent, or 0: there is no epoch zero.
    Absent,
    At(StatedTime),
    /// A text that is not a time.
    Unreadable,
}

/// Reads a time: epoch in s, ms, µs or ns, distinguished by size, with or without a fraction; ISO-8601, extended or
/// basic; RFC 2822 (docs/spec/streams.md, "Times").
pub fn written(text: &str) -> Written {
    if let Some(stated) = number::Plain::read(text.as_bytes()).and_then(plain) {
        return Written::At(stated);
    }
    if number::is_absent(text) {
        return Written::Absent;
    }
    match number::Long::read(text) {
        Some(number) if number.is_zero() => Written::Absent,
        Some(number) => epoch(&number).map_or(Written::Unreadable, Written::At),
        None => match of_text(text.trim()) {
            Some(StatedTime { ms: 0, is_cut: false }) => Written::Absent,
            Some(stated) => Written::At(stated),
            None => Written::Unreadable,
        },
    }
}

/// Returns the same time in ms since 1970, or `None` if it is absent or not a time.
pub fn business_ms(text: &str) -> Option<u64> {
    stated(text).map(|stated| stated.ms)
}

fn stated(text: &str) -> Option<StatedTime> {
    match written(text) {
        Written::At(stated) => Some(stated),
        Written::Absent | Written::Unreadable => None,
    }
}

/// Returns the time of an epoch number. `None` if it is negative, too large, or a calendar date.
fn epoch(number: &number::Long) -> Option<StatedTime> {
    let (whole, has_fraction) = number.shifted(0)?;
    if number.negative || (!has_fraction && is_date(whole)) {
        return None;
    }
    let places = match whole {
        0..SECONDS_MAX => 3,
        SECONDS_MAX..MILLIS_MAX => 0,
        MILLIS_MAX..MICROS_MAX => -3,
        MICROS_MAX.. => -6,
    };
    let (ms, is_cut) = number.shifted(places)?;
    Some(StatedTime { ms, is_cut })
}

/// Returns true for a whole number that is a calendar date, `20260204`. As an epoch it would be a day of 1970, as a
/// date it would lack the time of day: it is neither.
fn is_date(whole: u64) -> bool {
    let (year, month, day) = (whole / 10_000, whole / 100 % 100, whole % 100);
    (1970..=2100).contains(&year) && NaiveDate::from_ymd_opt(year as i32, month as u32, day as u32).is_some()
}

/// Returns the same for a plain number, with whole numbers only. `None` means that the text must be read in full: it
/// is 0, or a date.
#[inline]
pub(super) fn plain(number::Plain { mantissa, scale }: number::Plain) -> Option<StatedTime> {
    if mantissa == 0 || (scale == 0 && is_date(mantissa)) {
        return None;
    }
    let power = |places: u32| number::POWERS_OF_TEN[places as usize];
    let whole = mantissa / power(scale);
    // A plain number with digits after the point has one that is not 0.
    let cut = |by: u64| (whole / by, !whole.is_multiple_of(by) || scale > 0);
    let (ms, is_cut) = match scale {
        _ if whole >= MICROS_MAX => cut(1_000_000),
        _ if whole >= MILLIS_MAX => cut(1_000),
        _ if whole >= SECONDS_MAX => cut(1),
        0..=3 => (mantissa * power(3 - scale), false),
        _ => (mantissa / power(scale - 3), true),
    };
    Some(StatedTime { ms, is_cut })
}

/// Returns the same for bytes. They are treated as text only if they are not a plain number. `None` only means that the
/// text must be read in full.
pub(super) fn of_bytes(text: &[u8]) -> Option<StatedTime> {
    match number::Plain::read(text) {
        Some(number) => plain(number),
        None => stated(std::str::from_utf8(text).ok()?),
    }
}

fn of_text(text: &str) -> Option<StatedTime> {
    let time = iso_8601(text).or_else(|| DateTime::parse_from_rfc2822(text).ok())?;
    let ms = u64::try_from(time.timestamp_millis()).ok()?;
    Some(StatedTime { ms, is_cut: !time.timestamp_subsec_nanos().is_multiple_of(NANOS_PER_MS) })
}

/// Reads `2026-02-04T00:01:40,5+0100`, `20260204T000140Z`, `2026-02-04 00:01 UTC`. Without a zone it is UTC. The name of
/// a zone in brackets after it is ignored. A date alone, or with the hour alone, lacks the time of day.
fn iso_8601(text: &str) -> Option<DateTime<FixedOffset>> {
    let (text, is_named) = match text.strip_suffix(']') {
        Some(inner) => (inner.split_once('[')?.0, true),
        None => (text, false),
    };
    let (date, rest) = text.split_at(date_length(text)?);
    let date = calendar_date(date)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?.trim_start_matches(' ');
    let zone_at = rest.find(|c: char| !matches!(c, '0'..='9' | ':' | '.' | ',')).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    let zone = zone.trim_start_matches(' ');
    if zone.is_empty() && is_named {
        return None;
    }
    date.and_time(time_of_day(time)?).and_local_timezone(zone_offset(zone)?).single()
}

/// Returns the beginning of a day, `2026-02-04`, in UTC. Only people type a date for a time. [ms since 1970]
pub(super) fn day_ms(text: &str) -> Option<u64> {
    let midnight = calendar_date(text).filter(|_| text.len() == 10)?.and_time(NaiveTime::MIN);
    u64::try_from(midnight.and_utc().timestamp_millis()).ok()
}

/// Returns the length of the date at the start of a text: `2026-02-04` or `20260204`.
fn date_length(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        4 if text.is_char_boundary(10) && text.len() >= 10 => Some(10),
        8 => Some(8),
        _ => None,
    }
}

fn calendar_date(text: &str) -> Option<NaiveDate> {
    let format = if text.len() == 8 { "%Y%m%d" } else { "%Y-%m-%d" };
    let is_plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    NaiveDate::parse_from_str(text, format).ok().filter(|_| is_plain)
}

/// Reads `00:01`, `00:01:40`, `0001`, `000140`. Those with seconds may have a fraction after a point or a comma.
fn time_of_day(text: &str) -> Option<NaiveTime> {
    let (clock, fraction) = match text.find(['.', ',']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits: String = if clock.contains(':') {
        let parts: Vec<&str> = clock.split(':').collect();
        if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.len() != 2) {
            return None;
        }
        parts.concat()
    } else {
        clock.to_owned()
    };
    if !matches!(digits.len(), 4 | 6) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| digits.get(at..at + 2).map_or(Some(0), |two| two.parse::<u32>().ok());
    let nanos = match fraction {
        None => 0,
        Some(text) if digits.len() == 6 => nanos(text)?,
        Some(_) => return None,
    };
    // A leap second is read as the second before it.
    let second = if part(4)? == 60 { 59 } else { part(4)? };
    NaiveTime::from_hms_nano_opt(part(0)?, part(2)?, second, nanos)
}

/// Reads a fraction of a second, rounded down to nanoseconds.
fn nanos(fraction: &str) -> Option<u32> {
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{:0<9}", &fraction[..fraction.len().min(9)]).parse().ok()
}

/// Reads a zone: none, `Z`, `UTC`, `GMT`, `±hh`, `±hhmm`, `±hh:mm`.
fn zone_offset(text: &str) -> Option<FixedOffset> {
    if text.is_empty() || ["Z", "UTC", "GMT"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return FixedOffset::east_opt(0);
    }
    let sign = match text.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = match text[1..].split_once(':') {
        Some((hours, minutes)) if hours.len() == 2 && minutes.len() == 2 => format!("{hours}{minutes}"),
        Some(_) => return None,
        None => text[1..].to_owned(),
    };
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hours: i32 = digits[..2].parse().ok()?;
    let minutes: i32 = digits.get(2..).filter(|text| !text.is_empty()).map_or(Some(0), |text| text.parse().ok())?;
    (hours < 24 && minutes < 60).then(|| FixedOffset::east_opt(sign * 60 * (60 * hours + minutes)))?
}

/// Formats ms since 1970 as `2026-02-04T02:07:00.000Z`.
pub fn iso(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .map_or_else(|| format!("{ms} ms"), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Formats a span of time for people: `0.4s`, `95s`, `12m`, `5h 3m`, `298d 21h`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let both = |whole: u64, unit: &str, rest: u64, smaller: &str| match rest {
        0 => format!("{whole}{unit}"),
        _ => format!("{whole}{unit} {rest}{smaller}"),
    };
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{minutes}m"),
        7200..172_800 => both(hours, "h", minutes % 60, "m"),
        _ => both(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_read_in_its_two_largest_units() {
        let all = [
            (0, "0.0s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (119_999, "119s"),
            (120_000, "2m"),
            (7_199_999, "119m"),
            (7_200_000, "2h"),
            (7_380_000, "2h 3m"),
            (172_799_999, "47h 59m"),
            (172_800_000, "2d"),
            (25_825_948_000, "298d 21h"),
            (u64::MAX, "213503982334d 14h"),
        ];
        for (ms, wanted) in all {
            assert_eq!(span(ms), wanted, "{ms}");
        }
    }

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
            ("0.0009", Some(0)),
            ("0.001", Some(1)),
            ("1.7701632e9", Some(1_770_163_200_000)),
            ("+1770163200", Some(1_770_163_200_000)),
            ("1770163200.", Some(1_770_163_200_000)),
            (".5", Some(500)),
            ("20260204", None),
            (" 20260204", None),
            ("20260204.0", None),
            ("2.0260204e7", None),
            ("20261304", Some(20_261_304_000)),
            ("2026-02-04T00:00:00+00:00", Some(1_770_163_200_000)),
            ("2026-02-04T01:00:00+01:00", Some(1_770_163_200_000)),
            ("2026-02-04T00:00:00", Some(1_770_163_200_000)),
            ("2026-02-04 00:00:00.5", Some(1_770_163_200_500)),
            ("2026-02-04", None),
            ("1770163395196000", Some(1_770_163_395_196)),
            ("1770163395196999", Some(1_770_163_395_196)),
            ("1770163395196000000", Some(1_770_163_395_196)),
            ("1770163395196000000.5", Some(1_770_163_395_196)),
            ("1.770163395196e12", Some(1_770_163_395_196)),
            ("99999999999999", Some(99_999_999_999_999)),
            ("100000000000000", Some(100_000_000_000)),
            ("2026-02-04T00:00:00+0000", Some(1_770_163_200_000)),
            ("2026-02-04 00:00:00+00", Some(1_770_163_200_000)),
            ("2026-02-04 00:00:00 +00:00", Some(1_770_163_200_000)),
            ("2026-02-04 00:00:00 UTC", Some(1_770_163_200_000)),
            ("2026-02-04t00:00:00gmt", Some(1_770_163_200_000)),
            ("2026-02-03T19:00:00-0500", Some(1_770_163_200_000)),
            ("2026-02-04T00:00:00,5Z", Some(1_770_163_200_500)),
            ("2026-02-04T00:00:00.123456789Z", Some(1_770_163_200_123)),
            ("2026-02-04T01:00:00+01:00[Europe/Paris]", Some(1_770_163_200_000)),
            ("2026-02-04T00:00:00Z[UTC]", Some(1_770_163_200_000)),
            ("20260204T010000+0100[Europe/Paris]", Some(1_770_163_200_000)),
            ("20260204T000000Z", Some(1_770_163_200_000)),
            ("20260204T000000.5", Some(1_770_163_200_500)),
            ("20260204T0000", Some(1_770_163_200_000)),
            ("2026-02-04T00:00", Some(1_770_163_200_000)),
            ("2026-02-04T00Z", None),
            ("Wed, 04 Feb 2026 00:00:00 GMT", Some(1_770_163_200_000)),
            ("Wed, 4 Feb 2026 01:00:00 +0100", Some(1_770_163_200_000)),
            ("2026-02-04T00:00:00[UTC]", None),
            ("2026-02-30T00:00:00Z", None),
            ("2026-02-04T25:00:00Z", None),
            ("2026-02-04T00:0:00Z", None),
            ("2026-02-04T00:00:00+1", None),
            ("2026-02-04T00:00:00 EST5", None),
            ("2026/02/04", None),
            ("0", None),
            ("-5", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(business_ms(text), want, "{text}");
        }
        for text in ["", "0", "0.0", "-0", " 0e9 ", "None", "nan", " null ", "-inf", "1970-01-01T00:00:00Z"] {
            assert_eq!(written(text), Written::Absent, "{text}");
        }
        for text in ["now", "-5", "-0.0004", "2026-02-04T00:00:00[UTC]", "04.02.2026", "[1]", "1e99"] {
            assert_eq!(written(text), Written::Unreadable, "{text}");
        }
        assert_eq!(iso(1_770_163_200_062), "2026-02-04T00:00:00.062Z");
    }

    #[test]
    fn a_time_without_a_time_of_day_is_unreadable() {
        for date in ["2026-02-04", "20260204"] {
            for rest in ["", "Z", "T", " ", "T00", " 00", "t00Z", "T00+01", "T00+01:00", " 00 UTC", "T00[UTC]", "[UTC]"]
            {
                let text = format!("{date}{rest}");
                assert_eq!(written(&text), Written::Unreadable, "{text}");
            }
        }
    }

    #[test]
    fn a_text_that_is_no_number_is_no_epoch() {
        for text in [
            "1_770_163_201",
            "1,770,163,201",
            "1 770 163 201",
            "0x69828f81",
            "１７７０１６３２０１",
            "1770163201s",
            "1e",
            ".",
        ] {
            assert_eq!(written(text), Written::Unreadable, "{text}");
            assert_eq!(number::decimal(text), Err(crate::domain::event::Reason::BadNumber), "{text}");
        }
    }

    #[test]
    fn a_fraction_of_a_millisecond_is_cut_and_noted() {
        for (text, ms, is_cut) in [
            ("0.0004", 0, true),
            ("4e-4", 0, true),
            ("1970-01-01T00:00:00.0004Z", 0, true),
            ("0.001", 1, false),
            ("1770163200.0620", 1_770_163_200_062, false),
            ("1770163200.0621", 1_770_163_200_062, true),
            (" 1770163200.0621", 1_770_163_200_062, true),
            ("1770163200062.000", 1_770_163_200_062, false),
            ("1770163200062.5", 1_770_163_200_062, true),
            ("1770163200062000", 1_770_163_200_062, false),
            ("1770163200062001", 1_770_163_200_062, true),
            ("+1770163200062001", 1_770_163_200_062, true),
            ("1770163200062000.1", 1_770_163_200_062, true),
            ("1770163200062000000", 1_770_163_200_062, false),
            ("1770163200062000001", 1_770_163_200_062, true),
            ("1770163200062000000.1", 1_770_163_200_062, true),
            ("2026-02-04T00:00:00.062Z", 1_770_163_200_062, false),
            ("2026-02-04T00:00:00.0620001Z", 1_770_163_200_062, true),
        ] {
            assert_eq!(written(text), Written::At(StatedTime { ms, is_cut }), "{text}");
            if let Some(number) = number::Plain::read(text.as_bytes()) {
                assert_eq!(plain(number), Some(StatedTime { ms, is_cut }), "{text}");
            }
        }
    }

    #[test]
    fn both_ways_read_the_same_epoch() {
        for whole in ["1", "20261304", "99999999999", "100000000000", "99999999999999", "100000000000000"] {
            for fraction in ["", ".", ".0", ".0004", ".1", ".12", ".123", ".1239"] {
                let text = format!("{whole}{fraction}");
                let Some(number) = number::Plain::read(text.as_bytes()) else { continue };
                assert_eq!(plain(number), stated(&format!(" {text}")), "{text}");
            }
        }
    }
}
