//! What was asked, and how the exchange is: for reports, metrics and health.

use std::collections::BTreeMap;

use super::call::Call;
use super::circuit::CircuitState;

/// How often a call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCount {
    /// Went out. [1]
    pub sent: u64,
    /// Went out and brought no answer that could be used. [1]
    pub failed: u64,
    /// Was not let out: a wait, an open circuit, a spent budget. [1]
    pub held_back: u64,
    /// What went out, by weight. [weight]
    pub weight: u64,
}

/// How the exchange is, as far as the last calls can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub circuit: CircuitState,
    /// Failures in a row. [1]
    pub failures: u32,
    /// The status that told us to wait, and until when. [ms since 1970]
    pub waiting: Option<(u16, u64)>,
    /// What the exchange said that the address has used in this minute. [weight]
    pub used_weight: Option<u64>,
    /// The server's clock less this machine's. [ms]
    pub clock_offset_ms: Option<i64>,
    /// When a call was last answered. [ms since 1970]
    pub answered_ms: Option<u64>,
    /// The last failure, until a call is answered.
    pub failure: Option<String>,
    pub calls: BTreeMap<Call, CallCount>,
}

impl Health {
    /// Calls that went out. [1]
    pub fn sent(&self) -> u64 {
        self.calls.values().map(|count| count.sent).sum()
    }

    /// What they weighed. [weight]
    pub fn weight(&self) -> u64 {
        self.calls.values().map(|count| count.weight).sum()
    }
}
