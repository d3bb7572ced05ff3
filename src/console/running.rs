//! The report of a running service, for the page *Now*. The service fills it from the report of `/status`.

use std::sync::Arc;

/// Asks the service what it reports now.
pub type Running = Arc<dyn Fn() -> Present + Send + Sync>;

/// A service as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Present {
    /// `leader`, `standby`, …
    pub role: &'static str,
    pub build: String,
    /// Its address on its own machine: `http://127.0.0.1:9464`.
    pub url: String,
    pub consumer: String,
    pub group: String,
    pub cell: Option<String>,
    pub uptime_ms: u64,
    /// The clock of the service. [ms since 1970]
    pub now_ms: u64,
    /// Mode of the policy in force, and of the configuration.
    pub mode: String,
    pub mode_configured: String,
    /// Hash of the policy in force, and of the configured one.
    pub policy: String,
    pub policy_configured: String,
    pub is_policy_pending: bool,
    pub killed: bool,
    /// The instance that may emit; `None` if there is none or it is not known.
    pub holder: Option<String>,
    pub fencing_token: u64,
    pub lease_left_ms: Option<u64>,
    pub is_connected: bool,
    /// Entries per second that were folded, over the last seconds. [1/s]
    pub applied_rate: f64,
    /// Decisions that are not sent yet. [1]
    pub outbox: u64,
    pub outbox_oldest_ms: Option<u64>,
    pub inputs: Vec<PresentInput>,
    /// Accounts with a name: name, open positions, and how many of them can be evaluated.
    pub accounts: Vec<(String, u64, u64)>,
    pub findings: Vec<Finding>,
}

/// One input stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresentInput {
    pub stream: String,
    /// Entries that are still to be consumed, by our own count. [1]
    pub lag: Option<u64>,
    pub lag_ms: Option<u64>,
    pub age_ms: Option<u64>,
    /// Entries that were delivered and are not acknowledged. [1]
    pub pending: u64,
    pub is_silent: bool,
    pub has_fault: bool,
}

/// Something of `/status` that needs an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub about: Option<String>,
    pub says: String,
}
