//! The report of the running service, for people, for Prometheus, and for service managers.
//!
//! Promises: one plain value (`Report`) contains everything. Whether the service is healthy or ready, and which inputs
//! are silent, are pure functions of that value. So `/healthz`, `/metrics`, `harvester status` and the log can never
//! disagree.
//!
//! In reading order: `facts` (the value), `folded` (its part from the engine), `shared` (the handle through which `run`
//! publishes it, and the clocks), `health` (judgements), `watch` (begin and end of concerns), `metrics` (Prometheus).

mod facts;
mod folded;
mod health;
mod metrics;
mod shared;
mod watch;

pub use facts::{
    AccountRefusal, AccountTotals, Backfill, ExchangeWait, GapProof, InputReport, JournalReport, Lease, OutboxReport,
    Past, PolicyReport, PositionMode, Positions, Rates, RedisReport, Report, Role, RunTotals, StateChecksum,
};
pub use folded::has_no_accounts;
pub use health::{CLOCKS_APART_MS, Concern, Health, STUCK_AFTER_MS, alive, concerns, ready};
pub use metrics::{CONTENT_TYPE, text};
pub use shared::SharedReport;
pub use watch::{Change, Watch};
