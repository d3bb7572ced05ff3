//! Why an entry could not be used.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, SymbolId};

use crate::domain::named;

named! {
    /// Why an entry could not be used (docs/spec/streams.md, "Reasons of quarantine").
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Reason {
        BadJson => "bad_json",
        NotUtf8 => "not_utf8",
        TooLarge => "too_large",
        NoSymbol => "no_symbol",
        NoDirection => "no_direction",
        NoSide => "no_side",
        NoPrice => "no_price",
        NoQuantity => "no_quantity",
        NoOutcome => "no_outcome",
        BadNumber => "bad_number",
        OutOfRange => "out_of_range",
        UnknownWord => "unknown_word",
        UnknownEvent => "unknown_event",
        TooLate => "too_late",
        NoPositionSide => "no_position_side",
        UnknownAccount => "unknown_account",
        TooManySymbols => "too_many_symbols",
        /// A contract that is settled in coins.
        InverseContract => "inverse_contract",
        BadSignature => "bad_signature",
    }
}

/// An entry that goes to quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub reason: Reason,
    /// A result whose `executed` is plainly false. It moved no quantity.
    pub refusal: bool,
    /// An observation that is, or may be, a trade or a position of the exchange.
    pub moves: bool,
    /// A `kill.changed` or `policy.adopted`. If it cannot be read, it kills.
    pub kills: bool,
    /// A `history.gap`. If it cannot be read, it counts as a gap of every stream.
    pub gap: bool,
    /// Known symbols whose names are words of its text, where its own symbol cannot be read.
    pub named: Box<[SymbolId]>,
    /// Its account cannot be read, so it may concern every account.
    pub any_account: bool,
    /// Of an entry without a position side: the account whose books it may concern.
    pub sideless_in: Option<AccountId>,
    /// Its account is not configured.
    pub is_unlisted: bool,
}

impl Unreadable {
    pub fn new(reason: Reason) -> Self {
        Self {
            reason,
            refusal: false,
            moves: false,
            kills: false,
            gap: false,
            named: Box::default(),
            any_account: false,
            sideless_in: None,
            is_unlisted: false,
        }
    }

    /// Returns an entry for which no position side can be found in a hedged account.
    pub fn sideless(account: AccountId) -> Self {
        Self { sideless_in: Some(account), ..Self::new(Reason::NoPositionSide) }
    }
}
