//! `harvester history`: every change of a symbol's positions, in order, with the entry that caused it.

use std::io::Write;
use std::path::PathBuf;

use super::{json, moment};
use crate::codec::fields::NONE;
use crate::codec::plural::plural;
use crate::codec::{time, view};
use crate::config::Config;
use crate::drive::story::{self, Change};
use crate::shell::history::{Input, Options};
use crate::shell::terminal::Screen;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["histories", "journal"])))]
#[command(override_usage = "harvester history [OPTIONS] <SYMBOL> <HISTORY...|--journal <DIR>>")]
#[command(after_help = "Examples: harvester history ARCUSDT replay/nights/incident-2026-02-04/events.jsonl
          harvester history NEARUSDT --journal journal --since \"2 hours ago\" --json")]
pub struct Args {
    /// A symbol, with all its books; or one book, as ACCOUNT/SYMBOL or SYMBOL:LONG. Before the history
    symbol: String,
    /// The account of the symbol
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
    #[arg(value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// Journal of the service
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    #[arg(long, value_name = "ID|TIME", help = moment::help_since("Show changes"))]
    since: Option<String>,
    #[arg(long, value_name = "ID|TIME", help = moment::help("Stop after this entry or time"))]
    until: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = view::written_name(&args.symbol, args.account.as_deref());
    let inputs: Vec<Input> = args.histories.iter().chain(&args.journal).cloned().map(Input::from).collect();
    let end_ms = || moment::end_of(&inputs, config, Options::default());
    let since = args.since.as_deref().map(|text| moment::since("--since", text, end_ms)).transpose()?;
    let until = args.until.as_deref().map(|text| moment::until("--until", text, end_ms)).transpose()?;
    let mut changes = story::changes(&wanted, &inputs, until, config)?;
    changes.retain(|change| since.is_none_or(|since| change.at >= since));
    if args.json {
        return json::write(out, &changes);
    }
    show(&changes, &mut Screen::stdout(out))
}

fn show(changes: &[Change], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let mut last: Option<(&str, &str)> = None;
    for change in changes {
        if last != Some((&change.cause, &change.position_id)) {
            screen.heading(&format!("{}  {}  {}", time::iso(change.at.ms), change.position_id, change.cause))?;
            last = Some((&change.cause, &change.position_id));
        }
        let from = if change.from == NONE { String::new() } else { format!("{} → ", change.from) };
        screen.line(&format!("    {:<16} {from}{}", change.field, change.to))?;
    }
    screen.line(&plural(changes.len(), "change"))?;
    Ok(())
}
