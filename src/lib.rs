//! From the history of a futures trading system to trustworthy positions and harvest decisions.
//!
//! Modules in reading order; an arrow may skip downward, never point up:
//! `cli` (one file per command) → `service` (long-lived processes) → `drive` (the engine driven by histories and streams) →
//! `shell` (effects) → `codec` (bytes ↔ domain) → `domain` (pure rules).

pub mod cli;
pub mod codec;
pub mod config;
pub mod domain;
pub mod drive;
pub mod service;
pub mod shell;
