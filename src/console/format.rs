//! Numbers and times for people: short, with the exact value beside it.

use rust_decimal::Decimal;

use super::chart::escaped;
use crate::codec::time;
use crate::domain::event::ids::EntryId;

/// Decimal places of R in tables. [1]
const R_PLACES: u32 = 3;
/// Decimal places of profits in tables. [1]
const MONEY_PLACES: u32 = 2;
/// Significant digits of the names in charts. [1]
const NAME_DIGITS: u32 = 7;

/// A number as it is shown, and exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Number {
    pub short: String,
    pub exact: String,
}

impl Number {
    /// Returns a number with at most four decimal places, or five significant digits below 1.
    pub fn of(text: &str) -> Self {
        Self { short: short(text), exact: text.to_owned() }
    }

    /// Returns a number of R, with at most three decimal places.
    pub fn of_r(text: &str) -> Self {
        Self { short: rounded(text, R_PLACES), exact: text.to_owned() }
    }

    /// Returns an amount of the quote asset, with at most two decimal places.
    pub fn of_money(text: &str) -> Self {
        Self { short: rounded(text, MONEY_PLACES), exact: text.to_owned() }
    }

    pub fn of_option(text: Option<&String>) -> Option<Self> {
        text.map(|text| Self::of(text))
    }

    pub fn is_negative(&self) -> bool {
        self.exact.starts_with('-')
    }

    /// Returns true if the short form is not the exact one.
    pub fn is_rounded(&self) -> bool {
        self.short != self.exact
    }
}

/// Returns a number with at most four decimal places, or five significant digits below 1. Returns a text that is not a
/// number unchanged.
pub fn short(text: &str) -> String {
    let Ok(number) = text.parse::<Decimal>() else { return text.to_owned() };
    let rounded = if number.abs() >= Decimal::ONE { Some(number.round_dp(4)) } else { number.round_sf(5) };
    rounded.unwrap_or(number).normalize().to_string()
}

fn rounded(text: &str, places: u32) -> String {
    decimal(text).map_or_else(|| text.to_owned(), |number| number.round_dp(places).normalize().to_string())
}

/// Returns a number with the digits that fit in the name of a line. Its title has the others.
pub fn name(text: &str) -> String {
    let number = decimal(text).and_then(|number| number.round_sf(NAME_DIGITS));
    number.map_or_else(|| text.to_owned(), |number| number.normalize().to_string())
}

/// Returns a decimal of a document.
pub fn decimal(text: &str) -> Option<Decimal> {
    text.parse().ok()
}

/// Returns a number for the geometry of a chart.
pub fn float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// A time, once as an instant for programs and once as people read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// `2026-02-04T02:07:31.400Z`.
    pub iso: String,
    /// `02:07:31.400`.
    pub clock: String,
    /// `2026-02-04`.
    pub date: String,
    pub entry: String,
}

impl When {
    pub fn of(id: EntryId) -> Self {
        Self { entry: id.to_string(), ..Self::of_ms(id.ms) }
    }

    /// Returns a time. [ms since 1970]
    pub fn of_ms(ms: u64) -> Self {
        let iso = time::iso(ms);
        // A time outside the calendar is written as a number of milliseconds.
        let is_calendar = iso.as_bytes().get(10) == Some(&b'T');
        let part = |range: std::ops::Range<usize>| iso.get(range).filter(|_| is_calendar).unwrap_or(&iso).to_owned();
        let clock = part(11..23);
        let clock = clock.strip_suffix(".000").map_or(clock.clone(), str::to_owned);
        Self { clock, date: part(0..10), iso, entry: String::new() }
    }

    /// Returns the time of an entry that a document names.
    pub fn of_text(id: &str) -> Option<Self> {
        id.parse().ok().map(Self::of)
    }
}

/// Returns a text as HTML, escaped, with the names between backticks as code.
pub fn with_code(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escaped(text);
    }
    let part = |(place, part): (usize, &&str)| {
        let part = escaped(part);
        if place % 2 == 1 { format!("<code>{part}</code>") } else { part }
    };
    parts.iter().enumerate().map(part).collect()
}

/// How long ago something was. On a page that follows a history the browser counts it on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// [ms since 1970]
    pub since_ms: u64,
    pub text: String,
}

impl Age {
    /// Returns the age of an entry at a time. [ms since 1970]
    pub fn of(id: EntryId, now_ms: u64) -> Self {
        Self { since_ms: id.ms, text: time::span(now_ms.saturating_sub(id.ms)) }
    }
}

/// Returns a share with its sign and unit. [percent]
pub fn percent(share: &Decimal) -> String {
    format!("{share:+} %")
}

/// Returns how far a price is away from the mark, in percent of the mark.
pub fn away(mark: &str, price: &str) -> Option<Decimal> {
    let (mark, price) = (decimal(mark)?, decimal(price)?);
    let share = price.checked_sub(mark)?.checked_div(mark)?.checked_mul(Decimal::ONE_HUNDRED)?;
    Some(share.round_dp(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_number_keeps_its_sign_its_size_and_says_that_it_is_short() {
        for (text, want) in [
            ("35.559736594543741356", "35.5597"),
            ("0.00142738228", "0.0014274"),
            ("-0.025373", "-0.025373"),
            ("3135.7792411414234", "3135.7792"),
            ("90000", "90000"),
            ("1.50", "1.5"),
            ("0", "0"),
            ("none", "none"),
        ] {
            assert_eq!(Number::of(text).short, want, "{text}");
        }
        assert_eq!((&*Number::of_r("-0.02537").short, &*Number::of_money("-0.004").short), ("-0.025", "0"));
        assert_eq!((&*Number::of_r("1.05").short, &*Number::of_money("2.075").short), ("1.05", "2.08"));
        assert_eq!([name("0.313663612345"), name("3034.5"), name("none")], ["0.3136636", "3034.5", "none"]);
        assert!(Number::of("35.559736594543741356").is_rounded() && !Number::of("1.5").is_rounded());
        assert_eq!(away("0.07494", "0.3136636").map(|share| share.to_string()).as_deref(), Some("318.55"));
    }

    #[test]
    fn names_between_backticks_are_code_and_the_rest_stays_text() {
        assert_eq!(with_code("below `min_r` <b>"), "below <code>min_r</code> &lt;b&gt;");
        assert_eq!(with_code("`<i>`"), "<code>&lt;i&gt;</code>");
        assert_eq!(with_code("one ` alone"), "one ` alone");
    }

    #[test]
    fn a_time_is_read_as_clock_and_date() {
        let when = When::of(EntryId::new(1_770_170_851_400, 3));
        assert_eq!((&*when.clock, &*when.date, &*when.entry), ("02:07:31.400", "2026-02-04", "1770170851400-3"));
        assert_eq!(When::of_ms(1_770_170_851_000).clock, "02:07:31");
        assert_eq!(When::of_ms(u64::MAX).clock, "18446744073709551615 ms");
    }
}
