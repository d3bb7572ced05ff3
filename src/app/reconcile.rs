//! `harvester reconcile`: our positions against those of the exchange, now.
//!
//! What was not answered is unknown, never flat: without an answer there is no verdict on any position.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::app::found::Found;
use crate::app::positions::{self, Sheet};
use crate::app::{exchange, projection};
use crate::codec::{number, time};
use crate::config::Config;
use crate::domain::units::{Price, Qty};
use crate::shell::exchange::{CallError, Positions};
use crate::shell::terminal::{Screen, Tone};

/// Entry prices further apart than this are different: 0.1 %, as in the fold. [1]
const ENTRY_APART: Decimal = Decimal::from_parts(1, 0, 0, false, 3);

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["store", "url"])))]
pub struct Args {
    /// Folder of the projection
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Address of a running service
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// How one symbol compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Comparison {
    Same,
    DifferentQuantity,
    DifferentEntry,
    OnlyHere,
    OnlyThere,
    Unknown,
}

impl Comparison {
    const fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::DifferentQuantity => "different_quantity",
            Self::DifferentEntry => "different_entry",
            Self::OnlyHere => "only_here",
            Self::OnlyThere => "only_there",
            Self::Unknown => "unknown",
        }
    }
}

/// A position of one side: signed quantity [base] and entry price [quote per base].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Side {
    qty: Qty,
    entry_price: Option<Price>,
}

struct Row {
    symbol: String,
    comparison: Comparison,
    here: Option<Side>,
    there: Option<Side>,
}

/// What was asked, what answered, and what could not be known.
struct Coverage {
    asked: &'static str,
    failure: Option<String>,
    not_known: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let sheet = match (&args.store, &args.url) {
        (Some(store), _) => {
            let (engine, rows) = projection::read(store)?;
            let sheet = Sheet::of(&engine, &rows, None, false)?;
            match sheet {
                Some(sheet) => sheet,
                None => bail!("the store {} has no positions to show", store.display()),
            }
        }
        (None, Some(url)) => positions::of_service(url, None, false)?,
        (None, None) => bail!("whose positions: --store DIR or --url URL"),
    };
    let client = exchange::client(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answered = runtime.block_on(client.exchange.position_risk());
    let here = ours(&sheet);
    let rows = compare(&here, answered.as_ref().ok());
    let coverage = coverage(&sheet, &answered, client.no_credentials.as_deref());
    show(args, &sheet, &rows, &coverage, out)?;
    let differ = rows.iter().filter(|row| row.comparison != Comparison::Same).count();
    match (answered, client.no_credentials) {
        (Err(CallError::NoCredentials { .. }), Some(reason)) => bail!("the exchange was not asked: {reason}"),
        (Err(error), _) => Err(error.into()),
        (Ok(_), _) if differ > 0 => bail!(Found(format!("{differ} positions differ"))),
        (Ok(_), _) => Ok(()),
    }
}

fn ours(sheet: &Sheet) -> BTreeMap<String, Side> {
    let decimal = |value: &Value| number::decimal(value.as_str()?).ok();
    let position = |position: &Value| {
        let qty = Qty::new(decimal(&position["qty"])?);
        let qty = if position["side"] == "SHORT" { qty.negated() } else { qty };
        let entry_price = decimal(&position["entry_price"]["value"]).map(Price::new);
        Some((position["symbol"].as_str()?.to_owned(), Side { qty, entry_price }))
    };
    sheet.positions.iter().filter_map(position).collect()
}

fn compare(here: &BTreeMap<String, Side>, there: Option<&Positions>) -> Vec<Row> {
    let Some(there) = there else {
        let unknown = |(symbol, side): (&String, &Side)| Row {
            symbol: symbol.clone(),
            comparison: Comparison::Unknown,
            here: Some(*side),
            there: None,
        };
        return here.iter().map(unknown).collect();
    };
    let rows =
        there.open().map(|row| (row.symbol.clone(), Side { qty: row.position_amt, entry_price: row.entry_price }));
    let there: BTreeMap<String, Side> = rows.collect();
    let symbols: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
    symbols
        .into_iter()
        .map(|symbol| {
            let (here, there) = (here.get(symbol).copied(), there.get(symbol).copied());
            Row { symbol: symbol.clone(), comparison: compared(here, there), here, there }
        })
        .collect()
}

fn compared(here: Option<Side>, there: Option<Side>) -> Comparison {
    let (here, there) = match (here, there) {
        (Some(here), Some(there)) => (here, there),
        (Some(_), None) => return Comparison::OnlyHere,
        (None, Some(_)) => return Comparison::OnlyThere,
        (None, None) => return Comparison::Same,
    };
    if !here.qty.same(there.qty, None) {
        return Comparison::DifferentQuantity;
    }
    let apart = |a: Price, b: Price| {
        let apart = (a.get() - b.get()).abs();
        b.get().checked_mul(ENTRY_APART).is_none_or(|limit| apart > limit)
    };
    match (here.entry_price, there.entry_price) {
        (Some(a), Some(b)) if !apart(a, b) => Comparison::Same,
        (None, None) => Comparison::Same,
        _ => Comparison::DifferentEntry,
    }
}

fn coverage(sheet: &Sheet, answered: &Result<Positions, CallError>, no_credentials: Option<&str>) -> Coverage {
    let mut not_known = Vec::new();
    if sheet.positions_unknown {
        not_known.push("ours: no position was ever seen from anywhere, which is not the same as flat".to_owned());
    }
    if !sheet.history_gap.is_empty() {
        not_known.push(format!("ours: the history of {} has a gap", sheet.history_gap.join(", ")));
    }
    let failure = match answered {
        Ok(positions) => {
            let hedged: BTreeSet<&str> =
                positions.open().filter(|row| row.position_side != "BOTH").map(|row| &*row.symbol).collect();
            if !hedged.is_empty() {
                let hedged: Vec<&str> = hedged.into_iter().collect();
                not_known.push(format!("theirs: {} in hedge mode, which is not read", hedged.join(", ")));
            }
            None
        }
        Err(error) => {
            not_known.push("theirs: every position; a call that failed says of none that it is flat".to_owned());
            let reason = no_credentials.map_or_else(String::new, |reason| format!(" ({reason})"));
            Some(format!("{error}{reason}"))
        }
    };
    Coverage { asked: "positionRisk of all symbols", failure, not_known }
}

fn show(args: &Args, sheet: &Sheet, rows: &[Row], coverage: &Coverage, out: &mut dyn Write) -> anyhow::Result<()> {
    let count = |comparison| rows.iter().filter(|row| row.comparison == comparison).count();
    let verdict = match () {
        () if coverage.failure.is_some() => "unknown",
        () if rows.iter().all(|row| row.comparison == Comparison::Same) => "same",
        () => "differs",
    };
    let all = [
        Comparison::Same,
        Comparison::DifferentQuantity,
        Comparison::DifferentEntry,
        Comparison::OnlyHere,
        Comparison::OnlyThere,
        Comparison::Unknown,
    ];
    if args.json {
        let counts: serde_json::Map<String, Value> =
            all.iter().map(|&comparison| (comparison.name().to_owned(), count(comparison).into())).collect();
        let side = |side: Option<Side>| {
            side.map(|s| json!({"qty": s.qty.to_string(), "entry_price": s.entry_price.map(|p| p.to_string())}))
        };
        let positions: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "symbol": row.symbol, "verdict": row.comparison.name(),
                    "here": side(row.here), "there": side(row.there),
                })
            })
            .collect();
        let document = json!({
            "verdict": verdict, "as_of": sheet.as_of, "counts": counts, "positions": positions,
            "coverage": {
                "asked": [coverage.asked], "answered": coverage.failure.is_none(),
                "failure": coverage.failure, "not_known": coverage.not_known,
            },
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    let mut screen = Screen::stdout(out);
    let cells = |row: &Row| {
        let text = |side: Option<Side>, get: fn(Side) -> Option<String>| side.and_then(get).unwrap_or("-".to_owned());
        let qty = |side| text(side, |side: Side| Some(side.qty.to_string()));
        let entry = |side| text(side, |side: Side| side.entry_price.map(|price| price.to_string()));
        let tone = if row.comparison == Comparison::Same { Tone::Good } else { Tone::Bad };
        vec![
            (row.symbol.clone(), Tone::Plain),
            (row.comparison.name().to_owned(), tone),
            (qty(row.here), Tone::Plain),
            (qty(row.there), Tone::Plain),
            (entry(row.here), Tone::Plain),
            (entry(row.there), Tone::Plain),
        ]
    };
    screen.table(
        &["SYMBOL", "VERDICT", "QTY HERE", "QTY THERE", "ENTRY HERE", "ENTRY THERE"],
        &[2, 3, 4, 5],
        rows.iter().map(cells).collect(),
    )?;
    let counts: Vec<String> = all.iter().map(|&c| format!("{} {}", c.name(), count(c))).collect();
    screen.line(&format!("{verdict}: {}", counts.join(", ")))?;
    screen.line(&format!("ours as of {} ({})", sheet.as_of, time::iso(sheet.as_of_ms())))?;
    let answer = coverage.failure.clone().unwrap_or_else(|| "answered in full".to_owned());
    screen.line(&format!("asked: {}; {answer}", coverage.asked))?;
    for not_known in &coverage.not_known {
        screen.line(&format!("not known, {not_known}"))?;
    }
    Ok(())
}
