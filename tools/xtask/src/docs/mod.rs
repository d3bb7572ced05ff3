//! `docs`: the pages of `docs/reference/`, written from the code that they describe.
//!
//! In reading order: `task` starts the part that has the project built in; `pages` writes or compares the pages, one
//! file each: `command_line`, `metrics`, `configuration`.

mod task;

#[cfg(feature = "docs")]
mod command_line;
#[cfg(feature = "docs")]
mod configuration;
#[cfg(feature = "docs")]
mod metrics;
#[cfg(feature = "docs")]
mod pages;
/// The report of which everything is known, which the tests of the metrics use, too.
#[cfg(feature = "docs")]
#[path = "../../../../tests/console/telling/well.rs"]
mod well;

pub use task::{check, inner, run};
