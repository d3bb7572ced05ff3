//! An explanation for people.

use crate::codec::time;
use crate::codec::view::PositionView;
use crate::domain::event::ids::EntryId;
use crate::drive::explain::{Decided, Explanation, Origin, Outcome, PositionAtTime, Subject, name_of_fill};
use crate::shell::terminal::{Screen, Tone};

pub(super) fn show(explanation: &Explanation, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let at_time = explanation.at_time.as_ref();
    match &explanation.subject {
        Subject::Decision(decided) => decision(decided, screen)?,
        Subject::Symbol { asked, later } => {
            if let Some(at_time) = at_time {
                let asked = asked.as_ref().filter(|_| later.is_none());
                hold(explanation, at_time, asked, screen)?;
            }
            if let Some(later) = later {
                let hold = later.hold.unwrap_or("not held");
                screen.line(&format!("  At {}, with no entry that evaluates it since: {hold}.", later.at))?;
                for why in &later.why {
                    screen.line(&format!("  {why}"))?;
                }
            }
        }
    }
    let shown = at_time.and_then(|at_time| at_time.position.as_ref());
    if let Some(shown) = shown {
        position(explanation, shown, screen)?;
    }
    section("The arithmetic", &explanation.arithmetic, screen)?;
    let rungs = shown.iter().flat_map(|shown| &shown.rungs);
    let rungs: Vec<String> = rungs.map(|rung| format!("{} R {} ({})", rung.r, rung.state, rung.fraction)).collect();
    if !rungs.is_empty() {
        screen.line("")?;
        screen.line(&format!("  rungs: {}", rungs.join(", ")))?;
    }
    if let Subject::Decision(Decided { outcome: Some(outcome), .. }) = &explanation.subject {
        became(outcome, screen)?;
    }
    if let Some(at_time) = at_time {
        around(at_time, screen)?;
    }
    let origins = explanation.origins.iter().flat_map(|origins| origins.0.values()).flatten();
    let raw: Vec<String> = origins.filter_map(|origin| origin.raw.clone()).collect();
    section("The entries", &raw, screen)
}

/// Returns the time of an entry id.
fn when(entry: &str) -> String {
    entry.parse().map_or_else(|_| "-".to_owned(), |id: EntryId| time::iso(id.ms))
}

fn hold(
    explanation: &Explanation,
    at_time: &PositionAtTime,
    asked: Option<&String>,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let held = match (at_time.hold, &at_time.position) {
        (Some(hold), _) => format!("not harvested: {hold}"),
        (None, Some(position)) if position.closed.is_none() => "not held".to_owned(),
        (None, _) => "nothing open".to_owned(),
    };
    screen.heading(&format!("{} at {}: {held}", explanation.symbol, asked.unwrap_or(&at_time.at)))?;
    for why in &at_time.why {
        screen.line(&format!("  {why}"))?;
    }
    Ok(())
}

fn decision(Decided { decision, emission, .. }: &Decided, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.heading(&format!(
        "Decision {}: {} {} {} at {} R ({})",
        decision.shown("decision_id"),
        decision.shown("side"),
        decision.shown("qty"),
        decision.shown("symbol"),
        decision.shown("r_net"),
        decision.shown("mode")
    ))?;
    let cause = decision.shown("cause");
    let time = cause.rsplit_once('/').map_or_else(|| "-".to_owned(), |(_, id)| when(id));
    screen.line(&format!("  caused by {cause}, {time}"))?;
    screen.line(&format!("  rungs {} R, attempt {}", decision.shown("rungs"), decision.shown("attempt")))?;
    if let Some(emitted) = emission.as_ref().and_then(|emission| emission.emitted.as_ref()) {
        let alike = match emitted.recomputed_alike {
            Some(true) => "recomputed: the same",
            Some(false) => "recomputed: not the same (see audit)",
            None => "recomputed: these rules do not make it (see audit)",
        };
        screen.line(&format!("  emitted as number {} in entry {}; {alike}", emitted.seq, emitted.entry))?;
    }
    Ok(())
}

/// Value, source and entry of a field, as far as they are known.
type Values<'a> = (Option<&'a String>, Option<&'a String>, Option<&'a String>);

fn position(explanation: &Explanation, position: &PositionView, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let PositionView { position_id, side, qty, opened, .. } = position;
    screen.line("")?;
    screen.heading(&format!("{position_id} {side} {qty}, open since {}", when(opened)))?;
    let dash = || "-".to_owned();
    let row = |name: &str, shown: String, (value, source, entry): Values<'_>| {
        let origins = entry.zip(explanation.origins.as_ref());
        let origins: Vec<&Origin> = origins.map_or_else(Vec::new, |(entry, of)| of.of_field(entry, name).collect());
        let listed = |mut names: Vec<&str>| {
            names.dedup();
            if names.is_empty() { dash() } else { names.join(" ") }
        };
        let streams = origins.iter().map(|origin| &*origin.stream).collect();
        let shapes = origins.iter().map(|origin| origin.shape).collect();
        vec![
            (format!("  {shown}"), Tone::Plain),
            value.map_or(("missing".to_owned(), Tone::Bad), |value| (value.clone(), Tone::Plain)),
            (source.cloned().unwrap_or_else(dash), Tone::Plain),
            (listed(streams), Tone::Dim),
            (entry.cloned().unwrap_or_else(dash), Tone::Dim),
            (listed(shapes), Tone::Dim),
        ]
    };
    let fields = position.inputs().map(|(name, field)| {
        let values = (field.map(|of| &of.value), field.map(|of| &of.source), field.map(|of| &of.entry));
        row(name, name.to_owned(), values)
    });
    let fills = position.fills.iter().enumerate().map(|(at, fill)| {
        let values = (fill.price.as_ref(), fill.source.as_ref(), Some(&fill.entry));
        row(&name_of_fill(at), format!("fill {} {}", fill.side, fill.qty), values)
    });
    let rows = fields.into_iter().chain(fills).collect();
    screen.table(&["  FIELD", "VALUE", "SOURCE", "STREAM", "ENTRY", "SHAPE"], &[1], rows)?;
    if !position.flags.is_empty() {
        screen.line(&format!("  flags: {}", position.flags.join(",")))?;
    }
    Ok(())
}

fn section(title: &str, lines: &[String], screen: &mut Screen<'_>) -> anyhow::Result<()> {
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

fn became(outcome: &Outcome, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.line("")?;
    screen.heading("Outcome")?;
    screen.line(&format!("  {} (plan {})", outcome.state, outcome.plan_id))?;
    for event in &outcome.events {
        let fill = event
            .fill
            .as_ref()
            .map_or_else(String::new, |fill| format!(" {} at {}", fill.qty, fill.price.as_deref().unwrap_or("-")));
        screen.line(&format!("  {} {}{fill} ({})", event.time, event.what, event.entry))?;
    }
    Ok(())
}

/// Shows the policy in force and the holds of other positions.
fn around(at_time: &PositionAtTime, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let policy = &at_time.policy;
    screen.line("")?;
    let since = match &policy.since {
        Some(id) => format!("adopted by {id}, {}", when(id)),
        // A store does not contain the entry of the adoption.
        None if policy.adopted => "adopted".to_owned(),
        None => "configured".to_owned(),
    };
    screen.line(&format!(
        "  policy {}… ({}, {since}): min_r {}, cost {} bps",
        policy.hash.get(..12).unwrap_or(&policy.hash),
        policy.mode,
        policy.min_r,
        policy.cost_bps
    ))?;
    let holds = at_time.holds.iter().flat_map(|holds| &holds.holds);
    let holds: Vec<String> = holds
        .map(|change| format!("{} from {}", change.hold, change.time.get(11..19).unwrap_or(&change.time)))
        .collect();
    if !holds.is_empty() {
        screen.line(&format!("  held by: {}", holds.join(", ")))?;
    }
    let others: Vec<String> = at_time.others.iter().map(|(hold, n)| format!("{hold} {n}")).collect();
    if !others.is_empty() {
        screen.line(&format!("  other open positions at that moment: {}", others.join(", ")))?;
    }
    Ok(())
}
