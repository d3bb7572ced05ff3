//! What must be equal before and after a split, for each book.

use std::collections::BTreeMap;

use crate::domain::book::position::Position;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::event::selection::Selection;

/// Differences that are named. [1]
const NAMED_MAX: usize = 20;

/// The values of a book that the safety of its positions depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub account: Box<str>,
    pub is_open: bool,
    /// Its positions: id, quantity, entry price, rungs and decisions with their states.
    positions: Vec<String>,
    /// The holds that do not depend on the price.
    holds: Vec<&'static str>,
}

/// Returns the books of the selected accounts that have a position or a hold, by name.
pub fn of(engine: &Engine, selection: &Selection) -> BTreeMap<Box<str>, Facts> {
    let books = engine.books().filter(|book| selection.contains(&book.account_name));
    let facts = books.map(|book| (book.name.clone(), facts_of(engine, book)));
    facts.filter(|(_, facts)| !facts.positions.is_empty() || !facts.holds.is_empty()).collect()
}

fn facts_of(engine: &Engine, book: BookView<'_>) -> Facts {
    let hot = &book.book.hot;
    let is_doubted = hot.open.as_ref().is_some_and(|open| open.price_doubted.is_some());
    let holds = [
        ("history_gap", hot.history_gap),
        ("diverged", hot.diverged || hot.disagreement.is_some()),
        ("price_jump", is_doubted),
        ("killed", engine.is_killed(book.account) && hot.open.is_some()),
    ];
    Facts {
        account: book.account_name.clone(),
        is_open: hot.open.is_some(),
        positions: book.book.positions().map(|position| shown(book, position)).collect(),
        holds: holds.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name).collect(),
    }
}

fn shown(book: BookView<'_>, position: &Position) -> String {
    let entry = position.totals.entry.map_or_else(|| "none".to_owned(), |entry| entry.price.to_string());
    let rungs: Vec<String> = position.rungs.iter().map(|rung| format!("{} {}", rung.r, rung.state.name())).collect();
    let decisions: Vec<String> = position
        .decisions
        .iter()
        .map(|decision| format!("{} {} {}", decision.decision_id, decision.qty, decision.state.name()))
        .collect();
    format!(
        "{} of {} at {entry}, rungs [{}], decisions [{}]",
        book.position_id(position),
        position.totals.qty,
        rungs.join(", "),
        decisions.join(", ")
    )
}

/// Compares the books of a new cell with the expected ones. A new hold is not a difference and is listed separately,
/// because it is on the safe side.
pub fn compare(
    wanted: &BTreeMap<Box<str>, Facts>,
    got: &BTreeMap<Box<str>, Facts>,
    differences: &mut Vec<String>,
    held: &mut Vec<String>,
) {
    let mut differ = |text: String| {
        if differences.len() < NAMED_MAX {
            differences.push(text);
        }
    };
    for (name, before) in wanted {
        let Some(after) = got.get(name) else {
            differ(format!("{name} is missing: {}", before.positions.join("; ")));
            continue;
        };
        if before.positions != after.positions {
            differ(format!("{name} was {}, and would be {}", before.positions.join("; "), after.positions.join("; ")));
        }
        let lost: Vec<&str> = before.holds.iter().filter(|hold| !after.holds.contains(hold)).copied().collect();
        if !lost.is_empty() {
            differ(format!("{name} was held for {}, and would not be", lost.join(", ")));
        }
        let new: Vec<&str> = after.holds.iter().filter(|hold| !before.holds.contains(hold)).copied().collect();
        if !new.is_empty() {
            held.push(format!("{name}: {}", new.join(", ")));
        }
    }
    for (name, after) in got.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        if after.positions.is_empty() {
            held.push(format!("{name}: {}", after.holds.join(", ")));
        } else {
            differ(format!("{name} would have {}, and had nothing", after.positions.join("; ")));
        }
    }
}
