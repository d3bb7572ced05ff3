//! Positions and summaries as JSON documents for programs and people (docs/spec/commands.md, "positions", "replay").

mod decision;
mod position;
mod summary;

use std::fmt::Display;

use serde::Serializer;

use crate::domain::book::position::Position;
use crate::domain::book::rung::RungState;
use crate::domain::book::state::parts_of_name;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::exit::policy::Policy;
use crate::domain::units::{RMultiple, Ratio};

pub use decision::DecisionView;
pub use position::{Fill, NextRung, PositionView, Rung, Sourced};
pub use summary::{Counted, Summary};

/// Serialises a number of the rules as documents have it: as a text.
pub fn as_text<S: Serializer>(number: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(number)
}

/// Serialises a number that may be unknown: as a text, or null.
pub fn as_text_or_null<S: Serializer>(number: &Option<impl Display>, to: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => to.collect_str(number),
        None => to.serialize_none(),
    }
}

/// Returns the names of the fields that a position lacks to be evaluated.
pub fn missing(book: BookView<'_>, position: &Position) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if position.totals.entry.is_none() {
        missing.push("entry_price");
    }
    if position.risk.is_none() {
        missing.extend(["atr_value", "volatility_factor"]);
    }
    if book.symbol.mark.is_none() {
        missing.push("mark_price");
    }
    missing
}

/// One rung of a position at a time.
pub struct RungView {
    pub r: RMultiple,
    pub fraction: Ratio,
    pub state: RungState,
    pub decision_id: Option<Box<str>>,
}

/// Returns the rungs of the ladder, and those that were touched under an earlier ladder, ascending.
pub fn rungs(position: &Position, policy: &Policy, now_ms: u64) -> Vec<RungView> {
    let of_ladder = policy.ladder.iter().map(|step| RungView {
        r: step.r,
        fraction: step.fraction,
        state: position.rung_state(step.r, now_ms),
        decision_id: position.rung(step.r).and_then(|rung| rung.decision_id.clone()),
    });
    let others =
        position.rungs.iter().filter(|rung| policy.ladder.iter().all(|step| step.r != rung.r)).map(|rung| RungView {
            r: rung.r,
            fraction: rung.fraction,
            state: position.rung_state(rung.r, now_ms),
            decision_id: rung.decision_id.clone(),
        });
    let mut rungs: Vec<RungView> = of_ladder.chain(others).collect();
    rungs.sort_by_key(|rung| rung.r);
    rungs
}

/// Returns the lowest armed rung of the ladder.
pub fn next_rung(position: &Position, policy: &Policy, now_ms: u64) -> Option<RMultiple> {
    let armed = |r| position.rung_state(r, now_ms) == RungState::Armed;
    policy.ladder.iter().map(|step| step.r).find(|&r| armed(r))
}

/// Returns the positions of an engine, by name of their symbol: the open ones and, with `all`, the remembered closed
/// ones.
pub fn positions(engine: &Engine, all: bool) -> Vec<PositionView> {
    let of_book = |book: BookView<'_>| -> Vec<PositionView> {
        let shown = |position: &&Position| all || position.is_open();
        book.positions().filter(shown).map(|position| PositionView::of(engine, book, position)).collect()
    };
    by_name(engine).into_iter().flat_map(of_book).collect()
}

/// Returns the name of a book or symbol as a person writes it: the symbol in capitals, and the account, whose name is
/// taken as written, before it.
pub fn written_name(text: &str, account: Option<&str>) -> String {
    let text = text.trim();
    match (account, text.split_once('/')) {
        (Some(account), None) => format!("{account}/{}", text.to_uppercase()),
        (_, Some((account, symbol))) => format!("{account}/{}", symbol.to_uppercase()),
        (None, None) => text.to_uppercase(),
    }
}

/// Returns the books of a name: of a symbol all books, of `ACCOUNT/SYMBOL` those of the account, of a whole name one.
/// Returns nothing if it was never seen.
pub fn named<'a>(engine: &'a Engine, name: &str) -> Vec<BookView<'a>> {
    let (account, symbol, side) = parts_of_name(name);
    let Some(id) = engine.find(symbol) else { return Vec::new() };
    let is_of = |book: &BookView<'_>| {
        let has_account = account.is_empty() || *book.account_name == *account;
        has_account && (!side.is_hedge() || (side == book.side && *book.account_name == *account))
    };
    engine.books_of(id).filter(is_of).collect()
}

/// Returns the book of a name that an explanation is about: the first one that is open, else the first.
pub fn named_one<'a>(engine: &'a Engine, name: &str) -> Option<BookView<'a>> {
    let books = named(engine, name);
    books.iter().find(|book| book.hot.open.is_some()).or(books.first()).copied()
}

/// Returns the books by the names of their symbols and, within a symbol, in the order in which they are evaluated.
pub fn by_name(engine: &Engine) -> Vec<BookView<'_>> {
    let mut books: Vec<BookView<'_>> = engine.books().collect();
    books.sort_by(|a, b| a.symbol.name.cmp(&b.symbol.name));
    books
}
