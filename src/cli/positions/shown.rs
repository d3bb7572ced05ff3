//! A sheet of positions for people: a table of all, or the story of one symbol.

use rust_decimal::Decimal;

use super::Sheet;
use crate::cli::replay::rounded;
use crate::codec::time;
use crate::codec::view::{PositionView, Sourced};
use crate::domain::event::ids::EntryId;
use crate::domain::exit::{Hold, HoldSeverity};
use crate::shell::terminal::{Screen, Tone};

fn or_dash(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| "-".to_owned())
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

/// Returns the age of a value at the time of the sheet. [ms]
pub fn age_ms(sheet: &Sheet, field: Option<&Sourced>) -> Option<u64> {
    let entry: EntryId = field?.entry.parse().ok()?;
    Some(sheet.judged_ms().saturating_sub(entry.ms))
}

fn age(sheet: &Sheet, field: Option<&Sourced>) -> String {
    age_ms(sheet, field).map_or_else(|| "-".to_owned(), time::span)
}

/// Returns the tone of a hold: how urgently it needs a person.
pub fn hold_tone(hold: Option<&str>) -> Tone {
    match hold.map(|name| Hold::of_name(name).map(Hold::severity)) {
        None | Some(Some(HoldSeverity::Routine)) => Tone::Plain,
        Some(Some(HoldSeverity::Act)) => Tone::Bad,
        // A service of a later version may name a hold that is unknown here.
        Some(Some(HoldSeverity::Check) | None) => Tone::Warning,
    }
}

/// Returns the distance of the next rung from the mark, in percent.
pub fn away(position: &PositionView) -> Option<String> {
    let number = |text: &String| text.parse::<Decimal>().ok();
    let from = number(&position.mark_price.as_ref()?.value)?;
    let to = number(position.next_rung.as_ref()?.price.as_ref()?)?;
    let share = to.checked_sub(from)?.checked_div(from)?.checked_mul(Decimal::ONE_HUNDRED)?;
    Some(format!("{:+.2}%", share.round_dp(2)))
}

/// Shows the table of positions.
pub fn table(sheet: &Sheet, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if sheet.positions.is_empty() {
        let nothing = if sheet.positions_unknown {
            "Positions unknown: no position was ever seen from anywhere (this is not the same as flat)."
        } else {
            "No position is open."
        };
        screen.line(nothing)?;
    } else {
        let rows = sheet.positions.iter().map(|position| cells(sheet, position)).collect();
        let head = [
            "SYMBOL", "SIDE", "QTY", "ENTRY", "FROM", "MARK", "AGE", "PNL", "R_NET", "NEXT", "AT", "AWAY", "HOLD",
            "MISSING", "FLAGS",
        ];
        screen.table(&head, &[2, 3, 5, 6, 7, 8, 9, 10, 11], rows)?;
    }
    if !sheet.unconfirmed.is_empty() {
        screen.line(&format!("unconfirmed (one snapshot has reported them): {}", sheet.unconfirmed.join(" ")))?;
    }
    let is_open = |name: &String| sheet.positions.iter().any(|p| p.book() == name && p.closed.is_none());
    let held: Vec<&str> = sheet.history_gap.iter().filter(|name| !is_open(name)).map(String::as_str).collect();
    if !held.is_empty() {
        screen.line(&format!("history gap, nothing open: {}", held.join(" ")))?;
    }
    as_of(sheet, screen)
}

/// Shows the last applied entry, and the time of holds and ages if it differs.
fn as_of(sheet: &Sheet, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let judged = if sheet.judged_ms() == sheet.as_of_ms() {
        String::new()
    } else {
        format!("; holds and ages at {}", time::iso(sheet.judged_ms()))
    };
    let killed = if sheet.killed { ", KILLED" } else { "" };
    screen.line(&format!("as of {} ({}){judged}{killed}", sheet.as_of, time::iso(sheet.as_of_ms())))?;
    Ok(())
}

fn cells(sheet: &Sheet, position: &PositionView) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let value = |field: Option<&Sourced>| rounded_price(field.map(|field| &field.value));
    let (entry, mark, next) = (&position.entry_price, &position.mark_price, position.next_rung.as_ref());
    let tone = hold_tone(position.hold.as_deref());
    vec![
        plain(position.book().to_owned()),
        plain(position.side.clone()),
        plain(position.qty.clone()),
        plain(value(entry.as_ref())),
        (or_dash(entry.as_ref().map(|entry| &entry.source)), Tone::Dim),
        plain(value(mark.as_ref())),
        (age(sheet, mark.as_ref()), Tone::Dim),
        plain(rounded(&or_dash(position.unrealized_pnl.as_ref()))),
        plain(or_dash(position.r_net.as_ref())),
        plain(or_dash(next.map(|next| &next.r))),
        plain(rounded_price(next.and_then(|next| next.price.as_ref()))),
        plain(away(position).unwrap_or_else(|| "-".to_owned())),
        (or_dash(position.hold.as_ref()), tone),
        (names(&position.missing), Tone::Bad),
        (names(&position.flags), Tone::Warning),
    ]
}

/// Formats a price with eight significant digits.
pub fn rounded_price(price: Option<&String>) -> String {
    match price.and_then(|text| text.parse::<Decimal>().ok()) {
        Some(price) => price.round_sf(8).unwrap_or(price).normalize().to_string(),
        None => or_dash(price),
    }
}

/// Shows the story of one symbol: every position with its fills, rungs and fields.
pub fn story(sheet: &Sheet, symbol: &str, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if sheet.positions.is_empty() {
        screen.line(&format!("{symbol}: no position was seen."))?;
    }
    for position in &sheet.positions {
        let PositionView { position_id, side, qty, opened, .. } = position;
        let closed = position.closed.as_ref().map_or_else(String::new, |closed| format!(", closed {closed}"));
        screen.heading(&format!("{position_id} {side} {qty}  opened {opened}{closed}"))?;
        let row = |(name, field): (&str, Option<&Sourced>)| {
            let value = field.map_or(("missing".to_owned(), Tone::Bad), |field| (field.value.clone(), Tone::Plain));
            vec![
                (format!("  {name}"), Tone::Plain),
                value,
                (or_dash(field.map(|field| &field.source)), Tone::Plain),
                (or_dash(field.map(|field| &field.entry)), Tone::Dim),
                (age(sheet, field), Tone::Dim),
            ]
        };
        let rows = position.inputs().map(row).to_vec();
        screen.table(&["  FIELD", "VALUE", "SOURCE", "ENTRY", "AGE"], &[1, 4], rows)?;
        for (name, value) in [
            ("risk_price", or_dash(position.risk_price.as_ref())),
            ("entry_risk_usdt", or_dash(position.entry_risk_usdt.as_ref())),
            ("unrealized_pnl", or_dash(position.unrealized_pnl.as_ref())),
            ("realized_pnl", or_dash(position.realized_pnl.as_ref())),
            ("r_net", or_dash(position.r_net.as_ref())),
            ("qty_initial", position.qty_initial.clone()),
            ("hold", or_dash(position.hold.as_ref())),
            ("flags", names(&position.flags)),
        ] {
            screen.line(&format!("  {name:<18} {value}"))?;
        }
        if let Some(next) = &position.next_rung {
            let away = away(position).map_or_else(String::new, |away| format!(" ({away} away)"));
            let price = rounded_price(next.price.as_ref());
            screen.line(&format!("  {:<18} {} R at {price}{away}", "next rung", next.r))?;
        }
        lists(position, screen)?;
        screen.line("")?;
    }
    if !sheet.history_gap.is_empty() {
        screen.line("history gap: held until a snapshot agrees or the gap is accepted")?;
    }
    if !sheet.unconfirmed.is_empty() {
        screen.line("unconfirmed: one snapshot has reported a position")?;
    }
    as_of(sheet, screen)
}

/// Shows the fills and the rungs of a position.
fn lists(position: &PositionView, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let plain = |cells: Vec<String>| cells.into_iter().map(|cell| (cell, Tone::Plain)).collect::<Vec<_>>();
    if !position.fills.is_empty() {
        screen.line("  fills:")?;
        let rows = position.fills.iter().map(|fill| {
            let order = format!("  {}", or_dash(fill.order.as_ref()));
            let [price, source] = [&fill.price, &fill.source].map(|value| or_dash(value.as_ref()));
            plain(vec![order, fill.side.clone(), fill.qty.clone(), price, source, fill.entry.clone()])
        });
        screen.table(&["  ORDER", "SIDE", "QTY", "PRICE", "SOURCE", "ENTRY"], &[], rows.collect())?;
    }
    if !position.rungs.is_empty() {
        screen.line("  rungs:")?;
        let rows = position.rungs.iter().map(|rung| {
            let decision_id = or_dash(rung.decision_id.as_ref());
            plain(vec![format!("  {}", rung.r), rung.fraction.clone(), rung.state.clone(), decision_id])
        });
        screen.table(&["  R", "FRACTION", "STATE", "DECISION_ID"], &[], rows.collect())?;
    }
    Ok(())
}
