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
    pub scene: Option<Scene>,
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

/// A symbol at the time that an engine has reached.
#[derive(Serialize)]
pub struct Scene {
    pub last_entry: String,
    pub at: String,
    /// The open position, else the one that was closed last.
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

/// The hold at a time after the evaluation, if it has become another one.
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

/// The last changes of the reason to hold.
#[derive(Serialize)]
pub struct Holds {
    pub holds: Vec<HoldSince>,
    /// Changes that are no longer kept. [1]
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
    /// `None` if the history does not have the decision.
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

/// By entry, the lines that it was read from.
pub type Origins = BTreeMap<String, Vec<Origin>>;

#[derive(Serialize)]
pub struct Origin {
    pub stream: String,
    pub shape: &'static str,
    /// The line itself, on request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
}
