//! One line of a history file: `{"stream":…,"id":…,"fields":{…}}` (docs/spec/history-files.md, "Line format").

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::depth;
use crate::domain::event::ids::EntryId;

/// A field value as in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    Text(Cow<'a, str>),
    /// Bytes that are not UTF-8.
    Bytes(Vec<u8>),
}

/// The fields of an entry, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'a> {
    pub pairs: Vec<(Cow<'a, str>, FieldValue<'a>)>,
}

impl<'a> Fields<'a> {
    /// Creates fields from the names and values of a Redis reply.
    pub fn from_bytes(pairs: &'a [(Vec<u8>, Vec<u8>)]) -> Self {
        Self::of(pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))
    }

    /// Creates fields from names and values, in their order.
    pub fn of(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map(Cow::Borrowed);
        let pairs = pairs.map(|(name, value)| {
            let name = text(name).unwrap_or_else(|_| String::from_utf8_lossy(name).into_owned().into());
            let value = text(value).map_or_else(|_| FieldValue::Bytes(value.to_vec()), FieldValue::Text);
            (name, value)
        });
        Self { pairs: pairs.collect() }
    }

    /// Returns the last value of a name: duplicate names collapse as in a map.
    pub fn get(&self, name: &str) -> Option<&FieldValue<'a>> {
        self.pairs.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the size of all names and values. [bytes]
    pub fn size(&self) -> usize {
        let len = |value: &FieldValue<'_>| match value {
            FieldValue::Text(text) => text.len(),
            FieldValue::Bytes(bytes) => bytes.len(),
        };
        self.pairs.iter().map(|(name, value)| name.len() + len(value)).sum()
    }

    /// Returns true if every value is UTF-8.
    pub fn is_text(&self) -> bool {
        self.pairs.iter().all(|(_, value)| matches!(value, FieldValue::Text(_)))
    }
}

/// Reads the fields of a line. Errors name the defect of the line.
pub fn fields(line: &[u8]) -> Result<Fields<'_>, serde_json::Error> {
    bounded(line)?;
    // UTF-8 is checked once, not per string. On failure the parser gives the message with the position.
    let line: Line<'_> = match std::str::from_utf8(line) {
        Ok(text) => serde_json::from_str(text)?,
        Err(_) => serde_json::from_slice(line)?,
    };
    match (line.fields, line.fields_b64) {
        (Some(fields), None) => Ok(fields.0),
        (None, Some(fields)) => decoded(fields.0),
        (None, None) => Err(serde_json::Error::custom("neither `fields` nor `fields_b64`")),
        (Some(_), Some(_)) => Err(serde_json::Error::custom("both `fields` and `fields_b64`")),
    }
}

fn decoded(encoded: Fields<'_>) -> Result<Fields<'_>, serde_json::Error> {
    let mut pairs = Vec::with_capacity(encoded.pairs.len());
    for (name, value) in encoded.pairs {
        let FieldValue::Text(text) = value else { continue };
        let bytes = STANDARD
            .decode(text.as_bytes())
            .map_err(|error| serde_json::Error::custom(format!("fields_b64.{name}: {error}")))?;
        let value = match String::from_utf8(bytes) {
            Ok(text) => FieldValue::Text(text.into()),
            Err(error) => FieldValue::Bytes(error.into_bytes()),
        };
        pairs.push((name, value));
    }
    Ok(Fields { pairs })
}

/// Returns true if a line may be a decision, whatever its stream is called. The entries of harvester have the type as it
/// is looked for here.
pub fn may_be_decision(line: &[u8]) -> bool {
    memmem::find(line, b"harvest.decision").is_some()
}

/// Returns the history line of an entry, with `fields_b64` if a value is not UTF-8.
pub fn write(stream: &str, id: &str, fields: &Fields<'_>) -> String {
    let mut line = String::with_capacity(64 + stream.len() + 2 * fields.size());
    let plain = fields.is_text();
    line.push_str("{\"stream\":");
    quote(&mut line, stream);
    line.push_str(",\"id\":");
    quote(&mut line, id);
    line.push_str(if plain { ",\"fields\":{" } else { ",\"fields_b64\":{" });
    members(&mut line, fields, plain);
    line.push_str("}}");
    line
}

/// The beginning of the lines of one stream, up to the id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineHead(String);

impl LineHead {
    pub fn new(stream: &str) -> Self {
        let mut head = String::from("{\"stream\":");
        quote(&mut head, stream);
        head.push_str(",\"id\":\"");
        Self(head)
    }
}

/// Appends the history line of an entry, as [`write()`] returns it, from the names and values of a Redis reply.
///
/// Nothing is allocated but space for the line, unless a name or a value is not UTF-8.
pub fn append<'a>(
    line: &mut String,
    head: &LineHead,
    id: EntryId,
    pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) {
    line.push_str(&head.0);
    number(line, id.ms);
    line.push('-');
    number(line, id.seq);
    let start = line.len();
    line.push_str("\",\"fields\":{");
    if !append_text(line, pairs.clone()) {
        line.truncate(start);
        line.push_str("\",\"fields_b64\":{");
        members(line, &Fields::of(pairs), false);
    }
    line.push_str("}}");
}

/// Appends names and values. Returns false if a value is not UTF-8.
fn append_text<'a>(line: &mut String, pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    let mut is_first = true;
    for (name, value) in pairs {
        let Ok(value) = std::str::from_utf8(value) else { return false };
        if !std::mem::replace(&mut is_first, false) {
            line.push(',');
        }
        match std::str::from_utf8(name) {
            Ok(name) => quote(line, name),
            Err(_) => quote(line, &String::from_utf8_lossy(name)),
        }
        line.push(':');
        quote(line, value);
    }
    true
}

/// Appends a number in decimal digits.
fn number(line: &mut String, number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    line.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Returns the fields as a JSON object, with base64 values if one of them is not UTF-8.
pub fn object(fields: &Fields<'_>) -> String {
    let mut text = String::from("{");
    members(&mut text, fields, fields.is_text());
    text.push('}');
    text
}

fn members(text: &mut String, fields: &Fields<'_>, plain: bool) {
    for (location, (name, value)) in fields.pairs.iter().enumerate() {
        if location > 0 {
            text.push(',');
        }
        quote(text, name);
        text.push(':');
        match value {
            FieldValue::Text(value) if plain => quote(text, value),
            FieldValue::Text(value) => quote(text, &STANDARD.encode(value.as_bytes())),
            FieldValue::Bytes(bytes) => quote(text, &STANDARD.encode(bytes)),
        }
    }
}

/// Reads stream and id of a line. Errors if it is not an entry.
pub fn head(line: &[u8]) -> Result<(Cow<'_, str>, Cow<'_, str>), serde_json::Error> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        stream: BorrowedText<'a>,
        #[serde(borrow)]
        id: BorrowedText<'a>,
    }
    bounded(line)?;
    let head: Head<'_> = serde_json::from_slice(line)?;
    Ok((head.stream.0, head.id.0))
}

/// Appends a text as a JSON string. Bytes that need no escape are copied as they are.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(at) = next_escaped(bytes, from) {
        line.push_str(&text[from..at]);
        match bytes[at] {
            b'"' => line.push_str("\\\""),
            b'\\' => line.push_str("\\\\"),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x08 => line.push_str("\\b"),
            0x0c => line.push_str("\\f"),
            byte => {
                let _ = write!(line, "\\u{byte:04x}");
            }
        }
        from = at + 1;
    }
    line.push_str(&text[from..]);
    line.push('"');
}

/// Returns the place of the next byte that needs an escape. Looks at eight bytes at a time.
#[inline]
fn next_escaped(bytes: &[u8], from: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // A bit per byte that is zero; above the lowest such byte there may be more bits than such bytes.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = from;
    while let Some(&chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(chunk);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = controls | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let is_escaped = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    bytes[at..].iter().position(is_escaped).map(|found| at + found)
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    fields: Option<Pairs<'a>>,
    #[serde(borrow, default)]
    fields_b64: Option<Pairs<'a>>,
}

struct Pairs<'a>(Fields<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some((BorrowedText(name), BorrowedText(value))) = map.next_entry()? {
                    pairs.push((name, FieldValue::Text(value)));
                }
                Ok(Pairs(Fields { pairs }))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

/// A string that is borrowed from the input if it has no escapes.
pub struct BorrowedText<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for BorrowedText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text))
            }
        }

        deserializer.deserialize_str(TextVisitor).map(BorrowedText)
    }
}

fn bounded(line: &[u8]) -> Result<(), serde_json::Error> {
    if depth::is_bounded(line) {
        return Ok(());
    }
    Err(serde_json::Error::custom(format!("it nests deeper than {}", depth::DEPTH_MAX)))
}

/// Returns true if two lines have the same content, whatever the order of their keys and the blanks between them.
pub fn same_content(a: &[u8], b: &[u8]) -> bool {
    let content = |line| serde_json::from_slice::<Value>(line).ok();
    matches!((content(a), content(b)), (Some(a), Some(b)) if a == b)
}

/// Checks that a line is complete JSON. The error gives the position.
pub fn check(line: &[u8]) -> Result<(), serde_json::Error> {
    bounded(line)?;
    serde_json::from_slice::<IgnoredAny>(line).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_what_is_no_utf8() {
        let raw = vec![(b"symbol".to_vec(), b"ADAUSDT".to_vec()), (b"note".to_vec(), vec![0xff, 0x00])];
        let entry = Fields::from_bytes(&raw);
        let line = write("s", "1-0", &entry);
        assert!(line.contains("fields_b64"), "{line}");
        assert_eq!(fields(line.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn writes_text_as_json_does() {
        let all: String = (0..0x80_u8).map(char::from).chain("é\u{2028}😀".chars()).collect();
        // Each character in each place of a word of eight bytes, alone and beside another.
        let single = |c: char| (0..9).map(move |before| format!("{}{c}{c}abcdefghi{c}", "é".repeat(before)));
        for text in all.chars().flat_map(single).chain([all.clone(), String::new()]) {
            let mut line = String::new();
            quote(&mut line, &text);
            assert_eq!(line, Value::from(text).to_string());
        }
    }

    #[test]
    fn an_appended_line_is_the_one_that_is_written() {
        let pair = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        let cases = [
            vec![],
            vec![pair(b"payload", br#"{"symbol":"ADAUSDT","price":"0.31"}"#), pair(b"", b"")],
            vec![pair(b"a", b"1"), pair(b"a", b"\n2"), pair(b"a\xff", "\u{1F600}".as_bytes())],
            vec![pair(b"a", b"1"), pair(b"b", b"\xff\x00"), pair(b"\xfe", b"2")],
        ];
        let ids = [EntryId::default(), EntryId::new(1_770_163_200_000, 10), EntryId::MAX];
        let mut all = String::new();
        for (pairs, id) in cases.iter().flat_map(|pairs| ids.iter().map(move |id| (pairs, *id))) {
            let stream = "a \"stream\"";
            let start = all.len();
            let borrowed = pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
            append(&mut all, &LineHead::new(stream), id, borrowed);
            assert_eq!(all[start..], write(stream, &id.to_string(), &Fields::from_bytes(pairs)));
        }
    }

    #[test]
    fn refuses_a_line_whose_values_are_no_strings() {
        for line in
            [r#"{"fields":{"a":1}}"#, r#"{"fields":[]}"#, r#"{"stream":"s"}"#, r#"{"fields_b64":{"a":"%"}}"#, "5"]
        {
            assert!(fields(line.as_bytes()).is_err(), "{line}");
        }
    }
}
