//! Tables of any content: rows that are filtered and sorted.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use crate::codec::shown::shown;
use crate::codec::time::span;
use crate::shell::terminal::Tone;

/// A column. In a narrow terminal, the columns with the largest `drop` are left out first. A column with 0 is always
/// shown.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub is_right: bool,
    pub drop: u8,
}

/// Returns a column whose texts begin at its left edge.
pub const fn left(name: &'static str, drop: u8) -> Column {
    Column { name, is_right: false, drop }
}

/// Returns a column of numbers, which end at its right edge.
pub const fn right(name: &'static str, drop: u8) -> Column {
    Column { name, is_right: true, drop }
}

/// The value by which a cell is sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rank {
    Number(Decimal),
    Text(String),
    /// Missing. It is last in both directions.
    Missing,
}

/// A cell with its text, which is safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
    rank: Rank,
}

impl Cell {
    pub fn text(text: &str) -> Self {
        let rank = if text.is_empty() { Rank::Missing } else { Rank::Text(text.to_lowercase()) };
        Self::new(text, rank)
    }

    /// Returns a number as it is written, sorted by its value.
    pub fn number(text: Option<&str>) -> Self {
        Self::ranked(text, text.and_then(|text| text.parse().ok()))
    }

    /// Returns a number that is shown in another form than its value.
    pub fn ranked(text: Option<&str>, value: Option<Decimal>) -> Self {
        Self::new(text.unwrap_or_default(), value.map_or(Rank::Missing, Rank::Number))
    }

    pub fn count(count: impl Into<Option<u64>>) -> Self {
        let count = count.into();
        Self::ranked(count.map(|count| count.to_string()).as_deref(), count.map(Decimal::from))
    }

    /// Returns a duration in words. [ms]
    pub fn span(ms: Option<u64>) -> Self {
        Self::ranked(ms.map(span).as_deref(), ms.map(Decimal::from))
    }

    /// Returns a text that is sorted by its tone, the worst first, and then by the text itself.
    pub fn graded(text: &str, tone: Tone) -> Self {
        let grade = match tone {
            Tone::Bad => 0,
            Tone::Warning => 1,
            Tone::Plain | Tone::Good | Tone::Dim => 2,
        };
        let cell = Self::new(text, Rank::Text(format!("{grade}{text}")));
        cell.with(tone)
    }

    fn new(text: &str, rank: Rank) -> Self {
        let text = if text.is_empty() { "-".to_owned() } else { shown(text).into_owned() };
        Self { text, tone: Tone::Plain, rank }
    }

    /// Returns the cell with a tone. A bad value also begins with a mark.
    #[must_use]
    pub fn with(self, tone: Tone) -> Self {
        let text = if tone == Tone::Bad { format!("! {}", self.text) } else { self.text };
        Self { text, tone, ..self }
    }

    /// Compares by value; a missing one is last in both directions.
    fn order(&self, other: &Self, is_descending: bool) -> Ordering {
        let order = match (&self.rank, &other.rank) {
            (Rank::Missing, Rank::Missing) => return Ordering::Equal,
            (Rank::Missing, _) => return Ordering::Greater,
            (_, Rank::Missing) => return Ordering::Less,
            (Rank::Number(a), Rank::Number(b)) => a.cmp(b),
            (Rank::Text(a), Rank::Text(b)) => a.cmp(b),
            (Rank::Number(_), Rank::Text(_)) => Ordering::Less,
            (Rank::Text(_), Rank::Number(_)) => Ordering::Greater,
        };
        if is_descending { order.reverse() } else { order }
    }
}

/// A row. `key` identifies it among the rows of later answers; `about` is the subject of its detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: String,
    pub about: String,
    pub cells: Vec<Cell>,
}

/// By which column rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: usize,
    pub is_descending: bool,
}

/// The rows of a page.
#[derive(Clone, Debug)]
pub struct Table {
    pub columns: &'static [Column],
    pub rows: Vec<Row>,
    /// Rows before the filter. [1]
    pub all: usize,
    /// The sentence that is shown if there are no rows.
    pub empty: String,
}

impl Row {
    pub fn of(key: &str, cells: Vec<Cell>) -> Self {
        Self { key: key.to_owned(), about: key.to_owned(), cells }
    }
}

impl Table {
    pub fn new(columns: &'static [Column], rows: Vec<Row>, empty: &str) -> Self {
        Self { columns, all: rows.len(), rows, empty: empty.to_owned() }
    }

    /// Returns the rows that contain all words of the filter in any letter case, in order.
    #[must_use]
    pub fn arranged(mut self, filter: &str, sort: Option<Sort>) -> Self {
        let filter = filter.to_lowercase();
        let words: Vec<&str> = filter.split_whitespace().collect();
        self.rows.retain(|row| {
            let has = |word: &&str| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(word));
            words.iter().all(has)
        });
        if let Some(Sort { column, is_descending }) = sort {
            self.rows.sort_by(|a, b| a.cells[column].order(&b.cells[column], is_descending));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [left("NAME", 0), right("R", 0)];

    fn arranged(filter: &str, column: usize, is_descending: bool) -> Vec<String> {
        let row = |name: &str, r: Option<&str>| Row::of(name, vec![Cell::text(name), Cell::number(r)]);
        let rows = vec![row("b", Some("9")), row("c", None), row("a", Some("10")), row("B2", Some("-1.5"))];
        let table = Table::new(&COLUMNS, rows, "none").arranged(filter, Some(Sort { column, is_descending }));
        table.rows.into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn numbers_are_sorted_by_value_and_a_missing_one_is_last_in_both_directions() {
        assert_eq!(arranged("", 1, false), ["B2", "b", "a", "c"]);
        assert_eq!(arranged("", 1, true), ["a", "b", "B2", "c"]);
        assert_eq!(arranged("", 0, false), ["a", "b", "B2", "c"]);
    }

    #[test]
    fn a_filter_wants_all_of_its_words_in_any_cell_and_any_case() {
        assert_eq!(arranged("B", 0, false), ["b", "B2"]);
        assert_eq!(arranged("b -1", 0, false), ["B2"]);
        assert_eq!(arranged("b x", 0, false), [""; 0]);
    }

    #[test]
    fn the_worst_comes_first_and_has_a_mark() {
        let mut cells = [
            Cell::graded("below_min_r", Tone::Plain),
            Cell::graded("stale_price", Tone::Warning),
            Cell::graded("killed", Tone::Bad),
        ];
        cells.sort_by(|a, b| a.order(b, false));
        assert_eq!(cells.map(|cell| cell.text), ["! killed", "stale_price", "below_min_r"]);
        assert_eq!(Cell::text("a\u{1b}[2Jb").text, "a\\u{1b}[2Jb", "a command to a terminal is text");
    }
}
