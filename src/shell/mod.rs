//! shell

pub mod store;
