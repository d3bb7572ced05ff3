//! Why an entry could not be used.

use serde::{Deserialize, Serialize};

use super::ids::SymbolId;

/// Why an entry could not be used (docs/spec/streams.md, "Reasons of quarantine").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    BadJson,
    NotUtf8,
    TooLarge,
    NoSymbol,
    NoDirection,
    NoSide,
    NoPrice,
    NoQuantity,
    NoOutcome,
    BadNumber,
    OutOfRange,
    UnknownWord,
    UnknownEvent,
    TooLate,
    HedgeMode,
    TooManySymbols,
    /// A contract that is settled in coins.
    InverseContract,
    BadSignature,
}

impl Reason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::NoSymbol => "no_symbol",
            Self::NoDirection => "no_direction",
            Self::NoSide => "no_side",
            Self::NoPrice => "no_price",
            Self::NoQuantity => "no_quantity",
            Self::NoOutcome => "no_outcome",
            Self::BadNumber => "bad_number",
            Self::OutOfRange => "out_of_range",
            Self::UnknownWord => "unknown_word",
            Self::UnknownEvent => "unknown_event",
            Self::TooLate => "too_late",
            Self::HedgeMode => "hedge_mode",
            Self::TooManySymbols => "too_many_symbols",
            Self::InverseContract => "inverse_contract",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// An entry that goes to quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub reason: Reason,
    /// A result whose `executed` is plainly false. It moved no quantity.
    pub refusal: bool,
    /// A `kill.changed` or `policy.adopted`. If it cannot be read, it kills.
    pub kills: bool,
    /// A `history.gap`. If it cannot be read, it counts as a gap of every stream.
    pub gap: bool,
    /// Known symbols whose names are words of its text, where its own symbol cannot be read.
    pub named: Box<[SymbolId]>,
}

impl Unreadable {
    pub fn new(reason: Reason) -> Self {
        Self { reason, refusal: false, kills: false, gap: false, named: Box::default() }
    }
}
