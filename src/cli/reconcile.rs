//! `harvester reconcile`: compares our positions with those of the exchange now, each account with its own credentials.
//!
//! A missing answer means unknown, never flat: without an answer there is no verdict about any position.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::exit_code::Found;
use super::positions::{self, Sheet};
use crate::codec::exchange::AccountMode;
use crate::codec::plural::plural;
use crate::codec::view::PositionView;
use crate::codec::{number, time};
use crate::config::Config;
use crate::domain::named;
use crate::domain::units::{Price, Qty};
use crate::drive::projection;
use crate::service::exchange::{self, Client, of_account};
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
    /// Only this account (default: every account with a position or in the configuration)
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
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
    /// Empty for the account without a name.
    account: String,
    symbol: String,
    /// `BOTH`, or the side in a hedge account.
    position_side: String,
    comparison: Comparison,
    here: Option<Side>,
    there: Option<Side>,
}

/// The requests for an account, and their results.
struct Coverage {
    /// Empty for the account without a name.
    account: String,
    /// The request, for people.
    asked: String,
    failure: Option<String>,
    /// The account mode, if it is known.
    mode: Result<AccountMode, String>,
    /// True if our positions have the sides of that mode.
    is_of_mode: bool,
}

impl Coverage {
    /// Returns true if positions can be compared: the account answered, its mode is known, and our positions have that
    /// mode.
    fn is_comparable(&self) -> bool {
        self.failure.is_none() && self.mode.is_ok() && self.is_of_mode
    }

    /// Returns why positions cannot be compared, and what the answer leaves unknown.
    fn not_known(&self) -> Option<String> {
        let whose = of_account(&self.account);
        let says = match (&self.failure, &self.mode) {
            (Some(_), _) => "every position: the exchange did not answer, so any of them may be open".to_owned(),
            (None, Err(error)) => format!("whether the account is in hedge mode ({error})"),
            (None, Ok(_)) if self.is_of_mode => return None,
            (None, Ok(AccountMode::Hedge)) => {
                "every position; the account is in hedge mode (dual-side), ours have no side".to_owned()
            }
            (None, Ok(AccountMode::OneWay)) => {
                "every position; the account is in one-way mode, ours are LONG and SHORT".to_owned()
            }
        };
        Some(format!("theirs: {whose}{says}"))
    }

    fn document(&self) -> Value {
        json!({
            "account": self.account, "answered": self.failure.is_none(), "failure": self.failure,
            "mode": self.mode.as_ref().ok().map(|mode| mode.name()),
        })
    }
}

/// The comparison with one account.
struct Compared {
    coverage: Coverage,
    rows: Vec<Row>,
    /// Why the exchange returned no positions.
    error: Option<CallError>,
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
    let clients = exchange::clients(config)?;
    let accounts = accounts(&sheet, &clients, args.account.as_deref(), config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ask = |account: &String| runtime.block_on(with_account(account, &sheet, &clients));
    let mut all: Vec<Compared> = accounts.iter().map(ask).collect();
    show(args, &sheet, &all, out)?;
    let is_none_answered = all.iter().all(|compared| compared.coverage.failure.is_some());
    if let (true, [Compared { error: Some(CallError::NoCredentials { .. }), coverage, .. }]) =
        (is_none_answered, &all[..])
    {
        bail!("the exchange was not asked: {}", coverage.failure.as_deref().unwrap_or_default());
    }
    let failed = all.iter_mut().find_map(|compared| compared.error.take_if(|error| !is_without_credentials(error)));
    if let (true, Some(error)) = (is_none_answered, failed) {
        return Err(error.into());
    }
    let why: Vec<String> = all.iter().filter_map(|compared| compared.coverage.not_known()).collect();
    if !why.is_empty() {
        bail!(Found(format!("the exchange cannot be compared: {}", why.join("; "))));
    }
    let differ =
        all.iter().flat_map(|compared| &compared.rows).filter(|row| row.comparison != Comparison::Same).count();
    if differ > 0 {
        bail!(Found(format!("different: {}", plural(differ, "position"))));
    }
    Ok(())
}

const fn is_without_credentials(error: &CallError) -> bool {
    matches!(error, CallError::NoCredentials { .. })
}

/// Returns the accounts to ask: the named one, or those of our positions and those with configured credentials.
fn accounts(sheet: &Sheet, clients: &[Client], only: Option<&str>, config: &Config) -> BTreeSet<String> {
    if let Some(only) = only {
        return BTreeSet::from([only.to_owned()]);
    }
    let ours = sheet.positions.iter().map(|position| position.account.clone().unwrap_or_default());
    let is_configured = |client: &&Client| match config.accounts.get(&client.account) {
        Some(account) => account.has_credentials_named(),
        None => client.no_credentials.is_none(),
    };
    let configured = clients.iter().filter(is_configured).map(|client| client.account.to_string());
    let mut accounts: BTreeSet<String> = ours.chain(configured).collect();
    if accounts.is_empty() {
        accounts.insert(String::new());
    }
    accounts
}

/// Asks an account for its positions, with its own credentials, and compares ours with them.
async fn with_account(account: &str, sheet: &Sheet, clients: &[Client]) -> Compared {
    let here = ours(sheet, account);
    let client = clients.iter().find(|client| *client.account == *account);
    // Without an entry in the configuration it has no credentials. The first client supplies the settings of the call.
    let exchange = client.map_or_else(|| clients[0].exchange.for_account(account, None), |c| c.exchange.clone());
    let no_credentials = match client {
        Some(client) => client.no_credentials.clone(),
        None => Some(format!("[accounts.{account}] is not configured")),
    };
    let answered = exchange.positions().await;
    let mode = match &answered {
        Ok(positions) => mode(&exchange, positions).await,
        Err(error) => Err(error.to_string()),
    };
    let failure = answered.as_ref().err().map(|error| {
        let reason = no_credentials.map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("{error}{reason}")
    });
    let is_of_mode = here.keys().all(|(_, side)| (side != BOTH) == (mode == Ok(AccountMode::Hedge)));
    let asked = format!("{}{} of all symbols", of_account(account), exchange.terms().positions_name);
    let coverage = Coverage { account: account.to_owned(), asked, failure, mode, is_of_mode };
    let rows = compare(account, &here, answered.as_ref().ok(), coverage.is_comparable());
    Compared { coverage, rows, error: answered.err() }
}

/// Returns the account mode: hedge if the rows show it, or else the answer of the exchange. If there is no usable
/// answer, a quantity without a side still shows a one-way account.
async fn mode(exchange: &Exchange, positions: &Positions) -> Result<AccountMode, String> {
    match (positions.mode(), exchange.account_mode().await) {
        (Some(AccountMode::Hedge), _) => Ok(AccountMode::Hedge),
        (_, Ok(mode)) => Ok(mode),
        (Some(mode), Err(_)) => Ok(mode),
        (None, Err(error)) => Err(error.to_string()),
    }
}

/// Returns our positions of an account by symbol and side.
fn ours(sheet: &Sheet, account: &str) -> BTreeMap<Of, Side> {
    let position = |position: &PositionView| {
        let qty = Qty::new(number::decimal(&position.qty).ok()?);
        let qty = if position.side == "SHORT" { qty.negated() } else { qty };
        let entry_price = position.entry_price.as_ref().and_then(|entry| number::decimal(&entry.value).ok());
        let side = Side { qty, entry_price: entry_price.map(Price::new) };
        let position_side = position.position_side.clone().unwrap_or_else(|| BOTH.to_owned());
        Some(((position.symbol.clone(), position_side), side))
    };
    let is_of = |position: &&PositionView| position.account.as_deref().unwrap_or_default() == account;
    sheet.positions.iter().filter(is_of).filter_map(position).collect()
}

/// Returns the rows of both by symbol and side. If they cannot be compared, each row is unknown.
fn compare(account: &str, here: &BTreeMap<Of, Side>, there: Option<&Positions>, is_comparable: bool) -> Vec<Row> {
    let there = there.into_iter().flat_map(Positions::open).map(|row| {
        let of = (row.symbol.clone(), row.position_side.trim().to_uppercase());
        (of, Side { qty: row.position_amt, entry_price: row.entry_price })
    });
    let there: BTreeMap<Of, Side> = there.collect();
    let all: BTreeSet<&Of> = here.keys().chain(there.keys()).collect();
    let row = |of: &Of| {
        let (here, there) = (here.get(of).copied(), there.get(of).copied());
        let comparison = if is_comparable { compared(here, there) } else { Comparison::Unknown };
        let (symbol, position_side) = of.clone();
        Row { account: account.to_owned(), symbol, position_side, comparison, here, there }
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

/// Returns the unknown facts about our positions and about those of the exchange.
fn not_known(sheet: &Sheet, all: &[Compared]) -> Vec<String> {
    let mut not_known = Vec::new();
    if sheet.positions_unknown {
        not_known.push("ours: no position was ever seen from anywhere, which is not the same as flat".to_owned());
    }
    if !sheet.history_gap.is_empty() {
        not_known.push(format!("ours: the history of {} has a gap", sheet.history_gap.join(", ")));
    }
    not_known.extend(all.iter().filter_map(|compared| compared.coverage.not_known()));
    not_known
}

/// Returns the symbol with its account and, in a hedge account, its side.
fn named(row: &Row) -> String {
    let account = if row.account.is_empty() { String::new() } else { format!("{}/", row.account) };
    let side = if row.position_side == BOTH { String::new() } else { format!(" {}", row.position_side) };
    format!("{account}{}{side}", row.symbol)
}

fn show(args: &Args, sheet: &Sheet, all_accounts: &[Compared], out: &mut dyn Write) -> anyhow::Result<()> {
    let rows: Vec<&Row> = all_accounts.iter().flat_map(|compared| &compared.rows).collect();
    let coverages: Vec<&Coverage> = all_accounts.iter().map(|compared| &compared.coverage).collect();
    let not_known = not_known(sheet, all_accounts);
    let count = |comparison| rows.iter().filter(|row| row.comparison == comparison).count();
    let verdict = match () {
        () if !coverages.iter().all(|coverage| coverage.is_comparable()) => "unknown",
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
                let mut document = json!({
                    "symbol": row.symbol, "position_side": row.position_side, "verdict": row.comparison.name(),
                    "here": side(row.here), "there": side(row.there),
                });
                if !row.account.is_empty() {
                    document["account"] = row.account.clone().into();
                }
                document
            })
            .collect();
        let document = json!({
            "verdict": verdict, "as_of": sheet.as_of, "counts": counts, "positions": positions,
            "coverage": {
                "asked": coverages.iter().map(|coverage| &coverage.asked).collect::<Vec<_>>(),
                "answered": coverages.iter().all(|coverage| coverage.failure.is_none()),
                "failure": coverages.iter().find_map(|coverage| coverage.failure.as_ref()),
                "not_known": not_known,
                // The mode, as long as there is one account.
                "account": match &coverages[..] {
                    [only] => only.mode.as_ref().ok().map(|mode| mode.name()),
                    _ => None,
                },
                "accounts": coverages.iter().map(|coverage| coverage.document()).collect::<Vec<_>>(),
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
        rows.iter().map(|row| cells(row)).collect(),
    )?;
    let counts: Vec<String> = all.iter().map(|&c| format!("{} {}", c.name(), count(c))).collect();
    screen.line(&format!("{verdict}: {}", counts.join(", ")))?;
    screen.line(&format!("ours as of {} ({})", sheet.as_of, time::iso(sheet.as_of_ms())))?;
    for coverage in coverages {
        let answer = coverage.failure.as_deref().unwrap_or("answered in full");
        screen.line(&format!("asked: {}; {answer}", coverage.asked))?;
    }
    for not_known in &not_known {
        screen.line(&format!("not known, {not_known}"))?;
    }
    Ok(())
}
