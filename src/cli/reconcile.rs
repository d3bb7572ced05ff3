//! `harvester reconcile`: compares our positions with those of the exchange, now, each account by its own credentials.
//!
//! A missing answer means unknown, never flat: without an answer there is no verdict on any position.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use rust_decimal::Decimal;
use serde::Serialize;

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

/// What an account was asked and answered.
struct Coverage {
    /// Empty for the account without a name.
    account: String,
    /// What was asked, for people.
    asked: String,
    failure: Option<String>,
    /// The account mode, if it is known.
    mode: Result<AccountMode, String>,
    /// Our positions have the sides of that mode.
    is_of_mode: bool,
}

impl Coverage {
    /// Returns true if positions can be compared: the account answered, and its mode is known and that of ours.
    fn is_comparable(&self) -> bool {
        self.failure.is_none() && self.mode.is_ok() && self.is_of_mode
    }

    /// Returns what the answer leaves open, and why positions cannot be compared.
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

    fn mode_name(&self) -> Option<&'static str> {
        self.mode.as_ref().ok().map(|mode| mode.name())
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
    let outcome = Outcome::of(&sheet, &all);
    if args.json {
        super::json::write(out, &Document::of(&outcome))?;
    } else {
        outcome.show(&mut Screen::stdout(out))?;
    }
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
    // Without an entry in the configuration it has no credentials; the first client names the call.
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

/// Returns the rows of both, by symbol and side. If they cannot be compared, each is shown as unknown.
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

/// Returns what is unknown of our positions and of theirs.
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

/// What the command shows.
struct Outcome<'a> {
    sheet: &'a Sheet,
    coverages: Vec<&'a Coverage>,
    rows: Vec<&'a Row>,
    not_known: Vec<String>,
}

impl<'a> Outcome<'a> {
    fn of(sheet: &'a Sheet, all: &'a [Compared]) -> Self {
        Self {
            sheet,
            coverages: all.iter().map(|compared| &compared.coverage).collect(),
            rows: all.iter().flat_map(|compared| &compared.rows).collect(),
            not_known: not_known(sheet, all),
        }
    }

    fn verdict(&self) -> &'static str {
        match () {
            () if !self.coverages.iter().all(|coverage| coverage.is_comparable()) => "unknown",
            () if self.rows.iter().all(|row| row.comparison == Comparison::Same) => "same",
            () => "differs",
        }
    }

    /// Returns the number of positions by the result of their comparison. [1]
    fn counts(&self) -> [(&'static str, usize); 6] {
        let count = |comparison| self.rows.iter().filter(|row| row.comparison == comparison).count();
        Comparison::ALL.map(|comparison| (comparison.name(), count(comparison)))
    }

    fn show(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        let head = ["SYMBOL", "VERDICT", "QTY HERE", "QTY THERE", "ENTRY HERE", "ENTRY THERE"];
        screen.table(&head, &[2, 3, 4, 5], self.rows.iter().map(|row| row.cells()).collect())?;
        let counts = self.counts().map(|(name, count)| format!("{name} {count}"));
        screen.line(&format!("{}: {}", self.verdict(), counts.join(", ")))?;
        screen.line(&format!("ours as of {} ({})", self.sheet.as_of, time::iso(self.sheet.as_of_ms())))?;
        for coverage in &self.coverages {
            let answer = coverage.failure.as_deref().unwrap_or("answered in full");
            screen.line(&format!("asked: {}; {answer}", coverage.asked))?;
        }
        for not_known in &self.not_known {
            screen.line(&format!("not known, {not_known}"))?;
        }
        Ok(())
    }
}

impl Row {
    fn cells(&self) -> Vec<(String, Tone)> {
        let text = |side: Option<Side>, get: fn(Side) -> Option<String>| side.and_then(get).unwrap_or("-".to_owned());
        let qty = |side| text(side, |side: Side| Some(side.qty.to_string()));
        let entry = |side| text(side, |side: Side| side.entry_price.map(|price| price.to_string()));
        let tone = if self.comparison == Comparison::Same { Tone::Good } else { Tone::Bad };
        vec![
            (named(self), Tone::Plain),
            (self.comparison.name().to_owned(), tone),
            (qty(self.here), Tone::Plain),
            (qty(self.there), Tone::Plain),
            (entry(self.here), Tone::Plain),
            (entry(self.there), Tone::Plain),
        ]
    }
}

/// Returns the symbol, with its account, and its side in a hedge account.
fn named(row: &Row) -> String {
    let account = if row.account.is_empty() { String::new() } else { format!("{}/", row.account) };
    let side = if row.position_side == BOTH { String::new() } else { format!(" {}", row.position_side) };
    format!("{account}{}{side}", row.symbol)
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    verdict: &'static str,
    as_of: &'a str,
    counts: BTreeMap<&'static str, usize>,
    positions: Vec<RowDocument<'a>>,
    coverage: CoverageDocument<'a>,
}

#[derive(Serialize)]
struct RowDocument<'a> {
    symbol: &'a str,
    /// Absent for the account without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    position_side: &'a str,
    verdict: &'static str,
    here: Option<SideDocument>,
    there: Option<SideDocument>,
}

#[derive(Serialize)]
struct SideDocument {
    qty: String,
    entry_price: Option<String>,
}

#[derive(Serialize)]
struct CoverageDocument<'a> {
    asked: Vec<&'a str>,
    answered: bool,
    failure: Option<&'a str>,
    not_known: &'a [String],
    /// The mode, as long as there is one account.
    account: Option<&'static str>,
    accounts: Vec<AccountDocument<'a>>,
}

#[derive(Serialize)]
struct AccountDocument<'a> {
    account: &'a str,
    answered: bool,
    failure: Option<&'a str>,
    mode: Option<&'static str>,
}

impl<'a> Document<'a> {
    fn of(outcome: &'a Outcome<'_>) -> Self {
        let Outcome { sheet, coverages, rows, not_known } = outcome;
        let coverage = CoverageDocument {
            asked: coverages.iter().map(|coverage| &*coverage.asked).collect(),
            answered: coverages.iter().all(|coverage| coverage.failure.is_none()),
            failure: coverages.iter().find_map(|coverage| coverage.failure.as_deref()),
            not_known,
            account: match &coverages[..] {
                [only] => only.mode_name(),
                _ => None,
            },
            accounts: coverages.iter().map(|coverage| AccountDocument::of(coverage)).collect(),
        };
        Self {
            verdict: outcome.verdict(),
            as_of: &sheet.as_of,
            counts: outcome.counts().into(),
            positions: rows.iter().map(|row| RowDocument::of(row)).collect(),
            coverage,
        }
    }
}

impl<'a> RowDocument<'a> {
    fn of(row: &'a Row) -> Self {
        let side = |side: Side| SideDocument {
            qty: side.qty.to_string(),
            entry_price: side.entry_price.map(|price| price.to_string()),
        };
        Self {
            symbol: &row.symbol,
            account: Some(&*row.account).filter(|account| !account.is_empty()),
            position_side: &row.position_side,
            verdict: row.comparison.name(),
            here: row.here.map(side),
            there: row.there.map(side),
        }
    }
}

impl<'a> AccountDocument<'a> {
    fn of(coverage: &'a Coverage) -> Self {
        let Coverage { account, failure, .. } = coverage;
        let mode = coverage.mode_name();
        Self { account, answered: failure.is_none(), failure: failure.as_deref(), mode }
    }
}
