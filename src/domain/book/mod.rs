//! One book: the position of one symbol, its orders, rungs and plans, and how each kind of fact changes it.

pub mod apply;
pub mod change;
pub mod counters;
pub mod execution;
mod explained;
pub mod hold_log;
pub mod order;
pub mod plans;
pub mod position;
pub mod rescale;
pub mod rung;
pub mod rungs;
pub mod symbol;
pub mod totals;
