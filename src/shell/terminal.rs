//! Output for people: tables, colours and a progress bar, each only on a terminal; and the exclusive use of the
//! terminal by one command.

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::codec::shown::shown;

mod whole;

pub use whole::{Whole, events, is_terminal};

/// Returns true unless `NO_COLOR` is set.
pub fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The output for people, with or without colour.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    pub colour: bool,
    is_terminal: bool,
}

/// The style of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Dim,
}

impl<'a> Screen<'a> {
    /// Returns standard output, with colour on a terminal unless `NO_COLOR` is set.
    pub fn stdout(out: &'a mut dyn Write) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { out, colour: is_terminal && has_colour(), is_terminal }
    }

    /// Returns an output without colour.
    pub fn plain(out: &'a mut dyn Write) -> Self {
        Self { out, colour: false, is_terminal: false }
    }

    /// Writes one line, with any text escaped.
    pub fn line(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "{}", shown(text))
    }

    /// Writes an emphasised line.
    pub fn heading(&mut self, text: &str) -> std::io::Result<()> {
        let text = shown(text);
        if self.colour { writeln!(self.out, "\x1b[1m{text}\x1b[0m") } else { writeln!(self.out, "{text}") }
    }

    pub fn table(&mut self, head: &[&str], right: &[usize], rows: Vec<Vec<(String, Tone)>>) -> std::io::Result<()> {
        let mut table = self.grid(rows);
        table.set_header(head.iter().map(|text| self.dressed((*text).to_owned(), Tone::Plain, true)));
        for &index in right {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.lines(&table)
    }

    /// Writes rows with aligned columns, without a header.
    pub fn rows(&mut self, rows: Vec<Vec<(String, Tone)>>) -> std::io::Result<()> {
        let table = self.grid(rows);
        self.lines(&table)
    }

    fn grid(&self, rows: Vec<Vec<(String, Tone)>>) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if !self.is_terminal {
            table.force_no_tty();
        }
        for row in rows {
            table.add_row(row.into_iter().map(|(text, tone)| self.dressed(text, tone, false)));
        }
        table
    }

    fn dressed(&self, text: String, tone: Tone, bold: bool) -> Cell {
        let mut cell = Cell::new(shown(&text));
        if !self.colour {
            return cell;
        }
        if bold {
            cell = cell.add_attribute(Attribute::Bold);
        }
        match tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Warning => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red),
            Tone::Dim => cell.add_attribute(Attribute::Dim),
        }
    }

    fn lines(&mut self, table: &Table) -> std::io::Result<()> {
        for line in table.to_string().lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A progress bar on standard error with entries, rate and time of the current entry; nothing without a terminal.
pub struct Progress(Option<Shown>);

struct Shown {
    bar: ProgressBar,
    /// Total number of entries, if known. The bar then shows entries. [1]
    entries: Option<u64>,
    /// Bytes read so far, if the bar shows bytes. [byte]
    read: Arc<AtomicU64>,
}

impl Progress {
    /// Returns a bar for a number of entries. [1]
    pub fn of_entries(entries: u64) -> Self {
        Self::new(entries, Some(entries), Arc::default())
    }

    /// Returns a bar for a number of bytes. The reader counts them in `read`. [byte]
    pub fn of_bytes(bytes: u64, read: Arc<AtomicU64>) -> Self {
        Self::new(bytes, None, read)
    }

    fn new(length: u64, entries: Option<u64>, read: Arc<AtomicU64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(length);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(Shown { bar, entries, read }))
    }

    /// Updates the bar. `time` is that of the current entry.
    pub fn at(&self, entries: u64, time: impl FnOnce() -> String) {
        if let Some(Shown { bar, entries: total, read }) = &self.0 {
            bar.set_position(if total.is_some() { entries } else { read.load(Ordering::Relaxed) });
            let of = total.map(|total| format!(" of {}", HumanCount(total))).unwrap_or_default();
            let rate = entries as f64 / bar.elapsed().as_secs_f64();
            bar.set_message(format!("{}{of} entries  {}/s  {}", HumanCount(entries), HumanCount(rate as u64), time()));
        }
    }

    pub fn finish(self) {
        if let Some(Shown { bar, .. }) = self.0 {
            bar.finish_and_clear();
        }
    }
}
