//! The interfaces of operators: settings, addresses of Redis, control entries, quarantine, files of a deployment.

mod connections;
mod control;
mod deployment;
mod quarantine;
mod settings;
