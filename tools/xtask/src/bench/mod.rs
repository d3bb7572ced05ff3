//! `bench`: how fast a history is read, decoded, folded and replayed, and what limits it.
//!
//! In reading order: `task` builds for speed and starts itself again → `measure` (all passes) → `stages` (one pass)
//! and `memory`, on an `input` that is made from recorded entries; `report` prints. `live` measures the service on
//! Redis, `books` many accounts.

mod task;

#[cfg(feature = "bench")]
mod books;
#[cfg(feature = "bench")]
mod input;
#[cfg(feature = "bench")]
mod live;
#[cfg(feature = "bench")]
mod measure;
#[cfg(feature = "bench")]
mod memory;
#[cfg(feature = "bench")]
mod report;
#[cfg(feature = "bench")]
mod stages;

pub use task::{inner, run};
