//! A rung of the ladder, the decisions that took it, and their outcomes.

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::EntryId;
use crate::domain::units::{Qty, RMultiple, Ratio};

/// State of a rung, or of the decision that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RungState {
    /// May be taken.
    Armed,
    /// Refused, armed again from `retry_at_ms`.
    Refused,
    /// Asked for; its result is awaited.
    Requested,
    /// No result in time: it may still be executed.
    Unknown,
    /// Filled in part, order not final.
    Partial,
    Filled,
    /// Taken in shadow mode.
    Shadowed,
    /// Passed before the mode became live: counts as taken.
    Skipped,
    /// Refused for good, or too often.
    Failed,
}

impl RungState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Refused => "refused",
            Self::Requested => "requested",
            Self::Unknown => "unknown",
            Self::Partial => "partial",
            Self::Filled => "filled",
            Self::Shadowed => "shadowed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    pub const fn is_taken(self) -> bool {
        match self {
            Self::Requested | Self::Unknown | Self::Partial | Self::Filled | Self::Shadowed | Self::Skipped => true,
            Self::Armed | Self::Refused | Self::Failed => false,
        }
    }

    pub const fn is_in_flight(self) -> bool {
        match self {
            Self::Requested | Self::Unknown | Self::Partial => true,
            Self::Armed | Self::Refused | Self::Filled | Self::Shadowed | Self::Skipped | Self::Failed => false,
        }
    }
}

/// A rung that was touched. Rungs that are not listed are armed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// [R]
    pub r: RMultiple,
    /// Fraction under the ladder by which it was last touched. [1]
    pub fraction: Ratio,
    /// Share that it holds without a decision: skipped when the mode became live. [1]
    pub share_skipped: Ratio,
    pub state: RungState,
    pub decision_id: Option<Box<str>>,
    /// Highest attempt so far. [1]
    pub attempt: u32,
    /// Refusals that count against `max_attempts`. [1]
    pub refusals: u32,
    /// [ms since 1970]
    pub retry_at_ms: Option<u64>,
}

impl Rung {
    /// Was it filled, at least in part.
    pub(super) fn is_sold(&self) -> bool {
        matches!(self.state, RungState::Filled | RungState::Partial)
    }
}

/// A decision, kept with its instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    pub decision_id: Box<str>,
    pub plan_id: Box<str>,
    pub rungs: Vec<RMultiple>,
    /// [1]
    pub share: Ratio,
    /// What each of the rungs holds of the share, until an operator arms it again. [1]
    pub shares: Vec<Ratio>,
    /// [base]
    pub qty: Qty,
    pub attempt: u32,
    pub seq: u64,
    /// `stream/id` of the entry that caused it.
    pub cause: Box<str>,
    pub state: RungState,
    /// When it was decided, or last heard of. [ms since 1970]
    pub heard_ms: u64,
    /// Our wish was withdrawn before it was sent.
    pub expired: bool,
    pub outcomes: Vec<OutcomeRecord>,
}

/// A result that belonged to a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    pub what: OutcomeKind,
    pub entry: EntryId,
    /// Filled so far by the order, where it is a fill. [base]
    pub qty: Qty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeKind {
    Accepted,
    Filled,
    Refused,
    Expired,
    Adopted,
    Rearmed,
}

/// What a result says of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionOutcome {
    Accepted,
    /// Something was filled; `is_final`: no more will be.
    Filled {
        is_final: bool,
    },
    Refused {
        permanent: bool,
    },
    Expired,
    /// A smaller quantity was adopted from the exchange.
    AdoptedSmaller,
}
