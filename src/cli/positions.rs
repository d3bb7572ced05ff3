//! `harvester positions`: the open positions, the source of each number, and their holds.
//!
//! The source is a store, a history, or a running service, whose store is locked against other processes. They print
//! the same, except for the time of the holds: a service uses the clock of the server, files use their last entry.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{json, moment};
use crate::codec::view;
use crate::config::Config;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;
use crate::drive::projection;
use crate::drive::snapshots;
use crate::drive::state_at::{self, NoRows, Sources};
use crate::shell::history::{Input, Options};
use crate::shell::terminal::Screen;
use crate::shell::web::{self, ClientError};

mod shown;

pub use crate::drive::sheet::Sheet;
pub use shown::{age_ms, away, hold_tone, rounded_price};

const AS_OF: &str = "Show the state at this entry or time (default: the end). Needs --journal, --history, or --store \
                     with a snapshot of that state. It is";

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whose").required(true).multiple(true).args(["store", "url", "journal", "histories"])))]
#[command(after_help = "Examples: harvester positions --store state ARCUSDT
          harvester positions --url http://127.0.0.1:9464
          harvester positions --as-of 2026-02-04T02:07:00Z --journal journal --store state")]
pub struct Args {
    /// One symbol: the positions of its books with every fill and decision; or one book, as ACCOUNT/SYMBOL or
    /// SYMBOL:LONG
    symbol: Option<String>,
    /// Only positions of this account; "" is the account without a name
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[arg(long, value_name = "ID|TIME", help = moment::help(AS_OF))]
    as_of: Option<String>,
    /// Journal to compute the state from; it may be in use
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Files and folders to compute the state from
    #[arg(long = "history", value_name = "HISTORY", num_args = 1..)]
    histories: Vec<PathBuf>,
    /// Address of a running service; holds are those at the server's clock
    #[arg(long, value_name = "URL", conflicts_with_all = ["store", "as_of", "journal", "histories"])]
    url: Option<String>,
    /// Closed positions too
    #[arg(long)]
    all: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Returns the time of the last entry of the history; without one, that of the newest snapshot. [ms since 1970]
    fn end_ms(&self, config: &Config) -> anyhow::Result<u64> {
        let inputs: Vec<Input> = self.histories.iter().chain(&self.journal).cloned().map(Input::from).collect();
        if !inputs.is_empty() {
            return moment::end_of(&inputs, config, Options::default());
        }
        let newest = self.store.as_deref().map(|store| snapshots::newest(&snapshots::folder_of(store))).transpose()?;
        Ok(newest.flatten().context("there is no history and no snapshot: give --journal DIR or --history HISTORY")?.ms)
    }
}

pub fn execute(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let symbol = args.symbol.as_deref().map(|symbol| view::written_name(symbol, args.account.as_deref()));
    let symbol = symbol.as_deref();
    let has_history = args.journal.is_some() || !args.histories.is_empty();
    let mut sheet = if args.as_of.is_some() || has_history {
        let at = args.as_of.as_deref().map(|at| moment::until("--as-of", at, || args.end_ms(config))).transpose()?;
        of_the_past(args, symbol, at, config)?
    } else {
        let closed_too = closed_too(symbol, args.all, args.json);
        match (&args.store, &args.url) {
            (Some(store), _) => of_store(store, symbol, args.account.as_deref(), closed_too)?,
            (None, Some(url)) => of_service(url, symbol, closed_too)?,
            (None, None) => bail!("no source of positions is given: want --store DIR or --url URL"),
        }
    };
    if let Some(account) = &args.account {
        sheet.keep_account(account);
    }
    print(&sheet, symbol, args.json, out)
}

/// Runs the command on a store.
pub fn run(store: &Path, symbol: Option<&str>, all: bool, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = symbol.map(|symbol| view::written_name(symbol, None));
    let wanted = wanted.as_deref();
    print(&of_store(store, wanted, None, closed_too(wanted, all, json))?, wanted, json, out)
}

fn of_store(store: &Path, wanted: Option<&str>, account: Option<&str>, closed_too: bool) -> anyhow::Result<Sheet> {
    let (engine, rows) = projection::read(store)?;
    check_account(&engine, account)?;
    Sheet::of(&engine, &rows, wanted, closed_too)?.with_context(|| {
        format!(
            "the store knows no symbol {}: `harvester positions --all --store DIR` lists the positions that it has",
            wanted.unwrap_or_default()
        )
    })
}

/// Returns a past state, or the state at the end of a history.
fn of_the_past(args: &Args, symbol: Option<&str>, at: Option<EntryId>, config: &Config) -> anyhow::Result<Sheet> {
    let sources = Sources {
        journal: args.journal.clone(),
        histories: args.histories.clone(),
        snapshots: args.store.as_deref().map(snapshots::folder_of),
    };
    let past = state_at::state_at(&sources, at, config)?;
    for notice in &past.notices {
        tracing::warn!("{notice}");
    }
    let from = past.snapshot.as_ref().map_or_else(|| "the start".to_owned(), |path| path.display().to_string());
    tracing::info!(from, entries = past.entries, "the state is computed");
    check_account(&past.engine, args.account.as_deref())?;
    let sheet = Sheet::of(&past.engine, &NoRows, symbol, closed_too(symbol, args.all, args.json))?;
    let last = past.engine.globals().last;
    sheet.with_context(|| format!("at {last} no symbol {} was known", symbol.unwrap_or_default()))
}

/// Errors if no entry has named the account: an empty list would look like a flat account.
fn check_account(engine: &Engine, account: Option<&str>) -> anyhow::Result<()> {
    match account {
        Some(account) if engine.accounts().find(account).is_none() => {
            bail!("no entry has named an account {account}: capitals count")
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns true if closed positions are included: always in the story of a symbol, and in its JSON on request.
const fn closed_too(symbol: Option<&str>, all: bool, json: bool) -> bool {
    all || (symbol.is_some() && !json)
}

pub(crate) fn of_service(url: &str, wanted: Option<&str>, all: bool) -> anyhow::Result<Sheet> {
    let symbol = wanted.map_or_else(String::new, |symbol| format!("/{}", web::path_part(symbol)));
    let path = format!("/positions{symbol}?whole=1{}", if all { "&all=1" } else { "" });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = match runtime.block_on(web::get(url, &path)) {
        Ok(body) => body,
        Err(ClientError::Refused { status: 404, .. }) if wanted.is_some() => {
            bail!(
                "the service knows no symbol {}: `harvester positions --all --url URL` lists the positions that it has",
                wanted.unwrap_or_default()
            )
        }
        Err(error) => return Err(error.into()),
    };
    serde_json::from_str(&body).with_context(|| {
        format!("the service at {url} did not answer with positions: is that the address of `harvester run`?")
    })
}

fn print(sheet: &Sheet, wanted: Option<&str>, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        return json::write(out, &sheet.positions);
    }
    let mut screen = Screen::stdout(out);
    match wanted {
        Some(wanted) => shown::story(sheet, wanted, &mut screen),
        None => shown::table(sheet, &mut screen),
    }
}
