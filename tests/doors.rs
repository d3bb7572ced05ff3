//! What outsiders may do to the program: connections, bytes, names, files. Nothing that they send, write or hold open ends it,
//! takes what it needs, or speaks in its name.

#[path = "doors/doctor.rs"]
mod doctor;
#[path = "doors/files.rs"]
mod files;
#[path = "doors/names.rs"]
mod names;
#[path = "doors/nesting.rs"]
mod nesting;
#[path = "doors/pages.rs"]
mod pages;
#[path = "support/redis.rs"]
mod redis_server;
mod support;
