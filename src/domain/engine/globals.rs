//! State that belongs to no single symbol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::chain::ChainHead;
use super::nonces::Nonces;
use crate::domain::event::ids::EntryId;
use crate::domain::exit::policy::Policy;

/// The policy in force, the kill switch, the head of the chain, and further state that all symbols share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Globals {
    pub policy: Policy,
    /// A `policy.adopted` was folded, so the configured policy no longer counts.
    pub policy_adopted: bool,
    pub killed: bool,
    pub chain: ChainHead,
    /// Times of the decisions of the last minute. [ms since 1970]
    pub decided_ms: VecDeque<u64>,
    /// Symbols that were never seen before start with a history gap.
    pub gap_everywhere: bool,
    pub gaps: Vec<Gap>,
    /// A position, or a flat state, was seen from any source.
    pub positions_known: bool,
    /// The last decisions of the chain: the beginnings of their hashes, by number.
    pub chain_tail: BTreeMap<u64, u64>,
    /// Nonces of entries that loosened, with their times of issue: none is accepted twice.
    pub nonces: Nonces,
    /// Entries that are skipped, by stream name.
    pub skipped: BTreeSet<(Box<str>, EntryId)>,
    /// Id of the entry that was applied last.
    pub last: EntryId,
}

/// A range of a stream that is missing, as a `history.gap` entry reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub stream: Box<str>,
    pub after: Option<EntryId>,
    pub before: Option<EntryId>,
    /// The entry that reports it.
    pub reported: EntryId,
}

impl Globals {
    /// Creates the state before the first entry, under the configured policy.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            policy_adopted: false,
            killed: false,
            chain: ChainHead::default(),
            decided_ms: VecDeque::new(),
            gap_everywhere: false,
            gaps: Vec::new(),
            positions_known: false,
            chain_tail: BTreeMap::new(),
            nonces: Nonces::default(),
            skipped: BTreeSet::new(),
            last: EntryId::default(),
        }
    }
}
