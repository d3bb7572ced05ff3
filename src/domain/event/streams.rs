//! The streams that are read, their kinds, and the rank that orders them within a millisecond.

use serde::{Deserialize, Serialize};

use super::selection::Selection;
use crate::domain::named;

named! {
    /// The kind of a stream. The order of the variants is the rank of docs/spec/canonical-order.md, "Sort key".
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum StreamKind {
        Control => "control",
        Observation => "observation",
        Intent => "intent",
        Plan => "plan",
        Result => "result",
        Snapshot => "snapshot",
        Price => "price",
        Decision => "decision",
    }
}

impl StreamKind {
    /// Returns true if its entries are facts about positions: fills, and quantities at the exchange.
    pub const fn is_of_positions(self) -> bool {
        match self {
            Self::Result | Self::Snapshot | Self::Observation => true,
            Self::Control | Self::Intent | Self::Plan | Self::Price | Self::Decision => false,
        }
    }

    /// Returns the stream that is read if none is configured.
    pub const fn default_stream(self) -> &'static str {
        match self {
            Self::Control => "quantum:stream:harvest.control",
            Self::Observation => "quantum:stream:harvest.observation",
            Self::Intent => "quantum:stream:trade.intent",
            Self::Plan => "quantum:stream:apply.plan",
            Self::Result => "quantum:stream:apply.result",
            Self::Snapshot => "quantum:stream:position.snapshot",
            Self::Price => "quantum:stream:market.tick",
            Self::Decision => "quantum:stream:harvest.decision",
        }
    }
}

/// Index of a configured stream in [`Streams`]. Ascending index is ascending rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u16);

/// One configured stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub kind: StreamKind,
    pub name: String,
    /// The account of its entries that name none.
    pub account: Option<Box<str>>,
}

impl Stream {
    /// Returns the name after the last colon: `quantum:stream:market.tick` is `market.tick`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit(':').next().unwrap_or(&self.name)
    }
}

/// Default limit of symbols that are known by prices alone. [1]
pub const SYMBOLS_MAX: usize = 20_000;

/// All configured streams by rank: kind first, then name.
#[derive(Clone, Debug)]
pub struct Streams {
    list: Vec<Stream>,
    /// Limit of symbols that prices alone introduce. Comparison ignores it: two values with other limits are equal.
    symbols_max: usize,
    /// The accounts whose entries are read.
    selection: Selection,
}

impl PartialEq for Streams {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list && self.selection == other.selection
    }
}

impl Eq for Streams {}

impl Streams {
    /// Sorts the streams by rank. A name may occur only once: its second occurrence is returned as the error.
    pub fn new(mut streams: Vec<Stream>) -> Result<Self, Stream> {
        streams.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        for (i, stream) in streams.iter().enumerate() {
            if streams[..i].iter().any(|other| other.name == stream.name) {
                return Err(stream.clone());
            }
        }
        Ok(Self { list: streams, symbols_max: SYMBOLS_MAX, selection: Selection::All })
    }

    /// Returns the same streams with another limit for symbols that prices alone introduce.
    #[must_use]
    pub fn with_symbols_max(self, symbols_max: usize) -> Self {
        Self { symbols_max, ..self }
    }

    /// Returns the same streams, of which only the entries of some accounts are read.
    #[must_use]
    pub fn with_selection(self, selection: Selection) -> Self {
        Self { selection, ..self }
    }

    /// Returns the accounts whose entries are read.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Returns the limit of symbols that are known by prices alone. [1]
    pub fn symbols_max(&self) -> usize {
        self.symbols_max
    }

    pub fn id_of(&self, name: &str) -> Option<StreamId> {
        self.list.iter().position(|s| s.name == name).map(|i| StreamId(i as u16))
    }

    pub fn get(&self, id: StreamId) -> &Stream {
        &self.list[usize::from(id.0)]
    }

    pub fn kind(&self, id: StreamId) -> StreamKind {
        self.get(id).kind
    }

    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &Stream)> {
        self.list.iter().enumerate().map(|(i, s)| (StreamId(i as u16), s))
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Default for Streams {
    fn default() -> Self {
        let all = StreamKind::ALL.map(|kind| Stream { kind, name: kind.default_stream().to_owned(), account: None });
        Self::new(all.into()).expect("default names are distinct")
    }
}
