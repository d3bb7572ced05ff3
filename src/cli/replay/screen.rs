//! The result of a replay for people.

use super::Replayed;
use crate::codec::plural::plural;
use crate::codec::time;
use crate::codec::view::{Counted, DecisionView, Summary};
use crate::domain::book::counters::Count;
use crate::domain::event::ids::EntryId;
use crate::shell::terminal::{Screen, Tone};

/// Maximum number of decisions that are shown. [1]
const DECISIONS_SHOWN: usize = 20;

pub(super) fn show(replayed: &Replayed, decisions: &[String], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let summary = &replayed.summary;
    let [first, last] = [&summary.first_id, &summary.last_id].map(|id| id.as_deref().unwrap_or("none"));
    screen.heading(&format!("Replayed {}, {first} to {last}", plural(summary.entries, "entry")))?;
    screen.line(&format!(
        "  applied {}, duplicates {}, quarantined {}, bad lines {}, other streams {}, {:?} s",
        summary.applied,
        summary.duplicates,
        summary.quarantined.values().sum::<u64>(),
        summary.bad_lines,
        summary.other_streams,
        summary.seconds,
    ))?;
    if summary.applied + summary.quarantined.values().sum::<u64>() == 0 && summary.duplicates > 0 {
        screen
            .line("  nothing new: the store has all of these entries (to replay them again, name another --store)")?;
    }
    if summary.entries == 0 && summary.duplicates == 0 {
        screen.line("  nothing was read: no line in this range names a configured stream (see [streams])")?;
    }
    let of_state = [
        ("quarantined", &summary.quarantined),
        ("holds", &summary.holds),
        ("missing", &summary.missing),
        ("counts", &summary.counts),
    ];
    let of_shapes = summary.shapes.iter().map(|(kind, shapes)| (*kind, shapes));
    for (title, counts) in of_state.into_iter().filter(|(_, counts)| !counts.is_empty()).chain(of_shapes) {
        screen.line(&format!("  {title:<12} {}", counted(counts)))?;
    }
    screen.line("")?;
    let positions = if summary.positions_unknown {
        "positions unknown: no position was ever seen from anywhere (this is not the same as flat)".to_owned()
    } else {
        format!("{} open, {} evaluable", plural(summary.positions_open, "position"), summary.evaluable)
    };
    screen.heading(&format!("{positions}; {}", decided(summary)))?;
    for (title, names) in [("unconfirmed", &summary.unconfirmed), ("history_gap", &summary.history_gap)] {
        if !names.is_empty() {
            screen.line(&format!("  {title}: {}", names.join(" ")))?;
        }
    }
    if !decisions.is_empty() {
        screen.line("")?;
        decision_table(decisions.iter().take(DECISIONS_SHOWN), screen)?;
        if decisions.len() > DECISIONS_SHOWN {
            let more = decisions.len() - DECISIONS_SHOWN;
            screen.line(&format!("… and {more} more: --decisions FILE writes them all"))?;
        }
    }
    Ok(())
}

/// Formats the number of decisions that were made, without those in the history: recorded decisions are adopted, and
/// not made again.
fn decided(summary: &Summary) -> String {
    let (made, own) = (summary.decisions, summary.own_decisions);
    let others = own.differ + own.unexpected;
    let without_cause = summary.counts.get(Count::DecisionWithoutCause.name()).copied().unwrap_or(0);
    let adopted = own.agree + others + without_cause;
    if adopted == 0 && own.missing == 0 {
        return plural(made, "decision");
    }
    let mut text = format!("{} adopted", plural(adopted, "recorded decision"));
    let mut of_them = Vec::new();
    if others > 0 {
        of_them.push(format!("{others} of them not as these rules decide"));
    }
    if without_cause > 0 {
        of_them.push(format!("{without_cause} of them with no cause in the history"));
    }
    if !of_them.is_empty() {
        text += &format!(" ({})", of_them.join(", "));
    }
    if own.missing > 0 {
        text += &format!(", {} of ours not recorded and left out", own.missing);
    }
    format!("{text}, {made} made anew")
}

fn counted(counts: &Counted) -> String {
    counts.iter().map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// Shows decisions, given as history lines, as a table.
pub fn decision_table<'a>(lines: impl Iterator<Item = &'a String>, screen: &mut Screen<'_>) -> std::io::Result<()> {
    let head = ["TIME", "SYMBOL", "SIDE", "QTY", "SHARE", "RUNGS", "R_NET", "MARK", "PNL", "MODE"];
    screen.table(&head, &[3, 4, 6, 7, 8], lines.filter_map(|line| DecisionView::of_line(line)).map(cells).collect())
}

fn cells((id, decision): (EntryId, DecisionView)) -> Vec<(String, Tone)> {
    let plain = |text: String| (text, Tone::Plain);
    vec![
        (time::iso(id.ms), Tone::Dim),
        plain(decision.book().to_owned()),
        plain(decision.side),
        plain(decision.qty),
        plain(decision.close_fraction),
        plain(decision.rungs.join(",")),
        (decision.r_net, Tone::Good),
        plain(decision.mark_price),
        plain(rounded(&decision.unrealized_pnl)),
        plain(decision.mode),
    ]
}

/// Formats a decimal for people: at most four decimals.
pub fn rounded(text: &str) -> String {
    match text.parse::<rust_decimal::Decimal>() {
        Ok(value) => value.round_dp(4).normalize().to_string(),
        Err(_) => text.to_owned(),
    }
}
