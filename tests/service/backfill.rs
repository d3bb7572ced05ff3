//! Backfill of the night of the incident, with a real Redis server and a fake exchange.

mod accounts;
mod exchange;
mod gap;
mod groups;
mod hashes;
mod late;
mod machine;
mod night;
mod service;
mod trim;
