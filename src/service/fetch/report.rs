//! The report of a tick.

use std::collections::BTreeMap;

use crate::codec::observe::Observation;
use crate::domain::engine::needs::Want;
use crate::domain::event::ids::EntryId;
use crate::shell::redis::ServerError;

/// The reason why a tick failed. Facts that were appended before the failure stay in the stream.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Redis(#[from] ServerError),
}

/// An observation as it was appended to the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub id: EntryId,
    pub observation: Observation,
}

/// The work of one tick, for logs, metrics and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Calls to the exchange. [1]
    pub api_calls: u64,
    pub appended: Vec<Appended>,
    /// True if the exchange returned all positions of an account in this tick.
    pub positions_answered: bool,
    /// True if something was left over for the next tick.
    pub is_unfinished: bool,
    /// How long our own budget of weight requires us to wait before that. [ms]
    pub wait_ms: Option<u64>,
    /// Entries that were trimmed from the observation stream. [1]
    pub trimmed: u64,
    /// The answers of each source about a symbol or a book whose need was not met, by name.
    pub misses: BTreeMap<(Box<str>, Want), Vec<String>>,
    /// Failed calls, and how far fills could be followed.
    pub notes: Vec<String>,
}

impl TickReport {
    pub(super) fn miss(&mut self, subject: &str, want: Want, why: String) {
        let reasons = self.misses.entry((subject.into(), want)).or_default();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }

    /// Notes that a need was met after all.
    pub(super) fn met(&mut self, subject: &str, want: Want) {
        self.misses.remove(&(subject.into(), want));
    }
}
