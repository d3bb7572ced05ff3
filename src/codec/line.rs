//! One line of a history file: `{"stream":…,"id":…,"fields":{…}}` (docs/spec/history-files.md, "Line format").

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::depth;

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
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).map(Cow::Borrowed);
        let pairs = pairs
            .iter()
            .map(|(name, value)| {
                let name = text(name).unwrap_or_else(|_| String::from_utf8_lossy(name).into_owned().into());
                let value = text(value).map_or_else(|_| FieldValue::Bytes(value.clone()), FieldValue::Text);
                (name, value)
            })
            .collect();
        Self { pairs }
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
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        line.push_str(&text[from..at]);
        if escape.is_empty() {
            let _ = write!(line, "\\u{byte:04x}");
        } else {
            line.push_str(escape);
        }
        from = at + 1;
    }
    line.push_str(&text[from..]);
    line.push('"');
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
        let mut line = String::new();
        quote(&mut line, &all);
        assert_eq!(line, serde_json::Value::from(all).to_string());
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
