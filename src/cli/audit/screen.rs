//! An audit for people.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::finding::{Copies, Fault, Finding};
use super::report::{ChainReport, Report, Verdict};
use super::totals::{ExecutionTotals, Sums};
use super::trust::{Adoption, ControlReport};
use crate::cli::replay::rounded;
use crate::codec::chain::Signatures;
use crate::codec::plural::plural;
use crate::shell::terminal::{Screen, Tone};

/// Maximum number of findings of a kind that are shown. `--json` contains all. [1]
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
    screen.line(&chain(&report.chain))?;
    if let Some(report) = &report.control {
        control(report, screen)?;
    }
    if !report.chain_only {
        screen.line(&format!(
            "  decisions    matched {}, differ {}, missing {}, unexpected {}, duplicated {}, expired {}",
            report.matched,
            report.differs.len(),
            report.missing.len(),
            report.unexpected.len(),
            report.duplicated.len(),
            report.executions.expired,
        ))?;
        outcomes(report, screen)?;
    }
    listed("TAMPERED", report.tampered.iter().map(Fault::lines), screen)?;
    listed("DUPLICATED", report.duplicated.iter().map(Copies::lines), screen)?;
    listed("DIFFER", report.differs.iter().map(Finding::lines), screen)?;
    listed("MISSING: should have been emitted", report.missing.iter().map(Finding::lines), screen)?;
    listed("UNEXPECTED: emitted, and not derivable", report.unexpected.iter().map(Finding::lines), screen)?;
    listed("NOT SEEN", report.unseen.iter().map(Finding::lines), screen)?;
    if !report.chain_only {
        coverage(report, screen)?;
        if let Some(details) = &report.executions.details {
            totals(&details.totals, screen)?;
        }
    }
    for notice in &report.notices {
        screen.line(&format!("  notice: {notice}"))?;
    }
    Ok(())
}

fn chain(ChainReport { entries, written_again, head, signatures, .. }: &ChainReport) -> String {
    let again = if *written_again == 0 { String::new() } else { format!(", written again {written_again}") };
    let signatures = of_signatures(signatures);
    let signatures = if signatures.is_empty() { "none" } else { &signatures };
    let hash = head.hash.get(..12).unwrap_or(&head.hash);
    format!("  chain        {}{again}, head {} {hash}…, signatures: {signatures}", plural(*entries, "entry"), head.seq)
}

/// Shows the signatures of control entries, and each adoption with both hashes.
fn control(control: &ControlReport, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let signatures = of_signatures(&control.signatures);
    if signatures.is_empty() {
        return Ok(());
    }
    screen.line(&format!("  control      signatures: {signatures}; refused {}", control.refused))?;
    let short = |hash: &str| hash.get(..12).map_or_else(|| hash.to_owned(), |hash| format!("{hash}…"));
    for Adoption { entry, account, adopted, configured, signature, refused } in &control.adoptions {
        // A refused policy was never in force.
        let differs = if adopted != configured && !refused { ", NOT THE CONFIGURED ONE" } else { "" };
        let what = if *refused { "refused" } else { "adoption" };
        let of = account.as_ref().map_or_else(String::new, |account| format!(" of {account}"));
        let (adopted, configured) = (short(adopted), short(configured));
        screen.line(&format!(
            "  {what:<12} {entry}: policy{of} {adopted}, configured {configured}, signature {signature}{differs}"
        ))?;
    }
    Ok(())
}

fn of_signatures(&Signatures { good, bad, unchecked, none }: &Signatures) -> String {
    counted([("bad", bad), ("good", good), ("none", none), ("unchecked", unchecked)])
}

/// Formats the counts that are not zero.
fn counted<K: Display>(counts: impl IntoIterator<Item = (K, u64)>) -> String {
    let counts = counts.into_iter().filter(|(_, n)| *n != 0);
    counts.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

fn outcomes(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let by_name = |counts: &BTreeMap<String, u64>| counted(counts.iter().map(|(name, n)| (name.clone(), *n)));
    let outcomes = counted(report.executions.outcomes.iter().map(|(name, n)| (*name, *n)));
    let details = report.executions.details.as_ref();
    let late = details.map_or(0, |details| details.late);
    let none = "none: no order was requested";
    let late = if late == 0 { String::new() } else { format!(", late {late}") };
    screen.line(&format!("  outcomes     {}{late}", if outcomes.is_empty() { none } else { &outcomes }))?;
    let refusals = details.map_or_else(String::new, |details| by_name(&details.refusals));
    if !refusals.is_empty() {
        screen.line(&format!("  refused for  {refusals}"))?;
    }
    if !report.other_rules.is_empty() {
        screen.line(&format!("  other rules  {}", by_name(&report.other_rules)))?;
    }
    Ok(())
}

fn listed(
    title: &str,
    list: impl ExactSizeIterator<Item = Vec<String>>,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let n = list.len();
    if n == 0 {
        return Ok(());
    }
    screen.line("")?;
    screen.heading(title)?;
    for line in list.take(SHOWN).flatten() {
        screen.line(&line)?;
    }
    if n > SHOWN {
        screen.line(&format!("  … and {} more: --json has them all", n - SHOWN))?;
    }
    Ok(())
}

fn coverage(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.line("")?;
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "-".to_owned());
    let rows = report.coverage.iter().map(|(stream, covered)| {
        let gaps = covered.gaps.len();
        vec![
            (format!("  {stream}"), Tone::Plain),
            (covered.entries.to_string(), Tone::Plain),
            (id(&covered.first), Tone::Plain),
            (id(&covered.last), Tone::Plain),
            (gaps.to_string(), if gaps > 0 { Tone::Bad } else { Tone::Plain }),
        ]
    });
    screen.table(&["  STREAM", "ENTRIES", "FIRST", "LAST", "GAPS"], &[1, 4], rows.collect())?;
    Ok(())
}

fn totals(ExecutionTotals { all, symbol, rung, day }: &ExecutionTotals, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let kinds = [("  symbol", symbol), ("  rung", rung), ("  day", day)];
    let by_kind = kinds.into_iter().flat_map(|(kind, sums)| sums.iter().map(move |(key, sums)| row(kind, key, sums)));
    let mut rows: Vec<_> = by_kind.collect();
    if rows.is_empty() {
        return Ok(());
    }
    rows.push(row("  all", "", all));
    screen.line("")?;
    screen.table(&["  BY", "", "DECIDED", "SENT", "FILLED", "PNL", "R"], &[2, 3, 4, 5, 6], rows)?;
    Ok(())
}

fn row(kind: &str, key: &str, sums: &Sums) -> Vec<(String, Tone)> {
    let money = |text: String| if sums.filled > 0 { rounded(&text) } else { "-".to_owned() };
    let cells = [
        kind.to_owned(),
        key.to_owned(),
        sums.decided.to_string(),
        sums.sent.to_string(),
        sums.filled.to_string(),
        money(sums.pnl.to_string()),
        money(sums.r.to_string()),
    ];
    cells.into_iter().map(|cell| (cell, Tone::Plain)).collect()
}
