//! Long-lived processes: the service, the feeds, the fetcher, and their reports.

pub mod console;
pub mod exchange;
pub mod feed;
pub mod fetch;
pub mod operator_log;
pub mod pages;
pub mod report;
mod retry_delay;
pub mod run;
mod said;
pub mod server;
pub mod write_back;
