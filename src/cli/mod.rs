//! One file per command: wiring, no rules. `command_line` defines them all.

pub mod audit;
pub mod backfill;
pub mod cells;
pub mod chart;
mod command_line;
pub mod config;
pub mod console;
pub mod control;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod exit_code;
pub mod explain;
pub mod history;
pub mod import;
pub mod import_hashes;
pub mod journal;
mod json;
mod moment;
pub mod needs;
pub mod positions;
pub mod quarantine;
pub mod reconcile;
pub mod record;
pub mod replay;
pub mod schema;
pub mod snapshots;
pub mod stats;
pub mod status;
pub mod top;
pub mod whatif;

pub use command_line::{Cli, Command, GROUPS, command_line};
