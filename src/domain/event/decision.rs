//! Recorded decisions.

use super::ids::{AccountId, EntryId, SymbolId};
use super::side::{PositionSide, Side};
use crate::domain::units::{Qty, RMultiple, Ratio};

/// A recorded decision. It is a fact and is not derived again.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionFact {
    pub decision_id: Box<str>,
    pub plan_id: Box<str>,
    pub position_id: Box<str>,
    pub symbol: SymbolId,
    /// The account without a name where it names none: it may be older than accounts.
    pub account: AccountId,
    pub position_side: Option<PositionSide>,
    pub side: Side,
    /// [base]
    pub qty: Qty,
    /// Share of the position to close. [1]
    pub share: Ratio,
    pub rungs: Vec<RMultiple>,
    pub attempt: u32,
    pub live: bool,
    /// Its number in the chain. 0: the entry has none.
    pub seq: u64,
    /// Hash of the decision before it.
    pub prev: Box<str>,
    pub hash: Box<str>,
    /// The hash matches `prev` and the payload and, with a key, the signature matches the hash.
    pub is_sealed: bool,
    /// No key is configured, and its cause is later than its own entry: nothing proves its statements about later
    /// entries.
    pub is_early: bool,
    /// It is of a former decision stream: it takes its rungs, and has no place in the chain.
    pub is_former: bool,
    pub cause_stream: Box<str>,
    pub cause_id: EntryId,
}
