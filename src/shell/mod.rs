//! shell
pub mod history;
