//! A decision in the outbox, and the changes that a checkpoint has to write.

use serde::{Deserialize, Serialize};

use super::gap::StreamGap;
use crate::domain::event::ids::EntryId;

/// Names and values of the fields of an entry.
pub type FieldTexts = Vec<(String, String)>;

/// The placeholder id of an old decision: only the server knows its entry id.
pub const SOMEWHERE: EntryId = EntryId::new(0, 0);

/// A decision in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    pub seq: u64,
    pub decision_id: String,
    /// Fields of the `harvest.decision` entry.
    pub fields: FieldTexts,
    /// Stream and fields of the request, if there is one.
    pub request: Option<(String, FieldTexts)>,
    /// The request is an order, not a suggestion.
    pub live: bool,
    /// Account of its book; empty for the account without a name.
    pub account: String,
    /// Hash of the policy under which it was decided.
    pub policy: String,
    /// Time of the entry that caused it. [ms since 1970]
    pub cause_ms: u64,
    /// Its id in the decision stream, once it is written.
    pub written: Option<EntryId>,
    /// The request may have been sent before the server lost its data, so only the record is written.
    pub record_only: bool,
    /// The server lost it. It is written again, with a mark.
    pub again: bool,
}

impl OutboxRow {
    /// Returns a field of the `harvest.decision` entry; empty if it is absent.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    /// Returns true if it is a live decision, not written as a record alone: a reason to refuse orders applies to it.
    /// An order whose numbers do not fit has no request, and nothing goes out with it (docs/spec/emission.md, "Format
    /// apply_plan").
    pub const fn is_order(&self) -> bool {
        self.live && !self.record_only
    }
}

/// A change that the next checkpoint writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    Outbox(OutboxRow),
    OutboxRemoved(u64),
    /// A gap that is found and not in the log yet.
    GapFound(StreamGap),
    GapPublished(StreamGap),
    Unrecorded {
        stream: Box<str>,
        id: EntryId,
    },
    Recorded {
        stream: Box<str>,
        id: EntryId,
    },
    Refused {
        stream: Box<str>,
        id: EntryId,
    },
    RefusalPublished {
        stream: Box<str>,
        id: EntryId,
    },
}
