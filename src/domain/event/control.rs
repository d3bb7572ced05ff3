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

#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// For all accounts or, with an account (that of the entry), for that one. `None`: the account follows the general
    /// policy again.
    PolicyAdopted(Option<Box<Policy>>),
    /// For all accounts or, with an account (that of the entry), for that one.
    KillChanged {
        kill: bool,
    },
    HistoryGap {
        stream: Box<str>,
        after: Option<EntryId>,
        before: Option<EntryId>,
    },
    /// For one symbol and one account (those of the entry); without one of them, for all.
    GapAccepted,
    RiskAccepted {
        position_id: Box<str>,
    },
    DecisionExpired {
        decision_id: Box<str>,
    },
    RungRearmed {
        position_id: Box<str>,
        r: RMultiple,
    },
    EntrySkipped {
        stream: Box<str>,
        id: EntryId,
    },
}

impl Control {
    /// Returns true if an entry permits what was held before, so that it needs a signature where there is a key.
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
