//! The program as a service: each test has its own real `redis-server` or fake exchange on loopback.

#[path = "../support/mod.rs"]
mod support;

mod adversary;
mod backfill;
mod cells;
mod cluster;
mod doors;
mod emission;
mod exchange_client;
mod failures;
mod feeds;
mod full_disk;
mod import;
mod kills;
mod leaderless;
mod log_lines;
mod losses;
mod operations;
mod pairs;
mod paused;
mod renamed_stream;
mod run;
mod silence;
mod start;
mod streams;
mod takeover;
mod takeover_again;
mod tamper;
mod trust;
mod web;
