//! An explanation as a document.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::codec::payload::Payload;
use crate::codec::view::PositionView;

/// The document of `--json`.
#[derive(Serialize)]
pub struct Explanation {
    /// The name of the book: that of its symbol, with account and position side where there is one.
    pub symbol: String,
    pub arithmetic: Vec<String>,
    /// `None` for a decision of a store, which has no earlier state.
    #[serde(flatten)]
    pub at_time: Option<PositionAtTime>,
    #[serde(flatten)]
    pub subject: Subject,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Origins>,
}

/// The thing that is explained.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Subject {
    Symbol {
        /// The time that was asked for.
        asked: Option<String>,
        later: Option<Later>,
    },
    Decision(Decided),
}

/// A symbol in the present state of an engine.
#[derive(Serialize)]
pub struct PositionAtTime {
    pub last_entry: String,
    pub at: String,
    /// The open position, or else the one that was closed last.
    pub position: Option<PositionView>,
    pub hold: Option<&'static str>,
    pub why: Vec<String>,
    pub policy: PolicyInForce,
    /// Open positions of other books, by hold. [1]
    pub others: BTreeMap<&'static str, u64>,
    /// `None` if there is no position.
    #[serde(flatten)]
    pub holds: Option<Holds>,
}

/// The hold at a time after the evaluation, if another hold applies by then.
#[derive(Serialize)]
pub struct Later {
    pub at: String,
    pub hold: Option<&'static str>,
    pub why: Vec<String>,
}

#[derive(Serialize)]
pub struct PolicyInForce {
    pub hash: String,
    pub mode: &'static str,
    pub adopted: bool,
    /// The entry that adopted it, if it is known.
    pub since: Option<String>,
    pub min_r: String,
    pub cost_bps: String,
}

/// The last changes of the hold.
#[derive(Serialize)]
pub struct Holds {
    pub holds: Vec<HoldSince>,
    /// Number of changes that were dropped. [1]
    pub holds_dropped: u64,
}

#[derive(Serialize)]
pub struct HoldSince {
    pub since: String,
    pub time: String,
    pub hold: &'static str,
}

/// A decision, how it was emitted, and its result.
#[derive(Serialize)]
pub struct Decided {
    pub decision: Payload,
    /// `None` for a decision of a store.
    #[serde(flatten)]
    pub emission: Option<Emission>,
    pub outcome: Option<Outcome>,
}

#[derive(Serialize)]
pub struct Emission {
    /// `None` if the history does not contain the decision.
    pub emitted: Option<Emitted>,
}

#[derive(Serialize)]
pub struct Emitted {
    pub entry: String,
    pub seq: u64,
    pub hash: String,
    /// `None` if the rules make no such decision.
    pub recomputed_alike: Option<bool>,
}

#[derive(Serialize)]
pub struct Outcome {
    pub state: &'static str,
    pub expired: bool,
    pub plan_id: String,
    pub events: Vec<OutcomeEvent>,
}

#[derive(Serialize)]
pub struct OutcomeEvent {
    pub what: &'static str,
    pub entry: String,
    pub time: String,
    #[serde(flatten)]
    pub fill: Option<OutcomeFill>,
}

#[derive(Serialize)]
pub struct OutcomeFill {
    pub qty: String,
    pub price: Option<String>,
}

/// The lines of each entry. Lines of several streams can have the same entry id.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub struct Origins(pub BTreeMap<String, Vec<Origin>>);

impl Origins {
    /// Returns the lines that supplied a field, by its entry and its name.
    pub fn of_field(&self, entry: &str, name: &str) -> impl Iterator<Item = &Origin> {
        let of_entry = self.0.get(entry).into_iter().flatten();
        of_entry.filter(move |origin| origin.fields.iter().any(|field| field == name))
    }
}

/// Returns the name of a fill by its index.
pub fn name_of_fill(at: usize) -> String {
    format!("fill {}", at + 1)
}

#[derive(Serialize)]
pub struct Origin {
    pub stream: String,
    pub shape: &'static str,
    /// The fields of the position that it supplied; a fill as `fill 1`, in the order of the fills.
    pub fields: Vec<String>,
    /// The line itself, on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}
