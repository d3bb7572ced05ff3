//! The short way for the line that is nearly every line: a price in `payload`, well formed and plain.
//!
//! Takes no decision of its own: whatever is not exactly as expected goes the long way, through
//! [`crate::codec::line::fields`] and [`super::Decoder::decode`], and both ways must come to the same entry (a test
//! and the fuzz target hold them against each other).

use super::market::NAMES;
use super::{ENTRY_SIZE_MAX, Symbols};
use crate::codec::{number, time};
use crate::domain::event::{Entry, Event, PriceFact, PriceSource};
use crate::domain::ids::{EntryId, StreamId};
use crate::domain::streams::StreamKind;
use crate::domain::units::Price;

/// Reads the history line of a price; `None` where the long way has to be taken.
pub(super) fn decode(stream: StreamId, id: EntryId, line: &[u8], symbols: &mut Symbols) -> Option<Entry> {
    if !is_plain(line) || line.len() > ENTRY_SIZE_MAX {
        return None;
    }
    let tick = Cursor(line).line()?;
    if !tick.symbol.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
        return None;
    }
    let symbol = std::str::from_utf8(tick.symbol).ok()?;
    // The words for nothing are short.
    if symbol.len() <= 4 && number::is_absent_word(symbol) {
        return None;
    }
    let (price, shape) = tick.price()?;
    let own_ms = match tick.timestamp {
        Some(text) if shape != "close" => Some(time::business_ms_of_bytes(text)?),
        _ => None,
    };
    let fact = PriceFact { price, source: PriceSource::Stream(stream), own_ms };
    let symbol = Some(symbols.intern(symbol));
    Some(Entry { stream, kind: StreamKind::Price, id, shape, symbol, content: Ok(Event::Price(fact)) })
}

/// Nothing but printable ASCII. The loop has no way out and no branch, so that it runs over many bytes at once.
fn is_plain(line: &[u8]) -> bool {
    // Below a blank the difference wraps, from 0x80 on the byte has it itself: the highest bit tells.
    line.iter().fold(0, |bits, &b| bits | b | b.wrapping_sub(b' ')) < 0x80
}

/// What a rule may want of the payload, as written.
#[derive(Default)]
struct Tick<'a> {
    symbol: &'a [u8],
    prices: [Option<&'a [u8]>; NAMES.len()],
    timestamp: Option<&'a [u8]>,
}

impl Tick<'_> {
    /// The preferred price. Absent, zero or unreadable ones go the long way.
    fn price(&self) -> Option<(Price, &'static str)> {
        let (place, text) = self.prices.iter().enumerate().find_map(|(i, text)| Some((i, (*text)?)))?;
        let value = number::decimal_of_bytes(text).ok()?;
        (!value.is_zero() && value.is_sign_positive()).then(|| (Price::new(value), NAMES[place].1))
    }
}

/// What is left to read of a plain line. The small steps are inlined always: what is left then stays in registers.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// The tick in the `payload` of a line `{"stream":…,"id":…,"fields":{…}}`.
    fn line(&mut self) -> Option<Tick<'a>> {
        self.token(b'{')?;
        for name in [&b"stream"[..], b"id"] {
            (self.plain_string()? == name).then_some(())?;
            self.token(b':')?;
            self.plain_string()?;
            self.token(b',')?;
        }
        (self.plain_string()? == b"fields").then_some(())?;
        self.token(b':')?;
        self.token(b'{')?;
        let mut tick = None;
        loop {
            let name = self.plain_string()?;
            self.token(b':')?;
            if name != b"payload" {
                self.escaped_string()?;
            } else if tick.replace(self.payload()?).is_some() {
                return None;
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.token(b'}')?;
        self.blanks();
        if self.0.is_empty() { tick } else { None }
    }

    /// A string that holds a flat object of plain strings and numbers whose quotes are escaped.
    fn payload(&mut self) -> Option<Tick<'a>> {
        let mut tick = Tick::default();
        self.token(b'"')?;
        self.token(b'{')?;
        loop {
            let name = self.inner_string()?;
            self.token(b':')?;
            self.blanks();
            let value = if self.0.first() == Some(&b'\\') { self.inner_string()? } else { self.bare()? };
            match name {
                b"symbol" => tick.symbol = value,
                b"timestamp" => tick.timestamp = Some(value),
                _ => {
                    if let Some(place) = NAMES.iter().position(|(known, _)| known.as_bytes() == name) {
                        tick.prices[place] = Some(value);
                    }
                }
            }
            match self.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.token(b'"')?;
        Some(tick)
    }

    #[inline(always)]
    fn blanks(&mut self) {
        while let [b' ', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// The next byte that is no blank.
    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        self.blanks();
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    #[inline(always)]
    fn token(&mut self, token: u8) -> Option<()> {
        (self.next()? == token).then_some(())
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A string without escapes.
    #[inline(always)]
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let text = self.take(quote_or_backslash(self.0)?)?;
        (self.take(1)? == b"\"").then_some(text)
    }

    /// Passes over a string: of escapes only `\"` may be in it.
    #[inline(always)]
    fn escaped_string(&mut self) -> Option<()> {
        self.token(b'"')?;
        loop {
            self.take(quote_or_backslash(self.0)?)?;
            if self.take(1)? == b"\"" {
                return Some(());
            }
            (self.take(1)? == b"\"").then_some(())?;
        }
    }

    /// A string whose quotes are escaped: `\"ADAUSDT\"`.
    #[inline(always)]
    fn inner_string(&mut self) -> Option<&'a [u8]> {
        self.blanks();
        (self.take(2)? == b"\\\"").then_some(())?;
        let text = self.take(quote_or_backslash(self.0)?)?;
        (self.take(2)? == b"\\\"").then_some(text)
    }

    /// A number as JSON writes it, or true, false or null. What may not follow it is found by who reads on.
    #[inline(always)]
    fn bare(&mut self) -> Option<&'a [u8]> {
        let words = [&b"true"[..], b"false", b"null"];
        let word = words.iter().find(|word| self.0.starts_with(word)).map(|word| word.len());
        self.take(word.or_else(|| json_number(self.0))?)
    }
}

/// Length of the JSON number at the start of a text.
#[inline(always)]
fn json_number(text: &[u8]) -> Option<usize> {
    let digits = |at: usize| text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole_at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(whole_at);
    if whole == 0 || (whole > 1 && text[whole_at] == b'0') {
        return None;
    }
    let mut end = whole_at + whole;
    if text.get(end) == Some(&b'.') {
        let places = digits(end + 1);
        end += 1 + places;
        if places == 0 {
            return None;
        }
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let signs = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signs);
        end += 1 + signs + exponent;
        if exponent == 0 {
            return None;
        }
    }
    Some(end)
}

/// Place of the first quote or backslash, eight bytes at a time: most strings are too short to call for more.
#[inline(always)]
fn quote_or_backslash(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xFF;
    // The highest bit of each byte that is zero; above the first one there may be more.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = text.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(8 * i + found.trailing_zeros() as usize / 8);
        }
    }
    let place = rest.iter().position(|b| matches!(b, b'"' | b'\\'))?;
    Some(8 * words.len() + place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::decode::Decoder;
    use crate::codec::line;
    use crate::domain::streams::Streams;

    /// Lines, and whether the short way takes them. Both ways come to the same entry wherever it does.
    #[test]
    fn both_ways_come_to_the_same_entry() {
        let table: &[(&str, bool)] = &[
            (r#"{\"symbol\": \"ADAUSDT\", \"price\": 0.41, \"timestamp\": 1770163200.062}"#, true),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":\"0.41\",\"qty\":null,\"is_buyer_maker\":true}"#, true),
            (r#"{\"symbol\":\"ADAUSDT\",\"close\":1e-3,\"timestamp\":\"2026-02-04T00:00:00\"}"#, true),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"markPrice\":\"2\"}"#, true),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"price\":2}"#, true),
            (r#"{\"symbol\":\"adausdt\",\"price\":1}"#, false),
            (r#"{\"symbol\":\"NONE\",\"price\":1}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":0}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":-1}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"markPrice\":0,\"price\":1}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":01}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":NaN}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1} x"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"timestamp\":\"now\"}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"timestamp\":0}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"n\":{\"price\":2}}"#, false),
            (r#"{\"sym\\u0062ol\":\"ADAUSDT\",\"price\":1}"#, false),
            (r#"{\"symbol\":\"ADAUSDT\",\"note\":\"\\\"\",\"price\":1}"#, false),
            ("", false),
        ];
        let around = |payload: &str| {
            [
                (format!(r#"{{"stream":"s","id":"1-0","fields":{{"payload":"{payload}"}}}}"#), true),
                (
                    format!(
                        r#"{{"stream": "s", "id": "1-0", "fields": {{"a": "", "payload": "{payload}", "b": "x\"y"}}}} "#
                    ),
                    true,
                ),
                (format!(r#"{{"id":"1-0","stream":"s","fields":{{"payload":"{payload}"}}}}"#), false),
                (format!(r#"{{"stream":"s","id":"1-0","fields":{{"payload":"","payload":"{payload}"}}}}"#), false),
            ]
        };
        for (payload, is_short) in table {
            for (text, taken) in around(payload) {
                let streams = Streams::default();
                let stream = streams.id_of(StreamKind::Price.default_stream()).unwrap();
                let id = EntryId::new(1, 0);
                let mut symbols = Symbols::default();
                let short = decode(stream, id, text.as_bytes(), &mut symbols);
                assert_eq!(short.is_some(), *is_short && taken, "{text}");
                let mut decoder = Decoder::new(streams, Symbols::default());
                let fields = line::fields(text.as_bytes()).unwrap();
                let long = decoder.decode(stream, id, &fields);
                assert!(short.is_none_or(|short| short == long), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_line_goes_the_long_way() {
        for text in [
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}"}"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}"}} x"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}","n":1}}"#,
            "{\"stream\":\"s\",\"id\":\"1-0\",\"fields\":{\"a\":\"\t\",\"payload\":\"{\\\"symbol\\\":\\\"A\\\",\\\"price\\\":1}\"}}",
        ] {
            let stream = StreamId(0);
            assert!(decode(stream, EntryId::new(1, 0), text.as_bytes(), &mut Symbols::default()).is_none(), "{text}");
        }
    }
}
