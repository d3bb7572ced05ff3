//! Histories and streams through the driver: decoder, engine and chain in one piece; look-ahead, pipeline, projection,
//! and the state at a past time.
//!
//! In reading order: [`driver`], [`look_ahead`], [`pipeline`], [`projection`], [`state_at`].

pub mod commits;
pub mod driver;
pub mod keys;
pub mod look_ahead;
pub mod pipeline;
pub mod projection;
pub mod sheet;
pub mod snapshots;
pub mod state_at;
