//! The store when commits fail, processes are killed, power is cut and files are damaged.

#[path = "../support/mod.rs"]
mod support;

mod child;
mod commits;
mod crashes;
mod damage;
mod rebuild;
mod replay_kills;
mod watchdog;
