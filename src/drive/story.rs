//! The story of a symbol: every change of its positions, in order, with the entry that caused it.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::driver::Driver;
use super::keys::KeyError;
use super::pipeline::PassError;
use super::scope::{self, ScopesDiffer};
use crate::codec::fields::{self, Field, FieldDifference};
use crate::codec::{time, view};
use crate::config::Config;
use crate::domain::book::position::Position;
use crate::domain::book::state::Book;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::Entry;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::exit::policy::Policy;
use crate::shell::history::{History, HistoryError, Input, Options};

/// A story that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    #[error(transparent)]
    Scope(#[from] ScopesDiffer),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error("the history names no symbol {wanted}")]
    NoSymbol { wanted: String },
}

/// One field that an entry changed: its value, the kind of its source, a flag or a hold. A newer entry of the same kind
/// with the same value changes nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `stream/id` of the entry.
    pub cause: String,
    #[serde(rename = "time", serialize_with = "time_of")]
    pub at: EntryId,
    pub position_id: String,
    pub field: String,
    #[serde(serialize_with = "fields::or_null")]
    pub from: String,
    #[serde(serialize_with = "fields::or_null")]
    pub to: String,
}

fn time_of<S: Serializer>(id: &EntryId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time::iso(id.ms))
}

/// Returns the story of a symbol or book up to a time.
pub fn changes(
    wanted: &str,
    inputs: &[Input],
    until: Option<EntryId>,
    config: &Config,
) -> Result<Vec<Change>, StoryError> {
    let config = &*scope::over(config, inputs)?;
    let mut history = History::open(inputs, &config.streams, Options { until, ..Options::default() })?;
    let mut driver = Driver::over(&history, config, Decisions::Recorded, until)?;
    let mut watch = Watch::new(wanted);
    driver.fold_all(&mut history, |engine, entry, _, _| watch.look(engine, entry))?;
    if view::named(&driver.engine, wanted).is_empty() {
        return Err(StoryError::NoSymbol { wanted: wanted.to_owned() });
    }
    Ok(watch.changes)
}

/// The last change of a position's hold.
struct Held {
    /// Number of changes so far. [1]
    noted: u64,
    /// The stream of the entry that changed it; `None` if that entry was not seen. Entries of two streams can have the
    /// same id, and a position keeps only the id.
    by: Option<StreamId>,
}

/// The books after the last entry.
pub(super) struct Watch<'a> {
    wanted: &'a str,
    books: Vec<Book>,
    policy: Option<Policy>,
    fields: Vec<Field>,
    /// By position id.
    held: BTreeMap<String, Held>,
    pub(super) changes: Vec<Change>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(wanted: &'a str) -> Self {
        Self { wanted, books: Vec::new(), policy: None, fields: Vec::new(), held: BTreeMap::new(), changes: Vec::new() }
    }

    /// Returns the stream of the entry that changed the hold of a position, if it is known. Call it after each entry.
    fn held_by(&mut self, position_id: String, position: &Position, entry: &Entry) -> Option<StreamId> {
        let noted = position.holds.noted();
        let held = self.held.entry(position_id).or_insert(Held { noted: 0, by: None });
        if held.noted != noted {
            let is_by_entry = position.holds.last().is_some_and(|last| last.since == entry.id);
            *held = Held { noted, by: is_by_entry.then_some(entry.stream) };
        }
        held.by
    }

    /// Notes the changes of an entry. Most entries change only a price, and cost one comparison.
    pub(super) fn look(&mut self, engine: &Engine, entry: &Entry) {
        let books = view::named(engine, self.wanted);
        let is_same = |book: &Book, before: &Book| {
            book.hot.open == before.hot.open
                && (book.hot.history_gap, book.hot.diverged) == (before.hot.history_gap, before.hot.diverged)
                && book.closed == before.closed
                && book.name == before.name
        };
        let are_same = books.len() == self.books.len()
            && books.iter().zip(&self.books).all(|(book, before)| is_same(book.book, before))
            && self.policy.as_ref() == Some(engine.policy());
        if books.is_empty() || are_same {
            return;
        }
        self.books = books.iter().map(|book| book.book.clone()).collect();
        self.policy = Some(engine.policy().clone());
        let mut fields = Vec::new();
        for book in &books {
            for position in book.book.positions() {
                let held_by = self.held_by(book.position_id(position), position, entry);
                let held_by = held_by.map(|stream| &*engine.streams().get(stream).name);
                fields.extend(fields::of_position_fields(engine, *book, position, held_by));
            }
        }
        self.held.retain(|id, _| fields.iter().any(|field| field.of == *id));
        let cause = format!("{}/{}", engine.streams().get(entry.stream).name, entry.id);
        for FieldDifference { of, field, a, b } in fields::news(&self.fields, &fields) {
            // The engine forgets closed positions after a week. That is not a change.
            if fields.iter().all(|field| field.of != of) {
                continue;
            }
            self.changes.push(Change { cause: cause.clone(), at: entry.id, position_id: of, field, from: a, to: b });
        }
        self.fields = fields;
    }
}
