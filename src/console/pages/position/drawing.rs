//! The chart of a position: prices and R over time, with entry, rungs, fills, decisions and holds.

use rust_decimal::Decimal;

use super::{found, lived, state_of};
use crate::codec::time;
use crate::codec::view::{Fill, PositionView, Rung};
use crate::console::chart::{self, Lines, Mark, MarkKind, PositionChart, RungLine, Size};
use crate::console::error::PageError;
use crate::console::format;
use crate::console::frame::PageContext;
use crate::console::pages::book_of;
use crate::domain::event::ids::EntryId;
use crate::domain::exit::Hold;
use crate::drive::explain::{Explanation, Subject};
use crate::drive::film::held_since;
use crate::drive::life::{HoldPoint, Life};
use crate::drive::stop::Stop;

/// Draws the chart of a position, or of the open or last position of a symbol.
pub fn chart_of(context: &PageContext<'_>, name: &str, stop: &Stop) -> Result<String, PageError> {
    let sheet = context.sheet(true)?;
    let found = found(&sheet, name);
    let view = found.ok_or_else(|| PageError::NotFound(format!("No position {name} is known at that moment.")))?;
    let subject = Subject::Symbol { asked: None, later: None };
    let explanation = Explanation::of(&context.engine, book_of(view), None, subject)?;
    let cost_bps = explanation.at_time.map(|seen| seen.policy.cost_bps).unwrap_or_default();
    let (lived, range_ms) = lived(context, view, stop)?;
    let charts = draw(context, view, &lived, (rung_lines(view, &cost_bps), &cost_bps), range_ms);
    charts.into_iter().next().ok_or_else(|| PageError::NotFound("A store has no past to draw.".to_owned()))
}

/// Returns the price of each rung: entry ± (r × risk per unit + cost per unit), exactly.
pub(super) fn rung_lines(view: &PositionView, cost_bps: &str) -> Vec<RungLine> {
    let number = |text: &str| format::decimal(text);
    let parts = || {
        let entry = number(&view.entry_price.as_ref()?.value)?;
        let risk = number(view.risk_price.as_ref()?)?;
        let cost = entry.checked_mul(number(cost_bps)?)?.checked_div(Decimal::from(10_000))?;
        Some((entry, risk, cost))
    };
    let Some((entry, risk, cost)) = parts() else { return Vec::new() };
    let line = |rung: &Rung| {
        let distance = number(&rung.r)?.checked_mul(risk)?.checked_add(cost)?;
        let price = if is_short(view) { entry.checked_sub(distance)? } else { entry.checked_add(distance)? };
        let price_text = price.normalize().to_string();
        (price > Decimal::ZERO).then_some(RungLine {
            r_text: rung.r.clone(),
            price: format::float(&price_text)?,
            price_text,
            state: state_of(view, rung).to_owned(),
        })
    };
    view.rungs.iter().filter_map(line).collect()
}

fn is_short(view: &PositionView) -> bool {
    view.side == "SHORT"
}

/// Draws the chart for wide and for narrow pages.
pub(super) fn draw(
    context: &PageContext<'_>,
    view: &PositionView,
    lived: &Life,
    (rungs, cost_bps): (Vec<RungLine>, &str),
    range_ms: (u64, u64),
) -> Vec<String> {
    if !context.film.has_past() {
        return Vec::new();
    }
    let entry = view.entry_price.as_ref();
    let entry = entry.and_then(|field| Some((format::float(&field.value)?, field.value.clone())));
    let risk = view.risk_price.as_ref().and_then(|risk| format::float(risk)).filter(|risk| *risk > 0.0);
    let cost_bps = format::float(cost_bps).unwrap_or(0.0);
    let risk = risk.zip(entry.as_ref()).map(|(risk, (entry, _))| (risk, entry * cost_bps / 10_000.0));
    let mut marks: Vec<Mark> = view.fills.iter().filter_map(|fill| fill_mark(context, fill)).collect();
    let decided = context.film.all_decisions().filter(|link| link.text("position_id") == view.position_id);
    marks.extend(decided.filter_map(|link| {
        let (_, cause) = link.cause()?;
        let text = |key: &str| link.text(key).to_owned();
        (cause <= context.until()).then(|| Mark {
            kind: MarkKind::Decision,
            ms: cause.ms,
            price: format::float(link.text("mark_price")),
            title: format!(
                "decision {}: {} {} at {} R, mark {}, {}",
                link.seq,
                text("side"),
                text("qty"),
                text("r_net"),
                text("mark_price"),
                time::iso(cause.ms)
            ),
            href: context.decision(link.decision_id()).to_string(),
        })
    }));
    let chart = PositionChart {
        label: format!("price and R of {} over time, with entry, rungs, fills and decisions", view.position_id),
        prices: &lived.prices,
        range_ms,
        lines: Lines { entry, risk, is_short: is_short(view), rungs, since_ms: lines_since(lived, range_ms.0) },
        marks,
        obstacles: &lived.obstacles,
        holds: &holds_to_the_end(context, view, lived),
    };
    [Size::Wide, Size::Narrow].map(|size| chart::draw(&chart, size)).into()
}

/// Returns the time since which entry price and risk are as they are now: their last change in the story, or the
/// opening. [ms since 1970]
fn lines_since(lived: &Life, opened_ms: u64) -> u64 {
    // The source is in brackets. Another source of the same value moves no line.
    let value = |text: &str| text.split_once(" (").map_or(text, |(value, _)| value).to_owned();
    let of_lines = lived.story.iter().filter(|change| matches!(&*change.field, "entry_price" | "risk"));
    let moved = of_lines.filter(|change| value(&change.from) != value(&change.to));
    moved.map(|change| change.at.ms).max().unwrap_or(opened_ms)
}

/// Returns since when a position has the hold of its headline: an evaluation, the time alone, or an entry that does not
/// name the position brought it.
pub fn since_of(context: &PageContext<'_>, view: &PositionView, lived: &Life) -> Option<EntryId> {
    let known = held_since(&context.engine, context.now_ms()).get(&view.position_id).copied();
    let brought = || lived.unevaluated.filter(|brought| brought.hold == view.hold.as_deref());
    known.or_else(|| Some(brought()?.since))
}

/// Returns the holds of a life, with the one that came since the last evaluation.
fn holds_to_the_end(context: &PageContext<'_>, view: &PositionView, lived: &Life) -> Vec<HoldPoint> {
    let mut holds = lived.holds.clone();
    let hold = view.hold.as_deref().and_then(Hold::of_name).map(Hold::name);
    if hold.is_some()
        && holds.last().is_none_or(|last| last.hold != hold)
        && let Some(since) = since_of(context, view, lived)
    {
        holds.push(HoldPoint { since, hold, is_decided: false });
    }
    holds
}

fn fill_mark(context: &PageContext<'_>, fill: &Fill) -> Option<Mark> {
    let id: EntryId = fill.entry.parse().ok()?;
    let source = fill.source.as_deref().unwrap_or("unknown");
    let kind = match (source, &*fill.side) {
        ("exchange" | "snapshot", _) => MarkKind::Adopted,
        (_, "SELL") => MarkKind::Sell,
        (_, _) => MarkKind::Buy,
    };
    let price = fill.price.as_deref().unwrap_or("unknown price");
    Some(Mark {
        kind,
        ms: id.ms,
        price: fill.price.as_ref().and_then(|price| format::float(price)),
        title: format!("{} {} at {price} ({source}), {}", fill.side, fill.qty, time::iso(id.ms)),
        href: context.entry(&fill.entry).to_string(),
    })
}
