//! Positions together with the notes that a reader needs: the last applied entry, and the symbols with open questions.

use serde::{Deserialize, Serialize};

use crate::codec::state::{self, Rows};
use crate::codec::view::{self, PositionView};
use crate::domain::book::position::Position;
use crate::domain::book::state::{Book, account_of_position};
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;

/// The content of `positions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    /// The entry that was applied last, `ms-seq`.
    pub as_of: String,
    /// The time of the holds, rungs and ages. A service of an earlier version does not state it. [ms since 1970]
    #[serde(default)]
    judged_ms: Option<u64>,
    pub killed: bool,
    /// True if no source has ever reported a position, not even a flat one.
    pub positions_unknown: bool,
    /// Symbols that a snapshot has reported only once.
    pub unconfirmed: Vec<String>,
    /// Symbols whose history has a gap, with or without a position.
    pub history_gap: Vec<String>,
    pub positions: Vec<PositionView>,
}

impl Sheet {
    /// Returns the positions of all books, or of the books with a name ([`view::named`]); `None` if the name is
    /// unknown. Holds are those at the last entry after which symbols are evaluated.
    pub fn of<R: Rows>(
        engine: &Engine,
        rows: &R,
        wanted: Option<&str>,
        closed_too: bool,
    ) -> Result<Option<Self>, R::Error> {
        Self::of_at(engine, rows, wanted, closed_too, engine.evaluated_ms())
    }

    /// Returns the same with the holds at a time. [ms since 1970]
    ///
    /// Closed positions come from the rows of the store, and from the engine if it still has them: the store of a
    /// running service lags until the next commit.
    pub fn of_at<R: Rows>(
        engine: &Engine,
        rows: &R,
        wanted: Option<&str>,
        closed_too: bool,
        now_ms: u64,
    ) -> Result<Option<Self>, R::Error> {
        let view = |book: BookView<'_>, position: &Position| PositionView::of_at(engine, book, position, now_ms);
        let books: Vec<BookView<'_>> = match wanted {
            None => view::by_name(engine),
            Some(wanted) => match view::named(engine, wanted) {
                none if none.is_empty() => return Ok(None),
                books => books,
            },
        };
        let mut positions = Vec::new();
        for &book in &books {
            if closed_too {
                let closed = closed(rows, book.book)?;
                positions.extend(closed.iter().map(|position| view(book, position)));
            }
            positions.extend(book.book.hot.open.as_ref().map(|open| view(book, open)));
        }
        let names = |keep: fn(&Book) -> bool| -> Vec<String> {
            books.iter().filter(|book| keep(book.book)).map(|book| book.name.to_string()).collect()
        };
        let globals = engine.globals();
        Ok(Some(Self {
            as_of: globals.last.to_string(),
            judged_ms: Some(now_ms),
            killed: globals.killed,
            positions_unknown: !globals.positions_known,
            unconfirmed: names(Book::is_unconfirmed),
            history_gap: names(|book| book.hot.history_gap),
            positions,
        }))
    }

    /// Leaves out the positions and names of other accounts.
    pub fn keep_account(&mut self, account: &str) {
        self.positions.retain(|position| position.account.as_deref().unwrap_or_default() == account);
        for names in [&mut self.unconfirmed, &mut self.history_gap] {
            names.retain(|name| account_of_position(name) == account);
        }
    }

    /// Returns the time of the holds, rungs and ages. [ms since 1970]
    pub fn judged_ms(&self) -> u64 {
        self.judged_ms.unwrap_or_else(|| self.as_of_ms())
    }

    /// Returns the time of the last applied entry. [ms since 1970]
    pub fn as_of_ms(&self) -> u64 {
        self.as_of.parse::<EntryId>().map_or(0, |id| id.ms)
    }
}

fn closed<R: Rows>(rows: &R, book: &Book) -> Result<Vec<Position>, R::Error> {
    let mut positions = state::closed_positions(rows, &book.name)?;
    for remembered in &book.closed {
        match positions.iter_mut().find(|position| position.id == remembered.id) {
            Some(stored) => *stored = remembered.clone(),
            None => positions.push(remembered.clone()),
        }
    }
    Ok(positions)
}
