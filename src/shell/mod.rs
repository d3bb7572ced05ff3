//! Effects: one file or folder hides one outside thing, and siblings do not know each other.

pub mod exchange;
pub mod history;
pub mod journal;
pub mod process;
pub mod redis;
pub mod snapshots;
pub mod store;
pub mod systemd;
pub mod terminal;
pub mod web;
