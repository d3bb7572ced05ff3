//! Rows of a running service beside the engine's state: the outbox, and its knowledge of the server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::{Row, Rows, decode, encode, entry_key, key, name_key};
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::gap::StreamGap;
use crate::domain::delivery::row::{OutboxRow, RowChange};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::Streams;

const OUTBOX: &[u8] = b"o/";
const STREAM: &[u8] = b"s/";
const CHECKPOINT: &[u8] = b"p/";
const QUARANTINED: &[u8] = b"a/";
const REFUSED: &[u8] = b"r/";
const FINDING: &[u8] = b"f/";
const GAP: &[u8] = b"w/";

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

/// Returns the row of a change of delivery.
pub fn change_row(change: &RowChange, streams: &Streams) -> Row {
    let entry = |prefix, stream: &str, id| key(prefix, &entry_key(stream, id));
    match change {
        RowChange::Outbox(row) => (key(OUTBOX, &row.seq.to_be_bytes()), Some(encode(row))),
        RowChange::OutboxRemoved(seq) => (key(OUTBOX, &seq.to_be_bytes()), None),
        RowChange::GapFound(gap) => {
            let name = &streams.get(gap.stream).name;
            (gap_key(name, gap), Some(encode(&(name, gap))))
        }
        RowChange::GapPublished(gap) => (gap_key(&streams.get(gap.stream).name, gap), None),
        RowChange::Unrecorded { stream, id } => (entry(QUARANTINED, stream, *id), Some(encode(&(stream, *id)))),
        RowChange::Recorded { stream, id } => (entry(QUARANTINED, stream, *id), None),
        RowChange::Refused { stream, id } => (entry(REFUSED, stream, *id), Some(encode(&(stream, *id)))),
        RowChange::RefusalPublished { stream, id } => (entry(REFUSED, stream, *id), None),
    }
}

/// Returns streams and ids of the quarantine outbox.
pub fn quarantine_outbox<R: Rows>(rows: &R) -> Result<Vec<(String, EntryId)>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(QUARANTINED)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

fn gap_key(stream: &str, gap: &StreamGap) -> Vec<u8> {
    [name_key(GAP, stream).as_slice(), &gap.added.to_be_bytes(), &gap.shift.to_be_bytes()].concat()
}

/// Returns the gaps of these streams that are still to be published.
pub fn gaps<R: Rows>(rows: &R, streams: &Streams) -> Result<Vec<StreamGap>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(GAP)? {
        let (name, gap): (String, StreamGap) = decode(&row_key, &value)?;
        all.extend(streams.id_of(&name).map(|stream| StreamGap { stream, ..gap }));
    }
    Ok(all)
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

pub fn checkpoint_row(checkpoint: Checkpoint) -> Row {
    (CHECKPOINT.to_vec(), Some(encode(&checkpoint)))
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
    for prefix in [OUTBOX, STREAM, CHECKPOINT, QUARANTINED, REFUSED, FINDING, GAP] {
        all.extend(rows.scan(prefix)?.into_iter().map(|(row_key, value)| (row_key, Some(value))));
    }
    Ok(all)
}

/// Returns true if a service has written the rows, and not a replay.
pub fn is_of_service<R: Rows>(rows: &R) -> Result<bool, R::Error> {
    Ok(!rows.scan(CHECKPOINT)?.is_empty())
}

pub fn checkpoint<R: Rows>(rows: &R) -> Result<Checkpoint, R::Error> {
    match rows.scan(CHECKPOINT)?.into_iter().next() {
        Some((found, value)) => Ok(decode(&found, &value)?),
        None => Ok(Checkpoint::default()),
    }
}
