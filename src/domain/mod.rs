//! The rules: pure, total, and the same in replay and live.
//!
//! Promises: no I/O, clock, randomness, async, float, hash map or logging below this point.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod ids;
pub mod streams;
