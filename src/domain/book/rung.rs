//! A rung of the ladder, the decisions that took it, and their outcomes.
//!
//! The states of a rung, and of the decision that took it:
//!
//! ```text
//!          decided, live               fill                 final fill, refusal, result_timeout
//!  armed ────────────────▶ requested ────────▶ partial ──────────────────────────────────────▶ filled
//!   ▲  │ ◀───────────────── │ │  │ ▲                                                             ▲
//!   │  │  decision.expired   │ │  └─┼─────── final fill, adopted smaller quantity ────────────────┘
//!   │  │                     │ │    │ accepted
//!   │  │                     │ └─▶ unknown   no result within result_timeout; it ends as requested does
//!   │  │                     │
//!   │  │ ◀──── retry_after ─ refused ───▶ failed   refused for good, or max_attempts times
//!   │  │
//!   │  ├─ decided, shadow ─▶ shadowed ─┬─ on_live = take ─▶ armed
//!   │  │                               └─ on_live = skip ─▶ skipped
//!   │  └─ reached when the mode becomes live, on_live = skip ─▶ skipped
//!   │
//!   └─ rung.rearmed, from every state
//! ```
//!
//! A fill sets its rungs to filled from every state, because the sale counts.

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::EntryId;
use crate::domain::named;
use crate::domain::units::{Qty, RMultiple, Ratio};

named! {
    /// State of a rung, or of the decision that asked for it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum RungState {
        /// May be taken.
        Armed => "armed",
        /// Refused. It is armed again at `retry_at_ms`.
        Refused => "refused",
        /// Requested. The result is awaited.
        Requested => "requested",
        /// No result in time. The order may still be executed.
        Unknown => "unknown",
        /// Partly filled. The order is not final.
        Partial => "partial",
        Filled => "filled",
        /// Taken in shadow mode.
        Shadowed => "shadowed",
        /// Reached before the mode became live. It counts as taken.
        Skipped => "skipped",
        /// Refused for good, or too often.
        Failed => "failed",
    }
}

impl RungState {
    /// Returns true if the rung, or a decision in this state, keeps its share of the position.
    pub const fn is_taken(self) -> bool {
        match self {
            Self::Requested | Self::Unknown | Self::Partial | Self::Filled | Self::Shadowed | Self::Skipped => true,
            Self::Armed | Self::Refused | Self::Failed => false,
        }
    }

    /// Returns true if an order may be at the exchange whose final result is not known.
    pub const fn is_in_flight(self) -> bool {
        match self {
            Self::Requested | Self::Unknown | Self::Partial => true,
            Self::Armed | Self::Refused | Self::Filled | Self::Shadowed | Self::Skipped | Self::Failed => false,
        }
    }
}

/// A rung with a state. Rungs that are not listed are armed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// [R]
    pub r: RMultiple,
    /// Fraction in the ladder that was in force when the rung last changed. [1]
    pub fraction: Ratio,
    /// Share that it has without a decision, because it was skipped when the mode became live. [1]
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
    /// Returns true if it was filled, at least in part.
    pub(super) fn is_sold(&self) -> bool {
        matches!(self.state, RungState::Filled | RungState::Partial)
    }
}

/// A decision, kept with its position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    pub decision_id: Box<str>,
    pub plan_id: Box<str>,
    pub rungs: Vec<RMultiple>,
    /// [1]
    pub share: Ratio,
    /// The share that each rung has, until an operator arms it again. [1]
    pub shares: Vec<Ratio>,
    /// [base]
    pub qty: Qty,
    pub attempt: u32,
    pub seq: u64,
    /// `stream/id` of the entry that caused it.
    pub cause: Box<str>,
    pub state: RungState,
    /// Time of the decision, or of its last outcome. [ms since 1970]
    pub last_outcome_ms: u64,
    /// Our request was withdrawn before it was sent.
    pub expired: bool,
    pub outcomes: Vec<OutcomeRecord>,
}

impl DecisionRecord {
    /// Returns true if an operator has armed a rung again, and a fill of this quantity shows that the order has sold
    /// more since then. That sale counts for the rung. [base]
    pub(super) fn is_rearmed_before(&self, qty: Qty) -> bool {
        let is_rearmed = self.outcomes.iter().any(|outcome| outcome.what == OutcomeKind::Rearmed);
        is_rearmed && self.outcomes.iter().all(|outcome| outcome.qty < qty)
    }
}

/// A result that belonged to a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    pub what: OutcomeKind,
    pub entry: EntryId,
    /// Filled by the order so far, where the outcome is a fill. [base]
    pub qty: Qty,
}

/// The kind of an outcome, as it is kept with its decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutcomeKind {
    Accepted,
    Filled,
    Refused,
    Expired,
    Adopted,
    Rearmed,
}

/// The effect of a result on a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionOutcome {
    Accepted,
    /// A quantity was filled. `is_final`: the order will fill no more.
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
