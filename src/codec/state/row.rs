//! One row of the store: the bytes of its key and its value.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::bounded;
use crate::domain::book::plans::sha256_hex;
use crate::domain::event::ids::{EntryId, PositionId};

/// A longer name is replaced by its hash in a key. [bytes]
const NAME_BYTES_MAX: usize = 256;

/// Version byte in front of every value.
pub(super) const VALUE_VERSION: u8 = 1;

/// One row: key, and value or `None` to remove it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);
/// One row as read.
pub type StoredRow = (Vec<u8>, Vec<u8>);

pub(super) const META: &[u8] = b"m/";
pub(super) const GLOBALS: &[u8] = b"g/";
pub(super) const CURSOR: &[u8] = b"c/";
pub(super) const NAME: &[u8] = b"y/";
pub(super) const HOT: &[u8] = b"h/";
pub(super) const COLD: &[u8] = b"k/";
pub(super) const CLOSED: &[u8] = b"i/";
pub(super) const PLAN: &[u8] = b"l/";
pub(super) const PROVISIONAL: &[u8] = b"u/";
pub(super) const DECISION: &[u8] = b"d/";
pub(super) const QUARANTINE: &[u8] = b"q/";
pub(super) const ACCOUNT: &[u8] = b"n/";
pub(super) const ACCEPTED_GAPS: &[u8] = b"e/";
pub(super) const BOOK: &[u8] = b"b/";
pub(super) const INTENTS: &[u8] = b"j/";
pub(super) const PLAN_OF_BOOK: &[u8] = b"v/";
pub(super) const SELECTION: &[u8] = b"z/";
pub(super) const NOTE: &[u8] = b"x/";

/// A row that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {key:?} does not read: {why}")]
pub struct BadRow {
    pub key: String,
    pub why: String,
}

/// Access to the rows of a store: all rows whose key starts with a prefix, in order.
pub trait Rows {
    type Error: From<BadRow>;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, Self::Error>;
}

pub(in crate::codec) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VALUE_VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("writing to memory does not fail, and all types of the state are plain data");
    bytes
}

pub(in crate::codec) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, BadRow> {
    let bad = |why: String| BadRow { key: String::from_utf8_lossy(key).into_owned(), why };
    match value.split_first() {
        Some((&VALUE_VERSION, bytes)) => {
            let (decoded, read) = bounded::decode(bytes).map_err(|error| bad(error.to_string()))?;
            if read == bytes.len() { Ok(decoded) } else { Err(bad(format!("{} bytes too many", bytes.len() - read))) }
        }
        Some((version, _)) => Err(bad(format!("value version {version}, want {VALUE_VERSION}"))),
        None => Err(bad("empty value".to_owned())),
    }
}

pub(in crate::codec) fn key(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

/// Returns a key that ends in a name from outside. Keys are limited, so a long name is replaced by its hash.
pub(in crate::codec) fn name_key(prefix: &[u8], name: &str) -> Vec<u8> {
    if name.len() <= NAME_BYTES_MAX {
        return key(prefix, name.as_bytes());
    }
    key(prefix, format!("#{}", sha256_hex(name.as_bytes())).as_bytes())
}

pub(super) fn closed_prefix(symbol: &str) -> Vec<u8> {
    let mut prefix = name_key(CLOSED, symbol);
    prefix.push(0);
    prefix
}

pub(super) fn closed_key(symbol: &str, id: PositionId) -> Vec<u8> {
    let mut key = closed_prefix(symbol);
    key.extend(id.opened.ms.to_be_bytes());
    key.extend(id.opened.seq.to_be_bytes());
    key.extend(id.nth.to_be_bytes());
    key
}

/// Returns the end of the key of a stream entry.
pub(in crate::codec) fn entry_key(stream: &str, id: EntryId) -> Vec<u8> {
    let mut row_key = stream.as_bytes().to_vec();
    row_key.push(0);
    row_key.extend(id.ms.to_be_bytes());
    row_key.extend(id.seq.to_be_bytes());
    row_key
}
