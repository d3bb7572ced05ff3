//! `harvester control`: what an operator says to the service, written to the control stream.

use std::io::Write;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use crate::app::server;
use crate::codec::operator::{self, ControlEntry, Word};
use crate::config::Config;
use crate::domain::streams::StreamKind;
use crate::shell::redis::Server;
use crate::shell::terminal::Screen;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(clap::Subcommand, Debug)]
enum Order {
    /// Stop all decisions, or let them go on
    #[command(after_help = "Example: harvester control kill on --reason \"exchange is down\" --yes")]
    Kill {
        switch: Switch,
        #[command(flatten)]
        how: How,
    },
    /// Accept that entries are lost: decisions of the symbol, or of all, go on
    #[command(after_help = "Example: harvester control gap-accept NEARUSDT --reason \"checked by hand\" --yes")]
    GapAccept {
        /// Which symbol; without one, all of them
        symbol: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Accept weak sources of entry price and risk fields for one position
    #[command(after_help = "Example: harvester control risk-accept NEARUSDT@1770163205000-0 --reason \"known\" --yes")]
    RiskAccept {
        /// SYMBOL@ID, as `positions --json` shows it
        position: String,
        #[command(flatten)]
        how: How,
    },
    /// Arm a rung of one position again
    #[command(after_help = "Example: harvester control rearm NEARUSDT@1770163205000-0 0.5 --reason \"not sold\" --yes")]
    Rearm {
        /// SYMBOL@ID, as `positions --json` shows it
        position: String,
        /// Which rung, by its R
        r: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

#[derive(clap::Args, Debug)]
struct How {
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Write it; without this, only show what would be written
    #[arg(long)]
    yes: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// What is said, and what has to be known beside it.
struct Plan {
    entry: ControlEntry,
    effect: String,
    warnings: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let (word, how) = match &args.order {
        Order::Kill { switch, how } => (Word::Kill(*switch == Switch::On), how),
        Order::GapAccept { symbol, how } => (Word::gap_accepted(symbol.as_deref())?, how),
        Order::RiskAccept { position, how } => (Word::risk_accepted(position)?, how),
        Order::Rearm { position, r, how } => (Word::rung_rearmed(position, r)?, how),
    };
    let entry = word.entry(&how.reason)?;
    let mut streams = config.streams.iter().map(|(_, stream)| stream);
    let stream =
        streams.find(|stream| stream.kind == StreamKind::Control).context("no control stream is configured")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (plan, id) = runtime.block_on(async {
        let mut server = Server::connect(&server::address(config)?).await?;
        let key = &config.emit.kill_key;
        let warnings = warnings(&word, key, server.get(key).await?.as_deref());
        let plan = Plan { entry, effect: effect(&word, key), warnings };
        let id = if how.yes { Some(server.add(&stream.name, &plan.entry.fields()).await?) } else { None };
        anyhow::Ok((plan, id))
    })?;
    let id = id.map(|id| id.to_string());
    if how.json {
        let fields: Map<String, Value> =
            plan.entry.fields().map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect();
        let document = json!({
            "stream": stream.name, "id": id, "fields": fields, "effect": plan.effect, "warnings": plan.warnings,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    show(&plan, &stream.name, id.as_deref(), &mut Screen::stdout(out))
}

fn show(plan: &Plan, stream: &str, id: Option<&str>, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.heading(&format!("to {stream}"))?;
    for (name, value) in plan.entry.fields() {
        screen.line(&format!("  {name:<11} {value}"))?;
    }
    screen.line(&plan.effect)?;
    for warning in &plan.warnings {
        screen.line(&format!("Note: {warning}"))?;
    }
    match id {
        Some(id) => screen.line(&format!("Written as {id}."))?,
        None => screen.line("Nothing was written: --yes writes it.")?,
    }
    Ok(())
}

fn effect(word: &Word, kill_key: &str) -> String {
    match word {
        Word::Kill(true) => "No decision is made until `control kill off`. Consumption goes on.".to_owned(),
        Word::Kill(false) => format!("Decisions are made again, unless {kill_key} is set."),
        Word::GapAccepted(None) => {
            "Every symbol that is held for a gap in its history is let go, as it stands.".to_owned()
        }
        Word::GapAccepted(Some(symbol)) => {
            format!("{symbol}, if it is held for a gap in its history, is let go, as it stands.")
        }
        Word::RiskAccepted(position) => {
            format!("{position} is traded live though the sources of its entry price or risk fields are weak.")
        }
        Word::RungRearmed(position, r) => {
            format!("The rung at {r} R of {position} can be taken again: if it was sold, it is sold twice.")
        }
    }
}

/// What the kill key says against it; `value` is what it holds, `None` where it is not there.
fn warnings(word: &Word, key: &str, value: Option<&[u8]>) -> Vec<String> {
    let kills = value.is_some_and(operator::kills);
    match word {
        Word::Kill(true) if !kills => vec![format!(
            "requests that are on their way already are still sent; `redis-cli SET {key} 1` refuses those too"
        )],
        Word::Kill(false) if kills => {
            vec![format!("the key {key} is set and still refuses everything, until `redis-cli SET {key} 0`")]
        }
        Word::Kill(false) if value.is_none() => {
            vec![format!("the key {key} is not there; if it was set before, it counts until `redis-cli SET {key} 0`")]
        }
        _ => Vec::new(),
    }
}
