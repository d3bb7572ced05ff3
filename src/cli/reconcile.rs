//! `harvester reconcile`: compares our positions with those of the exchange, now.
//!
//! A missing answer means unknown, never flat: without an answer there is no verdict on any position.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::exit_code::Found;
use super::positions::{self, Sheet};
use crate::codec::exchange::AccountMode;
use crate::codec::view::PositionView;
use crate::codec::{number, time};
use crate::config::Config;
use crate::domain::named;
use crate::domain::units::{Price, Qty};
use crate::drive::projection;
use crate::service::exchange;
use crate::shell::exchange::{CallError, Exchange, Positions};
use crate::shell::terminal::{Screen, Tone};

/// The position side of a one-way account.
const BOTH: &str = "BOTH";
/// Entry prices further apart than this are different: 0.1 %, as in the fold. [1]
const ENTRY_APART: Decimal = Decimal::from_parts(1, 0, 0, false, 3);

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["store", "url"])))]
pub struct Args {
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Address of a running service
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

named! {
    /// The result of the comparison of one symbol.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Comparison {
        Same => "same",
        DifferentQuantity => "different_quantity",
        DifferentEntry => "different_entry",
        OnlyHere => "only_here",
        OnlyThere => "only_there",
        Unknown => "unknown",
    }
}

/// A position of one side: signed quantity [base] and entry price [quote per base].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Side {
    qty: Qty,
    entry_price: Option<Price>,
}

/// Symbol and position side: a hedge account has two positions of a symbol.
type Of = (String, String);

struct Row {
    symbol: String,
    /// `BOTH`, or the side in a hedge account.
    position_side: String,
    comparison: Comparison,
    here: Option<Side>,
    there: Option<Side>,
}

/// Which sources were asked, which answered, and what is unknown.
struct Coverage {
    asked: String,
    failure: Option<String>,
    /// The account mode, if it is known.
    mode: Result<AccountMode, String>,
    /// Our positions are of several accounts, and the exchange was asked for one.
    has_several_accounts: bool,
    not_known: Vec<String>,
}

impl Coverage {
    /// Returns true if positions can be compared: all of them are of one account, which is known to hold one for each
    /// symbol.
    fn is_comparable(&self) -> bool {
        self.failure.is_none() && self.mode == Ok(AccountMode::OneWay) && !self.has_several_accounts
    }
}

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
        (None, None) => bail!("no source of positions is given: want --store DIR or --url URL"),
    };
    let client = exchange::client(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answered = runtime.block_on(client.exchange.positions());
    let mode = match &answered {
        Ok(positions) => runtime.block_on(mode(&client.exchange, positions)),
        Err(error) => Err(error.to_string()),
    };
    let here = ours(&sheet);
    let asked = format!("{} of all symbols", client.exchange.terms().positions_name);
    let coverage = coverage(&sheet, asked, &answered, mode, client.no_credentials.as_deref());
    let rows = compare(&here, answered.as_ref().ok(), coverage.is_comparable());
    show(args, &sheet, &rows, &coverage, out)?;
    let differ = rows.iter().filter(|row| row.comparison != Comparison::Same).count();
    match (answered, client.no_credentials) {
        (Err(CallError::NoCredentials { .. }), Some(reason)) => bail!("the exchange was not asked: {reason}"),
        (Err(error), _) => Err(error.into()),
        (Ok(_), _) if !coverage.is_comparable() => {
            let why = match coverage.mode {
                Ok(_) if coverage.has_several_accounts => "our positions are of several accounts".to_owned(),
                Ok(mode) => format!("the account is {}", mode.name()),
                Err(why) => why,
            };
            bail!(Found(format!("the exchange cannot be compared: {why}")))
        }
        (Ok(_), _) if differ > 0 => bail!(Found(format!("{differ} positions differ"))),
        (Ok(_), _) => Ok(()),
    }
}

/// Returns the account mode: hedge if the rows show it, else the exchange's answer. If there is no usable answer, a
/// quantity without a side still shows a one-way account.
async fn mode(exchange: &Exchange, positions: &Positions) -> Result<AccountMode, String> {
    match (positions.mode(), exchange.account_mode().await) {
        (Some(AccountMode::Hedge), _) => Ok(AccountMode::Hedge),
        (_, Ok(mode)) => Ok(mode),
        (Some(mode), Err(_)) => Ok(mode),
        (None, Err(error)) => Err(error.to_string()),
    }
}

/// Returns the accounts of our positions; an empty name is the account without one.
fn accounts(sheet: &Sheet) -> BTreeSet<&str> {
    sheet.positions.iter().map(|position| position.account.as_deref().unwrap_or_default()).collect()
}

/// Returns our positions by symbol and side. Those of several accounts have the account before the symbol.
fn ours(sheet: &Sheet) -> BTreeMap<Of, Side> {
    let has_several_accounts = accounts(sheet).len() > 1;
    let position = |position: &PositionView| {
        let qty = Qty::new(number::decimal(&position.qty).ok()?);
        let qty = if position.side == "SHORT" { qty.negated() } else { qty };
        let entry_price = position.entry_price.as_ref().and_then(|entry| number::decimal(&entry.value).ok());
        let side = Side { qty, entry_price: entry_price.map(Price::new) };
        let account = position.account.as_ref().filter(|_| has_several_accounts);
        let symbol =
            account.map_or_else(|| position.symbol.clone(), |account| format!("{account}/{}", position.symbol));
        let position_side = position.position_side.clone().unwrap_or_else(|| BOTH.to_owned());
        Some(((symbol, position_side), side))
    };
    sheet.positions.iter().filter_map(position).collect()
}

/// Returns the rows of both, by symbol and side. If they cannot be compared, each is shown as unknown.
fn compare(here: &BTreeMap<Of, Side>, there: Option<&Positions>, is_comparable: bool) -> Vec<Row> {
    let there = there.into_iter().flat_map(Positions::open).map(|row| {
        let of = (row.symbol.clone(), row.position_side.trim().to_uppercase());
        (of, Side { qty: row.position_amt, entry_price: row.entry_price })
    });
    let there: BTreeMap<Of, Side> = there.collect();
    let all: BTreeSet<&Of> = here.keys().chain(there.keys()).collect();
    let row = |of: &Of| {
        let (here, there) = (here.get(of).copied(), there.get(of).copied());
        let comparison = if is_comparable { compared(here, there) } else { Comparison::Unknown };
        Row { symbol: of.0.clone(), position_side: of.1.clone(), comparison, here, there }
    };
    all.into_iter().map(row).collect()
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

fn coverage(
    sheet: &Sheet,
    asked: String,
    answered: &Result<Positions, CallError>,
    mode: Result<AccountMode, String>,
    no_credentials: Option<&str>,
) -> Coverage {
    let mut not_known = Vec::new();
    let has_several_accounts = accounts(sheet).len() > 1;
    if has_several_accounts {
        let of = accounts(sheet).into_iter().map(|name| if name.is_empty() { "one without a name" } else { name });
        let of: Vec<&str> = of.collect();
        not_known.push(format!("ours: which positions are of the account that was asked for, of {}", of.join(", ")));
    }
    if sheet.positions_unknown {
        not_known.push("ours: no position was ever seen from anywhere, which is not the same as flat".to_owned());
    }
    if !sheet.history_gap.is_empty() {
        not_known.push(format!("ours: the history of {} has a gap", sheet.history_gap.join(", ")));
    }
    let failure = match answered {
        Ok(_) => {
            match &mode {
                Ok(AccountMode::OneWay) => {}
                Ok(AccountMode::Hedge) => not_known.push(
                    "theirs: every position; the account is in hedge mode (dual-side), LONG and SHORT are not compared"
                        .to_owned(),
                ),
                Err(error) => not_known.push(format!("theirs: whether the account is in hedge mode ({error})")),
            }
            None
        }
        Err(error) => {
            not_known.push("theirs: every position; a call that failed says of none that it is flat".to_owned());
            let reason = no_credentials.map_or_else(String::new, |reason| format!(" ({reason})"));
            Some(format!("{error}{reason}"))
        }
    };
    Coverage { asked, failure, mode, has_several_accounts, not_known }
}

/// Returns the symbol, with its side in a hedge account.
fn named(row: &Row) -> String {
    if row.position_side == BOTH { row.symbol.clone() } else { format!("{} {}", row.symbol, row.position_side) }
}

fn show(args: &Args, sheet: &Sheet, rows: &[Row], coverage: &Coverage, out: &mut dyn Write) -> anyhow::Result<()> {
    let count = |comparison| rows.iter().filter(|row| row.comparison == comparison).count();
    let verdict = match () {
        () if !coverage.is_comparable() => "unknown",
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
                    "symbol": row.symbol, "position_side": row.position_side, "verdict": row.comparison.name(),
                    "here": side(row.here), "there": side(row.there),
                })
            })
            .collect();
        let document = json!({
            "verdict": verdict, "as_of": sheet.as_of, "counts": counts, "positions": positions,
            "coverage": {
                "asked": [&coverage.asked], "answered": coverage.failure.is_none(),
                "failure": coverage.failure, "not_known": coverage.not_known,
                "account": coverage.mode.as_ref().ok().map(|mode| mode.name()),
            },
        });
        return super::json::write(out, &document);
    }
    let mut screen = Screen::stdout(out);
    let cells = |row: &Row| {
        let text = |side: Option<Side>, get: fn(Side) -> Option<String>| side.and_then(get).unwrap_or("-".to_owned());
        let qty = |side| text(side, |side: Side| Some(side.qty.to_string()));
        let entry = |side| text(side, |side: Side| side.entry_price.map(|price| price.to_string()));
        let tone = if row.comparison == Comparison::Same { Tone::Good } else { Tone::Bad };
        vec![
            (named(row), Tone::Plain),
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
