//! Commands and their screens, log lines, pages and alerts, states of the past, and the example of a producer.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod audit_trust;
mod browser;
mod live;
mod observability;
mod pages;
mod producer;
mod refused;
mod story;
mod time;
mod top;

/// Returns the bundled night of 4 February.
fn night() -> std::path::PathBuf {
    support::root().join("replay/nights/incident-2026-02-04/events.jsonl")
}
