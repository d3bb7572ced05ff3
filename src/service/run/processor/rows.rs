//! Rows that are made from a history line: a decision in its stream, and the record of a quarantined entry.

use std::borrow::Cow;

use crate::codec::line::{self, FieldValue};
use crate::codec::seal;
use crate::domain::delivery::row::{FieldTexts, OutboxRow};
use crate::domain::event::DecisionFact;
use crate::domain::event::ids::EntryId;

/// Returns the row of a decision that is in the stream, if its seal is intact.
pub(super) fn of_stream(fact: &DecisionFact, id: EntryId, line: &str) -> Option<OutboxRow> {
    let fields = line::fields(line.as_bytes()).ok()?;
    let text = |(name, value): (Cow<'_, str>, FieldValue<'_>)| match value {
        FieldValue::Text(text) => Some((name.into_owned(), text.into_owned())),
        FieldValue::Bytes(_) => None,
    };
    let texts =
        fields.pairs.into_iter().filter(|(name, _)| name != "again").map(text).collect::<Option<FieldTexts>>()?;
    let row = OutboxRow {
        seq: fact.seq,
        decision_id: fact.decision_id.to_string(),
        fields: texts,
        request: None,
        live: fact.live,
        cause_ms: fact.cause_id.ms,
        written: Some(id),
        record_only: fact.live,
        again: false,
        policy: String::new(),
        account: String::new(),
    };
    let hash = seal::chained(row.field("prev"), row.field("payload"));
    (row.seq > 0 && hash == row.field("hash")).then_some(row)
}

/// Returns the fields of a quarantine record.
pub(super) fn record(stream: &str, id: EntryId, reason: &str, line: &str) -> Option<FieldTexts> {
    let fields = line::fields(line.as_bytes()).ok()?;
    let pairs = [
        ("stream", stream.to_owned()),
        ("id", id.to_string()),
        ("reason", reason.to_owned()),
        (if fields.is_text() { "fields" } else { "fields_b64" }, line::object(&fields)),
    ];
    Some(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}
