//! What operators touch: settings, addresses of Redis, control entries, quarantine, files of a deployment.

#[path = "operations/connections.rs"]
mod connections;
#[path = "operations/control.rs"]
mod control;
#[path = "operations/deployment.rs"]
mod deployment;
#[path = "operations/quarantine.rs"]
mod quarantine;
#[path = "support/redis.rs"]
mod redis_server;
#[path = "operations/settings.rs"]
mod settings;
mod support;
