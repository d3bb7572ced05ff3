//! Rows of a running service beside the engine's state: the outbox, and its knowledge of the server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::FieldTexts;
use super::state::{Row, Rows, decode, encode, entry_key, key, name_key};
use crate::domain::event::ids::EntryId;

const OUTBOX: &[u8] = b"o/";
const STREAM: &[u8] = b"s/";
const PLACE: &[u8] = b"p/";
const ASIDE: &[u8] = b"a/";
const REFUSED: &[u8] = b"r/";
const FINDING: &[u8] = b"f/";

/// A decision in the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    pub seq: u64,
    pub decision_id: String,
    /// Fields of the `harvest.decision` entry.
    pub fields: FieldTexts,
    /// Stream and fields of the request, if there is one.
    pub request: Option<(String, FieldTexts)>,
    /// The request is an order, not a suggestion.
    pub live: bool,
    /// Hash of the policy under which it was decided.
    pub policy: String,
    /// Time of the entry that caused it. [ms since 1970]
    pub cause_ms: u64,
    /// Its id in the decision stream, once it is written.
    pub written: Option<EntryId>,
    /// The request may have been sent before the server lost its data, so only the record is written.
    pub record_only: bool,
    /// The server lost it. It is written again, with a mark.
    pub again: bool,
}

impl OutboxRow {
    /// Returns a field of the `harvest.decision` entry; empty if it is absent.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }
}

/// The stream position of an input stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPosition {
    /// Entries consumed, or known to be lost, since the stream was created. [1]
    pub seen: u64,
    /// Number of added entries, as the server reported it last. [1]
    pub added: u64,
}

/// The entries with one kind of finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// [1]
    pub entries: u64,
    /// Time of the last of them, by its id. [ms since 1970]
    pub last_ms: u64,
}

impl Finding {
    /// Adds a finding of other entries.
    pub fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.last_ms = self.last_ms.max(other.last_ms);
    }
}

/// The checkpoint of a service, beside its cursors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Entries of the journal that the state contains. [1]
    pub journal: u64,
    /// Last known state of the kill key: set, cleared, or never seen.
    pub kill_key: Option<bool>,
}

pub fn outbox_row(row: &OutboxRow) -> Row {
    (key(OUTBOX, &row.seq.to_be_bytes()), Some(encode(row)))
}

/// Returns the row that removes a decision from the outbox.
pub fn outbox_removed(seq: u64) -> Row {
    (key(OUTBOX, &seq.to_be_bytes()), None)
}

/// Returns the row that adds an entry to the quarantine outbox: its record is still to be written.
pub fn aside_row(stream: &str, id: EntryId) -> Row {
    (key(ASIDE, &entry_key(stream, id)), Some(encode(&(stream, id))))
}

/// Returns the row that removes an entry whose record is written.
pub fn aside_removed(stream: &str, id: EntryId) -> Row {
    (key(ASIDE, &entry_key(stream, id)), None)
}

/// Returns streams and ids of the quarantine outbox.
pub fn quarantine_outbox<R: Rows>(rows: &R) -> Result<Vec<(String, EntryId)>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(ASIDE)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

/// Returns the row that adds a refused entry that is still to be published.
pub fn refused_row(stream: &str, id: EntryId) -> Row {
    (key(REFUSED, &entry_key(stream, id)), Some(encode(&(stream, id))))
}

/// Returns the row that removes a refused entry that is published.
pub fn refused_removed(stream: &str, id: EntryId) -> Row {
    (key(REFUSED, &entry_key(stream, id)), None)
}

/// Returns streams and ids of all refused entries that are still to be published.
pub fn refused<R: Rows>(rows: &R) -> Result<Vec<(String, EntryId)>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(REFUSED)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

/// Returns the row of a finding, with its totals.
pub fn finding_row(name: &str, finding: Finding) -> Row {
    (name_key(FINDING, name), Some(encode(&(name, finding))))
}

/// Returns all findings, by name.
pub fn findings<R: Rows>(rows: &R) -> Result<BTreeMap<String, Finding>, R::Error> {
    let mut all = BTreeMap::new();
    for (row_key, value) in rows.scan(FINDING)? {
        let (name, finding): (String, Finding) = decode(&row_key, &value)?;
        all.insert(name, finding);
    }
    Ok(all)
}

pub fn stream_row(name: &str, checkpoint: StreamPosition) -> Row {
    (name_key(STREAM, name), Some(encode(&checkpoint)))
}

pub fn place_row(checkpoint: Checkpoint) -> Row {
    (PLACE.to_vec(), Some(encode(&checkpoint)))
}

/// Returns all rows of the outbox, by sequence.
pub fn outbox<R: Rows>(rows: &R) -> Result<Vec<OutboxRow>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(OUTBOX)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

/// Returns the position of a stream, or `None` if there is no row.
pub fn stream_position<R: Rows>(rows: &R, name: &str) -> Result<Option<StreamPosition>, R::Error> {
    let wanted = name_key(STREAM, name);
    match rows.scan(&wanted)?.into_iter().find(|(found, _)| *found == wanted) {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}

/// Returns all rows that a service keeps beside the engine's state. They belong to the service, whatever the state is
/// folded from.
pub fn rows<R: Rows>(rows: &R) -> Result<Vec<Row>, R::Error> {
    let mut all = Vec::new();
    for prefix in [OUTBOX, STREAM, PLACE, ASIDE, REFUSED, FINDING] {
        all.extend(rows.scan(prefix)?.into_iter().map(|(row_key, value)| (row_key, Some(value))));
    }
    Ok(all)
}

pub fn checkpoint<R: Rows>(rows: &R) -> Result<Checkpoint, R::Error> {
    match rows.scan(PLACE)?.into_iter().next() {
        Some((found, value)) => Ok(decode(&found, &value)?),
        None => Ok(Checkpoint::default()),
    }
}
