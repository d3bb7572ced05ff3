//! How the service tells how it is: log lines, report, judgements, metrics, alerts, pages.

mod alerts;
mod judgements;
mod lines;
mod pages;
mod well;

use well::{counts, well};
