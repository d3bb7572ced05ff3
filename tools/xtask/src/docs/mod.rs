//! `docs`: the pages of `docs/reference/`, written from the code that they describe.
//!
//! In reading order: `task` runs the test that compares or writes the `pages`, one file each: `command_line`,
//! `metrics`, `configuration`.

mod task;

#[cfg(test)]
mod command_line;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod pages;
/// The report in which everything is known, which the tests of the metrics use as well.
#[cfg(test)]
#[path = "../../../../tests/console/observability/well.rs"]
mod well;

pub use task::run;
