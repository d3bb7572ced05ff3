//! Properties of any bytes that are read as replies of a server. libFuzzer and the tests use them.
//!
//! The oracle is the parser of the client library.

use harvester::shell::redis::frame::{FrameError, Framer, NUMBER_BYTES_MAX, Token, Walk};
use redis::{Value, VerbatimFormat, parse_redis_value};

/// The result of framing the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framed {
    /// The end of each whole reply.
    pub ends: Vec<usize>,
    /// The error of the bytes after them, unless these are only cut off.
    pub error: Option<FrameError>,
}

/// Frames the bytes in pieces of these sizes, in turn.
pub fn frame(bytes: &[u8], pieces: &[usize]) -> Framed {
    let mut framer = Framer::default();
    let mut framed = Framed::default();
    let mut pieces = pieces.iter().map(|size| (*size).max(1)).cycle();
    let mut there = 0;
    while there < bytes.len() && framed.error.is_none() {
        there = bytes.len().min(there + pieces.next().unwrap_or(bytes.len()));
        loop {
            match framer.next(&bytes[..there]) {
                Ok(Some(end)) => framed.ends.push(end),
                Ok(None) => break,
                Err(error) => {
                    framed.error = Some(error);
                    break;
                }
            }
        }
    }
    framed
}

/// Frames the bytes whole and in pieces, which must give the same result, and compares each reply and each error with
/// the oracle.
pub fn check(bytes: &[u8], pieces: &[usize]) -> Framed {
    let framed = frame(bytes, &[]);
    assert_eq!(frame(bytes, pieces), framed, "in pieces of {pieces:?}");
    assert_eq!(frame(bytes, &[1]), framed, "byte by byte");
    let mut start = 0;
    for end in &framed.ends {
        let reply = &bytes[start..*end];
        let mut walk = Walk::new(reply);
        match parse_redis_value(reply) {
            Ok(value) => is_same(&mut walk, &value),
            Err(_) => assert!(has_odd_push(reply), "the oracle refuses {}", reply.escape_ascii()),
        }
        let mut skipping = Walk::new(reply);
        skipping.skip(1).expect("a framed reply can be walked");
        assert!(skipping.is_at_end());
        assert!(parse_redis_value(&reply[..reply.len() - 1]).is_err(), "it ends earlier: {}", reply.escape_ascii());
        start = *end;
    }
    let rest = &bytes[start..];
    if !is_large(rest) && !framed.error.is_some_and(|error| is_ruling(error, rest)) {
        assert!(parse_redis_value(rest).is_err(), "{:?}: the oracle reads {}", framed.error, rest.escape_ascii());
    }
    framed
}

/// Returns true if the oracle would allocate the announced size.
fn is_large(bytes: &[u8]) -> bool {
    bytes.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 5)
}

/// Returns true if the oracle reads bytes that the framer refuses (`shell::redis::frame` has the list).
fn is_ruling(error: FrameError, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    match error {
        FrameError::TooDeep
        | FrameError::TextTooLarge(_)
        | FrameError::TooManyElements(_)
        | FrameError::LineTooLong
        | FrameError::ReplyTooLarge => true,
        FrameError::BadLength(length) => length < 0,
        FrameError::Malformed("a null") => true,
        FrameError::Malformed("a number" | "a number with a fraction") => {
            let has_space = text.replace("\r\n", "").contains(char::is_whitespace);
            has_space || text.split("\r\n").any(|line| line.len() > NUMBER_BYTES_MAX)
        }
        FrameError::Malformed(_) | FrameError::UnknownType(_) => false,
    }
}

/// Returns true if the reply contains a push message whose kind is not text.
fn has_odd_push(reply: &[u8]) -> bool {
    let mut walk = Walk::new(reply);
    while !walk.is_at_end() {
        if let Token::Push(1..) = walk.token().expect("a framed reply can be walked") {
            let mut kind = walk;
            match kind.token().expect("a push message has a kind") {
                Token::Text(text) if std::str::from_utf8(text).is_ok() => {}
                Token::Status(_) => {}
                _ => return true,
            }
        }
    }
    false
}

/// Asserts that the next value of a walk is the value that the oracle read.
fn is_same(walk: &mut Walk<'_>, value: &Value) {
    let token = walk.token().expect("a framed reply can be walked");
    let same = match (token, value) {
        (Token::Nil, Value::Nil) | (Token::Status("OK"), Value::Okay) => true,
        (Token::Number(number), Value::Int(read)) => number == *read,
        (Token::Text(text), Value::BulkString(read)) => text == read.as_slice(),
        (Token::Status(text), Value::SimpleString(read)) => text == read.as_str(),
        (Token::Double(number), Value::Double(read)) => number.to_bits() == read.to_bits(),
        (Token::Boolean(is), Value::Boolean(read)) => is == *read,
        (Token::BigNumber(text), Value::BigNumber(read)) => text.as_bytes() == read.as_slice(),
        (Token::Verbatim(text), Value::VerbatimString { format, text: read }) => {
            let format = match format {
                VerbatimFormat::Text => "txt",
                VerbatimFormat::Markdown => "mkd",
                VerbatimFormat::Unknown(format) => format,
                _ => panic!("a format of verbatim text that is not compared"),
            };
            String::from_utf8_lossy(text) == format!("{format}:{read}")
        }
        (Token::Error(text), Value::ServerError(read)) => {
            let details = read.details().map(|details| format!(" {details}")).unwrap_or_default();
            String::from_utf8_lossy(text) == format!("{}{details}", read.code())
        }
        (Token::List(elements), Value::Array(read)) | (Token::Set(elements), Value::Set(read)) => {
            read.iter().for_each(|element| is_same(walk, element));
            elements == read.len()
        }
        (Token::Map(pairs), Value::Map(read)) => {
            are_same(walk, read);
            pairs == read.len()
        }
        (Token::Attribute(pairs), Value::Attribute { data, attributes }) => {
            are_same(walk, attributes);
            is_same(walk, data);
            pairs == attributes.len()
        }
        (Token::Push(0), Value::Push { data, .. }) => data.is_empty(),
        (Token::Push(elements), Value::Push { data, .. }) => {
            walk.skip(1).expect("a push message has a kind");
            data.iter().for_each(|element| is_same(walk, element));
            elements == data.len() + 1
        }
        _ => false,
    };
    assert!(same, "{token:?} is not {value:?}");
}

fn are_same(walk: &mut Walk<'_>, pairs: &[(Value, Value)]) {
    for (name, value) in pairs {
        is_same(walk, name);
        is_same(walk, value);
    }
}
