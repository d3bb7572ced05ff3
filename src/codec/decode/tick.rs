//! The short way for the line that is nearly every line: a price in `payload`, well formed and plain.
//!
//! Takes no decision of its own: whatever is not exactly as expected goes the long way, through
//! [`crate::codec::line::fields`] and [`super::Decoder::decode`], and both ways must come to the same entry (a test
//! and the fuzz target hold them against each other).

use memchr::{memchr, memchr2};

use super::market::NAMES;
use super::{ENTRY_SIZE_MAX, Symbols};
use crate::codec::{number, time};
use crate::domain::event::{Entry, Event, PriceFact, PriceSource};
use crate::domain::ids::{EntryId, StreamId};
use crate::domain::streams::StreamKind;
use crate::domain::units::Price;

/// Reads the history line of a price; `None` where the long way has to be taken.
pub(super) fn decode(stream: StreamId, id: EntryId, line: &[u8], symbols: &mut Symbols) -> Option<Entry> {
    // Without a way out the loop runs over many bytes at once.
    let is_plain = line.iter().fold(true, |plain, &b| plain & (0x20..0x80).contains(&b));
    if !is_plain || line.len() > ENTRY_SIZE_MAX {
        return None;
    }
    let tick = payload(line).and_then(Tick::read)?;
    if !tick.symbol.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) || tick.symbol.is_empty() {
        return None;
    }
    let symbol = std::str::from_utf8(tick.symbol).ok().filter(|symbol| !number::is_absent_word(symbol))?;
    let (price, shape) = tick.price()?;
    let own_ms = match tick.timestamp {
        Some(text) if shape != "close" => Some(time::business_ms(std::str::from_utf8(text).ok()?)?),
        _ => None,
    };
    let fact = PriceFact { price, source: PriceSource::Stream(stream), own_ms };
    let symbol = Some(symbols.intern(symbol));
    Some(Entry { stream, kind: StreamKind::Price, id, shape, symbol, content: Ok(Event::Price(fact)) })
}

/// The `payload` of a line `{"stream":…,"id":…,"fields":{…}}`, still escaped, without its quotes.
fn payload(line: &[u8]) -> Option<&[u8]> {
    let mut at = Cursor(line);
    at.token(b'{')?;
    for name in [&b"stream"[..], b"id"] {
        (at.plain_string()? == name).then_some(())?;
        at.token(b':')?;
        at.plain_string()?;
        at.token(b',')?;
    }
    (at.plain_string()? == b"fields").then_some(())?;
    at.token(b':')?;
    at.token(b'{')?;
    let mut payload = None;
    loop {
        let name = at.plain_string()?;
        at.token(b':')?;
        let value = at.escaped_string()?;
        if name == b"payload" && payload.replace(value).is_some() {
            return None;
        }
        match at.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    at.token(b'}')?;
    at.blanks();
    at.0.is_empty().then_some(payload?)
}

/// What a rule may want of the payload, as written.
#[derive(Default)]
struct Tick<'a> {
    symbol: &'a [u8],
    prices: [Option<&'a [u8]>; NAMES.len()],
    timestamp: Option<&'a [u8]>,
}

impl<'a> Tick<'a> {
    /// Reads a flat object of plain strings and numbers whose quotes are escaped.
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut tick = Self::default();
        let mut at = Cursor(payload);
        at.token(b'{')?;
        loop {
            let name = at.inner_string()?;
            at.token(b':')?;
            at.blanks();
            let value = if at.0.first() == Some(&b'\\') { at.inner_string()? } else { at.bare()? };
            match name {
                b"symbol" => tick.symbol = value,
                b"timestamp" => tick.timestamp = Some(value),
                _ => {
                    if let Some(place) = NAMES.iter().position(|(known, _)| known.as_bytes() == name) {
                        tick.prices[place] = Some(value);
                    }
                }
            }
            match at.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        at.blanks();
        at.0.is_empty().then_some(tick)
    }

    /// The preferred price. Absent, zero or unreadable ones go the long way.
    fn price(&self) -> Option<(Price, &'static str)> {
        let (place, text) = self.prices.iter().enumerate().find_map(|(i, text)| Some((i, (*text)?)))?;
        let value = number::decimal(std::str::from_utf8(text).ok()?).ok()?;
        (!value.is_zero() && value.is_sign_positive()).then(|| (Price::new(value), NAMES[place].1))
    }
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn blanks(&mut self) {
        while let [b' ', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// The next byte that is no blank.
    fn next(&mut self) -> Option<u8> {
        self.blanks();
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn token(&mut self, token: u8) -> Option<()> {
        (self.next()? == token).then_some(())
    }

    fn take(&mut self, length: usize, behind: usize) -> Option<&'a [u8]> {
        let taken = self.0.get(..length)?;
        self.0 = self.0.get(length + behind..)?;
        Some(taken)
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let end = memchr2(b'"', b'\\', self.0)?;
        if self.0[end] == b'\\' {
            return None;
        }
        self.take(end, 1)
    }

    /// A string, left as it is: of escapes only `\"` may be in it.
    fn escaped_string(&mut self) -> Option<&'a [u8]> {
        self.token(b'"')?;
        let mut end = 0;
        loop {
            end += memchr2(b'"', b'\\', &self.0[end..])?;
            if self.0[end] == b'"' {
                return self.take(end, 1);
            }
            if self.0.get(end + 1) != Some(&b'"') {
                return None;
            }
            end += 2;
        }
    }

    /// A string whose quotes are escaped: `\"ADAUSDT\"`.
    fn inner_string(&mut self) -> Option<&'a [u8]> {
        self.token(b'\\')?;
        (self.0.first() == Some(&b'"')).then_some(())?;
        self.take(1, 0)?;
        // In this payload every backslash stands before a quote.
        let end = memchr(b'\\', self.0)?;
        self.take(end, 2)
    }

    /// A number as JSON writes it, or true, false or null.
    fn bare(&mut self) -> Option<&'a [u8]> {
        let ends = |b: &u8| matches!(b, b',' | b'}' | b' ');
        let end = self.0.iter().position(ends)?;
        let text = self.take(end, 0)?;
        (matches!(text, b"true" | b"false" | b"null") || is_json_number(text)).then_some(text)
    }
}

fn is_json_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let places = digits(fraction);
        if places == 0 {
            return false;
        }
        rest = &fraction[places..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
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
