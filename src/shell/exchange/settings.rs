//! The address of the exchange, and the settings of its client.

use std::path::PathBuf;

use crate::codec::exchange::{Credentials, Venue};

/// Settings of the client. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    pub venue: &'static dyn Venue,
    /// `https://host`, without a path. Plain `http` is accepted for loopback only, because each call carries the key.
    pub base_url: String,
    /// Maximum age of a call's timestamp. [ms]
    pub recv_window_ms: u64,
    /// Time limit of a call, including its connection. [ms]
    pub timeout_ms: u64,
    /// The version of the call for positions, one of those that the venue names.
    pub position_version: &'static str,
    /// Certificates in PEM that are trusted in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// Name of the account; empty for the one without a name.
    pub account: Box<str>,
    /// Without credentials, only public calls are possible.
    pub credentials: Option<Credentials>,
    /// File that keeps waits and bans across restarts, shared by all processes that name it.
    pub state_file: Option<PathBuf>,
    /// Maximum weight that this process uses per minute. The exchange's own limit is per address, and other processes
    /// share the address. [weight]
    pub weight_per_min: u64,
    /// Consecutive failures that open the circuit. [1]
    pub circuit_failures: u32,
    /// Initial time for which an open circuit admits nothing. It doubles with each failed trial. [ms]
    pub circuit_open_ms: u64,
    /// Wait before a call that was refused for its key, address or permission is repeated. [ms]
    pub refused_wait_ms: u64,
}

impl Settings {
    /// Returns the defaults for a venue at a base URL.
    pub fn new(venue: &'static dyn Venue, base_url: &str) -> Self {
        Self {
            venue,
            base_url: base_url.to_owned(),
            recv_window_ms: 5_000,
            timeout_ms: 5_000,
            position_version: venue.terms().position_versions[0],
            ca_file: None,
            account: Box::default(),
            credentials: None,
            state_file: None,
            weight_per_min: 1_200,
            circuit_failures: 5,
            circuit_open_ms: 10_000,
            refused_wait_ms: 300_000,
        }
    }
}
