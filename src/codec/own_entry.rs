//! Entries of our own for the control stream, as fields.

use serde_json::json;

use crate::domain::delivery::own_entry::OwnEntry;
use crate::domain::delivery::row::FieldTexts;
use crate::domain::event::streams::Streams;

/// The reason of a service for adopting the configured policy.
pub const CONFIGURED: &str = "configured";

/// Returns the fields of an entry, unsigned. `policy` is the JSON of the configured policy.
pub fn fields(entry: &OwnEntry, policy: &str, streams: &Streams) -> FieldTexts {
    let (event_type, payload) = match entry {
        OwnEntry::NewPolicy | OwnEntry::PolicyInForce => {
            ("policy.adopted", format!(r#"{{"policy":{policy},"reason":"{CONFIGURED}"}}"#))
        }
        OwnEntry::AccountPolicy { account, policy } => {
            // The name of an account needs no escapes.
            let payload = format!(r#"{{"account":"{account}","policy":{policy},"reason":"{CONFIGURED}"}}"#);
            ("policy.adopted", payload)
        }
        OwnEntry::Gap(gap) => {
            let payload = json!({
                "stream": streams.get(gap.stream).name, "reason": gap.why.text(),
                "after": gap.after.map(|id| id.to_string()), "before": gap.before.map(|id| id.to_string()),
            });
            ("history.gap", payload.to_string())
        }
        OwnEntry::Kill(kill) => {
            let reason = if *kill { "the kill key was set" } else { "the kill key was cleared" };
            ("kill.changed", json!({"kill": kill, "reason": reason}).to_string())
        }
        OwnEntry::Skipped { stream, id, why } => {
            ("entry.skipped", json!({"stream": stream, "id": id.to_string(), "reason": why}).to_string())
        }
    };
    vec![("event_type".to_owned(), event_type.to_owned()), ("payload".to_owned(), payload)]
}
