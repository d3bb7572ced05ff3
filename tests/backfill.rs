//! Filling the gaps of a night, with a real server of the streams and one that speaks as the exchange does.

#[path = "support/redis.rs"]
mod redis_server;
mod support;

#[path = "backfill/night.rs"]
mod night;

#[path = "backfill/hashes.rs"]
mod hashes;
