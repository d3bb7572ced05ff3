//! What the store keeps when commits fail, processes are killed, power goes and files are damaged.

#[path = "../support/mod.rs"]
mod support;

mod child;
mod commits;
mod crashes;
mod damage;
mod rebuild;
mod replay_kills;
mod watchdog;
