//! The one-shot backfill: reads, folds, fetches what is missing, folds that, and reports the result for each position.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::gap;
use super::history;
use super::lines::{self, Line, LineDocument, Verdict};
use crate::cli::exit_code::Found;
use crate::cli::json;
use crate::cli::replay::{self, Replayed};
use crate::codec::line::Fields;
use crate::codec::plural::plural;
use crate::codec::shown::shown;
use crate::codec::view::{self, PositionView};
use crate::config::Config;
use crate::config::flags::RedisFlag;
use crate::domain::book::state::parts_of_name;
use crate::domain::engine::needs::{Needs, NeedyBook, Want};
use crate::domain::engine::{Decisions, Engine};
use crate::drive::driver::Driver;
use crate::service::fetch::{Appended, Fetcher, Tick, TickReport};
use crate::service::write_back::{self, HashChange, Legacy};
use crate::service::{exchange, server};
use crate::shell::redis::Server;

/// More ticks than any account needs: 13 windows of trades for 400 positions.
const TICKS_MAX: usize = 2_000;

/// Our own budget of weight is restored after a minute. [ms]
const WAIT_MAX_MS: u64 = 60_000;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// More history: files, folders (every *.jsonl and *.jsonl.zst below)
    #[arg(value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    #[command(flatten)]
    redis: RedisFlag,
    /// The journal of a service, which may be running
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Show what would be done; nothing is appended or written
    #[arg(long)]
    dry_run: bool,
    /// Fetch the trades of every position whose history starts too late, even if no price is missing
    #[arg(long)]
    fills: bool,
    /// Ask for the positions and trades of one account, and show its lines
    #[arg(long, value_name = "NAME", conflicts_with_all = ["gap", "write_back"])]
    account: Option<String>,
    /// Write the values that differ into the position hashes of the old service
    #[arg(long)]
    write_back: bool,
    /// Fold the store again from journal and history, if these contain the lost entries of one of its gaps
    #[arg(long, requires = "store")]
    gap: bool,
    /// Folder of the store whose gap is filled
    #[arg(long, value_name = "DIR", requires = "gap")]
    store: Option<PathBuf>,
    /// Skip and count lines that are not entries, instead of stopping at them
    #[arg(long)]
    skip_bad_lines: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The result of the backfill.
struct Outcome {
    engine: Engine,
    lines: Vec<Line>,
    changes: BTreeMap<Box<str>, HashChange>,
    /// All ticks together.
    fetched: TickReport,
    entries: u64,
    ticks: usize,
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    updated: usize,
    skipped: usize,
    missing: usize,
    positions_unknown: bool,
    dry_run: bool,
    entries: u64,
    ticks: usize,
    api_calls: u64,
    appended: usize,
    notes: &'a [String],
    lines: Vec<LineDocument<'a>>,
    positions: Vec<PositionView>,
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = &args.redis.over(config)?;
    if args.gap {
        let store = args.store.as_ref().context("--gap needs --store")?;
        let given = gap::Given { journal: args.journal.as_ref(), histories: &args.histories, dry_run: args.dry_run };
        return gap::fill(store, &given, args.skip_bad_lines, config, args.json, out);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(backfill(args, config))?;
    show(args, &outcome, out)?;
    match count(&outcome.lines, Verdict::Missing) {
        0 => Ok(()),
        missing => bail!(Found(format!("{missing} positions still lack something: see the lines with [MISSING]"))),
    }
}

async fn backfill(args: &Args, config: &Config) -> anyhow::Result<Outcome> {
    let address = server::address(config)?;
    let mut server = Server::connect(&address).await?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    history::dump(&mut server, &config.streams, folder.path()).await?;
    let request = replay::Request {
        histories: history::inputs(Some(folder.path()), args.journal.as_ref(), &args.histories),
        skip_bad_lines: args.skip_bad_lines,
        ..replay::Request::default()
    };
    let Replayed { engine, summary, notices } = replay::replay(&request, config, &mut ())?;
    for notice in notices {
        tracing::warn!("{notice}");
    }
    let entries = summary.entries;
    let before = lines::lacking(&engine);
    tracing::info!("[BACKFILL] history: {}, {}", plural(entries, "entry"), plural(before.len(), "open position"));

    let mut clients = exchange::clients(config)?;
    if let Some(account) = &args.account {
        for client in clients.iter_mut().filter(|client| *client.account != **account) {
            client.no_credentials = Some("--account selects another".to_owned());
        }
    }
    let mut fetcher = Fetcher::new(config, address, clients);
    if args.dry_run {
        fetcher = fetcher.dry_run();
    }
    let mut driver = Driver::going_on(engine, config, Decisions::Recorded)?;
    let (fetched, ticks) = fetch(&mut fetcher, &mut driver, &mut server, args.fills).await?;
    let engine = driver.engine;
    let mut changes = BTreeMap::new();
    if args.write_back {
        let legacy = Legacy::new(&config.backfill.hash_prefix);
        for goal in write_back::goals(&engine) {
            let change = legacy.write(&mut server, &goal, args.dry_run).await?;
            changes.insert(goal.symbol, change);
        }
    }
    let mut lines = lines::lines(&engine, &before, &changes, &fetched, fetcher.no_credentials());
    if let Some(account) = &args.account {
        lines.retain(|line| parts_of_name(&line.symbol).0 == account);
    }
    Ok(Outcome { engine, lines, changes, fetched, entries, ticks })
}

/// Runs ticks until they return nothing more. A fetched entry is folded as if it came from the stream.
async fn fetch(
    fetcher: &mut Fetcher,
    driver: &mut Driver,
    server: &mut Server,
    fills: bool,
) -> anyhow::Result<(TickReport, usize)> {
    let mut all = TickReport::default();
    let mut has_confirmed = false;
    for ticks in 1..=TICKS_MAX {
        let mut needs = Needs::of(&driver.engine, server.time_ms().await?);
        if !fills {
            // Trades need many calls: they are fetched only for positions whose price has no other source.
            let unpriced: BTreeSet<NeedyBook> = needs.books(Want::EntryPrice).cloned().collect();
            needs.list.retain(|need| need.want != Want::Fills || unpriced.contains(&need.book));
        }
        let report = fetcher.tick(&Tick { needs, journalled: None }).await?;
        fold(driver, &report)?;
        let is_news = report.appended.iter().any(|appended| appended.observation.event_type != "price");
        let wait_ms = report.wait_ms;
        let more = is_news || (report.is_unfinished && (report.api_calls > 0 || wait_ms.is_some()));
        add(&mut all, report);
        if let Some(wait_ms) = wait_ms {
            tokio::time::sleep(Duration::from_millis(wait_ms.min(WAIT_MAX_MS))).await;
        }
        // A price far from the entry price is believed when another one confirms it.
        if !more && !has_confirmed && all.appended.iter().any(|appended| is_price_held(&driver.engine, appended)) {
            has_confirmed = true;
            tokio::time::sleep(Duration::from_millis(driver.engine.policy().price_confirm_ms.min(WAIT_MAX_MS))).await;
        } else if !more {
            return Ok((all, ticks));
        }
    }
    Ok((all, TICKS_MAX))
}

fn is_price_held(engine: &Engine, appended: &Appended) -> bool {
    let symbol = engine.find(&appended.observation.symbol);
    appended.observation.event_type == "price"
        && symbol.is_some_and(|symbol| engine.symbol(symbol).held_price.is_some())
}

fn fold(driver: &mut Driver, report: &TickReport) -> anyhow::Result<()> {
    let name = crate::service::fetch::observation_stream(driver.streams());
    let stream = driver.streams().id_of(name).context("no observation stream is configured")?;
    for appended in &report.appended {
        let fields = appended.observation.fields();
        let bytes: Vec<_> = fields.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        let entry = driver.decode(stream, appended.id, &Fields::from_bytes(&bytes));
        driver.fold(&entry);
    }
    Ok(())
}

fn add(all: &mut TickReport, tick: TickReport) {
    all.api_calls += tick.api_calls;
    for appended in &tick.appended {
        // A need that a later tick has met is no longer missing.
        let symbol = &appended.observation.symbol;
        all.misses.retain(|(of, _), _| of != symbol || appended.observation.event_type != "price");
    }
    all.appended.extend(tick.appended);
    all.misses.extend(tick.misses);
    for note in tick.notes {
        if !all.notes.contains(&note) {
            all.notes.push(note);
        }
    }
    all.positions_answered |= tick.positions_answered;
}

fn count(lines: &[Line], verdict: Verdict) -> usize {
    lines.iter().filter(|line| line.verdict == verdict).count()
}

fn show(args: &Args, outcome: &Outcome, out: &mut dyn Write) -> anyhow::Result<()> {
    let Outcome { engine, lines, changes, fetched, entries, ticks } = outcome;
    let known = engine.globals().positions_known;
    let (updated, skipped) = (count(lines, Verdict::Updated), count(lines, Verdict::Complete));
    let missing = count(lines, Verdict::Missing);
    if args.json {
        let document = Document {
            updated,
            skipped,
            missing,
            positions_unknown: !known,
            dry_run: args.dry_run,
            entries: *entries,
            ticks: *ticks,
            api_calls: fetched.api_calls,
            appended: fetched.appended.len(),
            notes: &fetched.notes,
            lines: lines.iter().map(|line| line.document(changes.get(&line.symbol))).collect(),
            positions: view::positions(engine, false),
        };
        return json::write(out, &document);
    }
    for line in lines {
        writeln!(out, "{}", shown(&line.text()))?;
        for change in changes.get(&line.symbol).map(HashChange::lines).into_iter().flatten() {
            writeln!(out, "      {}", shown(&change))?;
        }
    }
    for note in &fetched.notes {
        writeln!(out, "[BACKFILL] {}", shown(note))?;
    }
    if !known {
        writeln!(
            out,
            "[BACKFILL] positions unknown: no position was ever seen from anywhere (this is not the same as flat)"
        )?;
    }
    let dry = if args.dry_run { " (dry run: nothing was appended or written)" } else { "" };
    writeln!(
        out,
        "[BACKFILL] updated {updated} / skipped {skipped} / missing {missing}; {} calls, {} observations{dry}",
        fetched.api_calls,
        fetched.appended.len()
    )?;
    Ok(())
}
