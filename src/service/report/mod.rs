//! What the running service says about itself, for people, for Prometheus, and for whoever restarts it.
//!
//! Promises: one plain value (`Report`) holds all of it; what is healthy, ready, silent or remarkable is a pure function
//! of that value, so that `/healthz`, `/metrics`, `harvester status` and the log can never disagree.
//!
//! In reading order: `facts` (the value), `folded` (what the engine knows of it), `shared` (the handle through which `run`
//! publishes it, and the clocks), `health` (judgements), `watch` (what came up and what is over), `metrics` (Prometheus).

mod facts;
mod folded;
mod health;
mod metrics;
mod shared;
mod watch;

pub use facts::{
    Backfill, GapProof, InputFault, InputReport, JournalReport, Lease, OutboxReport, Past, PolicyReport, Positions,
    Rates, RedisReport, Report, Role, StateChecksum, Totals,
};
pub use health::{Concern, Health, STANDING_AFTER_MS, alive, concerns, ready};
pub use metrics::{CONTENT_TYPE, text};
pub use shared::SharedReport;
pub use watch::{Change, Watch};
