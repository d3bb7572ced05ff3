//! Identifiers: stream entries, interned symbols and streams.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::streams::StreamKind;

pub use super::streams::StreamId;

/// Id of a Redis stream entry, `ms-seq`, compared as two numbers.
///
/// ```
/// use harvester::domain::event::ids::EntryId;
///
/// let id: EntryId = "1770163200000-9".parse()?;
/// assert_eq!((id.ms, id.seq), (1_770_163_200_000, 9));
///
/// // As texts, "…-10" would come before "…-9".
/// assert!(EntryId::new(1_770_163_200_000, 10) > id);
/// assert_eq!(id.next(), Some(EntryId::new(1_770_163_200_000, 10)));
/// assert_eq!(id.to_string(), "1770163200000-9");
/// assert!("1770163200000".parse::<EntryId>().is_err());
/// # Ok::<(), harvester::domain::event::ids::NotAnEntryId>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// Milliseconds since 1970, set by the server that wrote the entry. [ms]
    pub ms: u64,
    /// Running number within the millisecond. [1]
    pub seq: u64,
}

impl EntryId {
    /// The largest id. A stream that contains it accepts no more entries.
    pub const MAX: Self = Self::new(u64::MAX, u64::MAX);

    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Returns the next larger id, if there is one.
    pub const fn next(self) -> Option<Self> {
        match (self.ms.checked_add(1), self.seq.checked_add(1)) {
            (_, Some(seq)) => Some(Self::new(self.ms, seq)),
            (Some(ms), None) => Some(Self::new(ms, 0)),
            (None, None) => None,
        }
    }

    /// Reads `ms-seq` from bytes. Returns `None` unless both are plain decimal numbers of 64 bits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let dash = text.iter().position(|&b| b == b'-')?;
        Some(Self { ms: number(&text[..dash])?, seq: number(&text[dash + 1..])? })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        if !b.is_ascii_digit() {
            return None;
        }
        n.checked_mul(10)?.checked_add(u64::from(b - b'0'))
    })
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A text that is not an entry id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAnEntryId(pub String);

impl fmt::Display for NotAnEntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an entry id (want ms-seq, two whole numbers)", self.0)
    }
}

impl std::error::Error for NotAnEntryId {}

impl FromStr for EntryId {
    type Err = NotAnEntryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes()).ok_or_else(|| NotAnEntryId(text.to_owned()))
    }
}

/// Index of an interned symbol, in the order in which symbols were first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SymbolId(pub u32);

/// Index of an interned account, in the order in which accounts were first named. 0 is the account without a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountId(pub u32);

impl AccountId {
    /// The account of an entry that names none.
    pub const NONE: Self = Self(0);

    pub const fn is_named(self) -> bool {
        self.0 > 0
    }
}

/// Index of a book: its symbol, and its number among the books of that symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BookId {
    pub symbol: SymbolId,
    /// 0 is the one-way book of the account without a name. The others count from 1, as they were first named.
    pub nth: u32,
}

impl BookId {
    /// Returns the one-way book of the account without a name.
    pub const fn one_way(symbol: SymbolId) -> Self {
        Self { symbol, nth: 0 }
    }
}

/// Sort key of an entry in canonical order: milliseconds, then stream rank, then sequence.
///
/// ```
/// use harvester::domain::event::ids::{EntryId, SortKey};
/// use harvester::domain::event::streams::Streams;
///
/// let streams = Streams::default();
/// let key = |stream: &str, ms, seq| {
///     let stream = streams.id_of(stream).expect("a stream that is read by default");
///     SortKey::new(stream, EntryId::new(ms, seq))
/// };
/// let plan = key("quantum:stream:apply.plan", 1000, 5);
/// let result = key("quantum:stream:apply.result", 1000, 0);
/// let price = key("quantum:stream:market.tick", 999, 7);
///
/// // 999 ms is before 1000 ms. Within a millisecond a plan is before its result, whatever their sequences are: plans
/// // have a lower rank.
/// assert!(price < plan && plan < result);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortKey {
    pub ms: u64,
    pub stream: StreamId,
    pub seq: u64,
}

impl SortKey {
    pub fn new(stream: StreamId, id: EntryId) -> Self {
        Self { ms: id.ms, stream, seq: id.seq }
    }
}

/// The entry that a field or a change came from: the kind of stream, and the entry id in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryRef {
    pub kind: StreamKind,
    pub id: EntryId,
}

impl EntryRef {
    pub const fn new(kind: StreamKind, id: EntryId) -> Self {
        Self { kind, id }
    }
}

/// Id of a position within its book: the entry that opened it, and the number of the opening by that entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PositionId {
    pub opened: EntryId,
    /// 1 for the first opening under the id, 2 for the next.
    pub nth: u32,
}

impl PositionId {
    /// Returns `BOOK@ms-seq`, with `/2`, `/3` … for further openings under one id.
    pub fn with_book(self, book: &str) -> String {
        match self.nth {
            1 => format!("{book}@{}", self.opened),
            n => format!("{book}@{}/{n}", self.opened),
        }
    }
}
