//! Rows beside the state: the decisions that were made, and the entries that were quarantined.

use serde::Serialize;

use super::row::{DECISION, QUARANTINE, Row, Rows, decode, encode, entry_key, key};
use crate::domain::event::ids::EntryId;

/// A quarantined entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Quarantined {
    pub stream: String,
    pub id: EntryId,
    pub reason: String,
    /// The entry as a history line.
    pub line: String,
}

/// Returns the row of a decision, as its history line.
pub fn decision_row(seq: u64, line: &str) -> Row {
    (key(DECISION, &seq.to_be_bytes()), Some(encode(&line)))
}

/// Returns all decisions as history lines, by sequence.
pub fn decisions<R: Rows>(rows: &R) -> Result<Vec<String>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(DECISION)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

/// Returns the history line of a decision, by its number.
pub fn decision_one<R: Rows>(rows: &R, seq: u64) -> Result<Option<String>, R::Error> {
    let wanted = decision_row(seq, "").0;
    match rows.scan(&wanted)?.into_iter().next() {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}

pub fn quarantine_row(quarantined: &Quarantined) -> Row {
    (key(QUARANTINE, &entry_key(&quarantined.stream, quarantined.id)), Some(encode(quarantined)))
}

/// Returns all quarantined entries, by stream and id.
pub fn quarantined<R: Rows>(rows: &R) -> Result<Vec<Quarantined>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(QUARANTINE)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

/// Returns one quarantined entry, if it exists.
pub fn quarantined_one<R: Rows>(rows: &R, stream: &str, id: EntryId) -> Result<Option<Quarantined>, R::Error> {
    let wanted = key(QUARANTINE, &entry_key(stream, id));
    match rows.scan(&wanted)?.into_iter().next() {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}
