//! The payload of a decision, field by field (docs/spec/emission.md, "Payload of a decision").
//!
//! An emitted payload is kept whole: other rules may have written other fields, and an audit compares them all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::event::ids::EntryId;

/// The payload of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub(super) Map<String, Value>);

/// The value of a field of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PayloadValue(Value);

impl Payload {
    /// Reads the payload of a decision from its history line, with the id of the entry; `None` if there is none.
    pub fn of_line(line: &str) -> Option<(EntryId, Self)> {
        let (id, payload) = text_of_line(line)?;
        Some((id, serde_json::from_str(&payload).ok()?))
    }

    /// Returns a text; empty if it is absent.
    pub fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns a whole number.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field)?.as_u64()
    }

    /// Returns the rungs that the decision takes. [R]
    pub fn rungs(&self) -> Vec<&str> {
        let rungs = self.0.get("rungs").and_then(Value::as_array);
        rungs.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns the decision id; empty if it is absent.
    pub fn decision_id(&self) -> &str {
        self.text("decision_id")
    }

    /// Returns stream and id of the entry that caused the decision.
    pub fn cause(&self) -> Option<(&str, EntryId)> {
        let (stream, id) = self.text("cause").rsplit_once('/')?;
        Some((stream, id.parse().ok()?))
    }

    /// Returns the value of a field.
    pub fn value(&self, field: &str) -> Option<PayloadValue> {
        self.0.get(field).cloned().map(PayloadValue)
    }

    /// Returns a field as a person reads it: `-` if it is absent.
    pub fn shown(&self, field: &str) -> String {
        self.0.get(field).map_or_else(|| "-".to_owned(), shown)
    }

    /// Returns the fields, those of `evidence` by their paths.
    pub fn fields(&self) -> BTreeMap<String, PayloadValue> {
        fields(&self.0)
    }
}

/// The JSON text that is sealed: compact, its keys in alphabetical order.
impl std::fmt::Display for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| std::fmt::Error)?)
    }
}

/// A text as it is, `-` for null, and the items of a list joined by commas.
impl std::fmt::Display for PayloadValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Returns the text of the payload in a decision's history line, with the id of the entry.
pub(super) fn text_of_line(line: &str) -> Option<(EntryId, String)> {
    #[derive(Deserialize)]
    struct Line {
        id: String,
        fields: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        payload: String,
    }
    let line: Line = serde_json::from_str(line).ok()?;
    Some((line.id.parse().ok()?, line.fields.payload))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn fields(object: &Map<String, Value>) -> BTreeMap<String, PayloadValue> {
    let mut all = BTreeMap::new();
    for (key, value) in object {
        match value {
            Value::Object(inner) => {
                all.extend(fields(inner).into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            other => {
                all.insert(key.clone(), PayloadValue(other.clone()));
            }
        }
    }
    all
}
