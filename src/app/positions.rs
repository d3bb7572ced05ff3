//! `harvester positions`: what is open, what it rests on, and why it is held.

use std::io::Write;
use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::app::projection;
use crate::app::replay::rounded;
use crate::codec::{state, time, view};
use crate::domain::engine::Engine;
use crate::domain::position::Instance;
use crate::domain::symbol::Symbol;
use crate::shell::terminal::{Screen, Tone};

/// Runs the command on a store.
pub fn run(store: &Path, wanted: Option<&str>, all: bool, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let (engine, rows) = projection::read(store)?;
    let wanted = wanted.map(|symbol| symbol.trim().to_uppercase());
    if let Some(wanted) = &wanted
        && engine.find(wanted).is_none()
    {
        bail!("the store knows no symbol {wanted}");
    }
    let mut positions = Vec::new();
    for symbol in view::by_name(&engine) {
        if wanted.as_deref().is_some_and(|wanted| wanted != &*symbol.name) {
            continue;
        }
        if all || wanted.is_some() {
            for instance in state::closed_instances(&rows, &symbol.name)? {
                if all || !json {
                    positions.push(view::position(&engine, symbol, &instance));
                }
            }
        }
        positions.extend(symbol.hot.open.as_ref().map(|open| view::position(&engine, symbol, open)));
    }
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&positions)?)?;
        return Ok(());
    }
    let mut screen = Screen::stdout(out);
    match &wanted {
        Some(wanted) => story(&engine, wanted, &positions, &mut screen),
        None => table(&engine, &positions, &mut screen),
    }
}

/// Positions of an engine, as JSON: the open ones, and with `all` the closed ones that it remembers.
pub fn of_engine(engine: &Engine, all: bool) -> Vec<Value> {
    let of_symbol = |symbol: &Symbol| -> Vec<Value> {
        let shown = |instance: &&Instance| all || instance.is_open();
        symbol.instances().filter(shown).map(|instance| view::position(engine, symbol, instance)).collect()
    };
    view::by_name(engine).into_iter().flat_map(of_symbol).collect()
}

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

/// Age of an entry at the time of the projection, as people say it.
fn age(engine: &Engine, entry: &Value) -> Option<String> {
    let ms: u64 = entry.as_str()?.split('-').next()?.parse().ok()?;
    let seconds = engine.globals().last.ms.saturating_sub(ms) / 1000;
    Some(match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    })
}

/// How far a price is from another, in percent.
fn percent(from: &Value, to: &Value) -> Option<String> {
    let number = |value: &Value| value.as_str()?.parse::<rust_decimal::Decimal>().ok();
    let (from, to) = (number(from)?, number(to)?);
    let share = to.checked_sub(from)?.checked_div(from)?.checked_mul(rust_decimal::Decimal::ONE_HUNDRED)?;
    Some(format!("{:+.2}%", share.round_dp(2)))
}

/// The table of positions.
pub fn table(engine: &Engine, positions: &[Value], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let globals = engine.globals();
    if positions.is_empty() {
        let nothing = if globals.positions_known {
            "No position is open."
        } else {
            "Positions unknown: no position was ever seen from anywhere (this is not the same as flat)."
        };
        screen.line(nothing)?;
    } else {
        let rows = positions.iter().map(|position| cells(engine, position)).collect();
        let head = [
            "SYMBOL", "SIDE", "QTY", "ENTRY", "FROM", "MARK", "AGE", "PNL", "R_NET", "NEXT", "AT", "AWAY", "HOLD",
            "MISSING", "FLAGS",
        ];
        screen.table(&head, &[2, 3, 5, 6, 7, 8, 9, 10, 11], rows)?;
    }
    let unconfirmed: Vec<&str> =
        view::by_name(engine).into_iter().filter(|s| s.is_unconfirmed()).map(|s| &*s.name).collect();
    if !unconfirmed.is_empty() {
        screen.line(&format!("unconfirmed (a snapshot told of them once): {}", unconfirmed.join(" ")))?;
    }
    let held: Vec<&str> = view::by_name(engine)
        .into_iter()
        .filter(|s| s.hot.history_gap && s.hot.open.is_none())
        .map(|s| &*s.name)
        .collect();
    if !held.is_empty() {
        screen.line(&format!("history gap, nothing open: {}", held.join(" ")))?;
    }
    let killed = if globals.killed { ", KILLED" } else { "" };
    screen.line(&format!("as of {} ({}){killed}", globals.last, time::iso(globals.last.ms)))?;
    Ok(())
}

fn cells(engine: &Engine, position: &Value) -> Vec<(String, Tone)> {
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
        (age(engine, &mark["entry"]).unwrap_or_else(|| "-".to_owned()), Tone::Dim),
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

/// A price with the digits that people read: eight significant ones.
fn rounded_price(value: &Value) -> String {
    match value.as_str().and_then(|text| text.parse::<rust_decimal::Decimal>().ok()) {
        Some(price) => price.round_sf(8).unwrap_or(price).normalize().to_string(),
        None => text(value),
    }
}

/// The story of one symbol: every instance with its fills, rungs and fields.
fn story(engine: &Engine, symbol: &str, positions: &[Value], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if positions.is_empty() {
        screen.line(&format!("{symbol}: no position was seen."))?;
    }
    for position in positions {
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
            let old = age(engine, &field["entry"]).unwrap_or_else(|| "-".to_owned());
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
    if let Some(symbol) = engine.find(symbol) {
        if symbol.hot.history_gap {
            screen.line("history gap: held until a snapshot agrees or the gap is accepted")?;
        }
        if symbol.is_unconfirmed() {
            screen.line("unconfirmed: a snapshot told of a position once")?;
        }
    }
    Ok(())
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
