//! `harvester chart`: the charts of the console as SVG files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::whatif::{named, range_ms};
use crate::config::Config;
use crate::console;
use crate::drive::film::{Film, Origin};
use crate::drive::stop::Stop;
use crate::drive::whatif;

#[derive(Clone, Debug, clap::Subcommand)]
#[command(after_help = "Example: harvester chart position ARCUSDT history/ --out arc.svg")]
pub enum Command {
    /// Draw price, R, rungs, fills, decisions and holds of a position
    #[command(
        after_help = "Example: harvester chart position ARCUSDT replay/nights/incident-2026-02-04/events.jsonl --out arc.svg"
    )]
    Position {
        /// Position id, or a symbol: its open position, else the last one
        #[arg(value_name = "POSITION|SYMBOL")]
        what: String,
        /// Files and folders (every *.jsonl and *.jsonl.zst below)
        #[arg(value_name = "HISTORY", required_unless_present = "journal")]
        histories: Vec<PathBuf>,
        /// The journal of a service instead of a history
        #[arg(long, value_name = "DIR", conflicts_with = "histories")]
        journal: Option<PathBuf>,
        /// Draw up to this entry or time: an entry id, a time (2026-02-04T02:07Z), a time of day in UTC
        /// (02:07; the latest before the end of the history), or how long before its last entry ("2 hours
        /// ago"). A time of day counts whole, a date is exact
        #[arg(long, value_name = "ID|TIME")]
        at: Option<String>,
        /// The file to write
        #[arg(long, value_name = "FILE.svg")]
        out: PathBuf,
    },
    /// Draw the realized profit of several policies over time
    #[command(
        after_help = "Example: harvester chart whatif --policy cautious.toml --policy bold.toml history/ --out profits.svg"
    )]
    Whatif {
        /// Files and folders (every *.jsonl and *.jsonl.zst below)
        #[arg(required = true, value_name = "HISTORY")]
        histories: Vec<PathBuf>,
        /// File with a [policy] table; may be given several times
        #[arg(long, required = true, value_name = "FILE")]
        policy: Vec<PathBuf>,
        /// The file to write
        #[arg(long, value_name = "FILE.svg")]
        out: PathBuf,
    },
}

pub fn run(command: &Command, config: &Config) -> anyhow::Result<()> {
    match command {
        Command::Position { what, histories, journal, at, out } => {
            let origin = match journal {
                Some(journal) => Origin::Journal(journal.clone()),
                None => Origin::Histories(histories.clone()),
            };
            let film = Film::read(origin, Arc::new(config.clone()), &Stop::never())?;
            let at = at.as_deref().map(|text| film.until(text)).transpose().context("--at")?;
            write(out, &console::chart_file(&film, what, at)?)
        }
        Command::Whatif { histories, policy, out } => {
            let policies = policy.iter().map(|path| named(path)).collect::<anyhow::Result<Vec<_>>>()?;
            let compared = whatif::fold_all(histories, policies, false, config, &Stop::never())?;
            write(out, &console::equity_file(&compared, range_ms(&compared))?)
        }
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
