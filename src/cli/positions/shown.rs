//! A sheet of positions for people: a table of all, or the story of one symbol.

use serde_json::Value;

use super::Sheet;
use crate::cli::replay::rounded;
use crate::codec::time;
use crate::shell::terminal::{Screen, Tone};

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn names(value: &Value) -> String {
    let names: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

/// Returns the age of an entry at the time of the sheet, in words.
fn age(sheet: &Sheet, entry: &Value) -> Option<String> {
    let ms: u64 = entry.as_str()?.split('-').next()?.parse().ok()?;
    Some(time::span(sheet.judged_ms().saturating_sub(ms)))
}

/// Returns the distance of a price from another, in percent.
fn percent(from: &Value, to: &Value) -> Option<String> {
    let number = |value: &Value| value.as_str()?.parse::<rust_decimal::Decimal>().ok();
    let (from, to) = (number(from)?, number(to)?);
    let share = to.checked_sub(from)?.checked_div(from)?.checked_mul(rust_decimal::Decimal::ONE_HUNDRED)?;
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
        screen.line(&format!("unconfirmed (a snapshot told of them once): {}", sheet.unconfirmed.join(" ")))?;
    }
    let is_open = |name: &String| sheet.positions.iter().any(|p| p["symbol"] == name.as_str() && p["closed"].is_null());
    let held: Vec<&str> = sheet.history_gap.iter().filter(|name| !is_open(name)).map(String::as_str).collect();
    if !held.is_empty() {
        screen.line(&format!("history gap, nothing open: {}", held.join(" ")))?;
    }
    as_of(sheet, screen)
}

/// Shows the last applied entry, and the time of holds and ages if it is another one.
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

fn cells(sheet: &Sheet, position: &Value) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    let mark = &position["mark_price"];
    let next = &position["next_rung"];
    let hold = text(&position["hold"]);
    let tone = match hold.as_str() {
        "-" | "below_min_r" | "no_rung" => Tone::Plain,
        "killed" | "history_gap" | "diverged" | "awaiting_result" => Tone::Bad,
        _ => Tone::Warning,
    };
    vec![
        plain(text(&position["symbol"])),
        plain(text(&position["side"])),
        plain(text(&position["qty"])),
        plain(rounded_price(&position["entry_price"]["value"])),
        (text(&position["entry_price"]["source"]), Tone::Dim),
        plain(rounded_price(&mark["value"])),
        (age(sheet, &mark["entry"]).unwrap_or_else(|| "-".to_owned()), Tone::Dim),
        plain(rounded(&text(&position["unrealized_pnl"]))),
        plain(text(&position["r_net"])),
        plain(text(&next["r"])),
        plain(rounded_price(&next["price"])),
        plain(percent(&mark["value"], &next["price"]).unwrap_or_else(|| "-".to_owned())),
        (hold, tone),
        (names(&position["missing"]), Tone::Bad),
        (names(&position["flags"]), Tone::Warning),
    ]
}

/// Formats a price with eight significant digits.
fn rounded_price(value: &Value) -> String {
    match value.as_str().and_then(|text| text.parse::<rust_decimal::Decimal>().ok()) {
        Some(price) => price.round_sf(8).unwrap_or(price).normalize().to_string(),
        None => text(value),
    }
}

/// Shows the story of one symbol: every position with its fills, rungs and fields.
pub fn story(sheet: &Sheet, symbol: &str, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if sheet.positions.is_empty() {
        screen.line(&format!("{symbol}: no position was seen."))?;
    }
    for position in &sheet.positions {
        let closed = if position["closed"].is_null() {
            String::new()
        } else {
            format!(", closed {}", text(&position["closed"]))
        };
        screen.heading(&format!(
            "{} {} {}  opened {}{closed}",
            text(&position["position_id"]),
            text(&position["side"]),
            text(&position["qty"]),
            text(&position["opened"]),
        ))?;
        let mut fields = Vec::new();
        for name in ["entry_price", "atr_value", "volatility_factor", "mark_price"] {
            let field = &position[name];
            let old = age(sheet, &field["entry"]).unwrap_or_else(|| "-".to_owned());
            let missing = if field.is_null() { Tone::Bad } else { Tone::Plain };
            let value = if field.is_null() { "missing".to_owned() } else { text(&field["value"]) };
            fields.push(vec![
                (format!("  {name}"), Tone::Plain),
                (value, missing),
                (text(&field["source"]), Tone::Plain),
                (text(&field["entry"]), Tone::Dim),
                (old, Tone::Dim),
            ]);
        }
        screen.table(&["  FIELD", "VALUE", "SOURCE", "ENTRY", "AGE"], &[1, 4], fields)?;
        for name in ["risk_price", "entry_risk_usdt", "unrealized_pnl", "realized_pnl", "r_net", "qty_initial", "hold"]
        {
            screen.line(&format!("  {name:<18} {}", text(&position[name])))?;
        }
        screen.line(&format!("  {:<18} {}", "flags", names(&position["flags"])))?;
        let next = &position["next_rung"];
        if !next.is_null() {
            let away = percent(&position["mark_price"]["value"], &next["price"]);
            let away = away.map_or_else(String::new, |away| format!(" ({away} away)"));
            screen.line(&format!(
                "  {:<18} {} R at {}{away}",
                "next rung",
                text(&next["r"]),
                rounded_price(&next["price"])
            ))?;
        }
        rows_of(position, "fills", &["order", "side", "qty", "price", "source", "entry"], screen)?;
        rows_of(position, "rungs", &["r", "fraction", "state", "decision_id"], screen)?;
        screen.line("")?;
    }
    if !sheet.history_gap.is_empty() {
        screen.line("history gap: held until a snapshot agrees or the gap is accepted")?;
    }
    if !sheet.unconfirmed.is_empty() {
        screen.line("unconfirmed: a snapshot told of a position once")?;
    }
    as_of(sheet, screen)
}

fn rows_of(position: &Value, list: &str, keys: &[&str], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let items = position[list].as_array().into_iter().flatten();
    let rows: Vec<Vec<(String, Tone)>> = items
        .map(|item| {
            let indent = |i: usize| if i == 0 { "  " } else { "" };
            keys.iter()
                .enumerate()
                .map(|(i, key)| (format!("{}{}", indent(i), text(&item[*key])), Tone::Plain))
                .collect()
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let heads: Vec<String> = keys
        .iter()
        .enumerate()
        .map(|(i, k)| format!("{}{}", if i == 0 { "  " } else { "" }, k.to_uppercase()))
        .collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    screen.line(&format!("  {list}:"))?;
    screen.table(&heads, &[], rows)?;
    Ok(())
}
