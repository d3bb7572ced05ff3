//! `harvester audit`: recomputes the decisions, and compares them with those that were emitted.
//!
//! Promises: the verdict is never `clean` if the audit could not see something, and the report names it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::exit_code::Found;
use super::moment;
use crate::codec::chain::{self, Chain, Link};
use crate::codec::signing::SigningKey;
use crate::config::Config;
use crate::console::{self, Audited};
use crate::domain::book::state::account_of_position;
use crate::domain::engine::ChainHead;
use crate::domain::event::ids::EntryId;
use crate::drive::film::Origin;
use crate::drive::keys;
use crate::drive::pipeline::{PassError, single_pass_or_restart};
use crate::drive::scope;
use crate::drive::stop::Stop;
use crate::shell::history::Input;
use crate::shell::terminal::Screen;

mod coverage;
mod finding;
mod ledger;
mod pass;
mod report;
mod screen;
mod sources;
mod totals;
mod trust;

use report::{Report, Verdict};
use sources::{Opened, SourceArgs, Sources};

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    from: SourceArgs,
    #[arg(long, value_name = "ID|TIME", help = moment::help_since("Judge the decisions that were caused"))]
    since: Option<String>,
    #[arg(long, value_name = "ID|TIME", help = moment::help("Stop after this entry or time"))]
    until: Option<String>,
    /// Only the decisions of this account, their outcomes and sums; "" is the account without a name. Entries of all
    /// accounts are still applied
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Verify chain and signatures alone, without a history
    #[arg(long)]
    chain_only: bool,
    /// File with the signing key; else that of the configuration
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with the head of the chain as `audit anchor` printed it; may be given several times
    #[arg(long, value_name = "FILE")]
    anchor: Vec<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Write the result as one self-contained page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// True if a service may write the journal meanwhile.
    #[arg(skip)]
    is_in_use: bool,
}

impl Args {
    /// Returns the arguments of an audit of a history against the decisions of a file.
    pub fn of(history: PathBuf, decisions: PathBuf) -> Self {
        let from = SourceArgs { histories: vec![history], decisions: Some(decisions), ..SourceArgs::default() };
        Self {
            command: None,
            from,
            since: None,
            until: None,
            account: None,
            chain_only: false,
            key_file: None,
            anchor: Vec::new(),
            json: true,
            html: None,
            is_in_use: false,
        }
    }
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Print the head of the chain. Keep it where no writer of the stream can change it
    #[command(after_help = "Example: harvester audit anchor --redis >> anchors.jsonl")]
    Anchor {
        #[command(flatten)]
        from: SourceArgs,
    },
}

/// The decisions that are judged: by the ids of their causes, and those of one account.
#[derive(Clone, Copy, Debug, Default)]
struct Scope<'a> {
    since: Option<EntryId>,
    until: Option<EntryId>,
    /// `None` for all accounts.
    account: Option<&'a str>,
}

impl Scope<'_> {
    fn contains(&self, cause: EntryId) -> bool {
        self.since.is_none_or(|since| cause >= since) && self.until.is_none_or(|until| cause <= until)
    }

    /// Returns true if an account, by its name, is judged.
    fn has_account(&self, name: &str) -> bool {
        self.account.is_none_or(|account| account == name)
    }

    /// Returns true if the account of an emitted decision is judged.
    fn has_account_of(&self, link: &Link) -> bool {
        self.has_account(account_of_position(link.text("position_id")))
    }
}

/// Runs the command. Fails with [`Found`] if the verdict is not `clean`.
pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(Command::Anchor { from }) = &args.command {
        return anchor(from, config, out);
    }
    let report = judged(args, config, &Stop::never())?;
    if let Some(path) = &args.html {
        let audited = Audited { verdict: report.verdict().name().to_owned(), text: text_of(&report)? };
        let page = console::audit_file(&audited, &args.from.named())?;
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        super::json::write(out, &report.document())?;
    } else {
        screen::show(&report, &mut Screen::stdout(out))?;
    }
    out.flush()?;
    match report.verdict() {
        Verdict::Clean => Ok(()),
        Verdict::Findings => bail!(Found("the audit has findings".to_owned())),
        Verdict::Incomplete => bail!(Found("the audit could not see everything".to_owned())),
    }
}

/// Audits a history or a journal for the console.
pub fn of_origin(origin: &Origin, config: &Config, stop: &Stop) -> anyhow::Result<Audited> {
    let from = match origin {
        Origin::Histories(paths) => SourceArgs { histories: paths.clone(), ..SourceArgs::default() },
        Origin::Journal(dir) => SourceArgs { journal: Some(dir.clone()), ..SourceArgs::default() },
        Origin::Store(dir) => bail!("{} is a store: an audit needs a history or a journal", dir.display()),
    };
    let is_in_use = matches!(origin, Origin::Journal(_));
    let args = Args { from, json: false, is_in_use, ..Args::of(PathBuf::new(), PathBuf::new()) };
    let report = judged(&args, config, stop)?;
    Ok(Audited { verdict: report.verdict().name().to_owned(), text: text_of(&report)? })
}

/// Returns the screen of a report, without colours.
fn text_of(report: &Report) -> anyhow::Result<String> {
    let mut text = Vec::new();
    screen::show(report, &mut Screen::plain(&mut text))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Recomputes and compares.
fn judged(args: &Args, config: &Config, stop: &Stop) -> anyhow::Result<Report> {
    let key = match &args.key_file {
        Some(path) => Some(keys::of_file(path, config)?),
        None => keys::configured(config)?,
    };
    let anchors = args.anchor.iter().map(anchors).collect::<anyhow::Result<Vec<_>>>()?.concat();
    let mut sources = Sources::gather(&args.from, config, args.chain_only)?;
    if args.is_in_use {
        sources.is_written_now();
    }
    let inputs: Vec<Input> = sources.histories.iter().cloned().map(Input::from).collect();
    let config = &*scope::over(config, &inputs)?;
    let end_ms = || sources.end_ms(config);
    let since = args.since.as_deref().map(|text| moment::since("--since", text, end_ms)).transpose()?;
    let until = args.until.as_deref().map(|text| moment::until("--until", text, end_ms)).transpose()?;
    let judge = |opened: Opened| -> anyhow::Result<Report> {
        let mut chain = read_chain(&opened, key.as_ref(), &anchors);
        if args.chain_only {
            return Ok(Report::of_chain(&sources, &chain, opened.faults));
        }
        // A history that is read in one pass contains no decisions.
        if !opened.history.is_in_one_pass() {
            lost(&mut chain, &sources, config)?;
        }
        let opened = if until.is_none() { opened } else { sources::open(&sources.histories, config, until)? };
        let scope = Scope { since, until, account: args.account.as_deref() };
        pass::pass(&sources, config, key.as_ref(), opened, &chain, (scope, stop))
    };
    let at_once = if args.chain_only || until.is_some() { None } else { sources::open_at_once(&sources, config) };
    // Decisions come after their causes, so the chain may continue beyond the end of the history.
    let again = || sources::open(&sources.decisions, config, None);
    let is_not_plain = |error: &anyhow::Error| error.downcast_ref().is_some_and(PassError::is_not_plain);
    let mut report = match single_pass_or_restart(at_once, again, judge, is_not_plain) {
        Ok(report) => report,
        Err(error) if sources::is_damaged(&error) => {
            // The decisions cannot be recomputed. The chain of the emitted ones is still verified.
            let chain = match sources::open(&sources.emitted, config, None) {
                Ok(opened) => read_chain(&opened, key.as_ref(), &anchors),
                Err(_) => chain::verify(&[], None, &anchors),
            };
            Report::of_damage(&sources, &chain, &error)
        }
        Err(error) => return Err(error),
    };
    if let Some(account) = &args.account {
        report.keep_account(account);
    }
    if report.chain.entries == 0 && !report.missing.is_empty() && sources.emitted.is_empty() {
        let notice = "the history has no decisions, so each counts as missing: name them with --decisions FILE";
        report.notices.push(notice.to_owned());
    }
    Ok(report)
}

/// Verifies the chain of the decisions in an opened history.
fn read_chain(opened: &Opened, key: Option<&SigningKey>, anchors: &[ChainHead]) -> Chain {
    let lines = opened.history.decision_lines();
    let found = lines.map(|at| chain::Found { id: at.id, line: at.bytes, file: at.file, number: at.number });
    chain::verify(&found.collect::<Vec<_>>(), key, anchors)
}

/// Adds a fault for each decision of the history that the given decisions lack: it was deleted there.
fn lost(chain: &mut Chain, sources: &Sources, config: &Config) -> anyhow::Result<()> {
    if sources.emitted.is_empty() {
        return Ok(());
    }
    let named = read_chain(&sources::open(&sources.emitted, config, None)?, None, &[]);
    let ids: BTreeSet<&str> = named.links.iter().map(Link::decision_id).collect();
    // A file may begin after the history's decisions, and be empty for that reason. A stream must have all decisions
    // from its first on.
    let is_stream = sources.in_flight_from_ms.is_some();
    let begins = named.links.iter().map(|link| link.seq).min().unwrap_or(if is_stream { 1 } else { u64::MAX });
    for link in chain.links.iter().filter(|link| link.seq >= begins && !ids.contains(link.decision_id())) {
        let why = "the history tells of it, and it is not where the decisions are".to_owned();
        let (what, seq, entry) = (chain::Fault::Gap, Some(link.seq), Some(link.id));
        chain.tampered.push(chain::Tampered { what, seq, entry, why });
    }
    Ok(())
}

/// Reads the anchors of a file, one JSON document per line.
fn anchors(path: &PathBuf) -> anyhow::Result<Vec<ChainHead>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the anchor {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let anchors: Result<Vec<ChainHead>, _> = lines.map(serde_json::from_str).collect();
    match anchors {
        Ok(anchors) if !anchors.is_empty() => Ok(anchors),
        Ok(_) | Err(_) => {
            bail!(
                "{} is not an anchor: want lines of {{\"seq\":…,\"hash\":…}}, as `audit anchor` prints them",
                path.display()
            )
        }
    }
}

/// The head of a chain, as `audit anchor` prints it.
#[derive(Serialize)]
struct Anchor<'a> {
    decision_id: &'a str,
    entry: String,
    hash: &'a str,
    seq: u64,
}

/// Prints the head of the chain as one line, if the chain is intact.
fn anchor(from: &SourceArgs, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let sources = Sources::gather(from, config, true)?;
    let opened = sources::open(&sources.decisions, config, None)?;
    let chain = read_chain(&opened, None, &[]);
    let Some(last) = chain.links.iter().find(|link| link.seq == chain.head.seq) else {
        bail!("there is no decision: an empty chain has no head to keep");
    };
    // A stream that was trimmed at its beginning still has an intact end.
    let is_whole = chain.tampered.iter().all(|fault| fault.what == chain::Fault::Gap && fault.seq == Some(1));
    if !is_whole || !opened.faults.is_empty() || !chain.duplicated.is_empty() {
        let report = Report::of_chain(&sources, &chain, opened.faults);
        screen::show(&report, &mut Screen::stdout(out))?;
        out.flush()?;
        bail!(Found(
            "the chain is not whole, so its head proves nothing: see `harvester audit --chain-only`".to_owned()
        ));
    }
    let anchor = Anchor {
        decision_id: last.decision_id(),
        entry: last.id.to_string(),
        hash: &chain.head.hash,
        seq: chain.head.seq,
    };
    writeln!(out, "{}", serde_json::to_string(&anchor)?)?;
    Ok(())
}
