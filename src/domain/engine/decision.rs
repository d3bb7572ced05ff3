//! A decision of ours, with the evidence it rests on.

use crate::domain::book::plans::sha256_hex;
use crate::domain::book::position::RiskFields;
use crate::domain::book::rung::DecisionRecord;
use crate::domain::event::Side;
use crate::domain::event::ids::{BookId, EntryId, StreamId};
use crate::domain::exit::policy::{Base, Mode};
use crate::domain::exit::{Flag, Valuation};
use crate::domain::units::{Qty, RMultiple, Ratio};

/// A decision, and the record of it for its position. The record is boxed because few evaluations return one.
pub(super) type NewDecision = (Decision, Box<DecisionRecord>);

/// A decision to close a part of a position, with the evidence it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub decision_id: String,
    pub plan_id: String,
    pub position_id: String,
    pub book: BookId,
    pub side: Side,
    /// [base]
    pub qty: Qty,
    /// Share of the position to close. [1]
    pub share: Ratio,
    pub base: Base,
    pub rungs: Vec<RMultiple>,
    pub attempt: u32,
    pub valuation: Valuation,
    /// Source of the risk in the valuation.
    pub risk_fields: RiskFields,
    pub mode: Mode,
    pub policy_hash: Box<str>,
    pub flags: Vec<Flag>,
    pub cause_stream: StreamId,
    pub cause: EntryId,
    /// Counts from 1.
    pub seq: u64,
}

/// Returns the first 32 hex digits of SHA-256 of `position_id|rungs joined by ","|attempt` (docs/spec/decision.md,
/// "Decision id").
pub fn decision_id(position_id: &str, rungs: &[RMultiple], attempt: u32) -> String {
    let rungs: Vec<String> = rungs.iter().map(RMultiple::to_string).collect();
    sha256_hex(format!("{position_id}|{}|{attempt}", rungs.join(",")).as_bytes())[..32].to_owned()
}
