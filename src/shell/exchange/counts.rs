//! Counts of calls and the state of the exchange, for reports, metrics and health.

use std::collections::BTreeMap;

use super::circuit::CircuitState;

/// Counts of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Calls that were sent. [1]
    pub sent: u64,
    /// Calls that were sent without a usable answer. [1]
    pub failed: u64,
    /// Calls that were not admitted: a wait, an open circuit, a spent budget. [1]
    pub held_back: u64,
    /// Weight of the calls that were sent. [weight]
    pub weight: u64,
}

/// The state of the exchange according to the last calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub circuit: CircuitState,
    /// Consecutive failures. [1]
    pub failures: u32,
    /// The status that demanded a wait, and the end of the wait. [ms since 1970]
    pub waiting: Option<(u16, u64)>,
    /// Weight that the address has used in this minute, according to the exchange. [weight]
    pub used_weight: Option<u64>,
    /// Server clock minus this machine's clock. [ms]
    pub clock_offset_ms: Option<i64>,
    /// Time of the last answer. [ms since 1970]
    pub answered_ms: Option<u64>,
    /// The last failure. The next answer clears it.
    pub failure: Option<String>,
    /// By the name of the call.
    pub calls: BTreeMap<&'static str, CallCount>,
}

impl Health {
    /// Returns the number of calls that were sent. [1]
    pub fn sent(&self) -> u64 {
        self.calls.values().map(|count| count.sent).sum()
    }

    /// Returns their total weight. [weight]
    pub fn weight(&self) -> u64 {
        self.calls.values().map(|count| count.weight).sum()
    }
}
