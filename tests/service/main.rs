//! The program as a service: each test has a real `redis-server` or an exchange on loopback of its own.

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
mod losses;
mod operations;
mod pairs;
mod run;
mod start;
mod streams;
mod takeover;
mod tamper;
mod trust;
mod web;
