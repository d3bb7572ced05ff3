//! Entries that were put aside and whose record is not in the quarantine stream yet: told at least once, whoever leads.
//!
//! A row in the store, made in the commit that quarantines the entry, says that its record is still to be written; it goes
//! once the record is there. What may be there already (another led, or the process ended in between) is looked for
//! before it is written.

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

/// Records that the emitter has at a time. [1]
const IN_HAND_MAX: usize = 100;
/// How long nothing is tried after a record was refused.
const PAUSE: Duration = Duration::from_secs(5);
/// Whoever does not lead keeps the newest of them, should the leader not have come to it. [1]
const KEPT_MAX: usize = 10_000;

/// Records that are still to be written, in the order of application.
#[derive(Debug, Default)]
pub struct QuarantineOutbox {
    next_number: u64,
    waiting: BTreeMap<u64, Aside>,
    in_hand: usize,
    /// Nothing is handed out before: one was refused.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Aside {
    stream: String,
    id: EntryId,
    in_hand: bool,
    /// Its record may have been written, by us or by another.
    is_doubtful: bool,
}

impl QuarantineOutbox {
    /// Those that a process before had not noted as written.
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

    /// An entry was put aside; answers the rows that go with it.
    pub fn add(&mut self, stream: &str, id: EntryId, is_leader: bool) -> Vec<Row> {
        let mut rows = vec![live::aside_row(stream, id)];
        self.push(stream.to_owned(), id, !is_leader);
        if !is_leader && self.waiting.len() > KEPT_MAX {
            rows.extend(self.waiting.pop_first().map(|(_, oldest)| live::aside_removed(&oldest.stream, oldest.id)));
        }
        rows
    }

    /// Somebody else may have led before.
    pub fn lead(&mut self) {
        self.in_hand = 0;
        self.not_before = None;
        for aside in self.waiting.values_mut() {
            (aside.in_hand, aside.is_doubtful) = (false, true);
        }
    }

    /// What the emitter is to write now, read from the store that has it whole; and rows that go.
    pub fn due(&mut self, store: &Store) -> Result<(Vec<QuarantineRecord>, Vec<Row>), ReadError> {
        if self.not_before.is_some_and(|from| Instant::now() < from) {
            return Ok((Vec::new(), Vec::new()));
        }
        let (mut due, mut gone) = (Vec::new(), Vec::new());
        let free = IN_HAND_MAX - self.in_hand;
        for (number, aside) in self.waiting.iter_mut().filter(|(_, aside)| !aside.in_hand).take(free) {
            let quarantined = state::quarantined_one(store, &aside.stream, aside.id)?;
            // What other rules read after all has no record.
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

    /// What became of a record; answers the row that goes once it is written.
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

/// The entry of the quarantine stream.
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
