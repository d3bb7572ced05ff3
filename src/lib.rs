//! From the history of a futures trading system to trustworthy positions and harvest decisions.
//!
//! Modules in reading order; an arrow may skip downward, never point up:
//! `app` (one file per command) → `shell` (effects) → `codec` (bytes ↔ domain) → `domain` (pure rules).

pub mod app;
pub mod codec;
pub mod config;
pub mod domain;
pub mod shell;
