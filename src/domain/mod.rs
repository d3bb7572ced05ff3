//! The rules: pure, total, and the same in replay and live.
//!
//! Promises: no I/O, clock, randomness, async, float, hash map or logging in this folder.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::float_arithmetic)]

mod named;

pub(crate) use named::named;

pub mod units;

pub mod event;

pub mod book;
pub mod delivery;
pub mod engine;
pub mod exit;
