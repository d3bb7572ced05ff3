//! The faults of a chain.

use crate::domain::event::ids::EntryId;
use crate::domain::named;

named! {
    /// The kind of a fault in a chain.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Fault {
        /// It is not a sealed decision.
        Unreadable => "unreadable",
        /// The payload is not the hashed one.
        Payload => "payload",
        /// The hash does not match the entry.
        Hash => "hash",
        /// It follows another entry than the one before it.
        Previous => "previous",
        /// The number does not match its place in the chain.
        Seq => "seq",
        /// A field beside the payload contradicts the payload.
        Outside => "outside",
        /// Missing or wrong.
        Signature => "signature",
        /// The decision cannot have this entry id.
        Id => "id",
        /// Two entries have the same id.
        Duplicate => "twin",
        /// It comes before or after its place.
        Order => "order",
        /// Two decisions claim one number.
        Fork => "fork",
        /// Decisions are missing.
        Gap => "gap",
        /// The chain ends before an anchor.
        Tail => "tail",
        /// The chain contradicts an anchor.
        Anchor => "anchor",
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
