//! An explanation for people.

use serde_json::Value;

use crate::cli::cell::text;
use crate::codec::time;
use crate::shell::terminal::{Screen, Tone};

/// Fields of a position that a decision rests on.
const FIELDS: [&str; 4] = ["entry_price", "atr_value", "volatility_factor", "mark_price"];

/// Shows a document of [`super::run`].
pub fn show(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if document["decision"].is_object() {
        decision(document, screen)?;
    } else {
        hold(document, screen)?;
    }
    position(document, screen)?;
    section("The arithmetic", &document["arithmetic"], screen)?;
    rungs(document, screen)?;
    outcome(document, screen)?;
    around(document, screen)?;
    raw(document, screen)
}

/// Returns the time of an entry id.
fn when(entry: &Value) -> String {
    let ms = entry.as_str().and_then(|id| id.split('-').next()?.parse().ok());
    ms.map_or_else(|| "-".to_owned(), time::iso)
}

fn hold(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let later = &document["later"];
    let is_asked = document["asked"].is_string() && !later.is_object();
    let at = if is_asked { &document["asked"] } else { &document["at"] };
    let symbol = text(&document["symbol"]);
    let held = match document["hold"].as_str() {
        Some(hold) => format!("not harvested: {hold}"),
        None if document["position"]["closed"].is_null() && document["position"].is_object() => "not held".to_owned(),
        None => "nothing open".to_owned(),
    };
    screen.heading(&format!("{symbol} at {}: {held}", text(at)))?;
    for why in document["why"].as_array().into_iter().flatten() {
        screen.line(&format!("  {}", text(why)))?;
    }
    if later.is_object() {
        let hold = later["hold"].as_str().unwrap_or("not held");
        screen.line(&format!("  At {}, with no entry that evaluates it since: {hold}.", text(&later["at"])))?;
        for why in later["why"].as_array().into_iter().flatten() {
            screen.line(&format!("  {}", text(why)))?;
        }
    }
    Ok(())
}

fn decision(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let decision = &document["decision"];
    screen.heading(&format!(
        "Decision {}: {} {} {} at {} R ({})",
        text(&decision["decision_id"]),
        text(&decision["side"]),
        text(&decision["qty"]),
        text(&decision["symbol"]),
        text(&decision["r_net"]),
        text(&decision["mode"])
    ))?;
    let cause = text(&decision["cause"]);
    let time = cause.rsplit_once('/').map_or_else(|| "-".to_owned(), |(_, id)| when(&Value::from(id)));
    screen.line(&format!("  caused by {cause}, {time}"))?;
    screen.line(&format!("  rungs {} R, attempt {}", text(&decision["rungs"]), text(&decision["attempt"])))?;
    let emitted = &document["emitted"];
    if emitted.is_object() {
        let alike = match emitted["recomputed_alike"].as_bool() {
            Some(true) => "recomputed: the same",
            Some(false) => "recomputed: not the same (see audit)",
            None => "recomputed: these rules do not make it (see audit)",
        };
        screen.line(&format!(
            "  emitted as number {} in entry {}; {alike}",
            emitted["seq"],
            text(&emitted["entry"])
        ))?;
    }
    Ok(())
}

fn position(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let position = &document["position"];
    if !position.is_object() {
        return Ok(());
    }
    screen.line("")?;
    screen.heading(&format!(
        "{} {} {}, open since {}",
        text(&position["position_id"]),
        text(&position["side"]),
        text(&position["qty"]),
        when(&position["opened"])
    ))?;
    let origin = |entry: &Value, key: &str| {
        let origins = document["origins"][entry.as_str().unwrap_or_default()].as_array();
        let mut values: Vec<String> = origins.into_iter().flatten().map(|origin| text(&origin[key])).collect();
        values.dedup();
        if values.is_empty() { "-".to_owned() } else { values.join(" ") }
    };
    let row = |name: String, value: &Value, source: &Value, entry: &Value| {
        let missing = value.is_null();
        vec![
            (name, Tone::Plain),
            if missing { ("missing".to_owned(), Tone::Bad) } else { (text(value), Tone::Plain) },
            (text(source), Tone::Plain),
            (origin(entry, "stream"), Tone::Dim),
            (text(entry), Tone::Dim),
            (origin(entry, "shape"), Tone::Dim),
        ]
    };
    let mut rows: Vec<_> = FIELDS
        .iter()
        .map(|name| {
            let field = &position[*name];
            row(format!("  {name}"), &field["value"], &field["source"], &field["entry"])
        })
        .collect();
    for fill in position["fills"].as_array().into_iter().flatten() {
        let name = format!("  fill {} {}", text(&fill["side"]), text(&fill["qty"]));
        rows.push(row(name, &fill["price"], &fill["source"], &fill["entry"]));
    }
    screen.table(&["  FIELD", "VALUE", "SOURCE", "STREAM", "ENTRY", "SHAPE"], &[1], rows)?;
    let flags = text(&position["flags"]);
    if !flags.is_empty() {
        screen.line(&format!("  flags: {flags}"))?;
    }
    Ok(())
}

fn section(title: &str, lines: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let lines: Vec<String> = lines.as_array().into_iter().flatten().map(text).collect();
    if lines.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    screen.heading(title)?;
    for line in lines {
        screen.line(&format!("  {line}"))?;
    }
    Ok(())
}

fn rungs(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let rungs = document["position"]["rungs"].as_array().into_iter().flatten();
    let rungs: Vec<String> = rungs
        .map(|rung| format!("{} R {} ({})", text(&rung["r"]), text(&rung["state"]), text(&rung["fraction"])))
        .collect();
    if !rungs.is_empty() {
        screen.line("")?;
        screen.line(&format!("  rungs: {}", rungs.join(", ")))?;
    }
    Ok(())
}

fn outcome(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let outcome = &document["outcome"];
    if !outcome.is_object() {
        return Ok(());
    }
    screen.line("")?;
    screen.heading("What became of it")?;
    screen.line(&format!("  {} (plan {})", text(&outcome["state"]), text(&outcome["plan_id"])))?;
    for event in outcome["events"].as_array().into_iter().flatten() {
        let fill = if event["qty"].is_string() {
            format!(" {} at {}", text(&event["qty"]), text(&event["price"]))
        } else {
            String::new()
        };
        screen.line(&format!(
            "  {} {}{fill} ({})",
            text(&event["time"]),
            text(&event["what"]),
            text(&event["entry"])
        ))?;
    }
    Ok(())
}

/// Shows the policy in force and the holds of other positions.
fn around(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let policy = &document["policy"];
    if !policy.is_object() {
        return Ok(());
    }
    screen.line("")?;
    let hash = text(&policy["hash"]);
    let since = match policy["since"].as_str() {
        Some(id) => format!("adopted by {id}, {}", when(&policy["since"])),
        // A store does not keep the entry of the adoption.
        None if policy["adopted"] == true => "adopted".to_owned(),
        None => "configured".to_owned(),
    };
    screen.line(&format!(
        "  policy {}… ({}, {since}): min_r {}, cost {} bps",
        hash.get(..12).unwrap_or(&hash),
        text(&policy["mode"]),
        text(&policy["min_r"]),
        text(&policy["cost_bps"])
    ))?;
    let holds: Vec<String> = document["holds"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| {
            let time = text(&change["time"]);
            format!("{} from {}", text(&change["hold"]), time.get(11..19).unwrap_or(&time))
        })
        .collect();
    if !holds.is_empty() {
        screen.line(&format!("  held by: {}", holds.join(", ")))?;
    }
    let others: Vec<String> =
        document["others"].as_object().into_iter().flatten().map(|(hold, n)| format!("{hold} {n}")).collect();
    if !others.is_empty() {
        screen.line(&format!("  other open positions at that moment: {}", others.join(", ")))?;
    }
    Ok(())
}

fn raw(document: &Value, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let origins = document["origins"].as_object().into_iter().flatten();
    let raw: Vec<&str> = origins
        .flat_map(|(_, origins)| origins.as_array().into_iter().flatten())
        .filter_map(|origin| origin["raw"].as_str())
        .collect();
    if raw.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    screen.heading("The entries")?;
    for line in raw {
        screen.line(&format!("  {line}"))?;
    }
    Ok(())
}
