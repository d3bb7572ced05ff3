//! One file per command: wiring, no rules.

pub mod as_of;
pub mod exchange;
pub mod fetch;
pub mod flags;
pub mod found;
pub mod projection;
pub mod report;
pub mod server;
pub mod ticks;
pub mod web;

pub mod audit;
pub mod backfill;
pub mod config;
pub mod control;
pub mod demo;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod feed;
pub mod history;
pub mod import;
pub mod import_hashes;
pub mod journal;
pub mod needs;
pub mod positions;
pub mod quarantine;
pub mod reconcile;
pub mod record;
pub mod replay;
pub mod run;
pub mod schema;
pub mod snapshots;
pub mod stats;
pub mod status;
pub mod whatif;
