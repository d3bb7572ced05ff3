//! The outbox: decisions from the moment they are made until the server has certainly kept them.
//!
//! ```text
//!            add                 offer               written
//! (decided) ────▶ not durable ─▶ waiting ─▶ in flight ─────▶ written ──▶ (forgotten after an hour)
//!                                   ▲           │               │
//!                                   └───────────┴── not written │ lost by the server: again, without its order
//!                                   ▲                           │
//!                                   └───────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::action::{Looked, Remembered, WrittenDecision};
use super::row::{OutboxRow, RowChange, SOMEWHERE};
use crate::domain::event::ids::EntryId;

/// How long a written decision is kept, in case the server loses it. [ms]
const MEMORY_MS: u64 = 3_600_000;
/// The most written decisions that are kept. [1]
const WRITTEN_MAX: usize = 1000;

/// Decisions by number.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    rows: BTreeMap<u64, OutboxRow>,
    /// Decisions whose cause is not durable yet: journal position and number, both ascending.
    unsynced: VecDeque<(u64, u64)>,
    /// Decisions that the shell is offering.
    in_flight: BTreeSet<u64>,
    /// Changes for the next checkpoint.
    changes: Vec<RowChange>,
}

impl Outbox {
    pub fn of(rows: Vec<OutboxRow>) -> Self {
        Self { rows: rows.into_iter().map(|row| (row.seq, row)).collect(), ..Self::default() }
    }

    /// Adds a decision whose cause is durable at a journal position.
    pub fn add(&mut self, row: OutboxRow, position: u64) {
        self.unsynced.push_back((position, row.seq));
        self.put(row);
    }

    /// Notes that the journal is durable up to a position.
    pub fn synced(&mut self, durable: u64) {
        while self.unsynced.front().is_some_and(|(position, _)| *position <= durable) {
            self.unsynced.pop_front();
        }
    }

    /// Returns true if the cause of a decision is not durable yet.
    pub fn has_unsynced(&self) -> bool {
        !self.unsynced.is_empty()
    }

    fn put(&mut self, row: OutboxRow) {
        self.changes.push(RowChange::Outbox(row.clone()));
        self.rows.insert(row.seq, row);
    }

    /// Changes a decision, and writes the change with the next checkpoint.
    fn change(&mut self, seq: u64, change: impl FnOnce(&mut OutboxRow)) -> Option<&OutboxRow> {
        let row = self.rows.get_mut(&seq)?;
        change(row);
        self.changes.push(RowChange::Outbox(row.clone()));
        Some(row)
    }

    pub fn take_changes(&mut self) -> Vec<RowChange> {
        std::mem::take(&mut self.changes)
    }

    pub fn get(&self, seq: u64) -> Option<&OutboxRow> {
        self.rows.get(&seq)
    }

    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &OutboxRow> {
        self.rows.values()
    }

    /// Returns the decisions that are durable, unwritten and not in flight, in order. Each comes with the entry of the
    /// decision written last before it, if that is known. The list ends before the first one that is in flight or not
    /// durable: none overtakes another.
    pub fn waiting(&self) -> impl Iterator<Item = (&OutboxRow, Option<EntryId>)> {
        let first_unsynced = self.unsynced.front().map_or(u64::MAX, |(_, seq)| *seq);
        let mut after = None;
        let is_first = self.in_flight.is_empty();
        self.rows.values().take_while(move |row| is_first && row.seq < first_unsynced).filter_map(move |row| match row
            .written
        {
            Some(entry) => {
                after = Some(entry).filter(|entry| *entry != SOMEWHERE);
                None
            }
            None => Some((row, after)),
        })
    }

    /// Notes that the shell offers these decisions.
    pub fn offering(&mut self, seqs: impl IntoIterator<Item = u64>) {
        self.in_flight.extend(seqs);
    }

    /// Notes that a decision was answered. It is waiting again unless it was written.
    pub fn answered(&mut self, seq: u64) {
        self.in_flight.remove(&seq);
    }

    /// Takes back the decisions in flight: they may have been written, and are offered again.
    pub fn lost(&mut self) {
        self.in_flight.clear();
    }

    pub fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Notes the entry of a decision. Returns the row, or `None` if it is unknown.
    pub fn written(&mut self, seq: u64, entry: EntryId) -> Option<&OutboxRow> {
        self.change(seq, |row| row.written = Some(entry))
    }

    /// Notes a decision that is in the stream, of this process or another.
    pub fn seen(&mut self, row: OutboxRow) {
        let Some(entry) = row.written else { return };
        match self.rows.get(&row.seq) {
            Some(known) if known.decision_id == row.decision_id && known.field("hash") == row.field("hash") => {
                self.written(row.seq, entry);
            }
            Some(_) => {}
            None => self.put(row),
        }
    }

    /// Loads old decisions, to look for them. They are in the store already. Returns true if any is new.
    pub fn recalled(&mut self, rows: Vec<OutboxRow>) -> bool {
        let before = self.rows.len();
        for row in rows {
            self.rows.entry(row.seq).or_insert(row);
        }
        self.rows.len() > before
    }

    /// Turns the unwritten orders into records: the server has forgotten entries, so an order may have been sent, and
    /// the memory of it may be lost.
    pub fn doubt_orders(&mut self) {
        let doubted: Vec<u64> =
            self.rows.values().filter(|row| row.is_order() && row.written.is_none()).map(|row| row.seq).collect();
        for seq in doubted {
            self.change(seq, |row| row.record_only = true);
        }
    }

    /// Notes what the server has of a written decision. Returns true if it has lost it.
    pub fn looked(&mut self, looked: &Looked) -> bool {
        let Some(known) = self.get(looked.seq).and_then(|row| row.written) else { return false };
        // It may have come back from another entry meanwhile.
        if looked.is_there || looked.entry != Some(known).filter(|known| *known != SOMEWHERE) {
            return false;
        }
        let is_kept = |remembered: &Remembered| remembered.is_there || remembered.is_trimmed;
        let Some(remembered) = looked.remembered.filter(is_kept) else { return true };
        // An instance wrote it again, and we do not know of that, or no longer do.
        if looked.entry.is_some_and(|entry| entry != remembered.entry) {
            self.written(looked.seq, remembered.entry);
        }
        false
    }

    /// Makes a decision waiting again that the server has lost. Its order is not sent a second time. (`with_order` is a
    /// deliberate fault.)
    pub fn write_again(&mut self, seq: u64, with_order: bool) {
        self.change(seq, |row| (row.written, row.again, row.record_only) = (None, true, row.live && !with_order));
    }

    /// Returns the decisions that the server should have.
    pub fn all_written(&self) -> Vec<WrittenDecision> {
        let written = |row: &OutboxRow| {
            let entry = row.written?;
            let entry = Some(entry).filter(|entry| *entry != SOMEWHERE);
            let (decision_id, hash) = (row.decision_id.clone(), row.field("hash").to_owned());
            Some(WrittenDecision { seq: row.seq, decision_id, hash, entry })
        };
        self.rows.values().filter_map(written).collect()
    }

    /// Forgets written decisions that are old or too many. `now_ms` is the time of the last folded entry.
    pub fn forget(&mut self, now_ms: u64) {
        let from_ms = now_ms.saturating_sub(MEMORY_MS);
        let written = self.rows.values().filter_map(|row| Some((row.seq, row.written?)));
        // The entries of a backlog are old, and decisions written now would be kept for all of it.
        let too_many = written.clone().count().saturating_sub(WRITTEN_MAX);
        let is_old = |(at, (_, entry)): &(usize, (u64, EntryId))| *at < too_many || entry.ms < from_ms;
        let old: Vec<u64> = written.enumerate().filter(is_old).map(|(_, (seq, _))| seq).collect();
        self.remove(old);
    }

    /// Removes all decisions: they belong to a former chain.
    pub fn clear(&mut self) {
        self.remove(self.rows.keys().copied().collect());
    }

    fn remove(&mut self, seqs: Vec<u64>) {
        for seq in seqs {
            self.rows.remove(&seq);
            self.changes.push(RowChange::OutboxRemoved(seq));
        }
    }

    /// Returns the number of decisions that are not in the stream yet. [1]
    pub fn unwritten(&self) -> usize {
        self.rows.values().filter(|row| row.written.is_none()).count()
    }
}
