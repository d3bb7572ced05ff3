//! The quarantine outbox: quarantined entries whose record is not yet in the quarantine stream. Each is published at
//! least once, whichever process is the leader.
//!
//! A record that may have been published already (another process led, or this one was restarted in between) is looked
//! for before it is written.

use std::collections::BTreeMap;

use super::action::{Record, Recorded};
use super::row::FieldTexts;
use crate::domain::event::ids::EntryId;

/// The most records that the shell writes at once. [1]
const IN_FLIGHT_MAX: usize = 100;
/// How long nothing is tried after a record was not written. [ms]
const PAUSE_MS: u64 = 5_000;
/// A standby keeps this many of the newest records, in case the leader has not published them. [1]
const KEPT_MAX: usize = 10_000;

/// Records that must still be written, in the order of application.
#[derive(Clone, Debug, Default)]
pub struct Records {
    next_number: u64,
    waiting: BTreeMap<u64, Waiting>,
    in_flight: usize,
    /// Nothing is handed out before this time, because a record was not written.
    not_before_ms: Option<u64>,
}

#[derive(Clone, Debug)]
struct Waiting {
    stream: Box<str>,
    id: EntryId,
    fields: FieldTexts,
    /// Journal position that makes its entry durable.
    position: u64,
    is_in_flight: bool,
    /// The record may have been written, by us or by another process.
    is_doubtful: bool,
}

impl Records {
    /// Adds the record of an entry that is durable at this journal position. Returns the oldest one, if it is given up.
    pub fn add(
        &mut self,
        stream: &str,
        id: EntryId,
        fields: FieldTexts,
        position: u64,
        is_doubtful: bool,
    ) -> Option<(Box<str>, EntryId)> {
        let waiting = Waiting { stream: stream.into(), id, fields, position, is_in_flight: false, is_doubtful };
        self.waiting.insert(self.next_number, waiting);
        self.next_number += 1;
        let is_too_long = is_doubtful && self.waiting.len() > KEPT_MAX;
        let oldest = if is_too_long { self.waiting.pop_first() } else { None };
        oldest.map(|(_, oldest)| (oldest.stream, oldest.id))
    }

    /// Begins to lead, or a connection again: records in flight may have arrived, and another process may have led.
    pub fn retry(&mut self, is_new_leader: bool) {
        if is_new_leader {
            self.not_before_ms = None;
        }
        self.in_flight = 0;
        for record in self.waiting.values_mut() {
            record.is_doubtful |= is_new_leader || record.is_in_flight;
            record.is_in_flight = false;
        }
    }

    /// Takes the records to write now.
    pub fn due(&mut self, durable: u64, now_ms: u64) -> Vec<Record> {
        if self.not_before_ms.is_some_and(|from| now_ms < from) {
            return Vec::new();
        }
        let free = IN_FLIGHT_MAX.saturating_sub(self.in_flight);
        let waiting = self.waiting.iter_mut().filter(|(_, record)| !record.is_in_flight && record.position <= durable);
        let due: Vec<Record> = waiting
            .take(free)
            .map(|(number, record)| {
                record.is_in_flight = true;
                Record {
                    number: *number,
                    stream: record.stream.clone(),
                    id: record.id,
                    fields: record.fields.clone(),
                    is_doubtful: record.is_doubtful,
                }
            })
            .collect();
        self.in_flight += due.len();
        due
    }

    /// Notes the outcome of a record. Returns its entry once the record is written.
    pub fn done(&mut self, number: u64, outcome: Recorded, now_ms: u64) -> Option<(Box<str>, EntryId)> {
        let record = self.waiting.get_mut(&number)?;
        if std::mem::take(&mut record.is_in_flight) {
            self.in_flight -= 1;
        }
        match outcome {
            Recorded::Written => self.waiting.remove(&number).map(|record| (record.stream, record.id)),
            Recorded::Unknown => {
                record.is_doubtful = true;
                self.not_before_ms = Some(now_ms.saturating_add(PAUSE_MS));
                None
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the next time at which a wait ends, after `now_ms`.
    pub fn timeout(&self, now_ms: u64) -> Option<u64> {
        self.not_before_ms.filter(|at| *at > now_ms && !self.waiting.is_empty())
    }
}
