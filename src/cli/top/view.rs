//! Draws the screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Paragraph, Row, Table as Grid, TableState, Wrap};

use super::state::{Failure, Top};
use super::table::{Cell, Column, Sort, Table};
use super::tables::Page;
use crate::codec::plural::plural;
use crate::codec::shown::shown;
use crate::codec::time::{iso, span};
use crate::service::report::{Report, concerns};
use crate::shell::terminal::Tone;

/// A smaller terminal shows one sentence only. [columns, lines]
const SIZE_MIN: (u16, u16) = (30, 8);
/// Blank columns between two columns of a table. [columns]
const GAP: u16 = 2;
/// The mark of the selected row.
const SELECTED: &str = "> ";

/// The keys, as the help lists them.
const KEYS: [(&str, &str); 15] = [
    ("1 to 5", "the pages; also Tab, ← and →"),
    ("↑ ↓", "choose a row; also k and j, PgUp, PgDn, Home and End"),
    ("Enter", "everything about the row; of a hold, its positions"),
    ("Esc", "back; clears the filter"),
    ("/", "filter: rows that have all of the words. Enter keeps it"),
    ("s, S", "sort by the next column, by the one before"),
    ("r", "sort the other way round"),
    ("Ctrl-Z", "suspend"),
    ("q", "end; also Ctrl-C"),
    ("", ""),
    ("! and red", "needs a person"),
    ("yellow", "held by a doubt about price, risk or entry"),
    ("R, NEXT", "net gain in units of risk; the next rung in R"),
    ("AWAY", "distance of the next rung from the price"),
    ("AGE", "time since the entry of the price"),
];

/// Draws the screen at a time [ms since 1970], with or without colour.
pub fn draw(top: &Top, now_ms: u64, has_colour: bool, frame: &mut Frame<'_>) {
    let area = frame.area();
    let brush = Brush { has_colour };
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        let says = format!("harvester top needs a terminal of {} × {} at least.", SIZE_MIN.0, SIZE_MIN.1);
        frame.render_widget(Paragraph::new(says).wrap(Wrap { trim: true }), area);
        return;
    }
    let head = head(top, now_ms, &brush);
    let parts = Layout::vertical([
        Constraint::Length(head.len() as u16),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(1),
    ]);
    let [of_head, of_tabs, of_body, of_foot] = parts.areas(area);
    frame.render_widget(Paragraph::new(head), of_head);
    frame.render_widget(Paragraph::new(tabs(top)), of_tabs);
    let foot = body(top, &brush, of_body, frame);
    let foot = if top.is_typing() { Line::raw(format!("/{}", shown(top.filter()))) } else { dim(foot) };
    frame.render_widget(Paragraph::new(foot), of_foot);
    if top.is_typing() {
        let typed = Span::raw(top.filter()).width() + "/".len();
        frame.set_cursor_position((u16::try_from(typed).unwrap_or(u16::MAX).min(area.width - 1), of_foot.y));
    }
}

/// Turns tones into styles.
struct Brush {
    has_colour: bool,
}

impl Brush {
    fn style(&self, tone: Tone) -> Style {
        let plain = Style::new();
        match tone {
            Tone::Plain => plain,
            Tone::Dim => plain.add_modifier(Modifier::DIM),
            Tone::Bad if !self.has_colour => plain.add_modifier(Modifier::BOLD),
            Tone::Good | Tone::Warning if !self.has_colour => plain,
            Tone::Good => plain.fg(Color::Green),
            Tone::Warning => plain.fg(Color::Yellow),
            Tone::Bad => plain.fg(Color::Red),
        }
    }

    fn span(&self, text: impl Into<String>, tone: Tone) -> Span<'static> {
        Span::styled(text.into(), self.style(tone))
    }
}

/// Returns the lines at the top: the service, its positions, what needs a person, and why the report is not renewed.
fn head(top: &Top, now_ms: u64, brush: &Brush) -> Vec<Line<'static>> {
    let bold = |text: &str| Span::styled(shown(text).into_owned(), Style::new().add_modifier(Modifier::BOLD));
    let url = shown(top.url()).into_owned();
    let mut lines = match top.report() {
        None => vec![Line::from(vec![bold("harvester top"), Span::raw(format!("  {url}"))])],
        Some(report) => of_report(report, &url, bold, brush),
    };
    if let Some((failure, answered_ms)) = top.failure() {
        lines.extend(of_failure(failure, answered_ms, now_ms, brush));
    }
    lines
}

fn of_report(report: &Report, url: &str, bold: impl Fn(&str) -> Span<'static>, brush: &Brush) -> Vec<Line<'static>> {
    let cell = report.cell.as_ref().map_or_else(String::new, |cell| format!("  {}", shown(cell)));
    let lasts = format!("  {} for {}  {}{cell}  ", report.role.name(), span(report.uptime_ms), report.policy.mode);
    let mut first = vec![bold(&report.build), Span::raw(lasts)];
    if report.killed {
        first.push(brush.span("! KILLED  ", Tone::Bad));
    }
    first.push(brush.span(url, Tone::Dim));
    let positions = &report.positions;
    let counts = format!(
        "{} open, {} evaluable; {} decided, {} emitted since the start; {:.0} entries/s",
        positions.open, positions.evaluable, report.totals.decided, report.totals.emitted, report.rates.applied
    );
    let concerns = concerns(report);
    let needs = match concerns.first() {
        None => brush.span("Nothing needs anyone.", Tone::Good),
        Some(worst) => {
            let all = plural(concerns.len(), "finding");
            brush.span(format!("! {all}: {}: {}", worst.name, shown(&worst.says)), Tone::Bad)
        }
    };
    vec![Line::from(first), Line::raw(counts), Line::from(needs)]
}

fn of_failure(failure: &Failure, answered_ms: Option<u64>, now_ms: u64, brush: &Brush) -> [Line<'static>; 2] {
    let lasts = span(now_ms.saturating_sub(failure.since_ms));
    let of = answered_ms.map_or_else(String::new, |ms| format!("; shown is the state of {}", iso(ms)));
    let lines = [format!("! no answer for {lasts}{of}"), format!("  {}", shown(&failure.why))];
    lines.map(|line| brush.span(line, Tone::Bad).into())
}

fn tabs(top: &Top) -> Line<'static> {
    let tab = |(at, page): (usize, &Page)| {
        let name = format!("{} {}", at + 1, page.name());
        if *page == top.page() {
            Span::styled(format!("[{name}]"), Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED))
        } else {
            Span::raw(format!(" {name} "))
        }
    };
    Page::ALL.iter().enumerate().map(tab).collect()
}

/// Draws the part between head and foot, and returns the foot.
fn body(top: &Top, brush: &Brush, area: Rect, frame: &mut Frame<'_>) -> String {
    if top.has_help() {
        let lines: Vec<Line<'_>> = KEYS.iter().map(|(key, does)| Line::raw(format!(" {key:<10} {does}"))).collect();
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
        return "any key goes back".to_owned();
    }
    if let Some((lines, scrolled)) = top.detail() {
        let line = |pieces: Vec<(String, Tone)>| -> Line<'static> {
            pieces.into_iter().map(|(text, tone)| brush.span(text, tone)).collect()
        };
        let text: Vec<Line<'_>> = lines.into_iter().skip(scrolled).map(line).collect();
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }), area);
        return "Esc back  ↑↓ scroll".to_owned();
    }
    let table = top.table();
    if table.rows.is_empty() {
        let says = if table.all > 0 { "No row has all words of the filter." } else { &table.empty };
        let failure = top.failure().filter(|_| top.report().is_none()).map(|(failure, _)| &*failure.why);
        frame.render_widget(Paragraph::new(shown(failure.unwrap_or(says))).wrap(Wrap { trim: true }), area);
    } else {
        grid(top, &table, brush, area, frame);
    }
    let shown_rows = if table.rows.len() == table.all {
        table.all.to_string()
    } else {
        format!("{} of {}", table.rows.len(), table.all)
    };
    let sorted = top.sort().map_or_else(String::new, |sort| {
        let way = if sort.is_descending { "▼" } else { "▲" };
        format!(", by {} {way}", table.columns[sort.column].name)
    });
    foot_of_table(top, &format!("{shown_rows}{sorted}"), area.width)
}

fn dim(text: String) -> Line<'static> {
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

/// Returns a description of what a table shows, and the keys that fit.
fn foot_of_table(top: &Top, says: &str, width: u16) -> String {
    let filter = if top.filter().is_empty() { String::new() } else { format!("  filter: {}", shown(top.filter())) };
    let mut line = format!("{says}{filter}");
    let keys = ["? help", "/ filter", "s sort", "Enter detail", "q end"];
    // The help lists the keys that do not fit here.
    for key in keys {
        if Span::raw(&line).width() + key.chars().count() + usize::from(GAP) <= usize::from(width) {
            line = format!("{line}  {key}");
        }
    }
    line
}

fn grid(top: &Top, table: &Table, brush: &Brush, area: Rect, frame: &mut Frame<'_>) {
    let (shown_columns, widths) = fitting(table, top.sort(), area.width);
    let aligned = |column: &Column, text: String, style: Style| {
        let text = Text::styled(text, style);
        if column.is_right { text.right_aligned() } else { text.left_aligned() }
    };
    let heads = shown_columns.iter().map(|&at| {
        let column = &table.columns[at];
        aligned(column, heading(column, at, top.sort()), Style::new().add_modifier(Modifier::UNDERLINED))
    });
    let rows = table.rows.iter().map(|row| {
        let cell = |&at: &usize| {
            let Cell { text, tone, .. } = &row.cells[at];
            aligned(&table.columns[at], text.clone(), brush.style(*tone))
        };
        Row::new(shown_columns.iter().map(cell).collect::<Vec<_>>())
    });
    let head = Row::new(heads.collect::<Vec<_>>());
    let grid = Grid::new(rows, widths.into_iter().map(Constraint::Length))
        .header(head)
        .column_spacing(GAP)
        .highlight_symbol(SELECTED)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(top.selected_in(table));
    frame.render_stateful_widget(grid, area, &mut state);
}

/// Returns the name of a column, with the direction if rows are sorted by it.
fn heading(column: &Column, at: usize, sort: Option<Sort>) -> String {
    match sort {
        Some(sort) if sort.column == at => format!("{}{}", column.name, if sort.is_descending { "▼" } else { "▲" }),
        Some(_) | None => column.name.to_owned(),
    }
}

/// Returns the columns that fit, with their widths. The least important ones are left out first. The last one that
/// remains gets the rest of the width.
fn fitting(table: &Table, sort: Option<Sort>, width: u16) -> (Vec<usize>, Vec<u16>) {
    let of_column = |at: usize| {
        let head = Span::raw(heading(&table.columns[at], at, sort)).width();
        let cells = table.rows.iter().map(|row| Span::raw(&row.cells[at].text).width());
        u16::try_from(cells.fold(head, usize::max)).unwrap_or(u16::MAX)
    };
    let mut columns: Vec<(usize, u16)> = (0..table.columns.len()).map(|at| (at, of_column(at))).collect();
    let width = width.saturating_sub(SELECTED.len() as u16);
    let needed = |columns: &[(usize, u16)]| {
        columns.iter().fold(0_u16, |sum, (_, width)| sum.saturating_add(*width).saturating_add(GAP)).saturating_sub(GAP)
    };
    while needed(&columns) > width {
        let least = columns.iter().filter(|(at, _)| table.columns[*at].drop > 0);
        let Some(&(least, _)) = least.max_by_key(|(at, _)| table.columns[*at].drop) else { break };
        // A text that may be cut stays if there is room for a part of it.
        let before: Vec<(usize, u16)> = columns.iter().copied().filter(|(at, _)| *at != least).collect();
        let room = width.saturating_sub(needed(&before).saturating_add(GAP));
        if least == table.columns.len() - 1 && room >= CUT_MIN {
            break;
        }
        columns = before;
    }
    if let Some(last) = columns.last().copied() {
        let others = needed(&columns[..columns.len() - 1]);
        let room = width.saturating_sub(if columns.len() > 1 { others.saturating_add(GAP) } else { 0 });
        let at = columns.len() - 1;
        columns[at].1 = last.1.min(room);
    }
    columns.into_iter().unzip()
}

/// The least width of a text that is cut. [columns]
const CUT_MIN: u16 = 12;
