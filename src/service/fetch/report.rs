//! What a tick came to.

use std::collections::BTreeMap;

use crate::codec::observe::Observation;
use crate::domain::engine::needs::Want;
use crate::domain::event::ids::EntryId;
use crate::shell::redis::ServerError;

/// Why a tick could not be done. Facts that were appended before are in the stream all the same.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Redis(#[from] ServerError),
}

/// An observation as it went to the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub id: EntryId,
    pub observation: Observation,
}

/// What one tick did, for logs, metrics and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Calls of the exchange that went out. [1]
    pub api_calls: u64,
    pub appended: Vec<Appended>,
    /// The exchange told all its positions in this tick.
    pub positions_answered: bool,
    /// Something was left over for the next tick.
    pub is_unfinished: bool,
    /// How long our own budget of weight wants us to wait before that. [ms]
    pub wait_ms: Option<u64>,
    /// Entries that were trimmed off the observation stream. [1]
    pub trimmed: u64,
    /// What each source answered where a symbol got nothing.
    pub misses: BTreeMap<(Box<str>, Want), Vec<String>>,
    /// Calls that came to nothing, and how far fills could be followed.
    pub notes: Vec<String>,
}

impl TickReport {
    pub(super) fn miss(&mut self, symbol: &str, want: Want, why: String) {
        let reasons = self.misses.entry((symbol.into(), want)).or_default();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }

    /// A symbol got what it wanted after all.
    pub(super) fn met(&mut self, symbol: &str, want: Want) {
        self.misses.remove(&(symbol.into(), want));
    }
}
