//! The disk of an instance: a journal whose end may not be durable, and a store whose commits are whole or absent.

use std::collections::{BTreeMap, BTreeSet};

use harvester::codec::line::{self, FieldValue};
use harvester::codec::state::{BadRow, Row, Rows, StoredRow};
use harvester::domain::event::ids::EntryId;

use super::rng::Rng;
use super::run::DECISION;

#[derive(Debug, Default)]
pub struct Disk {
    /// Lines of the journal that were written.
    pub lines: Vec<String>,
    /// Number of durable lines. [1]
    pub durable: usize,
    /// The last durable entry of each stream.
    durable_to: BTreeMap<String, EntryId>,
    pub store: Store,
    /// A commit that is being written.
    committing: Option<(Vec<Row>, BTreeSet<String>)>,
    /// Sent orders that the process knew at the last commit ([`super::process::Process::knows`]).
    pub knows: BTreeSet<String>,
    /// Writes fail until then. [µs]
    pub full_until_us: u64,
}

impl Disk {
    /// Makes all lines durable that were written so far, up to a number of lines.
    pub fn sync(&mut self, lines: usize) {
        for text in &self.lines[self.durable..lines] {
            let (stream, id) = line::head(text.as_bytes()).expect("the processor writes lines");
            let id: EntryId = id.parse().expect("a line has an id");
            let to = self.durable_to.entry(stream.into_owned()).or_default();
            *to = id.max(*to);
        }
        self.durable = lines;
    }

    /// Returns the entries that were applied, in their order: all lines of the journal except decisions.
    pub fn applied(&self) -> Vec<&str> {
        let lines = self.lines.iter().filter(|line| !is_decision(line));
        lines.map(|line| line.split(",\"fields").next().unwrap_or_default()).collect()
    }

    /// Returns the numbers of the decisions that were read.
    pub fn decisions(&self) -> BTreeSet<u64> {
        let lines = self.lines.iter().filter(|line| is_decision(line));
        lines.filter_map(|line| field(line, "seq")?.parse().ok()).collect()
    }

    /// Returns the decisions that were read: the id of each entry, and its payload.
    pub fn decision_payloads(&self) -> Vec<(EntryId, String)> {
        let lines = self.lines.iter().filter(|line| is_decision(line));
        let id = |line: &str| line::head(line.as_bytes()).ok()?.1.parse().ok();
        lines.filter_map(|line| Some((id(line)?, field(line, "payload")?))).collect()
    }

    pub fn has(&self, stream: &str, id: EntryId) -> bool {
        self.durable_to.get(stream).is_some_and(|to| id <= *to)
    }

    pub fn begin_commit(&mut self, rows: Vec<Row>, knows: BTreeSet<String>) {
        self.committing = Some((rows, knows));
    }

    pub fn end_commit(&mut self) {
        if let Some((rows, knows)) = self.committing.take() {
            self.store.commit(rows);
            self.knows = knows;
        }
    }

    /// Ends the process, or cuts the power: unsynced data may be there, in part, or not at all.
    pub fn crash(&mut self, rng: &mut Rng) {
        let left = rng.within(self.durable as u64, self.lines.len() as u64 + 1) as usize;
        self.lines.truncate(left);
        // Data that the next start finds counts as synced: the start reads it from the disk.
        self.sync(left);
        if rng.chance(500) {
            self.end_commit();
        }
        self.committing = None;
    }
}

/// Returns the text of a field of a line.
fn field(line: &str, wanted: &str) -> Option<String> {
    let fields = line::fields(line.as_bytes()).expect("the processor writes lines");
    fields.pairs.iter().find_map(|(name, value)| match value {
        FieldValue::Text(text) if name == wanted => Some(text.to_string()),
        FieldValue::Text(_) | FieldValue::Bytes(_) => None,
    })
}

fn is_decision(line: &str) -> bool {
    line.strip_prefix("{\"stream\":\"").is_some_and(|rest| rest.starts_with(DECISION))
}

/// The rows of a store, in memory.
#[derive(Debug, Default)]
pub struct Store(BTreeMap<Vec<u8>, Vec<u8>>);

impl Store {
    pub fn commit(&mut self, rows: Vec<Row>) {
        for (key, value) in rows {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Rows for Store {
    type Error = BadRow;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
        let from = self.0.range(prefix.to_vec()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}
