//! Errors of calls. None of them is an answer: a quantity can never be read from an error.

use std::path::PathBuf;

use crate::codec::exchange::{Call, Cause};
use crate::codec::time;

/// The reason why the client could not be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "exchange: {base_url:?} is not the address of an exchange (want https://host, or http:// for loopback only)"
    )]
    BaseUrl { base_url: String },
    #[error("exchange: certificates {} cannot be read: {reason}", path.display())]
    CaFile { path: PathBuf, reason: String },
    #[error("exchange: this system has no certificates to trust, and no ca_file is set")]
    NoCertificates,
    #[error("exchange: no secure connections: {0}")]
    Tls(String),
}

/// The reason why a call has no answer. It names the call, the status, and the exchange's own code and message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not sent.
    #[error("{call}: no credentials: set key and secret of the account")]
    NoCredentials { call: &'static Call },
    /// Not sent: the exchange demanded a wait, now or before a restart.
    #[error("{call}: not sent, the exchange answered {status} and wants no call before {}", time::iso(*until_ms))]
    Waiting { call: &'static Call, status: u16, until_ms: u64, wait_ms: u64 },
    /// Not sent: there were too many consecutive failures.
    #[error("{call}: not sent, the circuit is open after {failures} failures in a row, next trial in {wait_ms} ms")]
    CircuitOpen { call: &'static Call, failures: u32, wait_ms: u64 },
    /// Not sent: the exchange recently refused this call for its key, address or permission.
    #[error(
        "{call}: not sent, the exchange refused key, address or permission (code {code}); asked again in {} s",
        wait_ms.div_ceil(1_000)
    )]
    HeldOff { call: &'static Call, code: i64, wait_ms: u64 },
    /// Not sent: the weight of this minute is spent.
    #[error("{call}: not sent, the weight of this minute is spent, {} is free in {wait_ms} ms", call.weight)]
    WeightSpent { call: &'static Call, wait_ms: u64 },
    /// Too many calls.
    #[error("{call}: too many calls ({status}), next in {wait_ms} ms")]
    TooMany { call: &'static Call, status: u16, wait_ms: u64 },
    /// The address is blocked, for its behaviour or its region.
    #[error("{call}: shut out ({status}) until {}", time::iso(*until_ms))]
    Banned { call: &'static Call, status: u16, until_ms: u64, wait_ms: u64 },
    /// The exchange understood the call and refused it; nothing was executed.
    #[error("{call}: refused ({status}, code {code}): {message}")]
    Refused { call: &'static Call, status: u16, code: i64, message: String, cause: Cause },
    /// No connection: nothing was sent.
    #[error("{call}: the exchange cannot be reached: {what}")]
    Unreachable { call: &'static Call, what: String },
    /// Sent, with an unknown outcome: 5xx, a time-out, a broken connection.
    #[error("{call}: outcome unknown: {what}")]
    OutcomeUnknown { call: &'static Call, what: String },
    /// The answer does not have the exchange's format.
    #[error("{call}: the answer ({status}) cannot be read: {what}")]
    Unreadable { call: &'static Call, status: u16, what: String },
}

impl CallError {
    pub fn call(&self) -> &'static Call {
        match self {
            Self::NoCredentials { call }
            | Self::Waiting { call, .. }
            | Self::CircuitOpen { call, .. }
            | Self::HeldOff { call, .. }
            | Self::WeightSpent { call, .. }
            | Self::TooMany { call, .. }
            | Self::Banned { call, .. }
            | Self::Refused { call, .. }
            | Self::Unreachable { call, .. }
            | Self::OutcomeUnknown { call, .. }
            | Self::Unreadable { call, .. } => call,
        }
    }

    /// Returns true if the exchange could not be reached. Returns false if it answered with a refusal.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::OutcomeUnknown { .. }
            | Self::CircuitOpen { .. }
            | Self::Waiting { .. }
            | Self::TooMany { .. }
            | Self::Banned { .. } => true,
            Self::NoCredentials { .. }
            | Self::HeldOff { .. }
            | Self::WeightSpent { .. }
            | Self::Refused { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Returns true if the call was sent.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::NoCredentials { .. }
            | Self::Waiting { .. }
            | Self::CircuitOpen { .. }
            | Self::HeldOff { .. }
            | Self::WeightSpent { .. } => false,
            Self::TooMany { .. }
            | Self::Banned { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Unreadable { .. } => true,
        }
    }

    /// Returns true if no call to the address is sent now, whatever account it is for.
    pub fn holds_all(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::CircuitOpen { .. } | Self::WeightSpent { .. })
    }

    /// Returns the minimum wait before the next attempt, if the exchange or our own budget demands one. [ms]
    pub fn wait_ms(&self) -> Option<u64> {
        match self {
            Self::Waiting { wait_ms, .. }
            | Self::CircuitOpen { wait_ms, .. }
            | Self::HeldOff { wait_ms, .. }
            | Self::WeightSpent { wait_ms, .. }
            | Self::TooMany { wait_ms, .. }
            | Self::Banned { wait_ms, .. } => Some(*wait_ms),
            Self::NoCredentials { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// Returns true if the credentials are the problem: none, an unknown key, a bad signature, an address that is not
    /// allowed.
    pub fn is_about_credentials(&self) -> bool {
        match self {
            Self::NoCredentials { .. } | Self::HeldOff { .. } => true,
            Self::Refused { cause, .. } => matches!(cause, Cause::Credentials | Cause::Signature),
            _ => false,
        }
    }

    /// Returns true if the exchange has no such symbol: it was delisted, or never existed.
    pub fn is_no_symbol(&self) -> bool {
        matches!(self, Self::Refused { cause: Cause::NoSymbol, .. })
    }
    /// Returns true if the key of the account's socket has expired.
    pub fn is_no_key(&self) -> bool {
        matches!(self, Self::Refused { cause: Cause::NoKey, .. })
    }
}
