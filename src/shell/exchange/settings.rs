//! Where the exchange is, and how it is spoken to.

use std::path::PathBuf;

use super::credentials::Credentials;

/// Which `positionRisk` is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PositionRiskVersion {
    /// Lists every symbol, also empty ones.
    #[default]
    V2,
    /// Lists symbols with a position or open orders only.
    V3,
}

/// Settings of the client. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host`, without a path. Plain `http` is taken for loopback only: the key goes with each call.
    pub base_url: String,
    /// How long after its timestamp a call is still taken. [ms]
    pub recv_window_ms: u64,
    /// How long a call may take, its connection included. [ms]
    pub timeout_ms: u64,
    pub position_risk: PositionRiskVersion,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Without them only what is public can be asked.
    pub credentials: Option<Credentials>,
    /// Where waits and bans are remembered across restarts, for all processes that share it.
    pub state_file: Option<PathBuf>,
    /// Weight that this process spends in a minute at most; the exchange's own limit is per address, and others
    /// share the address. [weight]
    pub weight_per_min: u64,
    /// Failures in a row that open the circuit. [1]
    pub circuit_failures: u32,
    /// How long an open circuit lets nothing through, at first; doubled with each trial that fails. [ms]
    pub circuit_open_ms: u64,
    /// Before a call that was refused for its key, address or permission is made again. [ms]
    pub refused_wait_ms: u64,
}

impl Settings {
    /// The defaults for an exchange at a base URL.
    pub fn new(base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            recv_window_ms: 5_000,
            timeout_ms: 5_000,
            position_risk: PositionRiskVersion::default(),
            ca_file: None,
            credentials: None,
            state_file: None,
            weight_per_min: 1_200,
            circuit_failures: 5,
            circuit_open_ms: 10_000,
            refused_wait_ms: 300_000,
        }
    }
}
