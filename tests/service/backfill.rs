//! Filling the gaps of a night, with a real server of the streams and one that speaks as the exchange does.

mod accounts;
mod exchange;
mod gap;
mod groups;
mod hashes;
mod machine;
mod night;
mod service;
mod trim;
