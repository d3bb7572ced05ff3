//! The business object of an entry: the JSON in `payload`, or else that in `data`, or else the flat fields.
//!
//! A value is read only when a rule needs it, so values that no rule uses may contain anything.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use rust_decimal::Decimal;
use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::depth;
use super::line::{BorrowedText, FieldValue, Fields};
use super::number;
use super::time;
use crate::domain::event::ids::EntryId;
use crate::domain::event::{EventTime, Reason};

/// Where the business object was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    Payload,
    Data,
    Flat,
}

/// A JSON object with unread values.
#[derive(Debug, Default)]
pub struct Json<'a> {
    text: Cow<'a, str>,
    members: Vec<(Key, Range<usize>)>,
}

/// A key: its place in the text, or its own text if it has escapes.
#[derive(Debug)]
enum Key {
    Plain(Range<usize>),
    Unescaped(Box<str>),
}

impl<'a> Json<'a> {
    /// Reads the members of an object, or of an object that is written as a JSON string, once. Bare `NaN` and
    /// infinities, which Python writes, are read as null. Errors if it nests too deeply.
    pub fn parse(text: Cow<'a, str>) -> Result<Self, Reason> {
        if text.trim_start().starts_with('"') {
            let inner: String = serde_json::from_str(&text).map_err(|_| Reason::BadJson)?;
            return Self::of_object(Cow::Owned(inner));
        }
        Self::of_object(text)
    }

    fn of_object(text: Cow<'a, str>) -> Result<Self, Reason> {
        if !depth::is_bounded(text.as_bytes()) {
            return Err(Reason::BadJson);
        }
        match members(&text) {
            Ok(members) => Ok(Self { text, members }),
            Err(reason) => match without_bare_words(&text) {
                Some(mended) => Ok(Self { members: members(&mended)?, text: Cow::Owned(mended) }),
                None => Err(reason),
            },
        }
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let is_named = |key: &Key| match key {
            Key::Plain(range) => &self.text[range.clone()] == name,
            Key::Unescaped(text) => **text == *name,
        };
        self.members.iter().rev().find(|(key, _)| is_named(key)).map(|(_, range)| &self.text[range.clone()])
    }
}

/// Returns the places of keys and raw values in the text of an object.
fn members(text: &str) -> Result<Vec<(Key, Range<usize>)>, Reason> {
    let mut json = serde_json::Deserializer::from_str(text);
    let members = Members { text_at: text.as_ptr() as usize }.deserialize(&mut json);
    members.and_then(|members| json.end().map(|()| members)).map_err(|_| Reason::BadJson)
}

/// Reads an object whose text starts at an address, and converts borrowed parts into places.
struct Members {
    text_at: usize,
}

impl Members {
    fn location(&self, part: &str) -> Range<usize> {
        let at = part.as_ptr() as usize - self.text_at;
        at..at + part.len()
    }
}

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Vec<(Key, Range<usize>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Key, Range<usize>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((BorrowedText(key), raw)) = map.next_entry::<_, &'de RawValue>()? {
            let key = match key {
                Cow::Borrowed(key) => Key::Plain(self.location(key)),
                Cow::Owned(key) => Key::Unescaped(key.into()),
            };
            members.push((key, self.location(raw.get())));
        }
        Ok(members)
    }
}

/// Returns the text with `NaN`, `Infinity` and `-Infinity` outside of strings replaced by null, or `None` if it has
/// none.
pub fn without_bare_words(text: &str) -> Option<String> {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        mended.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest.starts_with('"') {
            let end = end_of_string(rest);
            mended.push_str(&rest[..end]);
            end
        } else if let Some(word) = ["NaN", "Infinity", "-Infinity"].iter().find(|word| rest.starts_with(**word)) {
            found = true;
            mended.push_str("null");
            word.len()
        } else {
            mended.push_str(&rest[..1]);
            1
        };
        rest = &rest[taken..];
    }
    mended.push_str(rest);
    found.then_some(mended)
}

/// Returns the length of the JSON string at the start of the text, with its quotes.
fn end_of_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A value that was looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    Text(Cow<'a, str>),
    /// A JSON number or boolean, as written.
    Bare(&'a str),
    /// A JSON object or array, as written.
    Composite(&'a str),
}

impl Scalar<'_> {
    fn is_absent(&self, is_absent: fn(&str) -> bool) -> bool {
        match self {
            Self::Text(text) => is_absent(text),
            Self::Bare(text) => *text == "null",
            Self::Composite(_) => false,
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Bare(text) | Self::Composite(text) => text,
        }
    }
}

/// The business object of an entry, with the fields beside and above it.
pub struct Object<'a> {
    pub envelope: Envelope,
    fields: &'a Fields<'a>,
    json: Option<Json<'a>>,
    /// `details` of a result. Its present values replace the others.
    overlay: Option<Json<'a>>,
}

impl<'a> Object<'a> {
    /// Finds the business object. Errors if the JSON that should contain it cannot be read or is not UTF-8.
    pub fn of(fields: &'a Fields<'a>) -> Result<Self, Reason> {
        for (name, envelope) in [("payload", Envelope::Payload), ("data", Envelope::Data)] {
            match fields.get(name) {
                None => {}
                Some(FieldValue::Bytes(_)) => return Err(Reason::NotUtf8),
                Some(FieldValue::Text(text)) if number::is_absent_word(text) => {}
                Some(FieldValue::Text(text)) => {
                    return Ok(Self { envelope, fields, json: Some(Json::parse(Cow::Borrowed(text))?), overlay: None });
                }
            }
        }
        Ok(Self::flat(fields))
    }

    /// Returns the flat fields, whatever else the entry has.
    pub fn flat(fields: &'a Fields<'a>) -> Self {
        Self { envelope: Envelope::Flat, fields, json: None, overlay: None }
    }

    /// Returns a separate object, as in a list of steps.
    pub fn inner(fields: &'a Fields<'a>, text: &'a str) -> Result<Self, Reason> {
        Ok(Self { envelope: Envelope::Payload, fields, json: Some(Json::parse(Cow::Borrowed(text))?), overlay: None })
    }

    /// Lays `details` over the object, if it is a JSON object. Any other text is ignored. Errors if it nests too
    /// deeply, or if it begins as an object and cannot be read as one: a fill could be in it.
    pub fn lay_details(&mut self) -> Result<(), Reason> {
        if let Some(details) = self.json_text(&["details"])? {
            let begins = details.trim_start().trim_start_matches('"').trim_start().starts_with('{');
            let inner = details.trim_start().starts_with('"').then(|| serde_json::from_str::<String>(&details).ok());
            let is_bounded = |text: &String| depth::is_bounded(text.as_bytes());
            if !is_bounded(&details) || !inner.flatten().as_ref().is_none_or(is_bounded) {
                return Err(Reason::BadJson);
            }
            self.overlay = match Json::parse(Cow::Owned(details)) {
                Err(reason) if begins => return Err(reason),
                read => read.ok(),
            };
        }
        Ok(())
    }

    /// Returns the flat fields beside the object (or the object itself, if it is flat).
    pub fn beside(&self) -> Object<'a> {
        Self::flat(self.fields)
    }

    /// Returns the first value under several names, layer by layer, that is present and that `read` accepts.
    ///
    /// Errors if a value on the way is not UTF-8, and with the errors of `read`.
    fn find<T>(
        &self,
        names: &[&str],
        is_absent: fn(&str) -> bool,
        mut read: impl FnMut(Scalar<'_>) -> Result<Option<T>, Reason>,
    ) -> Result<Option<T>, Reason> {
        for name in names {
            for json in [self.overlay.as_ref(), self.json.as_ref()].into_iter().flatten() {
                if let Some(raw) = json.raw(name) {
                    let scalar = scalar(raw)?;
                    if !scalar.is_absent(is_absent)
                        && let Some(value) = read(scalar)?
                    {
                        return Ok(Some(value));
                    }
                }
            }
            if self.json.is_some() {
                continue;
            }
            match self.fields.get(name) {
                Some(FieldValue::Bytes(_)) => return Err(Reason::NotUtf8),
                Some(FieldValue::Text(text)) if !is_absent(text) => {
                    if let Some(value) = read(Scalar::Text(Cow::Borrowed(text)))? {
                        return Ok(Some(value));
                    }
                }
                Some(FieldValue::Text(_)) | None => {}
            }
        }
        Ok(None)
    }

    /// Returns true if a member of the JSON object is null, and not only absent.
    pub fn is_null(&self, name: &str) -> bool {
        self.json.as_ref().and_then(|json| json.raw(name)) == Some("null")
    }

    /// Returns true if one of the names has a present value.
    pub fn has(&self, names: &[&str]) -> bool {
        !matches!(self.find(names, number::is_absent_word, |_| Ok(Some(()))), Ok(None))
    }

    /// Returns a text: a string, or a bare number or boolean as written; trimmed. Errors for composites.
    pub fn text(&self, names: &[&str]) -> Result<Option<String>, Reason> {
        self.find(names, number::is_absent_word, |scalar| match scalar {
            Scalar::Composite(_) => Err(Reason::UnknownWord),
            scalar => Ok(Some(scalar.as_str().trim().to_owned())),
        })
    }

    /// Passes a text to a function, without a copy.
    pub fn with_text<T>(&self, names: &[&str], mut take: impl FnMut(&str) -> T) -> Result<Option<T>, Reason> {
        self.find(names, number::is_absent_word, |scalar| match scalar {
            Scalar::Composite(_) => Err(Reason::UnknownWord),
            scalar => Ok(Some(take(scalar.as_str()))),
        })
    }

    /// Returns a word: like a text, in upper case.
    pub fn word(&self, names: &[&str]) -> Result<Option<String>, Reason> {
        Ok(self.text(names)?.map(|text| text.to_uppercase()))
    }

    /// Returns a JSON value as written, or the text of a string that contains one.
    pub fn json_text(&self, names: &[&str]) -> Result<Option<String>, Reason> {
        self.find(names, number::is_absent_word, |scalar| Ok(Some(scalar.as_str().to_owned())))
    }

    /// Returns a boolean: `true`/`1`/`yes`, `false`/`0`/`no` in any case. Errors for any other word.
    pub fn boolean(&self, names: &[&str]) -> Result<Option<bool>, Reason> {
        self.find(names, number::is_absent_word, |scalar| match scalar.as_str().trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Ok(Some(true)),
            "false" | "0" | "no" => Ok(Some(false)),
            _ => Err(Reason::UnknownWord),
        })
    }

    /// Returns a number. Zero and signs are allowed.
    pub fn number(&self, names: &[&str]) -> Result<Option<Decimal>, Reason> {
        self.number_if(names, |_| true)
    }

    fn number_if(&self, names: &[&str], counts: impl Fn(Decimal) -> bool) -> Result<Option<Decimal>, Reason> {
        self.find(names, number::is_absent, |scalar| match scalar {
            Scalar::Composite(_) => Err(Reason::BadNumber),
            scalar => Ok(Some(number::decimal(scalar.as_str())?).filter(|value| counts(*value))),
        })
    }

    /// Returns a quantity. It is not negative, and 0 is a value.
    pub fn quantity(&self, names: &[&str]) -> Result<Option<Decimal>, Reason> {
        not_negative(self.number(names)?)
    }

    /// Returns a positive number. 0 means absent, so the next value counts.
    pub fn positive(&self, names: &[&str]) -> Result<Option<Decimal>, Reason> {
        not_negative(self.number_if(names, |value| !value.is_zero())?)
    }

    /// Returns the event time of an entry. A present value that is not a time, or that is too far ahead of the entry, is
    /// unreadable.
    pub fn event_time(&self, names: &[&str], entry: EntryId) -> EventTime {
        let read = |scalar: Scalar<'_>| {
            Ok(match time::written(scalar.as_str()) {
                time::Written::Absent => None,
                time::Written::At(stated) => Some(EventTime::of(stated, entry)),
                time::Written::Unreadable => Some(EventTime::Unreadable),
            })
        };
        self.find(names, number::is_absent, read)
            .map_or(EventTime::Unreadable, |time| time.unwrap_or(EventTime::Absent))
    }

    /// Returns the id of an order or of a trade, with whole numbers in one spelling (docs/spec/streams.md, "Order
    /// ids"). The values in `none` mean absent.
    pub fn id_text(&self, names: &[&str], none: &[&str]) -> Result<Option<Box<str>>, Reason> {
        self.find(names, number::is_absent_word, |scalar| match scalar {
            Scalar::Composite(_) => Err(Reason::UnknownWord),
            scalar => {
                let text = scalar.as_str().trim();
                let id = number::whole(text).unwrap_or_else(|| text.to_owned());
                Ok(if none.contains(&id.as_str()) { None } else { Some(id.into()) })
            }
        })
    }

    /// Returns a positive number of any length, rounded to the digits of a decimal. 0 means absent.
    pub fn rounded(&self, names: &[&str]) -> Result<Option<Decimal>, Reason> {
        let value = self.find(names, number::is_absent, |scalar| match scalar {
            Scalar::Composite(_) => Err(Reason::BadNumber),
            scalar => Ok(Some(number::rounded(scalar.as_str())?).filter(|value| !value.is_zero())),
        })?;
        not_negative(value)
    }
}

fn not_negative(value: Option<Decimal>) -> Result<Option<Decimal>, Reason> {
    match value {
        Some(value) if value < Decimal::ZERO => Err(Reason::OutOfRange),
        value => Ok(value),
    }
}

fn scalar(raw: &str) -> Result<Scalar<'_>, Reason> {
    match raw.as_bytes().first() {
        Some(b'"') => {
            let BorrowedText(text) = serde_json::from_str(raw).map_err(|_| Reason::BadJson)?;
            Ok(Scalar::Text(text))
        }
        Some(b'{' | b'[') => Ok(Scalar::Composite(raw)),
        _ => Ok(Scalar::Bare(raw)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Result<Option<Decimal>, Reason> {
        let fields = Fields { pairs: vec![("payload".into(), FieldValue::Text(json.to_owned().into()))] };
        Object::of(&fields)?.number(&["a"])
    }

    #[test]
    fn reads_what_python_writes_for_no_number() {
        for json in
            [r#"{"a":NaN}"#, r#"{"a":-Infinity,"b":"N\"aN"}"#, r#"{"a":null}"#, r#"{"a":" None "}"#, r#"{"b":1}"#]
        {
            assert_eq!(object(json), Ok(None), "{json}");
        }
        assert_eq!(object(r#"{"a":"-N"}"#), Err(Reason::BadNumber));
        assert_eq!(object(r#"{"a":True}"#), Err(Reason::BadJson));
        assert_eq!(object(r#"{"a":[1]}"#), Err(Reason::BadNumber));
        assert_eq!(object(r#"[1]"#), Err(Reason::BadJson));
    }
}
