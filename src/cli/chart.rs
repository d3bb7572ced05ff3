//! `harvester chart`: the charts of the console as SVG or PNG files.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::moment;
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
        #[arg(long, value_name = "ID|TIME", help = moment::help("Draw up to this entry or time"))]
        at: Option<String>,
        /// The file to write; .png is drawn with the fonts of this machine
        #[arg(long, value_name = "FILE.svg|FILE.png", value_parser = picture)]
        out: Picture,
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
        /// The file to write; .png is drawn with the fonts of this machine
        #[arg(long, value_name = "FILE.svg|FILE.png", value_parser = picture)]
        out: Picture,
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
            out.write(&console::chart_of(&film, what, at)?)
        }
        Command::Whatif { histories, policy, out } => {
            let policies = policy.iter().map(|path| named(path)).collect::<anyhow::Result<Vec<_>>>()?;
            let compared = whatif::fold_all(histories, policies, false, config, &Stop::never())?;
            out.write(&console::equity_of(&compared, range_ms(&compared))?)
        }
    }
}

/// A file to write a chart to.
#[derive(Clone, Debug)]
pub struct Picture {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Svg,
    Png,
}

/// Reads the name of a picture, whose ending names the format.
fn picture(path: &str) -> Result<Picture, String> {
    let path = PathBuf::from(path);
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let format = match &*ending {
        "svg" => Format::Svg,
        "png" => Format::Png,
        _ => return Err("want a name that ends in .svg or .png".to_owned()),
    };
    Ok(Picture { path, format })
}

impl Picture {
    fn write(&self, chart: &str) -> anyhow::Result<()> {
        let bytes = match self.format {
            Format::Svg => console::alone(chart).into_bytes(),
            Format::Png => png(chart)?,
        };
        std::fs::write(&self.path, bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(feature = "png")]
fn png(chart: &str) -> anyhow::Result<Vec<u8>> {
    Ok(console::png(chart)?)
}

#[cfg(not(feature = "png"))]
fn png(_: &str) -> anyhow::Result<Vec<u8>> {
    anyhow::bail!("this build draws no .png (feature `png`): write an .svg, which every browser shows")
}
