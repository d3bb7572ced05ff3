//! Explanations: one decision, or why there was none, as typed documents. `explain` and the console show them.
//!
//! In reading order: `document`, `position_at_time` (a symbol at a time), `reasons` (one sentence per hold), `decision`, `origin`
//! (the entries that the numbers come from).

pub mod decision;
mod document;
mod origin;
mod position_at_time;
mod reasons;

pub use document::{
    Decided, Emission, Emitted, Explanation, HoldSince, Holds, Later, Origin, Origins, Outcome, OutcomeEvent,
    OutcomeFill, PolicyInForce, PositionAtTime, Subject,
};
pub use origin::origins;
pub use position_at_time::{AuditedState, arithmetic, fold, quantity_line};
