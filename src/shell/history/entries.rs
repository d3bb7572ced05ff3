//! Finds the entries among the lines of a file. Reads only `stream` and `id` of each.

use std::borrow::Cow;
use std::io::{self, Read};
use std::ops::Range;

use memchr::memchr;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use thiserror::Error;

use super::blocks::{Blocks, Piece};
use crate::codec::depth;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::Streams;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Maximum length of a wrong value in a message. [character]
const SHOWN_CHARACTERS: usize = 60;

/// The reason why a line is not an entry.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("not UTF-8 at byte {0}")]
    NotUtf8(usize),
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("not a JSON object")]
    NotAnObject,
    #[error("no {0}")]
    Missing(&'static str),
    #[error("{0} is {1}, want a string")]
    NotAString(&'static str, String),
    #[error("id {0} is not ms-seq, two whole numbers")]
    NotAnId(String),
    #[error("neither fields nor fields_b64 is an object")]
    NoFields,
    #[error("longer than {0} bytes")]
    TooLong(usize),
}

/// Names of the configured streams, for look-up by bytes.
#[derive(Debug)]
pub(super) struct Names(Vec<Name>);

#[derive(Debug)]
struct Name {
    name: String,
    /// The usual start of a line of the stream, up to its id.
    opening: Vec<u8>,
}

impl Names {
    pub fn new(streams: &Streams) -> Self {
        let name = |name: &str| Name {
            name: name.to_owned(),
            opening: format!("{{\"stream\":{},\"id\":\"", Value::from(name)).into_bytes(),
        };
        Self(streams.iter().map(|(_, stream)| name(&stream.name)).collect())
    }

    pub fn name(&self, stream: StreamId) -> &str {
        &self.0[usize::from(stream.0)].name
    }

    fn find(&self, name: &[u8]) -> Option<StreamId> {
        self.0.iter().position(|other| other.name.as_bytes() == name).map(|i| StreamId(i as u16))
    }

    /// Reads a line of the guessed stream, on the fastest path.
    #[inline]
    fn guessed(&self, guess: StreamId, line: &[u8]) -> Option<EntryId> {
        quick_id(line.strip_prefix(self.0.get(usize::from(guess.0))?.opening.as_slice())?)
    }
}

/// The kind of the next line that is not blank.
pub(super) enum Found {
    Entry {
        line: Range<usize>,
        stream: StreamId,
        id: EntryId,
    },
    /// An entry of a stream that is not configured.
    Other {
        line: Range<usize>,
        id: EntryId,
    },
    Bad(Fault),
    End,
}

/// The entries of one file.
pub(super) struct Entries {
    pub blocks: Blocks,
    /// Number of the last line found, from 1. [1]
    pub number: u64,
    /// True if lines must still be checked for UTF-8.
    check_utf8: bool,
    guess: StreamId,
    line_bytes_max: usize,
}

impl Entries {
    pub fn new(text: Box<dyn Read + Send>, line_bytes_max: usize, check_utf8: bool) -> Self {
        let mut blocks = Blocks::new(text, line_bytes_max);
        if check_utf8 {
            blocks = blocks.look_for_ascii();
        }
        Self { blocks, number: 0, check_utf8, guess: StreamId(0), line_bytes_max }
    }

    #[inline]
    pub fn next(&mut self, names: &Names) -> io::Result<Found> {
        loop {
            let piece = self.blocks.next_line()?;
            self.number += 1;
            let mut line = match piece {
                Piece::Line(line) => line,
                Piece::TooLong => return Ok(Found::Bad(Fault::TooLong(self.line_bytes_max))),
                Piece::End => return Ok(Found::End),
            };
            if self.number == 1 && self.blocks.bytes(line.clone()).starts_with(BYTE_ORDER_MARK) {
                line.start += BYTE_ORDER_MARK.len();
            }
            if self.blocks.bytes(line.clone()).ends_with(b"\r") {
                line.end -= 1;
            }
            let bytes = self.blocks.bytes(line.clone());
            let is_utf8 = !self.check_utf8 || self.blocks.is_surely_ascii(&line) || std::str::from_utf8(bytes).is_ok();
            if is_utf8 && let Some(id) = names.guessed(self.guess, bytes) {
                return Ok(Found::Entry { line, stream: self.guess, id });
            }
            let (stream, id) = match if is_utf8 { quick(bytes) } else { None } {
                Some((name, id)) => (names.find(name), id),
                None if bytes.trim_ascii().is_empty() => continue,
                None => match slow(bytes) {
                    Ok((name, id)) => (names.find(name.as_bytes()), id),
                    Err(fault) => return Ok(Found::Bad(fault)),
                },
            };
            let Some(stream) = stream else { return Ok(Found::Other { line, id }) };
            // The next line is usually of the same stream.
            self.guess = stream;
            return Ok(Found::Entry { line, stream, id });
        }
    }
}

/// Reads a line in the usual form: `{"stream":"…","id":"…","fields":{…}}`, blanks after `:` and `,` allowed. `None`
/// only means that the line must be parsed in full.
#[inline]
fn quick(line: &[u8]) -> Option<(&[u8], EntryId)> {
    let rest = after_blanks(line.strip_prefix(b"{\"stream\":")?).strip_prefix(b"\"")?;
    let quote = memchr(b'"', rest)?;
    let name = &rest[..quote];
    if memchr(b'\\', name).is_some() {
        return None;
    }
    let rest = after_blanks(rest[quote + 1..].strip_prefix(b",")?).strip_prefix(b"\"id\":")?;
    let rest = after_blanks(rest).strip_prefix(b"\"")?;
    Some((name, quick_id(rest)?))
}

/// Does the same from the text of the id on.
#[inline]
fn quick_id(rest: &[u8]) -> Option<EntryId> {
    let (ms, rest) = number(rest, b'-')?;
    let (seq, rest) = number(rest, b'"')?;
    let rest = after_blanks(rest.strip_prefix(b",")?);
    let rest = rest.strip_prefix(b"\"fields\":").or_else(|| rest.strip_prefix(b"\"fields_b64\":"))?;
    let is_whole = after_blanks(rest).first() == Some(&b'{') && rest.last() == Some(&b'}');
    is_whole.then_some(EntryId::new(ms, seq))
}

#[inline]
fn after_blanks(mut bytes: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t', rest)) = bytes.split_first() {
        bytes = rest;
    }
    bytes
}

/// Returns the number before `end`, of at most 19 digits so that it always fits, and the rest.
#[inline]
fn number(bytes: &[u8], end: u8) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().take(20).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (byte == end && i > 0).then(|| (value, &bytes[i + 1..]));
        }
        // Twenty digits may not fit. The loop then ends without a result.
        value = u64::wrapping_add(u64::wrapping_mul(value, 10), u64::from(digit));
    }
    None
}

/// Any other spelling of an entry. The content of `fields` is skipped.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
    #[serde(borrow)]
    fields_b64: Option<&'a RawValue>,
}

#[cold]
fn slow(line: &[u8]) -> Result<(Cow<'_, str>, EntryId), Fault> {
    let text = std::str::from_utf8(line).map_err(|e| Fault::NotUtf8(e.valid_up_to() + 1))?;
    if !depth::is_bounded(line) {
        return Err(Fault::NotJson(format!("it nests deeper than {}", depth::DEPTH_MAX)));
    }
    let entry: Entry<'_> = serde_json::from_str(text).map_err(|e| why_not(text, &e))?;
    let id = EntryId::parse(entry.id.as_bytes()).ok_or_else(|| Fault::NotAnId(shown(&entry.id.into())))?;
    let is_object = |value: Option<&RawValue>| value.is_some_and(|v| v.get().starts_with('{'));
    if !is_object(entry.fields) && !is_object(entry.fields_b64) {
        return Err(Fault::NoFields);
    }
    Ok((entry.stream, id))
}

/// Returns the fault of a line that `error` rejects as an entry.
fn why_not(text: &str, error: &serde_json::Error) -> Fault {
    let object = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => object,
        Ok(_) => return Fault::NotAnObject,
        Err(error) => return Fault::NotJson(of_one_line(&error)),
    };
    for key in ["stream", "id"] {
        match object.get(key) {
            Some(Value::String(_)) => {}
            Some(other) => return Fault::NotAString(key, shown(other)),
            None => return Fault::Missing(key),
        }
    }
    Fault::NotJson(of_one_line(error))
}

/// Returns the message without its own line number, which is always 1 here.
fn of_one_line(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let said = message.rsplit_once(" at line ").map_or(message.as_str(), |(said, _)| said);
    format!("{said} at byte {}", error.column())
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the quick reading of a line if there is one, compared with the slow one, or the fault.
    fn head(line: &str) -> Result<(String, String), String> {
        let slow = slow(line.as_bytes()).map(|(name, id)| (name.into_owned(), id.to_string()));
        if let Some((name, id)) = quick(line.as_bytes()) {
            assert_eq!(slow, Ok((String::from_utf8(name.to_vec()).unwrap(), id.to_string())), "{line}");
        }
        slow.map_err(|fault| fault.to_string())
    }

    #[test]
    fn reads_stream_and_id_in_any_spelling() {
        let cases = [
            (true, r#"{"stream":"a:b","id":"1770163200000-0","fields":{"k":"v"}}"#),
            (true, r#"{"stream": "a:b", "id": "1770163200000-0", "fields": {"k": "v"}}"#),
            (true, r#"{"stream":"a:b","id":"1770163200000-0","fields_b64":{}}"#),
            (true, r#"{"stream":"a:b","id":"1770163200000-0","fields":{},"more":{}}"#),
            (false, r#"{"id":"1770163200000-0","stream":"a:b","fields":{"k":"v"}}"#),
            (false, r#" { "stream" : "a:b" , "id" : "1770163200000-0" , "fields" : { } } "#),
            (false, r#"{"stream":"a\u003ab","id":"1770163200000-0","fields":{}}"#),
            (false, r#"{"stream":"a:b","id":"1770163200000-0","fields":null,"fields_b64":{"k":"dg=="}}"#),
            (false, r#"{"stream":"a:b","id":"1770163200000-0","extra":[1],"fields":{}}"#),
        ];
        for (is_quick, line) in cases {
            assert_eq!(head(line), Ok(("a:b".into(), "1770163200000-0".into())), "{line}");
            assert_eq!(quick(line.as_bytes()).is_some(), is_quick, "{line}");
        }
    }

    #[test]
    fn reads_ids_up_to_the_last_one_there_is() {
        for id in ["0-0", "0-1", "9999999999999999999-7", "7-9999999999999999999", "18446744073709551615-1"] {
            assert_eq!(head(&format!(r#"{{"stream":"s","id":"{id}","fields":{{}}}}"#)), Ok(("s".into(), id.into())));
        }
    }

    #[test]
    fn says_what_makes_a_line_no_entry() {
        let cases = [
            ("hello", "not JSON: expected value at byte 1"),
            (r#"{"stream":"s","id":"1-0","fields":{"#, "not JSON: EOF while parsing an object at byte 35"),
            (r#"{"stream":"s","id":"1-0","fields":{}} x"#, "not JSON: trailing characters at byte 39"),
            ("[1]", "not a JSON object"),
            ("17", "not a JSON object"),
            (r#"{"id":"1-0","fields":{}}"#, "no stream"),
            (r#"{"stream":7,"id":"1-0","fields":{}}"#, "stream is 7, want a string"),
            (r#"{"stream":"s","fields":{}}"#, "no id"),
            (r#"{"stream":"s","id":null,"fields":{}}"#, "id is null, want a string"),
            (r#"{"stream":"s","id":"1","fields":{}}"#, r#"id "1" is not ms-seq, two whole numbers"#),
            (r#"{"stream":"s","id":"1-","fields":{}}"#, r#"id "1-" is not ms-seq, two whole numbers"#),
            (r#"{"stream":"s","id":"-1-0","fields":{}}"#, r#"id "-1-0" is not ms-seq, two whole numbers"#),
            (
                r#"{"stream":"s","id":"18446744073709551616-0","fields":{}}"#,
                r#"id "18446744073709551616-0" is not ms-seq, two whole numbers"#,
            ),
            (r#"{"stream":"s","id":"1-0"}"#, "neither fields nor fields_b64 is an object"),
            (r#"{"stream":"s","id":"1-0","fields":"x"}"#, "neither fields nor fields_b64 is an object"),
            (r#"{"stream":"s","id":"1-0","fields":{},"id":"2-0"}"#, "not JSON: duplicate field `id` at byte 41"),
        ];
        for (line, fault) in cases {
            // The quick path may only accept lines that are entries up to the point where it stops: a double key comes
            // later.
            match slow(line.as_bytes()) {
                Err(found) => assert_eq!(found.to_string(), fault, "{line}"),
                Ok(_) => panic!("taken for an entry: {line}"),
            }
        }
        assert_eq!(slow(b"{\"stream\":\"\xFF\"}").unwrap_err().to_string(), "not UTF-8 at byte 12");
    }
}
