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
    OutcomeFill, PolicyInForce, PositionAtTime, Subject, name_of_fill,
};
pub use origin::origins;
pub use position_at_time::{AuditedState, UnknownSymbol, arithmetic, fold, quantity_line};

use super::keys::KeyError;
use super::pipeline::PassError;
use super::projection::{ProjectionError, ReadError};
use super::scope::ScopesDiffer;
use super::stop::Stopped;
use crate::shell::history::HistoryError;

/// An explanation that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    UnknownSymbol(#[from] UnknownSymbol),
    #[error("no decision of the history has an id that begins with {wanted}: give a longer history, or the journal")]
    NotInHistory { wanted: String },
    #[error("no decision of the store has an id that begins with {wanted}: give a history, or the journal")]
    NotInStore { wanted: String },
    #[error("{wanted} is the beginning of several decision ids, {one} and {other}: give more digits")]
    Several { wanted: String, one: String, other: String },
    #[error(transparent)]
    Scope(#[from] ScopesDiffer),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Store(#[from] ProjectionError),
    #[error(transparent)]
    Rows(#[from] ReadError),
}
