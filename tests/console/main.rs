//! Commands and their screens, log lines, pages and alerts, looking back, and the example of a producer.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod browser;
mod live;
mod pages;
mod producer;
mod refused;
mod telling;
mod time;
mod top;
