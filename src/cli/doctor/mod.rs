//! `harvester doctor`: finds faults of a machine and its configuration.
//!
//! Promises: changes nothing. Each check reports its result and the next step.
//!
//! In reading order: `command`, `check` (one check), `settings`, `traps` (valid settings that do harm), `server`,
//! `cluster`, `cells` (their claims), `streams`, `prices`, `positions`, `exchange`, `outside` (the store, the clocks).

mod cells;
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
