//! One book: the position of one account, symbol and side, its orders, rungs and plans, and how each kind of fact
//! changes it. `symbol` has the state that the books of a symbol share.

pub mod apply;
pub mod change;
pub mod counters;
pub mod execution;
mod explained;
pub mod hold_log;
pub mod intents;
pub mod order;
pub mod plans;
pub mod position;
pub mod rescale;
pub mod rung;
pub mod rungs;
pub mod state;
pub mod symbol;
pub mod totals;
mod trade_index;
pub mod view;
