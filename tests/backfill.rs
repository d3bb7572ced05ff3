//! Filling the gaps of a night, with a real server of the streams and one that speaks as the exchange does.

#[path = "support/exchange.rs"]
mod exchange_server;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "support/service.rs"]
mod running;
mod support;

#[path = "backfill/night.rs"]
mod night;

#[path = "backfill/exchange.rs"]
mod exchange;
#[path = "backfill/gap.rs"]
mod gap;
#[path = "backfill/groups.rs"]
mod groups;
#[path = "backfill/hashes.rs"]
mod hashes;

#[path = "backfill/machine.rs"]
mod machine;

#[path = "backfill/service.rs"]
mod service;

#[path = "backfill/trim.rs"]
mod trim;
