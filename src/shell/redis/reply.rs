//! Parses replies of the server without a copy.
//!
//! The crate's own types for streams collect fields into maps, where duplicate names collapse and order is lost.

use redis::{ErrorKind, RedisError, Value};

use super::server::FieldBytes;
use crate::domain::event::ids::EntryId;

/// One entry as the server returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    pub id: EntryId,
    /// Names and values in their order; `None` if the entry was trimmed while it was pending.
    pub fields: Option<Vec<FieldBytes>>,
}

impl RawEntry {
    /// Returns names and values in their order; empty if the entry was trimmed.
    pub fn pairs(&self) -> &[FieldBytes] {
        self.fields.as_deref().unwrap_or_default()
    }

    /// Returns the length of names and values together. [byte]
    pub fn size(&self) -> usize {
        self.pairs().iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

fn unexpected(what: &'static str) -> RedisError {
    (ErrorKind::UnexpectedReturnType, what).into()
}

/// Returns the value, or the error that the server sent in its place.
pub(super) fn checked(value: Value) -> Result<Value, RedisError> {
    match value {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// Returns the first error that the server sent in place of a value.
pub(super) fn first_error(values: &[Value]) -> Option<RedisError> {
    values.iter().find_map(|value| match value {
        Value::ServerError(error) => Some(error.clone().into()),
        _ => None,
    })
}

pub(super) fn array(value: Value, what: &'static str) -> Result<Vec<Value>, RedisError> {
    match checked(value)? {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected(what)),
    }
}

pub(super) fn bytes(value: Value, what: &'static str) -> Result<Vec<u8>, RedisError> {
    match checked(value)? {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(unexpected(what)),
    }
}

pub(super) fn text(value: Value, what: &'static str) -> Result<String, RedisError> {
    String::from_utf8(bytes(value, what)?).map_err(|_| unexpected(what))
}

pub(super) fn number(value: Value, what: &'static str) -> Result<u64, RedisError> {
    match checked(value)? {
        Value::Int(number) => u64::try_from(number).map_err(|_| unexpected(what)),
        other => text(other, what)?.parse().map_err(|_| unexpected(what)),
    }
}

pub(super) fn entry_id(value: Value) -> Result<EntryId, RedisError> {
    let text = bytes(value, "an entry id is not a text")?;
    EntryId::parse(&text).ok_or_else(|| unexpected("an entry id is not ms-seq"))
}

/// Parses the answer to `TIME`. [µs since 1970]
pub(super) fn time_us(value: Value) -> Result<u64, RedisError> {
    let mut parts = array(value, "TIME is not a list")?.into_iter();
    let mut part = || number(parts.next().unwrap_or_default(), "TIME is not a number");
    Ok(part()? * 1_000_000 + part()?)
}

/// Parses entries as `XRANGE` lists them.
pub(super) fn entries(value: Value) -> Result<Vec<RawEntry>, RedisError> {
    array(value, "entries are not a list")?.into_iter().filter(|value| *value != Value::Nil).map(entry).collect()
}

fn entry(value: Value) -> Result<RawEntry, RedisError> {
    let mut parts = array(value, "an entry is not a list")?.into_iter();
    let id = entry_id(parts.next().unwrap_or_default())?;
    let fields = match parts.next().unwrap_or_default() {
        Value::Nil => None,
        Value::Map(pairs) => {
            let pair = |(name, value)| Ok((bytes(name, "a name")?, bytes(value, "a value")?));
            Some(pairs.into_iter().map(pair).collect::<Result<Vec<_>, RedisError>>()?)
        }
        listed => {
            let mut values = array(listed, "fields are not a list")?.into_iter();
            let mut fields = Vec::with_capacity(values.len() / 2);
            while let (Some(name), Some(value)) = (values.next(), values.next()) {
                fields.push((
                    bytes(name, "a field's name is not a text")?,
                    bytes(value, "a field's value is not a text")?,
                ));
            }
            Some(fields)
        }
    };
    Ok(RawEntry { id, fields: fields.filter(|fields| !fields.is_empty()) })
}

/// Parses entries by stream, as `XREAD` and `XREADGROUP` return them. Returns an empty list if there are none.
pub(super) fn entries_by_stream(value: Value) -> Result<Vec<(String, Vec<RawEntry>)>, RedisError> {
    let named = |(name, listed): (Value, Value)| Ok((text(name, "a stream's name is not a text")?, entries(listed)?));
    match checked(value)? {
        Value::Nil => Ok(Vec::new()),
        Value::Map(pairs) => pairs.into_iter().map(named).collect(),
        value => array(value, "streams are not a list")?
            .into_iter()
            .map(|pair| {
                let mut parts = array(pair, "a stream is not a list")?.into_iter();
                named((parts.next().unwrap_or_default(), parts.next().unwrap_or_default()))
            })
            .collect(),
    }
}

/// Parses a list of names and values, as `XINFO` returns them.
pub(super) fn named(value: Value) -> Result<Vec<(String, Value)>, RedisError> {
    match checked(value)? {
        Value::Map(pairs) => {
            pairs.into_iter().map(|(name, value)| Ok((text(name, "a name is not a text")?, value))).collect()
        }
        value => {
            let mut values = array(value, "information is not a list")?.into_iter();
            let mut pairs = Vec::with_capacity(values.len() / 2);
            while let (Some(name), Some(value)) = (values.next(), values.next()) {
                pairs.push((text(name, "a name is not a text")?, value));
            }
            Ok(pairs)
        }
    }
}
