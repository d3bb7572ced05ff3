//! Times that people type: one parser for the options of all commands (docs/spec/commands.md, "Times").
//!
//! It is written by hand: parsers of spans and of times such as "2 hours ago" count from the clock of the machine, and
//! these times count from the end of a history. A time of day also has a length.

use std::str::FromStr;

use super::time::{self, DAY_MS};
use crate::domain::event::ids::EntryId;

const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// A number of at least this many digits is a time in milliseconds. [1]
const MILLIS_DIGITS_MIN: usize = 12;

/// The accepted forms, for messages.
pub const FORMS: &str = "an entry id (1770170851400-0), a time (2026-02-04T02:07:31Z), a time of day in UTC (02:07), \
                         or how long ago (90m ago, 2 hours ago)";

/// A time as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Entry(EntryId),
    /// [ms since 1970]
    At(u64),
    /// The latest such time of day, in UTC, that is not after the end.
    OfDay {
        /// [ms since midnight]
        ms: u64,
        /// How long the minute, second or millisecond lasts that was typed.
        lasts_ms: u64,
    },
    /// So long before the end.
    Ago {
        ms: u64,
    },
}

/// A text of another form.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a time: want {FORMS}")]
pub struct NotAMoment {
    text: String,
}

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        let trimmed = text.trim();
        let is_number = !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit());
        let millis = || trimmed.parse().ok().filter(|_| is_number && trimmed.len() >= MILLIS_DIGITS_MIN);
        let entry = || trimmed.parse().ok().map(Self::Entry);
        let moment = entry().or_else(|| of_day(trimmed)).or_else(|| ago(trimmed)).or_else(|| {
            millis().or_else(|| time::business_ms(trimmed)).or_else(|| time::day_ms(trimmed)).map(Self::At)
        });
        moment.ok_or_else(|| NotAMoment { text: text.to_owned() })
    }
}

impl Moment {
    /// Returns true if the end of the history has to be known.
    pub const fn needs_end(self) -> bool {
        match self {
            Self::Entry(_) | Self::At(_) => false,
            Self::OfDay { .. } | Self::Ago { .. } => true,
        }
    }

    /// Returns the first entry id that is not before this time.
    pub fn since(self, end_ms: u64) -> EntryId {
        match self {
            Self::Entry(id) => id,
            Self::At(_) | Self::OfDay { .. } | Self::Ago { .. } => EntryId::new(self.begins_ms(end_ms), 0),
        }
    }

    /// Returns the last entry id that is not after this time. A time of day lasts for the whole minute, second or
    /// millisecond that it names.
    pub fn until(self, end_ms: u64) -> EntryId {
        let begins_ms = self.begins_ms(end_ms);
        match self {
            Self::Entry(id) => id,
            Self::OfDay { lasts_ms, .. } => EntryId::new(begins_ms.saturating_add(lasts_ms - 1), u64::MAX),
            Self::At(_) | Self::Ago { .. } => EntryId::new(begins_ms, u64::MAX),
        }
    }

    fn begins_ms(self, end_ms: u64) -> u64 {
        match self {
            Self::Entry(id) => id.ms,
            Self::At(ms) => ms,
            Self::Ago { ms } => end_ms.saturating_sub(ms),
            Self::OfDay { ms, .. } => {
                let of_last_day = (end_ms / DAY_MS * DAY_MS).saturating_add(ms);
                if of_last_day > end_ms { of_last_day.saturating_sub(DAY_MS) } else { of_last_day }
            }
        }
    }
}

/// Parses `02:07`, `02:07:31` or `02:07:31.400`, with or without a `Z`.
fn of_day(text: &str) -> Option<Moment> {
    let text = text.strip_suffix(['Z', 'z']).unwrap_or(text);
    let (clock, millis) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(whole(fraction, 3, 1000)?)),
        None => (text, None),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] if millis.is_none() => (hour, minute, None),
        [hour, minute, second] => (hour, minute, Some(whole(second, 2, 60)?)),
        _ => return None,
    };
    let ms = whole(hour, 2, 24)? * HOUR_MS + whole(minute, 2, 60)? * MINUTE_MS;
    let ms = ms + second.unwrap_or(0) * SECOND_MS + millis.unwrap_or(0);
    let lasts_ms = match (second, millis) {
        (None, _) => MINUTE_MS,
        (Some(_), None) => SECOND_MS,
        (Some(_), Some(_)) => 1,
    };
    Some(Moment::OfDay { ms, lasts_ms })
}

/// Parses a number of exactly so many digits, below a limit.
fn whole(text: &str, digits: usize, limit: u64) -> Option<u64> {
    let is_plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && *number < limit)
}

/// Parses `90m ago`, `2 hours ago`, `1h 30m ago`: whole numbers with units, the larger unit first.
fn ago(text: &str) -> Option<Moment> {
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.strip_suffix("ago")?;
    if !rest.ends_with(' ') {
        return None;
    }
    let (mut ms, mut last_unit) = (0_u64, u64::MAX);
    rest = rest.trim();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = unit_ms(&rest[..letters]).filter(|unit| *unit < last_unit)?;
        rest = rest[letters..].trim_start();
        ms = ms.checked_add(number.checked_mul(unit)?)?;
        last_unit = unit;
    }
    (last_unit < u64::MAX).then_some(Moment::Ago { ms })
}

fn unit_ms(name: &str) -> Option<u64> {
    match name {
        "ms" => Some(1),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(SECOND_MS),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(MINUTE_MS),
        "h" | "hour" | "hours" => Some(HOUR_MS),
        "d" | "day" | "days" => Some(DAY_MS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-02-04T02:10:58.600Z, the end of the night of incident 1.
    const END_MS: u64 = 1_770_171_058_600;
    /// 2026-02-04T00:00:00Z.
    const MIDNIGHT_MS: u64 = 1_770_163_200_000;

    fn range(text: &str) -> (EntryId, EntryId) {
        let moment: Moment = text.parse().unwrap_or_else(|error| panic!("{error}"));
        (moment.since(END_MS), moment.until(END_MS))
    }

    #[test]
    fn every_spelling_gives_the_ids_that_a_range_begins_and_ends_with() {
        let at = |ms, lasts_ms: u64| (EntryId::new(ms, 0), EntryId::new(ms + lasts_ms - 1, u64::MAX));
        let exact = |ms| at(ms, 1);
        let of_day = |hours: u64, minutes: u64, seconds: u64| {
            MIDNIGHT_MS + hours * HOUR_MS + minutes * MINUTE_MS + seconds * SECOND_MS
        };
        for (text, wanted) in [
            ("1770170851400-3", (EntryId::new(1_770_170_851_400, 3), EntryId::new(1_770_170_851_400, 3))),
            ("1770170851400", exact(1_770_170_851_400)),
            ("100000000000", exact(100_000_000_000)),
            ("1770170851", exact(1_770_170_851_000)),
            ("2026-02-04T02:07:31.400Z", exact(1_770_170_851_400)),
            ("2026-02-04 03:07:31+01:00", exact(1_770_170_851_000)),
            ("2026-02-04T02:07", exact(of_day(2, 7, 0))),
            ("2026-02-04", exact(MIDNIGHT_MS)),
            ("Wed, 04 Feb 2026 02:07:31 GMT", exact(1_770_170_851_000)),
            ("02:07", at(of_day(2, 7, 0), MINUTE_MS)),
            (" 02:07Z ", at(of_day(2, 7, 0), MINUTE_MS)),
            ("02:07:31", at(of_day(2, 7, 31), SECOND_MS)),
            ("02:07:31.400z", exact(of_day(2, 7, 31) + 400)),
            ("02:10", at(of_day(2, 10, 0), MINUTE_MS)),
            ("02:11", at(of_day(2, 11, 0) - DAY_MS, MINUTE_MS)),
            ("23:59:59", at(of_day(23, 59, 59) - DAY_MS, SECOND_MS)),
            ("2 hours ago", exact(END_MS - 2 * HOUR_MS)),
            ("1 hour ago", exact(END_MS - HOUR_MS)),
            ("90m ago", exact(END_MS - 90 * MINUTE_MS)),
            ("90 Minutes  ago", exact(END_MS - 90 * MINUTE_MS)),
            ("1h30m ago", exact(END_MS - 90 * MINUTE_MS)),
            ("1d 2h 3min 4s 5ms ago", exact(END_MS - DAY_MS - 2 * HOUR_MS - 3 * MINUTE_MS - 4005)),
            ("0s ago", exact(END_MS)),
            ("999999 days ago", exact(0)),
        ] {
            assert_eq!(range(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_time_of_day_before_the_first_midnight_is_the_beginning() {
        let moment: Moment = "02:07".parse().expect("a time of day");
        assert_eq!(moment.since(HOUR_MS), EntryId::new(0, 0));
    }

    #[test]
    fn only_times_that_count_from_the_end_need_it() {
        for (text, wanted) in
            [("1-0", false), ("2026-02-04T02:07", false), ("1770170851", false), ("02:07", true), ("90m ago", true)]
        {
            assert_eq!(text.parse::<Moment>().map(Moment::needs_end).ok(), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_value_and_the_accepted_forms() {
        for text in [
            "",
            "ago",
            " ago",
            "2 ago",
            "hours ago",
            "2 hours",
            "2hoursago",
            "30m 1h ago",
            "2h 2h ago",
            "-2h ago",
            "1.5h ago",
            "2 fortnights ago",
            "99999999999999999999d ago",
            "300000000000000000h ago",
            "24:00",
            "02:60",
            "2:07",
            "02:07:60",
            "02:07.5",
            "02:07:31.4",
            "02:07+01:00",
            "02:07:31:00",
            "1-x",
            "yesterday",
            "now",
            "04.02.2026",
            "2026-02-30",
        ] {
            let error = text.parse::<Moment>().map(|moment| panic!("{text}: {moment:?}")).unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a time: want {FORMS}"));
        }
    }
}
