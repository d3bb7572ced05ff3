//! `harvester demo`: the night when 44 positions were open and none could be evaluated, without a server.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::replay::{Replayed, Request, decision_table, replay, rounded};
use crate::codec::view::{self, PositionView, Sourced};
use crate::codec::{number, policy};
use crate::config::Config;
use crate::domain::book::plans::sha256_hex;
use crate::domain::exit::{Flag, Hold};
use crate::drive::film::Origin;
use crate::shell::terminal::{Screen, Tone};

const EVENTS: &str = include_str!("../../replay/nights/incident-2026-02-04/events.jsonl");
const HASHES: &str = include_str!("../../replay/nights/incident-2026-02-04/legacy-hashes.jsonl");

/// At this time every symbol has a first mark, and ARCUSDT has a second recorded mark, which confirms the first.
const FIRST_MARKS: &str = "2026-02-04T02:07:06Z";
/// Symbols shown of the 44, those with recorded figures first.
const SHOWN: [&str; 9] =
    ["ARCUSDT", "ADAUSDT", "ANKRUSDT", "CHESSUSDT", "NEARUSDT", "ETHUSDT", "BTCUSDT", "AVAXUSDT", "XRPUSDT"];
/// Positions whose risk is larger than their value if their ATR is read in the old way.
const HIDDEN: [&str; 3] = ["ARCUSDT", "ANKRUSDT", "CHESSUSDT"];

/// A hash that the old service had for a symbol: a position or its prices.
#[derive(Deserialize)]
struct Hash {
    fields: BTreeMap<String, String>,
}

struct Night {
    folder: tempfile::TempDir,
    config: Config,
}

impl Night {
    fn events(&self) -> PathBuf {
        self.folder.path().join("events.jsonl")
    }

    fn replay(&self, config: &Config, until: Option<&str>) -> anyhow::Result<(Replayed, Vec<String>)> {
        let request = Request { histories: vec![self.events()], until: until.map(str::to_owned), ..Request::default() };
        let mut decisions = Vec::new();
        let replayed = replay(&request, config, &mut decisions)?;
        Ok((replayed, decisions))
    }
}

#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("listen", |arg| arg.requires("console")))]
#[command(mut_arg("base_path", |arg| arg.requires("console")))]
#[command(mut_arg("open", |arg| arg.requires("console")))]
pub struct Args {
    /// Show the night in the browser instead
    #[arg(long)]
    console: bool,
    #[command(flatten)]
    address: super::console::ConsoleAddress,
}

/// Runs the demonstration.
pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    // Reads neither a file nor the environment, so that the demonstration is the same everywhere.
    let night = Night { folder, config: Config::from_parts(None::<&Path>, BTreeMap::new())? };
    std::fs::write(night.events(), EVENTS).context("cannot write the bundled history")?;
    if args.console {
        let origin = Origin::Histories(vec![night.events()]);
        return super::console::serve(origin, "the night of 4 February 2026", &night.config, &args.address, out);
    }
    let mut screen = Screen::stdout(out);
    old_service(&mut screen)?;
    let decisions = replayed(&night, &mut screen)?;
    again(&night, &decisions, &mut screen)?;
    hidden(&night, &decisions, &mut screen)?;
    closing(&mut screen)
}

fn old_service(screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let hashes: Vec<Hash> = HASHES.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let usable = |hash: &Hash, field: &str| {
        let value = hash.fields.get(field).and_then(|value| number::decimal(value).ok());
        value.is_some_and(|value| !value.is_zero())
    };
    let without =
        |fields: &[&str]| hashes.iter().filter(|hash| !fields.iter().all(|field| usable(hash, field))).count();
    let scanned = hashes.len();
    let (price, risk) = (without(&["mark_price"]), without(&["atr_value", "volatility_factor"]));
    let entry = without(&["entry_price"]);
    let evaluated = scanned - without(&["mark_price", "atr_value", "volatility_factor", "entry_price"]);
    screen.heading("1  What the old service saw at 02:07 UTC on 4 February 2026")?;
    screen.line(&format!("   scanned={scanned} evaluated={evaluated}"))?;
    screen.line(&format!(
        "   {price} without a mark price: the price keys were empty while the feed's unit was \"running\""
    ))?;
    screen.line(&format!(
        "   {risk} without risk fields: their writer learned to store them after the positions existed"
    ))?;
    screen
        .line(&format!("   {entry} without an entry price: an order's acknowledgement has none, so a 0 was stored"))?;
    screen.line("   Nobody was alerted. The signals were in the log all the time.")?;
    screen.line("")?;
    Ok(())
}

fn replayed(night: &Night, screen: &mut Screen<'_>) -> anyhow::Result<Vec<String>> {
    let (then, _) = night.replay(&night.config, Some(FIRST_MARKS))?;
    let open = view::positions(&then.engine, false);
    let (scanned, evaluated) = (then.summary.positions_open, then.summary.evaluable);
    screen.heading("2  The same night, replayed from its history to 02:07")?;
    screen.line(&format!("   scanned={scanned} evaluated={evaluated}: each field from the entry that it came from"))?;
    screen.line("")?;
    let from =
        |field: &Option<Sourced>| field.as_ref().map_or_else(dash, |field| format!("{} {}", field.source, field.entry));
    let row = |position: &PositionView| {
        vec![
            (format!("   {}", position.symbol), Tone::Plain),
            (position.side.clone(), Tone::Plain),
            (value(&position.entry_price), Tone::Plain),
            (from(&position.entry_price), Tone::Dim),
            (format!("{} × {}", value(&position.atr_value), value(&position.volatility_factor)), Tone::Plain),
            (from(&position.atr_value), Tone::Dim),
            (value(&position.mark_price), Tone::Plain),
            (rounded(&text(&position.unrealized_pnl)), Tone::Plain),
            (rounded(&text(&position.entry_risk_usdt)), Tone::Plain),
            (text(&position.r_net), Tone::Good),
        ]
    };
    let rows = SHOWN.iter().filter_map(|name| find(&open, name)).map(row).collect();
    let head = ["   SYMBOL", "SIDE", "ENTRY", "FROM", "ATR × VOL", "FROM", "MARK", "PNL", "RISK", "R_NET"];
    screen.table(&head, &[2, 6, 7, 8, 9], rows)?;
    screen.line(&format!("   … and {} more", open.len() - SHOWN.len()))?;
    screen.line(
        "   ARCUSDT's first mark, 0.07498, was far from its entry price: held until the next one confirmed it.",
    )?;
    screen.line("   The old log repeats the first pnl, 35.6852, at the second mark: a cached field.")?;
    screen.line("")?;

    let (whole, decisions) = night.replay(&night.config, None)?;
    screen.heading(&format!("3  Prices move, rungs are reached: {} decisions, each emitted once", decisions.len()))?;
    decision_table(decisions.iter(), screen)?;
    let jumps = whole.summary.holds.get(Hold::PriceJump.name()).copied().unwrap_or(0);
    screen.line(&format!(
        "   Held back: {jumps} price{} that jumped (DOGEUSDT, 8.4 % within ten seconds); at it, three rungs would have been sold.",
        if jumps == 1 { "" } else { "s" }
    ))?;
    screen.line("")?;
    Ok(decisions)
}

fn again(night: &Night, decisions: &[String], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let (_, second) = night.replay(&night.config, None)?;
    ensure!(second == decisions, "the second replay made other decisions than the first");
    let digest = sha256_hex(second.join("\n").as_bytes());
    screen.heading("4  The whole history again")?;
    screen.line(&format!("   the same {} decisions, byte for byte: SHA-256 {}…", second.len(), &digest[..16]))?;
    screen.line("")?;
    Ok(())
}

fn hidden(night: &Night, decisions: &[String], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let (flagged, _) = night.replay(&night.config, None)?;
    let mut config = night.config.clone();
    config.policy = policy::from_json(r#"{"risk_too_large":"as_fraction"}"#)?;
    let (changed, other_decisions) = night.replay(&config, None)?;
    screen.heading("5  What the old figures hid")?;
    screen.line("   An ATR of 0.1 is a tenth of the price, read as 0.1 USDT. These positions \"risk\" more than they are worth:")?;
    screen.line("")?;
    let of = |replayed: &Replayed| view::positions(&replayed.engine, false);
    let (before, after) = (of(&flagged), of(&changed));
    let price = |position: &PositionView| position.next_rung.as_ref().and_then(|next| next.price.clone());
    let away = |position: &PositionView| {
        let number = |text: &str| number::decimal(text).ok();
        let mark = position.mark_price.as_ref().and_then(|mark| number(&mark.value));
        let Some((mark, rung)) = mark.zip(price(position).and_then(|price| number(&price))) else { return dash() };
        format!("{:+.0} %", ((rung - mark) / mark * rust_decimal::Decimal::ONE_HUNDRED).round())
    };
    let mut rows = Vec::new();
    for name in HIDDEN {
        let (Some(before), Some(after)) = (find(&before, name), find(&after, name)) else { continue };
        let is_flagged = before.flags.iter().any(|flag| flag == Flag::RiskTooLarge.name());
        rows.push(vec![
            (format!("   {name}"), Tone::Plain),
            (value(&before.entry_price), Tone::Plain),
            (text(&before.risk_price), Tone::Bad),
            (if is_flagged { Flag::RiskTooLarge.name() } else { "-" }.to_owned(), Tone::Warning),
            (text(&price(before)), Tone::Plain),
            (away(before), Tone::Bad),
            (text(&after.risk_price), Tone::Plain),
            (text(&price(after)), Tone::Plain),
            (away(after), Tone::Good),
        ]);
    }
    let head = ["   SYMBOL", "ENTRY", "RISK", "FLAG", "NEXT RUNG", "AWAY", "AS FRACTION", "NEXT RUNG", "AWAY"];
    screen.table(&head, &[1, 2, 4, 5, 6, 7, 8], rows)?;
    screen.line(&format!(
        "   With risk_too_large = \"as_fraction\" in the policy: {} decisions instead of {}.",
        other_decisions.len(),
        decisions.len()
    ))?;
    screen.line("")?;
    Ok(())
}

fn find<'a>(positions: &'a [PositionView], symbol: &str) -> Option<&'a PositionView> {
    positions.iter().find(|position| position.symbol == symbol)
}

fn dash() -> String {
    "-".to_owned()
}

fn text(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(dash)
}

fn value(field: &Option<Sourced>) -> String {
    field.as_ref().map_or_else(dash, |field| field.value.clone())
}

fn closing(screen: &mut Screen<'_>) -> anyhow::Result<()> {
    for (title, lines) in [
        (
            "Recorded that night",
            &[
                "44 open, 0 evaluated, 43 without risk fields, 43 without entry price;",
                "ARCUSDT: quantity, entry 0.0636, marks 0.07498 and 0.07494, pnl 35.6852, risk 1567.8896, R_net 0.023, atr 0.10, vol 5.0;",
                "ADAUSDT: quantity 666.22, atr 0.0398, risk 26.80; ANKRUSDT: quantity, atr 0.1, vol 2.4, risk 8199.60; CHESSUSDT: atr 0.1, vol 5.0, risk 4264.39.",
            ][..],
        ),
        (
            "Invented for this demonstration",
            &[
                "everything else: the other 40 positions, every other price, times but 02:07. The field's entries published no result:",
                "quantities and entry prices come from the exchange's side, as `exchange.position` entries.",
            ][..],
        ),
        (
            "What to do next",
            &[
                "harvester replay YOUR-DUMP.jsonl --store state    your own history: positions, holds, decisions",
                "harvester positions --store state [SYMBOL]         what is open, what it rests on, why it is held",
                "harvester --help                                   all commands; harvester help COMMAND has an example",
            ][..],
        ),
    ] {
        screen.heading(title)?;
        for line in lines {
            screen.line(&format!("   {line}"))?;
        }
    }
    Ok(())
}
