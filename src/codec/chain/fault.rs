//! The faults of a chain.

use crate::domain::event::ids::EntryId;

/// The kind of a fault in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not a sealed decision.
    Unreadable,
    /// The payload is not the hashed one.
    Payload,
    /// The hash does not match the entry.
    Hash,
    /// It follows another entry than the one before it.
    Previous,
    /// The number does not match its place in the chain.
    Seq,
    /// A field beside the payload contradicts the payload.
    Outside,
    /// Missing or wrong.
    Signature,
    /// The decision cannot have this entry id.
    Id,
    /// Two entries have the same id.
    Duplicate,
    /// It comes before or after its place.
    Order,
    /// Two decisions claim one number.
    Fork,
    /// Decisions are missing.
    Gap,
    /// The chain ends before an anchor.
    Tail,
    /// The chain contradicts an anchor.
    Anchor,
}

impl Fault {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Payload => "payload",
            Self::Hash => "hash",
            Self::Previous => "previous",
            Self::Seq => "seq",
            Self::Outside => "outside",
            Self::Signature => "signature",
            Self::Id => "id",
            Self::Duplicate => "twin",
            Self::Order => "order",
            Self::Fork => "fork",
            Self::Gap => "gap",
            Self::Tail => "tail",
            Self::Anchor => "anchor",
        }
    }
}

/// One fault, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    pub what: Fault,
    pub seq: Option<u64>,
    pub entry: Option<EntryId>,
    pub why: String,
}

/// One decision in several entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicated {
    pub decision_id: String,
    pub entries: Vec<EntryId>,
}
