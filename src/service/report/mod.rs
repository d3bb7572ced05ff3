//! The report of the running service, for people, for Prometheus, and for service managers.
//!
//! Promises: one plain value (`Report`) contains all of it. What is healthy, ready, silent or notable is a pure function
//! of that value, so that `/healthz`, `/metrics`, `harvester status` and the log can never disagree.
//!
//! In reading order: `facts` (the value), `folded` (its part from the engine), `shared` (the handle through which `run`
//! publishes it, and the clocks), `health` (judgements), `watch` (concerns that begin and end), `metrics` (Prometheus).

mod facts;
mod folded;
mod health;
mod metrics;
mod shared;
mod watch;

pub use facts::{
    AccountRefusal, AccountTotals, Backfill, GapProof, InputReport, JournalReport, Lease, OutboxReport, Past,
    PolicyReport, PositionMode, Positions, Rates, RedisReport, Report, Role, RunTotals, StateChecksum,
};
pub use health::{CLOCKS_APART_MS, Concern, Health, STUCK_AFTER_MS, alive, concerns, ready};
pub use metrics::{CONTENT_TYPE, text};
pub use shared::SharedReport;
pub use watch::{Change, Watch};
