//! A JSON value as the text of a cell.

use serde_json::Value;

/// Returns a text as it is, `-` for null, and the items of a list joined by commas.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
