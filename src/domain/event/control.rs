//! Control entries.

use super::ids::EntryId;
use crate::domain::exit::policy::Policy;
use crate::domain::units::RMultiple;

/// A control entry, with its issue.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlFact {
    pub control: Control,
    /// Of an entry that loosens. `None`: it carries no nonce.
    pub issue: Option<Issue>,
}

/// The time at which a control entry was issued, and its nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// [ms since 1970]
    pub issued_ms: u64,
    pub nonce: Box<str>,
    /// The signature was verified with a key. A nonce that was seen before is then refused.
    pub is_verified: bool,
}

/// The order of a control entry (docs/spec/streams/control.md).
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// A policy is in force from here on. For all accounts or, with an account (that of the entry), for that one.
    /// `None`: the account follows the general policy again.
    PolicyAdopted(Option<Box<Policy>>),
    /// The kill switch is set or released. For all accounts or, with an account (that of the entry), for that one.
    KillChanged { kill: bool },
    /// Entries of a stream are missing between these two: positions that they may concern get a hold. `None`: from its
    /// beginning, or to its end.
    HistoryGap { stream: Box<str>, after: Option<EntryId>, before: Option<EntryId> },
    /// The hold for a gap ends. For one symbol and one account (those of the entry); without one of them,
    /// for all.
    GapAccepted,
    /// An operator accepts the sources of entry price and risk of a position for live orders.
    RiskAccepted { position_id: Box<str> },
    /// The order of a decision was not sent and never will be: its rungs are armed again.
    DecisionExpired { decision_id: Box<str> },
    /// An operator arms a rung again, whatever its state.
    RungRearmed { position_id: Box<str>, r: RMultiple },
    /// An entry of a stream is not folded.
    EntrySkipped { stream: Box<str>, id: EntryId },
}

impl Control {
    /// Returns true if an entry permits something that a hold prevented before, so that it needs a signature where
    /// there is a key.
    ///
    /// `decision.expired` is among them: it arms rungs again, and an order that was sent would be sent twice.
    pub const fn loosens(&self) -> bool {
        match self {
            Self::PolicyAdopted(_)
            | Self::KillChanged { kill: false }
            | Self::GapAccepted
            | Self::RiskAccepted { .. }
            | Self::DecisionExpired { .. }
            | Self::RungRearmed { .. }
            | Self::EntrySkipped { .. } => true,
            Self::KillChanged { kill: true } | Self::HistoryGap { .. } => false,
        }
    }
}
