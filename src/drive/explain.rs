//! Explanations: one decision, or why there was none, as typed documents. `explain` and the console show them.
//!
//! In reading order: `document`, `scene` (a symbol at a time), `reasons` (one sentence per hold), `decision`, `origin`
//! (the entries that the numbers come from).

pub mod decision;
mod document;
mod origin;
mod reasons;
mod scene;

pub use document::{
    Decided, Emission, Emitted, Explanation, HoldSince, Holds, Later, Origin, Origins, Outcome, OutcomeEvent,
    OutcomeFill, PolicyInForce, Scene, Subject,
};
pub use origin::origins;
pub use scene::{AuditedState, arithmetic, fold, quantity_line};
