//! `harvester doctor`: finds what is wrong on a machine.
//!
//! Promises: nothing is changed. Each check reports its result and what to do next.
//!
//! In reading order: `command`, `check` (what a check is), `settings`, `traps` (settings
//! that are valid and do harm), `server`, `cluster`, `streams`, `prices`, `positions`,
//! `exchange`, `outside` (the store, the clocks).

mod check;
mod cluster;
mod command;
mod exchange;
mod outside;
mod positions;
mod prices;
mod server;
mod settings;
mod streams;
mod traps;

pub use command::{Args, run};
