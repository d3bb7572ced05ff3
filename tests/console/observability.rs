//! Observability of the service: log lines, report, concerns, metrics, alerts, pages.

mod alerts;
mod concerns;
mod lines;
mod pages;
mod well;

use well::{counts, well};
