//! The exit rules: whether a position may be harvested now, and how much of it.
//!
//! Promises: a pure function of policy, position and price; the first reason to hold, in the order of the contract.
//!
//! In reading order: `policy` (configured rules), `hold` (the reasons), `valuation` (the numbers), `guards` (checks
//! before the numbers), `ladder` (rungs, share and quantity), `flag` (remarks), `stability` (for the shortcut).

mod flag;
mod guards;
mod hold;
mod ladder;
pub mod policy;
mod stability;
mod valuation;

pub use flag::{Flag, flags};
pub use guards::{EvalContext, Hindrance, RATE_WINDOW_MS, check_guards};
pub use hold::{Hold, HoldClass, HoldSeverity};
pub use ladder::{Choice, ShareBase, reached, select_rungs, share_base};
pub use stability::{Stability, stability};
pub use valuation::{EntryTerms, Gain, Risk, Valuation, atr_value, gain, price_at, risk};
