//! Histories and streams through the engine: pipeline, look-ahead, projection, and the state at a past time.

pub mod pipeline;
pub mod projection;
pub mod sheet;
pub mod snapshots;
pub mod state_at;
