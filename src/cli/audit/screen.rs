//! An audit for people.

use serde_json::{Map, Value};

use super::report::{Report, Verdict};
use crate::cli::cell::text;
use crate::cli::replay::rounded;
use crate::shell::terminal::{Screen, Tone};

/// Findings of a kind that are shown; `--json` has them all. [1]
const SHOWN: usize = 12;

/// Shows a report.
pub fn show(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let verdict = match report.verdict() {
        Verdict::Clean => "CLEAN",
        Verdict::Findings => "FINDINGS",
        Verdict::Incomplete => "INCOMPLETE: nothing was found, and not everything was seen",
    };
    let scope = if report.chain_only { " (the chain alone)" } else { "" };
    screen.heading(&format!("{verdict}{scope}"))?;
    chain(report, screen)?;
    control(report, screen)?;
    if !report.chain_only {
        screen.line(&format!(
            "  decisions    matched {}, differ {}, missing {}, unexpected {}, duplicated {}, expired {}",
            report.matched,
            report.differs.len(),
            report.missing.len(),
            report.unexpected.len(),
            report.duplicated.len(),
            report.executions.get("expired").unwrap_or(&Value::Null),
        ))?;
        outcomes(report, screen)?;
    }
    for (title, list) in [
        ("TAMPERED", &report.tampered),
        ("DUPLICATED", &report.duplicated),
        ("DIFFER", &report.differs),
        ("MISSING: should have been emitted", &report.missing),
        ("UNEXPECTED: emitted, and not derivable", &report.unexpected),
        ("NOT SEEN", &report.unseen),
    ] {
        listed(title, list, screen)?;
    }
    if !report.chain_only {
        coverage(report, screen)?;
        totals(report, screen)?;
    }
    for notice in &report.notices {
        screen.line(&format!("  notice: {notice}"))?;
    }
    Ok(())
}

fn chain(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let chain = &report.chain;
    let head = text(&chain["head"]["hash"]);
    let signatures = counted(chain["signatures"].as_object());
    let again = match chain["written_again"].as_u64() {
        None | Some(0) => String::new(),
        Some(n) => format!(", written again {n}"),
    };
    screen.line(&format!(
        "  chain        {} entries{again}, head {} {}…, signatures: {}",
        chain["entries"],
        chain["head"]["seq"],
        head.get(..12).unwrap_or(&head),
        if signatures.is_empty() { "none" } else { &signatures },
    ))?;
    Ok(())
}

/// Shows the signatures of control entries, and each adoption with both hashes.
fn control(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let control = &report.control;
    let signatures = counted(control["signatures"].as_object());
    if signatures.is_empty() {
        return Ok(());
    }
    screen.line(&format!("  control      signatures: {signatures}; refused {}", control["refused"]))?;
    let short = |value: &Value| text(value).get(..12).map_or_else(|| text(value), |hash| format!("{hash}…"));
    for adoption in control["adoptions"].as_array().into_iter().flatten() {
        // A refused policy was never in force.
        let is_refused = adoption["refused"] == true;
        let is_other = adoption["adopted"] != adoption["configured"];
        let differs = if is_other && !is_refused { ", NOT THE CONFIGURED ONE" } else { "" };
        screen.line(&format!(
            "  {:<12} {}: policy {}, configured {}, signature {}{differs}",
            if is_refused { "refused" } else { "adoption" },
            text(&adoption["entry"]),
            short(&adoption["adopted"]),
            short(&adoption["configured"]),
            text(&adoption["signature"]),
        ))?;
    }
    Ok(())
}

/// Formats the counts that are not zero.
fn counted(counts: Option<&Map<String, Value>>) -> String {
    let counts = counts.into_iter().flatten().filter(|(_, n)| n.as_u64() != Some(0));
    counts.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

fn outcomes(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let outcomes = counted(report.executions.get("outcomes").and_then(Value::as_object));
    let late = report.executions.get("late").and_then(Value::as_u64).unwrap_or(0);
    let none = "none: nothing was asked of an executor";
    let late = if late == 0 { String::new() } else { format!(", late {late}") };
    screen.line(&format!("  outcomes     {}{late}", if outcomes.is_empty() { none } else { &outcomes }))?;
    let refusals = counted(report.executions.get("refusals").and_then(Value::as_object));
    if !refusals.is_empty() {
        screen.line(&format!("  refused for  {refusals}"))?;
    }
    if !report.other_rules.is_empty() {
        screen.line(&format!("  other rules  {}", counted(Some(&report.other_rules))))?;
    }
    Ok(())
}

fn listed(title: &str, list: &[Value], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    screen.heading(title)?;
    for item in list.iter().take(SHOWN) {
        let parts = ["what", "seq", "entry", "entries", "symbol", "decision_id", "rungs", "qty", "cause"];
        let parts: Vec<String> = parts
            .iter()
            .filter_map(|key| item.get(*key).filter(|value| !value.is_null()).map(|value| (key, value)))
            .map(|(key, value)| if *key == "what" { text(value) } else { format!("{key} {}", text(value)) })
            .collect();
        let why = item.get("why").map_or_else(String::new, |why| format!(": {}", text(why)));
        let line = format!("  {}{why}", parts.join("  "));
        screen.line(if parts.is_empty() { line.trim_start_matches("  : ") } else { &line })?;
        for (field, both) in item.get("fields").and_then(Value::as_object).into_iter().flatten() {
            screen.line(&format!(
                "      {field}: emitted {}, recomputed {}",
                text(&both["emitted"]),
                text(&both["recomputed"])
            ))?;
        }
    }
    if list.len() > SHOWN {
        screen.line(&format!("  … and {} more: --json has them all", list.len() - SHOWN))?;
    }
    Ok(())
}

fn coverage(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.line("")?;
    let rows = report.coverage.iter().map(|(stream, seen)| {
        let gaps = seen["gaps"].as_array().map_or(0, Vec::len);
        let tone = if gaps > 0 { Tone::Bad } else { Tone::Plain };
        vec![
            (format!("  {stream}"), Tone::Plain),
            (text(&seen["entries"]), Tone::Plain),
            (text(&seen["first"]), Tone::Plain),
            (text(&seen["last"]), Tone::Plain),
            (gaps.to_string(), tone),
        ]
    });
    screen.table(&["  STREAM", "ENTRIES", "FIRST", "LAST", "GAPS"], &[1, 4], rows.collect())?;
    Ok(())
}

fn totals(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let Some(totals) = report.executions.get("totals") else { return Ok(()) };
    let mut rows = Vec::new();
    for kind in ["symbol", "rung", "day"] {
        for (key, sums) in totals[kind].as_object().into_iter().flatten() {
            rows.push(row(&format!("  {kind}"), key, sums));
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    rows.push(row("  all", "", &totals["all"]));
    screen.line("")?;
    screen.table(&["  BY", "", "DECIDED", "SENT", "FILLED", "PNL", "R"], &[2, 3, 4, 5, 6], rows)?;
    Ok(())
}

fn row(kind: &str, key: &str, sums: &Value) -> Vec<(String, Tone)> {
    let filled = sums["filled"].as_u64().unwrap_or(0) > 0;
    let money = |name: &str| if filled { rounded(&text(&sums[name])) } else { "-".to_owned() };
    let cells = [
        kind.to_owned(),
        key.to_owned(),
        text(&sums["decided"]),
        text(&sums["sent"]),
        text(&sums["filled"]),
        money("realized_pnl"),
        money("realized_r"),
    ];
    cells.into_iter().map(|cell| (cell, Tone::Plain)).collect()
}
