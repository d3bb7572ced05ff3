//! Policies side by side: for people, as JSON, and every decision as CSV.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;

use crate::cli::replay::rounded;
use crate::codec::plural::plural;
use crate::codec::time;
use crate::drive::whatif::{Compared, FILL_MODEL, Fill, Sums, SymbolSums, ids, sums};
use crate::shell::terminal::{Screen, Tone};

/// More policies than this are shown by their totals only. [1]
const WIDE_MAX: usize = 3;

/// Writes every decision of every policy, one row each.
pub fn write_csv(compared: &Compared, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut table = csv::Writer::from_path(path).with_context(failed)?;
    table.write_record([
        "policy",
        "time",
        "symbol",
        "side",
        "qty",
        "rungs",
        "attempt",
        "r_net",
        "mark_price",
        "fill_price",
        "realized_pnl",
        "realized_r",
        "decision_id",
        "position_id",
        "cause",
    ])?;
    for variant in &compared.variants {
        for made in &variant.made {
            let payload = variant.payload(made);
            let text = |field: &str| payload.text(field).to_owned();
            let fill = |of: &dyn Fn(&Fill) -> Option<String>| made.fill.as_ref().and_then(of).unwrap_or_default();
            table.write_record([
                variant.name.clone(),
                time::iso(made.decision.cause.ms),
                text("symbol"),
                text("side"),
                text("qty"),
                payload.rungs().join("+"),
                made.decision.attempt.to_string(),
                text("r_net"),
                text("mark_price"),
                fill(&|fill| Some(fill.price.to_string())),
                fill(&|fill| fill.pnl.map(|pnl| pnl.to_string())),
                fill(&|fill| fill.r.map(|r| r.to_string())),
                made.decision.decision_id.clone(),
                text("position_id"),
                text("cause"),
            ])?;
        }
    }
    table.flush().with_context(failed)
}

/// Shows the policies side by side.
pub fn show(compared: &Compared, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let plain = |text: String| (text, Tone::Plain);
    let all = compared.variants.iter().map(sums).collect::<Result<Vec<_>, _>>()?;
    screen.heading(&format!("{}, {}", plural(compared.entries, "entry"), plural(compared.variants.len(), "policy")))?;
    screen.line(&format!("  fill model: {FILL_MODEL}"))?;
    screen.line("")?;
    let first = compared.variants.first().map(ids).unwrap_or_default();
    let rows = compared.variants.iter().zip(&all).map(|(variant, (total, _))| {
        let own = ids(variant);
        let recorded = compared.recorded.iter().filter(|id| own.contains(&***id)).count();
        vec![
            plain(format!("  {}", variant.name)),
            plain(variant.engine.policy().hash.get(..12).unwrap_or_default().to_owned()),
            plain(variant.engine.policy().mode.name().to_owned()),
            plain(total.decisions.to_string()),
            plain(rounded(&total.pnl.to_string())),
            plain(rounded(&total.r.to_string())),
            plain(own.difference(&first).count().to_string()),
            plain(first.difference(&own).count().to_string()),
            plain(format!("{recorded} of {}", compared.recorded.len())),
        ]
    });
    let head = ["  POLICY", "HASH", "MODE", "DECISIONS", "PNL", "R", "ONLY HERE", "ONLY IN THE FIRST", "AS RECORDED"];
    screen.table(&head, &[3, 4, 5, 6, 7, 8], rows.collect())?;
    if compared.variants.len() > WIDE_MAX {
        screen.line("")?;
        screen.line("By symbol: --json, or --csv FILE")?;
        return Ok(());
    }
    by_symbol(compared, &all, screen)
}

fn by_symbol(
    compared: &Compared,
    all: &[(Sums, BTreeMap<String, SymbolSums>)],
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let symbols: BTreeSet<&String> = all.iter().flat_map(|(_, symbols)| symbols.keys()).collect();
    if symbols.is_empty() {
        return Ok(());
    }
    screen.line("")?;
    let mut head = vec!["  SYMBOL".to_owned()];
    for variant in &compared.variants {
        head.extend([format!("{}: N", variant.name), "QTY".to_owned(), "PNL".to_owned(), "R".to_owned()]);
    }
    let rows = symbols.into_iter().map(|symbol| {
        let mut row = vec![(format!("  {symbol}"), Tone::Plain)];
        for (_, symbols) in all {
            let cells = match symbols.get(symbol) {
                Some(SymbolSums { sums, qty }) => [
                    sums.decisions.to_string(),
                    rounded(&qty.to_string()),
                    rounded(&sums.pnl.to_string()),
                    rounded(&sums.r.to_string()),
                ],
                None => ["-"; 4].map(str::to_owned),
            };
            row.extend(cells.into_iter().map(|cell| (cell, Tone::Plain)));
        }
        row
    });
    let right: Vec<usize> = (1..head.len()).collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    screen.table(&head, &right, rows.collect())?;
    Ok(())
}
