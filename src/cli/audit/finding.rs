//! The findings of an audit. Each is a document, and some lines for people.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::codec::chain::{Duplicated, Link, Tampered};
use crate::codec::payload::{Payload, PayloadValue};
use crate::domain::book::state::{account_of_position, book_of_position};

/// A fault of the chain, the journal or the history.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    what: &'static str,
    /// Number of the decision, if it is about one. [1]
    seq: Option<u64>,
    entry: Option<String>,
    why: String,
}

/// One decision in several entries.
#[derive(Debug, Serialize)]
pub struct Copies {
    decision_id: String,
    entries: Vec<String>,
}

/// A finding about a decision, or, without one, a reason why something was not seen.
#[derive(Debug, Serialize)]
pub struct Finding {
    #[serde(flatten)]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Decision {
    Emitted(Emitted),
    Differing(Differing),
    Recomputed(Recomputed),
}

/// A decision that was emitted, as its entry has it.
#[derive(Debug, Serialize)]
struct Emitted {
    decision_id: String,
    symbol: String,
    position_id: String,
    cause: String,
    seq: u64,
    entry: String,
}

/// An emitted decision that the rules make with other content.
#[derive(Debug, Serialize)]
struct Differing {
    #[serde(flatten)]
    emitted: Emitted,
    /// Its rules version.
    engine: String,
    fields: BTreeMap<String, Both>,
}

/// The two values of a field; null where it is absent.
#[derive(Debug, Serialize)]
pub struct Both {
    pub emitted: Option<PayloadValue>,
    pub recomputed: Option<PayloadValue>,
}

/// A decision of the rules: a part of its payload.
#[derive(Debug, Serialize)]
struct Recomputed {
    decision_id: String,
    symbol: String,
    position_id: String,
    side: String,
    qty: String,
    rungs: Vec<String>,
    attempt: u64,
    r_net: String,
    cause: String,
}

impl Fault {
    /// Creates a fault of something else than an entry.
    pub fn of(what: &'static str, why: String) -> Self {
        Self { what, seq: None, entry: None, why }
    }

    pub fn at(what: &'static str, seq: Option<u64>, entry: impl ToString, why: String) -> Self {
        Self { what, seq, entry: Some(entry.to_string()), why }
    }

    pub fn lines(&self) -> Vec<String> {
        let seq = self.seq.map(|seq| format!("seq {seq}"));
        let entry = self.entry.as_ref().map(|entry| format!("entry {entry}"));
        let parts = [self.what.to_owned()].into_iter().chain(seq).chain(entry).collect();
        vec![line(parts, Some(&self.why))]
    }
}

impl From<&Tampered> for Fault {
    fn from(fault: &Tampered) -> Self {
        let entry = fault.entry.map(|id| id.to_string());
        Self { what: fault.what.name(), seq: fault.seq, entry, why: fault.why.clone() }
    }
}

impl Copies {
    pub fn lines(&self) -> Vec<String> {
        let Self { decision_id, entries } = self;
        vec![line(vec![format!("entries {}", entries.join(",")), format!("decision_id {decision_id}")], None)]
    }
}

impl From<&Duplicated> for Copies {
    fn from(copy: &Duplicated) -> Self {
        let entries = copy.entries.iter().map(ToString::to_string).collect();
        Self { decision_id: copy.decision_id.clone(), entries }
    }
}

impl Finding {
    pub fn differs(link: &Link, fields: BTreeMap<String, Both>) -> Self {
        let differing = Differing { emitted: Emitted::of(link), engine: link.text("engine").to_owned(), fields };
        Self { decision: Some(Decision::Differing(differing)), why: None }
    }

    pub fn emitted(link: &Link, why: impl Into<String>) -> Self {
        Self { decision: Some(Decision::Emitted(Emitted::of(link))), why: Some(why.into()) }
    }

    /// Creates the finding that a decision was not emitted, from its payload.
    pub fn missing(payload: &Payload) -> Self {
        Self { decision: Some(Decision::Recomputed(Recomputed::of(payload))), why: None }
    }

    pub fn unseen(why: impl Into<String>) -> Self {
        Self { decision: None, why: Some(why.into()) }
    }

    pub fn because(self, why: &str) -> Self {
        Self { why: Some(why.to_owned()), ..self }
    }

    /// Returns the position of its decision; empty if there is none.
    pub fn position_id(&self) -> &str {
        match &self.decision {
            Some(Decision::Emitted(emitted) | Decision::Differing(Differing { emitted, .. })) => &emitted.position_id,
            Some(Decision::Recomputed(recomputed)) => &recomputed.position_id,
            None => "",
        }
    }

    /// Returns the account of its decision, empty for the one without a name; `None` if it is about no decision.
    pub fn account(&self) -> Option<&str> {
        self.decision.as_ref().map(|_| account_of_position(self.position_id()))
    }

    pub fn lines(&self) -> Vec<String> {
        let (parts, fields) = match &self.decision {
            None => (Vec::new(), None),
            Some(Decision::Emitted(emitted)) => (emitted.parts(), None),
            Some(Decision::Differing(differing)) => (differing.emitted.parts(), Some(&differing.fields)),
            Some(Decision::Recomputed(recomputed)) => (recomputed.parts(), None),
        };
        let value = |value: &Option<PayloadValue>| value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let fields = fields.into_iter().flatten().map(|(field, Both { emitted, recomputed })| {
            format!("      {field}: emitted {}, recomputed {}", value(emitted), value(recomputed))
        });
        [line(parts, self.why.as_deref())].into_iter().chain(fields).collect()
    }
}

impl Emitted {
    fn of(link: &Link) -> Self {
        let [decision_id, symbol, position_id, cause] =
            ["decision_id", "symbol", "position_id", "cause"].map(|key| link.text(key).to_owned());
        Self { decision_id, symbol, position_id, cause, seq: link.seq, entry: link.id.to_string() }
    }

    fn parts(&self) -> Vec<String> {
        let Self { decision_id, symbol, position_id, cause, seq, entry } = self;
        let symbol = book_of_position(position_id).unwrap_or(symbol);
        let of_entry = [format!("seq {seq}"), format!("entry {entry}")];
        let of_decision = [format!("symbol {symbol}"), format!("decision_id {decision_id}"), format!("cause {cause}")];
        of_entry.into_iter().chain(of_decision).collect()
    }
}

impl Recomputed {
    fn of(payload: &Payload) -> Self {
        let [decision_id, symbol, position_id, side, qty, r_net, cause] =
            ["decision_id", "symbol", "position_id", "side", "qty", "r_net", "cause"]
                .map(|field| payload.text(field).to_owned());
        let rungs = payload.rungs().into_iter().map(str::to_owned).collect();
        let attempt = payload.number("attempt").expect("our payloads have every field");
        Self { decision_id, symbol, position_id, side, qty, rungs, attempt, r_net, cause }
    }

    fn parts(&self) -> Vec<String> {
        let Self { decision_id, symbol, position_id, rungs, qty, cause, .. } = self;
        let symbol = book_of_position(position_id).unwrap_or(symbol);
        let taken = [format!("rungs {}", rungs.join(",")), format!("qty {qty}"), format!("cause {cause}")];
        [format!("symbol {symbol}"), format!("decision_id {decision_id}")].into_iter().chain(taken).collect()
    }
}

fn line(parts: Vec<String>, why: Option<&str>) -> String {
    match why {
        Some(why) if parts.is_empty() => why.to_owned(),
        Some(why) => format!("  {}: {why}", parts.join("  ")),
        None => format!("  {}", parts.join("  ")),
    }
}
