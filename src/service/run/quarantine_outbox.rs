//! The quarantine outbox: quarantined entries whose record is not yet in the quarantine stream. Each is published at
//! least once, whichever process is the leader.
//!
//! A row in the store means that the record must still be written. It is made in the commit that quarantines the entry,
//! and deleted once the record is published. A record that may have been published already (another process led, or
//! this one was restarted in between) is looked for before it is written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fail;
use super::message::QuarantineRecord;
use crate::codec::line;
use crate::codec::live;
use crate::codec::request::FieldTexts;
use crate::codec::state::{self, Quarantined, Row};
use crate::domain::event::ids::EntryId;
use crate::drive::projection::ReadError;
use crate::shell::store::Store;

/// The most records that the emitter has at once. [1]
const IN_HAND_MAX: usize = 100;
/// How long nothing is tried after a record was rejected.
const PAUSE: Duration = Duration::from_secs(5);
/// A follower keeps this many of the newest records, in case the leader has not published them. [1]
const KEPT_MAX: usize = 10_000;

/// Records that must still be written, in the order of application.
#[derive(Debug, Default)]
pub struct QuarantineOutbox {
    next_number: u64,
    waiting: BTreeMap<u64, Aside>,
    in_hand: usize,
    /// Nothing is handed out before this time, because a record was rejected.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Aside {
    stream: String,
    id: EntryId,
    in_hand: bool,
    /// True if the record may have been written, by us or by another process.
    is_doubtful: bool,
}

impl QuarantineOutbox {
    /// Creates the outbox from the records that an earlier process had not noted as written.
    pub fn of(entries: Vec<(String, EntryId)>) -> Self {
        let mut quarantine_outbox = Self::default();
        for (stream, id) in entries {
            quarantine_outbox.push(stream, id, true);
        }
        quarantine_outbox
    }

    fn push(&mut self, stream: String, id: EntryId, is_doubtful: bool) {
        self.waiting.insert(self.next_number, Aside { stream, id, in_hand: false, is_doubtful });
        self.next_number += 1;
    }

    /// Adds a quarantined entry. Returns the rows that go with it.
    pub fn add(&mut self, stream: &str, id: EntryId, is_leader: bool) -> Vec<Row> {
        let mut rows = vec![live::aside_row(stream, id)];
        self.push(stream.to_owned(), id, !is_leader);
        if !is_leader && self.waiting.len() > KEPT_MAX {
            rows.extend(self.waiting.pop_first().map(|(_, oldest)| live::aside_removed(&oldest.stream, oldest.id)));
        }
        rows
    }

    /// Begins to lead: another process may have led before.
    pub fn lead(&mut self) {
        self.in_hand = 0;
        self.not_before = None;
        for aside in self.waiting.values_mut() {
            (aside.in_hand, aside.is_doubtful) = (false, true);
        }
    }

    /// Returns the records that the emitter must write now, with the entries as the store has them, and rows to delete.
    pub fn due(&mut self, store: &Store) -> Result<(Vec<QuarantineRecord>, Vec<Row>), ReadError> {
        if self.not_before.is_some_and(|from| Instant::now() < from) {
            return Ok((Vec::new(), Vec::new()));
        }
        let (mut due, mut gone) = (Vec::new(), Vec::new());
        let free = IN_HAND_MAX - self.in_hand;
        for (number, aside) in self.waiting.iter_mut().filter(|(_, aside)| !aside.in_hand).take(free) {
            let quarantined = state::quarantined_one(store, &aside.stream, aside.id)?;
            // An entry that is readable under the present rules has no record.
            let Some((quarantined, fields)) = quarantined.and_then(|held| record(&held).map(|fields| (held, fields)))
            else {
                gone.push(*number);
                continue;
            };
            aside.in_hand = true;
            self.in_hand += 1;
            let (number, id, is_doubtful) = (*number, aside.id, aside.is_doubtful);
            due.push(QuarantineRecord { number, stream: quarantined.stream, id, fields, is_doubtful });
        }
        if !due.is_empty() {
            fail::point("put_aside");
        }
        let gone = gone.iter().filter_map(|number| self.waiting.remove(number));
        Ok((due, gone.map(|aside| live::aside_removed(&aside.stream, aside.id)).collect()))
    }

    /// Notes the outcome of a record. Returns the row to delete once it is written.
    pub fn done(&mut self, number: u64, is_written: bool) -> Option<Row> {
        let aside = self.waiting.get_mut(&number)?;
        if std::mem::take(&mut aside.in_hand) {
            self.in_hand -= 1;
        }
        if is_written {
            return self.waiting.remove(&number).map(|aside| live::aside_removed(&aside.stream, aside.id));
        }
        aside.is_doubtful = true;
        self.not_before = Some(Instant::now() + PAUSE);
        None
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Returns the entry of the quarantine stream.
fn record(quarantined: &Quarantined) -> Option<FieldTexts> {
    let fields = line::fields(quarantined.line.as_bytes()).ok()?;
    let pairs = [
        ("stream", quarantined.stream.clone()),
        ("id", quarantined.id.to_string()),
        ("reason", quarantined.reason.clone()),
        (if fields.is_text() { "fields" } else { "fields_b64" }, line::object(&fields)),
    ];
    Some(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}
