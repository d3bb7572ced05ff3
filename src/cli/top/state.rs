//! The state of the screen, and how answers and keys change it.
//!
//! ```text
//!            ?                    Enter
//!  help ◀────────── table ──────────────────▶ detail
//!       ──────────▶   │  ▲  ◀──────────────────
//!          any      / │  │ Enter, Esc     Esc
//!                     ▼  │
//!                    filter
//! ```

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::detail::{self, Line};
use super::table::{Row, Sort, Table};
use super::tables::Page;
use crate::cli::positions::Sheet;
use crate::service::report::Report;
use crate::shell::terminal::Tone;

/// Rows by which the keys `PgUp` and `PgDn` move. [1]
const ROWS_A_LEAP: usize = 10;
/// Maximum length of a filter. [characters]
const FILTER_LETTERS_MAX: usize = 80;

/// The answer of a service to one round of questions, or the reason why it did not answer, or has not yet.
#[derive(Clone, Debug)]
pub struct Answer {
    pub report: Result<Box<Report>, String>,
    /// `None` if it was not asked for, because the report did not come.
    pub sheet: Option<Result<Box<Sheet>, String>>,
}

/// The effect of a key on the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    None,
    End,
    /// Gives the terminal back to the shell, until it continues us.
    Suspend,
}

/// How the user filters, sorts and scrolls a page.
#[derive(Clone, Debug, Default)]
struct PageState {
    filter: String,
    sort: Option<Sort>,
    /// The key of the selected row. It stays selected wherever the row moves.
    selected: Option<String>,
    /// The index of the selected row when it was last in the table. [1]
    at: usize,
}

/// The row whose detail is shown.
#[derive(Clone, Debug)]
struct Opened {
    about: String,
    /// Lines that are scrolled away. [1]
    scrolled: usize,
}

/// The time of the last answer before something failed, and the reason.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub since_ms: u64,
    pub why: String,
}

/// The whole screen as a value.
pub struct Top {
    url: String,
    page: Page,
    page_states: [PageState; Page::ALL.len()],
    opened: Option<Opened>,
    is_typing: bool,
    has_help: bool,
    report: Option<Box<Report>>,
    sheet: Option<Box<Sheet>>,
    /// The time at which the report on the screen came. [ms since 1970]
    answered_ms: Option<u64>,
    /// The time of the last answer with all that was asked for, or else of the first question. [ms since 1970]
    whole_ms: Option<u64>,
    /// Why the report or the positions are missing.
    failure: Option<Failure>,
}

impl Top {
    /// Returns the screen as it is before the first answer. `url` names the service.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            page: Page::Positions,
            page_states: Page::ALL.map(|page| PageState { sort: page.sort(), ..PageState::default() }),
            opened: None,
            is_typing: false,
            has_help: false,
            report: None,
            sheet: None,
            answered_ms: None,
            whole_ms: None,
            failure: None,
        }
    }

    /// Notes the time of the first question. [ms since 1970]
    pub fn asked(&mut self, now_ms: u64) {
        self.whole_ms.get_or_insert(now_ms);
    }

    /// Applies an answer. After a failure, keeps the last report on the screen and shows the reason. [ms since 1970]
    pub fn take(&mut self, answer: Answer, now_ms: u64) {
        let mut why = None;
        match answer.report {
            Ok(report) => {
                self.report = Some(report);
                self.answered_ms = Some(now_ms);
            }
            Err(error) => why = Some(error),
        }
        match answer.sheet {
            Some(Ok(sheet)) => self.sheet = Some(sheet),
            Some(Err(error)) => why = why.or(Some(error)),
            None => {}
        }
        if why.is_none() {
            self.whole_ms = Some(now_ms);
        }
        let since_ms = self.whole_ms.unwrap_or(now_ms);
        self.failure = why.map(|why| Failure { since_ms, why });
        self.keep_selected();
    }

    /// Applies a key.
    pub fn press(&mut self, key: KeyEvent) -> Effect {
        if key.kind == KeyEventKind::Release {
            return Effect::None;
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            // A terminal sends Alt as the escape key before the other one. If both are read at once, the user pressed
            // Alt.
            let _ = self.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Effect::End,
            KeyCode::Char('z') if is_control => return Effect::Suspend,
            KeyCode::Char('u') if is_control && self.is_typing => self.page_state_mut().filter.clear(),
            _ if is_control => {}
            _ if self.has_help => self.has_help = false,
            code if self.is_typing => self.type_filter(code),
            KeyCode::Char('q') => return Effect::End,
            code if self.opened.is_some() => self.press_in_detail(code),
            code => self.press_in_table(code),
        }
        Effect::None
    }

    fn type_filter(&mut self, code: KeyCode) {
        let page_state = self.page_state_mut();
        match code {
            KeyCode::Char(letter) if page_state.filter.chars().count() < FILTER_LETTERS_MAX => {
                page_state.filter.push(letter)
            }
            KeyCode::Backspace => drop(page_state.filter.pop()),
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                page_state.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            _ => {}
        }
    }

    fn press_in_detail(&mut self, code: KeyCode) {
        let Some(opened) = &mut self.opened else { return };
        match code {
            KeyCode::Esc | KeyCode::Enter | KeyCode::Left => self.opened = None,
            KeyCode::Down | KeyCode::Char('j') => opened.scrolled += 1,
            KeyCode::Up | KeyCode::Char('k') => opened.scrolled = opened.scrolled.saturating_sub(1),
            KeyCode::PageDown => opened.scrolled += ROWS_A_LEAP,
            KeyCode::PageUp => opened.scrolled = opened.scrolled.saturating_sub(ROWS_A_LEAP),
            KeyCode::Home => opened.scrolled = 0,
            KeyCode::Char('?') => self.has_help = true,
            other => self.turn_page(other),
        }
        // The last line stays on the screen.
        let last = self.detail().map_or(0, |(lines, _)| lines.len().saturating_sub(1));
        if let Some(opened) = &mut self.opened {
            opened.scrolled = opened.scrolled.min(last);
        }
    }

    fn press_in_table(&mut self, code: KeyCode) {
        let leap = ROWS_A_LEAP as isize;
        match code {
            KeyCode::Char('?') => self.has_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Esc => self.page_state_mut().filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(leap),
            KeyCode::PageUp => self.step(-leap),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char('s') => self.sort_by_next(1),
            KeyCode::Char('S') => self.sort_by_next(self.page.columns().len()),
            KeyCode::Char('r') => {
                if let Some(sort) = &mut self.page_state_mut().sort {
                    sort.is_descending = !sort.is_descending;
                }
            }
            KeyCode::Enter => self.open(),
            other => self.turn_page(other),
        }
    }

    fn turn_page(&mut self, code: KeyCode) {
        let pages = Page::ALL.len();
        let at = self.page_number();
        let to = match code {
            KeyCode::Char(digit @ '1'..='9') => (digit as usize) - ('1' as usize),
            KeyCode::Tab | KeyCode::Right => (at + 1) % pages,
            KeyCode::BackTab | KeyCode::Left => (at + pages - 1) % pages,
            _ => return,
        };
        if let Some(page) = Page::ALL.get(to) {
            self.page = *page;
            self.opened = None;
        }
    }

    /// Sorts by the column `further` columns to the right; after the last one, by none.
    fn sort_by_next(&mut self, further: usize) {
        let orders = self.page.columns().len() + 1;
        let none = orders - 1;
        let page_state = self.page_state_mut();
        let column = (page_state.sort.map_or(none, |sort| sort.column) + further) % orders;
        page_state.sort = (column != none).then_some(Sort { column, is_descending: false });
    }

    /// Opens the selected row. A hold leads to its positions.
    fn open(&mut self) {
        let Some(row) = self.selected_row() else { return };
        if self.page == Page::Holds {
            self.page = Page::Positions;
            let page_state = self.page_state_mut();
            page_state.filter = row.about;
            page_state.selected = None;
            page_state.at = 0;
            return;
        }
        self.opened = Some(Opened { about: row.about, scrolled: 0 });
    }

    /// Moves the selection by rows.
    fn step(&mut self, rows: isize) {
        let table = self.table();
        let Some(last) = table.rows.len().checked_sub(1) else { return };
        let at = self.selected_in(&table).unwrap_or(0).saturating_add_signed(rows).min(last);
        let page_state = self.page_state_mut();
        page_state.at = at;
        page_state.selected = Some(table.rows[at].key.clone());
    }

    /// Remembers the index of the selected row. If the row disappears, the row at this index is selected next.
    fn keep_selected(&mut self) {
        let table = self.table();
        if let Some(at) = self.selected_in(&table) {
            let page_state = self.page_state_mut();
            page_state.at = at;
            if page_state.selected.is_some() {
                page_state.selected = Some(table.rows[at].key.clone());
            }
        }
    }

    fn selected_row(&self) -> Option<Row> {
        let table = self.table();
        let at = self.selected_in(&table)?;
        table.rows.into_iter().nth(at)
    }

    /// Returns the index of the selected row; `None` for a table without rows.
    pub(super) fn selected_in(&self, table: &Table) -> Option<usize> {
        let page_state = self.page_state();
        let last = table.rows.len().checked_sub(1)?;
        let is_selected = |row: &Row| page_state.selected.as_ref() == Some(&row.key);
        Some(table.rows.iter().position(is_selected).unwrap_or(page_state.at.min(last)))
    }

    fn page_number(&self) -> usize {
        Page::ALL.iter().position(|page| *page == self.page).unwrap_or(0)
    }

    fn page_state(&self) -> &PageState {
        &self.page_states[self.page_number()]
    }

    fn page_state_mut(&mut self) -> &mut PageState {
        &mut self.page_states[self.page_number()]
    }

    // What the screen shows, for `view`:

    /// Returns the rows of the page as they are filtered and sorted.
    pub(super) fn table(&self) -> Table {
        let page_state = self.page_state();
        self.page.table(self.report(), self.sheet.as_deref()).arranged(&page_state.filter, page_state.sort)
    }

    /// Returns the lines of the detail and the number of lines that are scrolled away; `None` if no detail is open.
    pub(super) fn detail(&self) -> Option<(Vec<Line>, usize)> {
        let opened = self.opened.as_ref()?;
        let lines = detail::lines(self.page, &opened.about, self.report(), self.sheet.as_deref());
        let gone = || vec![vec![("It is not there any more.".to_owned(), Tone::Warning)]];
        Some((lines.unwrap_or_else(gone), opened.scrolled))
    }

    pub(super) fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn page(&self) -> Page {
        self.page
    }

    pub(super) fn filter(&self) -> &str {
        &self.page_state().filter
    }

    pub(super) fn sort(&self) -> Option<Sort> {
        self.page_state().sort
    }

    pub(super) fn is_typing(&self) -> bool {
        self.is_typing
    }

    pub(super) fn has_help(&self) -> bool {
        self.has_help
    }

    /// Returns why the report is not renewed, and the time of the report that is shown. [ms since 1970]
    pub(super) fn failure(&self) -> Option<(&Failure, Option<u64>)> {
        Some((self.failure.as_ref()?, self.answered_ms))
    }
}
