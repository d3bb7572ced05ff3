//! `harvester explain`: one decision, or why there was none, on one screen.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{anyhow, bail};

use super::moment;
use crate::codec::{time, view};
use crate::config::Config;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;
use crate::drive::explain::{Explanation, Later, Subject, decision, fold, origins};
use crate::drive::projection;
use crate::drive::stop::Stop;
use crate::shell::history::{Input, Options};
use crate::shell::terminal::Screen;

mod screen;

/// A word of at least this many hex digits is the beginning of a decision id. [1]
const DECISION_DIGITS_MIN: usize = 8;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples: harvester explain ARCUSDT --at 02:07 replay/nights/incident-2026-02-04/events.jsonl
          harvester explain 974cf0dc history/ --raw
          harvester explain ARCUSDT --store state")]
pub struct Args {
    /// A decision id, or the beginning of one; or a symbol
    #[arg(value_name = "DECISION|SYMBOL")]
    what: String,
    /// The account of the symbol; ACCOUNT/SYMBOL and ACCOUNT/SYMBOL:LONG are understood, too
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
    #[arg(value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// The journal of a service instead of a history
    #[arg(long, value_name = "DIR", conflicts_with = "histories")]
    journal: Option<PathBuf>,
    /// Folder of the store, as it is now, instead of a history
    #[arg(long, value_name = "DIR", conflicts_with_all = ["histories", "journal", "at"])]
    store: Option<PathBuf>,
    #[arg(long, value_name = "ID|TIME", help = moment::help("Explain the state at this entry or time"))]
    at: Option<String>,
    /// Show the entries that the numbers come from, as they were written
    #[arg(long)]
    raw: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    fn sources(&self) -> Vec<PathBuf> {
        self.histories.iter().chain(&self.journal).cloned().collect()
    }

    /// Returns the beginning of a decision id, if one was given.
    fn decision(&self) -> Option<&str> {
        (self.is_hex() && self.what.len() >= DECISION_DIGITS_MIN).then_some(&self.what)
    }

    /// Returns the number of digits, if they may be the beginning of a decision id and are too few. [1]
    fn short_decision(&self) -> Option<usize> {
        (self.is_hex() && self.what.len() < DECISION_DIGITS_MIN).then_some(self.what.len())
    }

    fn is_hex(&self) -> bool {
        self.what.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.store.is_none() && args.sources().is_empty() {
        bail!("no source is given: want a history (files, folders), --journal DIR or --store DIR");
    }
    let mut explanation = match (args.decision(), &args.store) {
        (Some(id), None) => decision::of_history(id, &args.sources(), config, &Stop::never())?,
        (Some(id), Some(store)) => decision::of_store(id, store)?,
        (None, Some(store)) => {
            let (engine, _) = projection::read(store)?;
            of_symbol(&engine, args, None, None)?
        }
        (None, None) => {
            let sources = args.sources();
            let end_ms = || {
                let inputs: Vec<Input> = sources.iter().cloned().map(Input::from).collect();
                moment::end_of(&inputs, config, Options::default())
            };
            let until = args.at.as_deref().map(|at| moment::until("--at", at, end_ms)).transpose()?;
            let folded = fold(&sources, config, until, |_, _, _| Ok(()))?;
            of_symbol(&folded.engine, args, folded.policy_since, until)?
        }
    };
    if args.store.is_none() {
        explanation.origins = origins(&explanation, args.sources(), args.raw, config, &Stop::never())?;
    }
    if args.json {
        return super::json::write(out, &explanation);
    }
    screen::show(&explanation, &mut Screen::stdout(out))
}

/// Describes a symbol after the last folded entry, and its hold at the time that was asked for.
fn of_symbol(
    engine: &Engine,
    args: &Args,
    policy_since: Option<EntryId>,
    asked: Option<EntryId>,
) -> anyhow::Result<Explanation> {
    let name = book_name(args);
    let later = Later::of(engine, &name, asked.map_or(engine.globals().last.ms, |at| at.ms));
    let subject = Subject::Symbol { asked: asked.map(|at| time::iso(at.ms)), later };
    Explanation::of(engine, &name, policy_since, subject).map_err(|error| match args.short_decision() {
        None => error.into(),
        Some(digits) => anyhow!(
            "{error}; the beginning of a decision id has at least {DECISION_DIGITS_MIN} digits, and {} has {digits}: \
             give more of it",
            args.what
        ),
    })
}

fn book_name(args: &Args) -> String {
    view::written_name(&args.what, args.account.as_deref())
}
