//! A part of an input stream that cannot be read any more.

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::{EntryId, StreamId};

/// Entries that are missing between two entries of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamGap {
    pub stream: StreamId,
    /// The last entry before it that was read.
    pub after: Option<EntryId>,
    /// The first entry after it that exists.
    pub before: Option<EntryId>,
    /// Number of entries, if it is known. [1]
    pub count: Option<u64>,
    /// The change in the count of entries seen. [1]
    pub shift: i64,
    /// The number of entries added, as reported by the server. [1]
    pub added: u64,
    pub why: GapReason,
}

impl StreamGap {
    /// Returns true if a gap of the same stream that ends before an entry, or is open, reaches as far as this one.
    pub fn is_reached_by(&self, before: Option<EntryId>) -> bool {
        before.is_none_or(|before| self.before.is_some_and(|own| own <= before))
    }
}

/// Why entries cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapReason {
    /// The configuration begins after them.
    NotFromBeginning,
    Trimmed,
    /// The server has lost entries that it had returned.
    Forgotten,
}

impl GapReason {
    /// Returns the reason as the log and the `history.gap` entry state it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotFromBeginning => "not read from its beginning",
            Self::Trimmed => "trimmed, or taken by another reader, before it was read",
            Self::Forgotten => "the server has forgotten entries that it had",
        }
    }
}
