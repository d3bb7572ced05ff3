//! Effects: one file or folder hides one part of the outside world. Siblings do not use each other, except for the lock
//! on a folder and the clock of the machine.

pub mod exchange;
pub mod folder_lock;
pub mod history;
pub mod journal;
pub mod process;
pub mod redis;
pub mod snapshots;
pub mod store;
pub mod systemd;
pub mod terminal;
pub mod uptime;
pub mod web;
