//! `harvester stats`: how long positions had each reason to hold.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use crate::codec::{state, time, view};
use crate::domain::book::position::Position;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::exit::Hold;
use crate::drive::projection;
use crate::shell::terminal::{Screen, Tone};

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// A hold, or `None` for the time in which nothing evaluated the position and its last hold was no longer true.
type Reason = Option<Hold>;

/// The sums of one reason.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Stood {
    ms: u64,
    positions: u64,
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    as_of: String,
    holds: BTreeMap<&'static str, Stood>,
    symbols: BTreeMap<&'a str, BTreeMap<&'static str, Stood>>,
}

impl<'a> Document<'a> {
    fn of(
        engine: &Engine,
        all: &BTreeMap<Reason, Stood>,
        by_symbol: &'a BTreeMap<String, BTreeMap<Reason, Stood>>,
    ) -> Self {
        let named = |holds: &BTreeMap<Reason, Stood>| holds.iter().map(|(hold, stood)| (name(*hold), *stood)).collect();
        Self {
            as_of: engine.globals().last.to_string(),
            holds: named(all),
            symbols: by_symbol.iter().map(|(symbol, holds)| (&**symbol, named(holds))).collect(),
        }
    }
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let (engine, rows) = projection::read(&args.store)?;
    let mut by_symbol: BTreeMap<String, BTreeMap<Reason, Stood>> = BTreeMap::new();
    for book in view::by_name(&engine) {
        let closed = state::closed_positions(&rows, &book.name)?;
        for position in closed.iter().chain(book.book.hot.open.as_ref()) {
            let stood = by_symbol.entry(book.name.to_string()).or_default();
            for (hold, ms) in times_ms(&engine, book, position) {
                let stood = stood.entry(hold).or_default();
                stood.ms += ms;
                stood.positions += 1;
            }
        }
    }
    let mut all: BTreeMap<Reason, Stood> = BTreeMap::new();
    for (hold, stood) in by_symbol.values().flatten() {
        let sum = all.entry(*hold).or_default();
        sum.ms += stood.ms;
        sum.positions += stood.positions;
    }
    if args.json {
        return super::json::write(out, &Document::of(&engine, &all, &by_symbol));
    }
    show(&engine, &all, &by_symbol, &mut Screen::stdout(out))
}

const fn name(reason: Reason) -> &'static str {
    match reason {
        Some(hold) => hold.name(),
        None => "not_evaluated",
    }
}

/// Returns how long a position had each hold, and how long it had none that is known. [ms]
fn times_ms(engine: &Engine, book: BookView<'_>, position: &Position) -> Vec<(Reason, u64)> {
    let end_ms = position.closed.map_or(engine.globals().last.ms, |closed| closed.id.ms);
    // A hold that is still true at the end has lasted until then. Another one was noted when the position was last
    // evaluated: a price has become stale since, and no entry states when.
    let is_true =
        !position.is_open() || position.holds.last().is_none_or(|last| last.hold == engine.hold_at(book, end_ms));
    let until_ms = if is_true { end_ms } else { evaluated_ms(book, position).min(end_ms) };
    let held = position.holds.times_ms(until_ms).into_iter().map(|(hold, ms)| (Some(hold), ms));
    held.chain((until_ms < end_ms).then_some((None, end_ms - until_ms))).collect()
}

/// Returns the last time at which the open position of a book is known to have been evaluated. [ms since 1970]
fn evaluated_ms(book: BookView<'_>, open: &Position) -> u64 {
    let noted = open.holds.last().map(|change| change.since.ms);
    let prices = [book.symbol.mark, book.symbol.held_price].map(|mark| mark.map(|mark| mark.entry.ms));
    let entries = prices.into_iter().chain([noted, Some(book.known_ms())]);
    entries.flatten().max().unwrap_or(open.opened.id.ms)
}

fn show(
    engine: &Engine,
    all: &BTreeMap<Reason, Stood>,
    by_symbol: &BTreeMap<String, BTreeMap<Reason, Stood>>,
    screen: &mut Screen<'_>,
) -> anyhow::Result<()> {
    let total: u64 = all.values().map(|stood| stood.ms).sum();
    let longest = |hold: Reason| {
        let of = |holds: &BTreeMap<Reason, Stood>| holds.get(&hold).map_or(0, |stood| stood.ms);
        by_symbol.iter().max_by_key(|(name, holds)| (of(holds), std::cmp::Reverse(*name))).map_or("-", |(name, _)| name)
    };
    let mut rows: Vec<(u64, Vec<(String, Tone)>)> = all
        .iter()
        .map(|(hold, stood)| {
            let permille = (stood.ms * 1000).checked_div(total).unwrap_or(0);
            let cells = [
                name(*hold).to_owned(),
                lasted(stood.ms),
                format!("{}.{} %", permille / 10, permille % 10),
                stood.positions.to_string(),
                longest(*hold).to_owned(),
            ];
            (stood.ms, cells.into_iter().map(|cell| (cell, Tone::Plain)).collect())
        })
        .collect();
    rows.sort_by_key(|(ms, _)| std::cmp::Reverse(*ms));
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    screen.table(&["HOLD", "TIME", "PERCENT", "POSITIONS", "LONGEST"], &[1, 2, 3], rows)?;
    let last = engine.globals().last;
    screen.line(&format!("TIME adds up all positions, as of {last} ({})", time::iso(last.ms)))?;
    Ok(())
}

/// Formats a duration in words.
fn lasted(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{}.{:03} s", seconds, ms % 1000),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}
