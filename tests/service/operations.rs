//! The interfaces of operators: settings, addresses of Redis, control entries, quarantine, files of a deployment.

mod connections;
mod control;
mod deployment;
mod faulty_streams;
mod quarantine;
mod settings;
