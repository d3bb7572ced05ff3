//! Decimal numbers as producers write them, judged by their text.

use rust_decimal::Decimal;

use crate::domain::event::Reason;

/// Every number is below this (docs/spec/streams.md, "Ranges").
const LIMIT: Decimal = Decimal::from_parts(2_764_472_320, 232_830, 0, false, 0);
/// Digits before the point that are below the limit in every case.
const LIMIT_DIGITS: usize = 15;
/// Digits that a decimal represents exactly.
const DIGITS_MAX: usize = 28;
/// Digits that 64 bits represent exactly.
const NARROW_DIGITS_MAX: usize = 18;
/// Powers of ten that fit 64 bits.
pub(super) const POWERS_OF_TEN: [u64; 20] = {
    let mut powers = [1; 20];
    let mut place = 1;
    while place < powers.len() {
        powers[place] = powers[place - 1] * 10;
        place += 1;
    }
    powers
};
/// Fewest digits of a rounded number, so that it is exact to the promised 10⁻¹².
const ROUNDED_DIGITS_MIN: usize = 14;
/// Longest id that is compared as a number. A longer one is compared as text. [1]
const ID_DIGITS_MAX: usize = 40;
/// A number with a larger exponent is out of range, whatever its digits.
const EXPONENT_MAX: i64 = 10_000;

/// Returns true if the text means that there is no number: `""`, `None`, `null`, `NaN`, infinities.
pub fn is_absent(text: &str) -> bool {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    is_absent_word(text) || ["inf", "infinity", "nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word))
}

/// Returns true if the text means that there is no word: `""`, `None`, `null`, `NaN`.
pub fn is_absent_word(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || ["none", "null", "nan"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Reads a decimal.
///
/// Errors: [`Reason::BadNumber`] for a text that is not a number, [`Reason::OutOfRange`] for one of 10¹⁵ or more, of
/// more than 28 significant digits, or of more places than a decimal has.
pub fn decimal(text: &str) -> Result<Decimal, Reason> {
    if let Some(plain) = Plain::read(text.as_bytes()) {
        return Ok(plain.decimal());
    }
    let Parts { negative, whole, fraction, exponent } = Parts::of(text)?;
    let mut mantissa: u128 = 0;
    // Nearly all numbers fit 64 bits, which are much faster.
    let mut narrow: u64 = 0;
    let mut significant = 0;
    for b in whole.bytes().chain(fraction.bytes()) {
        if significant > 0 || b != b'0' {
            significant += 1;
            let digit = u64::from(b - b'0');
            if significant <= NARROW_DIGITS_MAX {
                narrow = narrow * 10 + digit;
                mantissa = u128::from(narrow);
            } else if significant <= DIGITS_MAX {
                mantissa = mantissa * 10 + u128::from(digit);
            } else {
                return Err(Reason::OutOfRange);
            }
        }
    }
    if mantissa == 0 {
        return Ok(Decimal::ZERO);
    }
    let mut scale = fraction.len() as i64 - exponent;
    if significant <= NARROW_DIGITS_MAX {
        while scale > 0 && narrow.is_multiple_of(10) {
            narrow /= 10;
            scale -= 1;
        }
        mantissa = u128::from(narrow);
    } else {
        while scale > 0 && mantissa.is_multiple_of(10) {
            mantissa /= 10;
            scale -= 1;
        }
    }
    in_range(negative, mantissa, scale)
}

/// Returns the decimal of a mantissa and its places, if it is in range.
fn in_range(negative: bool, mut mantissa: u128, mut scale: i64) -> Result<Decimal, Reason> {
    if !(-15..=i64::from(Decimal::MAX_SCALE)).contains(&scale) {
        return Err(Reason::OutOfRange);
    }
    while scale < 0 {
        mantissa = mantissa.checked_mul(10).ok_or(Reason::OutOfRange)?;
        scale += 1;
    }
    let signed = mantissa as i128 * if negative { -1 } else { 1 };
    let value = Decimal::try_from_i128_with_scale(signed, scale as u32).map_err(|_| Reason::OutOfRange)?;
    if value.abs() >= LIMIT {
        return Err(Reason::OutOfRange);
    }
    Ok(value)
}

/// The parts of a written number: sign, digits on both sides of the point, exponent.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, Reason> {
        let text = text.trim();
        let (negative, unsigned) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], exponent_of(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || whole.len() + fraction.len() == 0 {
            return Err(Reason::BadNumber);
        }
        Ok(Self { negative, whole, fraction, exponent })
    }

    /// Returns all digits from the first non-zero one, as numbers.
    fn significant(&self) -> Vec<u8> {
        let digits = self.whole.bytes().chain(self.fraction.bytes()).map(|b| b - b'0');
        digits.skip_while(|digit| *digit == 0).collect()
    }

    /// Returns the places after the point; negative if zeros are missing before it. [1]
    fn scale(&self) -> i64 {
        self.fraction.len() as i64 - self.exponent
    }
}

/// A number of any length, of which only the whole part is of use.
pub(super) struct Long {
    pub negative: bool,
    /// From the first one that is not 0.
    digits: Vec<u8>,
    /// Digits after the point; negative if zeros are missing before it. [1]
    scale: i64,
}

impl Long {
    /// Reads a number in every notation that a number may have. `None` for any other text.
    pub fn read(text: &str) -> Option<Self> {
        let parts = Parts::of(text).ok()?;
        Some(Self { negative: parts.negative, digits: parts.significant(), scale: parts.scale() })
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// Returns the whole part of the absolute value after its point has moved to the right by some places, and whether
    /// a part of it was cut off. `None` if the whole part does not fit 64 bits.
    pub fn shifted(&self, places: i64) -> Option<(u64, bool)> {
        let length = self.digits.len() as i64;
        let whole = length - self.scale + places;
        if whole > POWERS_OF_TEN.len() as i64 && !self.is_zero() {
            return None;
        }
        let digit = |at: i64| usize::try_from(at).ok().and_then(|at| self.digits.get(at)).copied().unwrap_or(0);
        let append = |number: u64, at: i64| number.checked_mul(10)?.checked_add(u64::from(digit(at)));
        let number = (0..whole.max(0)).try_fold(0, append)?;
        let is_cut = (whole.max(0)..length).any(|at| digit(at) != 0);
        Some((number, is_cut))
    }
}

/// Reads a decimal as [`decimal`] does, but rounds half to even if it has more digits or places than a decimal can
/// have.
///
/// Errors: [`Reason::OutOfRange`] also if the rounded number would not be exact to the promised 10⁻¹².
pub fn rounded(text: &str) -> Result<Decimal, Reason> {
    let exact = decimal(text);
    if exact != Err(Reason::OutOfRange) {
        return exact;
    }
    let parts = Parts::of(text)?;
    let (digits, scale) = (parts.significant(), parts.scale());
    let places_over = usize::try_from(scale - i64::from(Decimal::MAX_SCALE)).unwrap_or(0);
    let cut = digits.len().saturating_sub(DIGITS_MAX).max(places_over);
    let kept = digits.len().saturating_sub(cut);
    if cut == 0 || kept < ROUNDED_DIGITS_MIN {
        return Err(Reason::OutOfRange);
    }
    let mantissa = digits[..kept].iter().fold(0u128, |number, digit| 10 * number + u128::from(*digit));
    let (half, rest) = (digits[kept], &digits[kept + 1..]);
    let is_above = half > 5 || (half == 5 && (rest.iter().any(|digit| *digit > 0) || mantissa % 2 == 1));
    let (mut mantissa, mut scale) = (mantissa + u128::from(is_above), scale - cut as i64);
    while scale > 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        scale -= 1;
    }
    in_range(parts.negative, mantissa, scale)
}

/// Returns a whole number in its plain spelling: digits, no plus sign, no leading zeros, no exponent. Returns `None`
/// for any other text, and for more digits than an id has.
pub fn whole(text: &str) -> Option<String> {
    let parts = Parts::of(text).ok()?;
    let mut digits: String = parts.significant().into_iter().map(|digit| char::from(b'0' + digit)).collect();
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let scale = parts.scale();
    if scale >= 0 {
        let places = usize::try_from(scale).ok().filter(|places| *places < digits.len())?;
        let fraction = digits.split_off(digits.len() - places);
        if fraction.bytes().any(|b| b != b'0') {
            return None;
        }
    } else {
        let zeros = usize::try_from(-scale).ok().filter(|zeros| digits.len() + zeros <= ID_DIGITS_MAX)?;
        digits.extend(std::iter::repeat_n('0', zeros));
    }
    (digits.len() <= ID_DIGITS_MAX).then(|| if parts.negative { format!("-{digits}") } else { digits })
}

/// Reads a decimal from bytes. They are treated as text only if they are not a plain number.
pub(super) fn decimal_of_bytes(text: &[u8]) -> Result<Decimal, Reason> {
    match Plain::read(text) {
        Some(plain) => Ok(plain.decimal()),
        None => decimal(std::str::from_utf8(text).map_err(|_| Reason::BadNumber)?),
    }
}

/// A number of digits with at most one point, which fits 64 bits: nearly every number.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    /// Without trailing zeros after the point.
    pub mantissa: u64,
    /// Digits of the mantissa after the point. [1]
    pub scale: u32,
}

impl Plain {
    /// Reads a plain number. `None` only means that the text must be read in full.
    #[inline]
    pub fn read(text: &[u8]) -> Option<Self> {
        if text.len() > NARROW_DIGITS_MAX {
            return None;
        }
        let mut mantissa = 0;
        let mut point = None;
        for (at, &b) in text.iter().enumerate() {
            let digit = b.wrapping_sub(b'0');
            if digit <= 9 {
                mantissa = mantissa * 10 + u64::from(digit);
            } else if b == b'.' && point.is_none() {
                point = Some(at);
            } else {
                return None;
            }
        }
        let whole = point.unwrap_or(text.len());
        let scale = point.map_or(0, |point| text.len() - point - 1) as u32;
        if whole + scale as usize == 0 || whole > LIMIT_DIGITS {
            return None;
        }
        Some(Self { mantissa, scale }.trimmed())
    }

    /// Reads the JSON number at the start of a text, and returns its length. `None` only means that the text must be
    /// read in full.
    #[inline]
    pub fn at_start(text: &[u8]) -> Option<(Self, usize)> {
        let mut mantissa = 0;
        let whole = digits(text, &mut mantissa);
        let (mut places, mut length) = (0, whole);
        if text.get(whole) == Some(&b'.') {
            places = digits(&text[whole + 1..], &mut mantissa);
            length += 1 + places;
            if places == 0 {
                return None;
            }
        }
        let is_led_by_zero = whole > 1 && text[0] == b'0';
        let is_scientific = matches!(text.get(length), Some(b'e' | b'E'));
        if whole == 0 || whole > LIMIT_DIGITS || length > NARROW_DIGITS_MAX || is_led_by_zero || is_scientific {
            return None;
        }
        Some((Self { mantissa, scale: places as u32 }.trimmed(), length))
    }

    #[inline]
    fn trimmed(mut self) -> Self {
        while self.scale > 0 && self.mantissa.is_multiple_of(10) {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    pub fn decimal(self) -> Decimal {
        let Self { mantissa, scale } = self;
        Decimal::from_parts(mantissa as u32, (mantissa >> 32) as u32, 0, false, scale)
    }
}

/// Returns how many digits a text starts with. They are appended to a number, which is wrong if they do not fit it.
#[inline]
fn digits(text: &[u8], number: &mut u64) -> usize {
    let mut count = 0;
    for &b in text {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
    }
    count
}

fn exponent_of(text: &str) -> Result<i64, Reason> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Reason::BadNumber);
    }
    let exponent: i64 = text.parse().unwrap_or(EXPONENT_MAX);
    Ok(exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_decimals_as_they_are_written() {
        for (text, want) in [
            ("1.465", Ok("1.465")),
            (" +5 ", Ok("5")),
            ("-0.0", Ok("0")),
            ("1e3", Ok("1000")),
            ("1.5E-3", Ok("0.0015")),
            (".5", Ok("0.5")),
            ("5.", Ok("5")),
            ("0.5513439007580968", Ok("0.5513439007580968")),
            ("999999999999999.9999999999999", Ok("999999999999999.9999999999999")),
            ("1000000000000000", Err(Reason::OutOfRange)),
            ("1e15", Err(Reason::OutOfRange)),
            ("1e999999999999999999999", Err(Reason::OutOfRange)),
            ("12345678901234567890123456789e-20", Err(Reason::OutOfRange)),
            ("0.00000000000000000000000000001", Err(Reason::OutOfRange)),
            ("0e99999", Ok("0")),
            ("12abc", Err(Reason::BadNumber)),
            ("1_000", Err(Reason::BadNumber)),
            ("0x10", Err(Reason::BadNumber)),
            (".", Err(Reason::BadNumber)),
            ("1e", Err(Reason::BadNumber)),
            ("--1", Err(Reason::BadNumber)),
            ("1,5", Err(Reason::BadNumber)),
        ] {
            let got = decimal(text).map(|d| d.normalize().to_string());
            assert_eq!(got.as_deref().map_err(|e| *e), want, "{text}");
        }
        assert_eq!(LIMIT, "1000000000000000".parse().unwrap());
    }

    #[test]
    fn a_number_reads_the_same_at_the_start_of_a_text() {
        let wholes = ["0", "7", "12", "00", "01", "90150", "1770163200", "123456789012345", "1234567890123456"];
        let fractions = ["", ".", ".0", ".5", ".062", ".10", ".21480", ".214800", ".12345678901234"];
        let behind =
            [",", "}", "]", ".5", "-", " ", "\0", "e3", "E-1", "\u{ff}", "", ",       ", ".5      ", "e3      "];
        for (whole, fraction) in wholes.iter().flat_map(|whole| fractions.map(|fraction| (whole, fraction))) {
            let text = format!("{whole}{fraction}");
            let is_json = fraction != "." && (whole.len() == 1 || !whole.starts_with('0'));
            for behind in behind {
                let is_longer = behind.starts_with(['e', 'E']) || (fraction.is_empty() && behind.starts_with('.'));
                let want = Plain::read(text.as_bytes()).filter(|_| is_json).map(|plain| (plain.decimal(), text.len()));
                let read = Plain::at_start(format!("{text}{behind}").as_bytes());
                let read = read.map(|(plain, length)| (plain.decimal(), length));
                if is_longer {
                    assert!(read.is_none_or(|(_, length)| length > text.len()), "{text}{behind}");
                } else {
                    assert_eq!(read, want, "{text}{behind}");
                }
            }
        }
    }

    #[test]
    fn rounds_what_does_not_fit_a_decimal_half_to_even() {
        for (text, want) in [
            ("1.465", Ok("1.465")),
            ("0.1234567890123456789012345678", Ok("0.1234567890123456789012345678")),
            ("1.00000000000000000000000000005", Ok("1")),
            ("1.00000000000000000000000000015", Ok("1")),
            ("1.0000000000000000000000000025", Ok("1.000000000000000000000000002")),
            ("1.0000000000000000000000000035", Ok("1.000000000000000000000000004")),
            ("1.00000000000000000000000000251", Ok("1.000000000000000000000000003")),
            ("9.9999999999999999999999999999", Ok("10")),
            ("-100.12345678901234567890123456789", Ok("-100.1234567890123456789012346")),
            ("0.001221001221001221001221001221", Ok("0.0012210012210012210012210012")),
            ("0.00000000000000000000000000001", Err(Reason::OutOfRange)),
            ("1000000000000000.0000000000000001", Err(Reason::OutOfRange)),
            ("12abc", Err(Reason::BadNumber)),
        ] {
            let got = rounded(text).map(|d| d.normalize().to_string());
            assert_eq!(got.as_deref().map_err(|e| *e), want, "{text}");
        }
    }

    #[test]
    fn spells_whole_numbers_in_one_way() {
        for (text, want) in [
            ("7201", Some("7201")),
            ("7201.0", Some("7201")),
            ("7.201e3", Some("7201")),
            (" +007201 ", Some("7201")),
            ("7201000e-3", Some("7201")),
            ("8389765612825190000", Some("8389765612825190000")),
            ("8.38976561282519e+18", Some("8389765612825190000")),
            ("-1.0", Some("-1")),
            ("0.0", Some("0")),
            ("7201.5", None),
            ("0.5", None),
            ("1e99", None),
            ("web_7201", None),
            ("", None),
        ] {
            assert_eq!(whole(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn knows_the_words_for_nothing() {
        for word in ["", " ", "None", "NULL", "nan", "-inf", "Infinity", "+Infinity"] {
            assert!(is_absent(word), "{word}");
        }
        for text in ["0", "nope", "-"] {
            assert!(!is_absent(text), "{text}");
        }
    }
}
