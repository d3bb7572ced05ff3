//! The rules: pure, total, and the same in replay and live.
//!
//! Promises: no I/O, clock, randomness, async, float, hash map or logging below this point.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::float_arithmetic)]

pub mod units;

pub mod ids;
pub mod streams;

pub mod event;
pub mod policy;

pub mod holds;
pub mod nonces;
pub mod order;
pub mod position;
pub mod rungs;
pub mod symbol;

pub mod holdback;

pub mod fold;
pub mod plans;

pub mod ahead;
pub mod chain;
pub mod decide;
pub mod execution;
pub mod facts;
pub mod quiet;
pub mod skips;
pub mod tally;

pub mod engine;

pub mod needs;
