//! The detail: everything about one row.

use super::tables::{Page, state_tone};
use crate::cli::positions::{Sheet, age_ms, away, hold_tone, rounded_price};
use crate::codec::shown::shown;
use crate::codec::time::span;
use crate::codec::view::{PositionView, Sourced};
use crate::service::report::{InputReport, Report, concerns};
use crate::shell::terminal::Tone;

/// A line as pieces of text. They are safe to show.
pub type Line = Vec<(String, Tone)>;

/// Width of the names in front of values. [columns]
const NAME_WIDTH: usize = 18;

/// Returns the lines about a row of a page; `None` if the row no longer exists.
pub fn lines(page: Page, about: &str, report: Option<&Report>, sheet: Option<&Sheet>) -> Option<Vec<Line>> {
    match page {
        Page::Positions | Page::Decisions => {
            let position = sheet?.positions.iter().find(|position| position.position_id == about)?;
            Some(of_position(sheet?, position))
        }
        Page::Inputs => {
            let report = report?;
            let input = report.inputs.iter().find(|input| input.stream == about)?;
            Some(of_input(input, report.redis.silent_ms))
        }
        Page::Service => of_service(page, about, report?),
        // The positions of a hold are on a page of their own.
        Page::Holds => None,
    }
}

fn piece(text: &str, tone: Tone) -> (String, Tone) {
    (shown(text).into_owned(), tone)
}

fn named(name: &str, value: &str) -> Line {
    marked(name, value, Tone::Plain)
}

/// Returns a value with its name. A bad value has a mark.
fn marked(name: &str, value: &str, tone: Tone) -> Line {
    let mark = if tone == Tone::Bad { "! " } else { "" };
    vec![piece(&format!("{name:<NAME_WIDTH$} "), Tone::Dim), piece(&format!("{mark}{value}"), tone)]
}

fn or_dash(text: Option<&String>) -> &str {
    text.map_or("-", String::as_str)
}

fn of_position(sheet: &Sheet, position: &PositionView) -> Vec<Line> {
    let PositionView { position_id, side, qty, opened, .. } = position;
    let hold = position.hold.as_deref();
    let mut lines = vec![
        vec![piece(&format!("{} {side} {qty}", position.book()), Tone::Good)],
        named("position", position_id),
        named("opened", opened),
        marked("held by", hold.unwrap_or("nothing"), hold_tone(hold)),
    ];
    if let Some(next) = &position.next_rung {
        let away = away(position).map_or_else(String::new, |away| format!(", {away} away"));
        let price = rounded_price(next.price.as_ref());
        lines.push(named("next rung", &format!("{} R at {price}{away}", next.r)));
    }
    if !position.flags.is_empty() {
        lines.push(marked("flags", &position.flags.join(" "), Tone::Warning));
    }
    lines.push(Vec::new());
    lines.extend(position.inputs().map(|(name, field)| of_field(sheet, name, field)));
    for (name, value) in [
        ("risk_price", &position.risk_price),
        ("entry_risk_usdt", &position.entry_risk_usdt),
        ("unrealized_pnl", &position.unrealized_pnl),
        ("realized_pnl", &position.realized_pnl),
        ("r_net", &position.r_net),
    ] {
        lines.push(named(name, or_dash(value.as_ref())));
    }
    lines.push(named("qty_initial", &position.qty_initial));
    if !position.rungs.is_empty() {
        lines.push(Vec::new());
        lines.push(vec![piece(&format!("{:<8} {:<9} {:<10} DECISION", "RUNG", "FRACTION", "STATE"), Tone::Dim)]);
    }
    for rung in &position.rungs {
        lines.push(vec![
            piece(&format!("{:<8} {:<9} ", rung.r, rung.fraction), Tone::Plain),
            piece(&format!("{:<10} ", rung.state), state_tone(&rung.state)),
            piece(or_dash(rung.decision_id.as_ref()), Tone::Dim),
        ]);
    }
    if !position.fills.is_empty() {
        lines.push(Vec::new());
        lines.push(vec![piece(
            &format!("{:<5} {:<14} {:<14} {:<9} ENTRY", "FILL", "QTY", "PRICE", "SOURCE"),
            Tone::Dim,
        )]);
    }
    for fill in &position.fills {
        let (price, source) = (or_dash(fill.price.as_ref()), or_dash(fill.source.as_ref()));
        lines.push(vec![
            piece(&format!("{:<5} {:<14} {price:<14} {source:<9} ", fill.side, fill.qty), Tone::Plain),
            piece(&fill.entry, Tone::Dim),
        ]);
    }
    lines
}

fn of_field(sheet: &Sheet, name: &str, field: Option<&Sourced>) -> Line {
    let Some(Sourced { value, source, entry, .. }) = field else { return marked(name, "missing", Tone::Bad) };
    let age = age_ms(sheet, field).map_or_else(String::new, |ms| format!(", {} ago", span(ms)));
    let mut line = named(name, &format!("{value:<14} "));
    line.push(piece(&format!("{source} {entry}{age}"), Tone::Dim));
    line
}

fn of_input(input: &InputReport, unanswered_ms: u64) -> Vec<Line> {
    let number = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let time = |ms: Option<u64>| ms.map_or_else(|| "unknown".to_owned(), span);
    let mut lines = vec![
        vec![piece(&input.stream, Tone::Good)],
        named("input", &input.kind),
        named("last entry read", input.cursor.as_deref().unwrap_or("none yet")),
        named("entries behind", &number(input.lag_entries)),
        named("time behind", &time(input.lag_ms)),
        named("pending", &input.pending.to_string()),
        named("entries added", &number(input.entries_added)),
        named("watched for", &span(input.watched_ms)),
    ];
    let age = if input.is_silent(unanswered_ms) { Tone::Bad } else { Tone::Plain };
    lines.push(marked(
        "last entry",
        &input.age_ms.map_or_else(|| "none".to_owned(), |ms| format!("{} ago", span(ms))),
        age,
    ));
    lines.push(named("silent after", &input.silent_after_ms.map_or_else(|| "no limit".to_owned(), span)));
    if let Some(ahead) = input.ahead_ms {
        lines.push(marked("ids ahead", &format!("{} of the server's clock", span(ahead)), Tone::Warning));
    }
    if let Some(fault) = &input.fault {
        lines.push(marked("fault", fault.says(), Tone::Bad));
    }
    lines
}

/// Returns a finding or a fact in full, because its row may be cut.
fn of_service(page: Page, about: &str, report: &Report) -> Option<Vec<Line>> {
    let table = page.table(Some(report), None);
    let row = table.rows.into_iter().find(|row| row.about == about)?;
    let concern = concerns(report)
        .into_iter()
        .find(|concern| about == format!("{} {}", concern.name, concern.about.clone().unwrap_or_default()));
    let mut lines: Vec<Line> = vec![vec![(row.cells[0].text.clone(), row.cells[0].tone)]];
    if let Some(stream) = concern.and_then(|concern| concern.about) {
        lines.push(named("about", &stream));
    }
    lines.push(vec![(row.cells[1].text.clone(), Tone::Plain)]);
    Some(lines)
}
