//! The summary of a replay as a document.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{by_name, missing};
use crate::domain::book::counters::{Count, Counters};
use crate::domain::book::position::Position;
use crate::domain::book::state::Book;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;

/// Counts, by name. [1]
pub type Counted = BTreeMap<&'static str, u64>;

/// The summary of a replay (docs/spec/commands.md, "replay"). Counts without a comment are entries. [1]
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub entries: u64,
    pub applied: u64,
    pub duplicates: u64,
    pub quarantined: Counted,
    pub fills_repeated: u64,
    /// By kind of stream, then by shape.
    pub shapes: BTreeMap<&'static str, Counted>,
    /// Lines that are not entries, or have unreadable fields. [1]
    pub bad_lines: u64,
    pub other_streams: u64,
    /// [1]
    pub positions_open: u64,
    /// Open positions that lack no field. [1]
    pub evaluable: u64,
    /// Open positions, by the field that they lack.
    pub missing: Counted,
    /// Evaluations, by the hold that they ended in.
    pub holds: Counted,
    /// Decisions that were made. [1]
    pub decisions: u64,
    pub first_id: Option<String>,
    pub last_id: Option<String>,
    /// True if no source has ever reported a position, not even a flat one.
    pub positions_unknown: bool,
    /// Books that a snapshot has reported only once.
    pub unconfirmed: Vec<String>,
    /// Books whose history has a gap.
    pub history_gap: Vec<String>,
    pub killed: bool,
    pub counts: Counted,
    pub own_decisions: OwnDecisions,
    /// Duration of the replay. [s]
    pub seconds: f64,
}

/// Recorded decisions, compared with those that the rules make. [1]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OwnDecisions {
    pub agree: u64,
    pub differ: u64,
    pub missing: usize,
    pub unexpected: u64,
    pub homeless: u64,
}

impl Summary {
    /// Returns the summary of the fold, without the counts of the reader of the history.
    pub fn of(engine: &Engine, counters: &Counters) -> Self {
        let books = by_name(engine);
        let open: Vec<(BookView<'_>, &Position)> =
            books.iter().filter_map(|book| Some((*book, book.book.hot.open.as_ref()?))).collect();
        let mut lacking = Counted::new();
        let mut evaluable = 0;
        for (book, position) in &open {
            let missing = missing(*book, position);
            evaluable += u64::from(missing.is_empty());
            missing.into_iter().for_each(|field| *lacking.entry(field).or_default() += 1);
        }
        let names = |keep: fn(&Book) -> bool| {
            books.iter().filter(|book| keep(book.book)).map(|book| book.name.to_string()).collect()
        };
        let comparison = &counters.comparison;
        Self {
            entries: counters.entries(),
            applied: counters.applied,
            duplicates: counters.duplicates,
            quarantined: counters.quarantined.iter().map(|(reason, n)| (reason.name(), *n)).collect(),
            fills_repeated: counters.of(Count::FillsRepeated),
            shapes: counters.shapes(),
            bad_lines: 0,
            other_streams: 0,
            positions_open: open.len() as u64,
            evaluable,
            missing: lacking,
            holds: counters.holds().map(|(hold, n)| (hold.name(), n)).collect(),
            decisions: counters.decisions,
            first_id: counters.first.map(|id| id.to_string()),
            last_id: counters.last.map(|id| id.to_string()),
            positions_unknown: !engine.globals().positions_known,
            unconfirmed: names(Book::is_unconfirmed),
            history_gap: names(|book| book.hot.history_gap),
            killed: engine.globals().killed,
            counts: counters.counts.iter().map(|(count, n)| (count.name(), *n)).collect(),
            own_decisions: OwnDecisions {
                agree: comparison.agree,
                differ: comparison.differ,
                missing: comparison.missing.len(),
                unexpected: comparison.unexpected,
                homeless: comparison.orphaned,
            },
            seconds: 0.0,
        }
    }
}
