//! `harvester explain`: one decision, or why there was none, on one screen.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::replay::bound;
use crate::codec::time;
use crate::config::Config;
use crate::domain::event::ids::EntryId;
use crate::drive::projection;
use crate::shell::history::{History, Input, Options};
use crate::shell::terminal::Screen;

mod decision;
mod origin;
mod reasons;
mod scene;
mod screen;

use scene::Scene;
pub use scene::{arithmetic, quantity_line};

/// A word of at least this many hex digits is the beginning of a decision id. [1]
const DECISION_DIGITS_MIN: usize = 8;
const DAY_MS: u64 = 86_400_000;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples: harvester explain ARCUSDT --at 02:07 replay/nights/incident-2026-02-04/events.jsonl
          harvester explain 974cf0dc history/ --raw
          harvester explain ARCUSDT --store state")]
pub struct Args {
    /// A decision id, or the beginning of one; or a symbol
    #[arg(value_name = "DECISION|SYMBOL")]
    what: String,
    /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
    #[arg(value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// The journal of a service instead of a history
    #[arg(long, value_name = "DIR", conflicts_with = "histories")]
    journal: Option<PathBuf>,
    /// The projection as it is now, without a history
    #[arg(long, value_name = "DIR", conflicts_with_all = ["histories", "journal", "at"])]
    store: Option<PathBuf>,
    /// When: an entry id, a time, or a time of day (HH:MM) of the last day
    #[arg(long, value_name = "ID|TIME")]
    at: Option<String>,
    /// The entries that the numbers come from, as they are
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
        let is_hex = self.what.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && self.what.len() >= DECISION_DIGITS_MIN).then_some(&self.what)
    }
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.store.is_none() && args.sources().is_empty() {
        bail!("nothing to explain from: give a history (files, folders), --journal DIR or --store DIR");
    }
    let document = match (args.decision(), &args.store) {
        (Some(id), None) => decision::of_history(id, &args.sources(), config)?,
        (Some(id), Some(store)) => decision::of_store(id, store)?,
        (None, Some(store)) => {
            let (engine, _) = projection::read(store)?;
            symbol_document(Scene::of(&engine, &symbol_name(&args.what), None)?, None)
        }
        (None, None) => {
            let sources = args.sources();
            let until = args.at.as_deref().map(|at| moment(at, &sources, config)).transpose()?;
            let folded = scene::fold(&sources, config, until, |_, _, _| Ok(()))?;
            let scene = Scene::of(&folded.engine, &symbol_name(&args.what), folded.policy_since)?;
            symbol_document(scene, until)
        }
    };
    let document = if args.store.is_some() { document } else { origin::with_origins(document, args, config)? };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    screen::show(&document, &mut Screen::stdout(out))
}

fn symbol_document(scene: Scene, asked: Option<EntryId>) -> Value {
    let mut document = scene.json;
    document["asked"] = asked.map_or(Value::Null, |at| json!(time::iso(at.ms)));
    document
}

fn symbol_name(text: &str) -> String {
    text.trim().to_uppercase()
}

/// Parses an entry id, a time, or a time of day on the last day of the history. A time without milliseconds means the
/// whole second or minute.
fn moment(text: &str, sources: &[PathBuf], config: &Config) -> anyhow::Result<EntryId> {
    let Some((ms_of_day, lasts_ms)) = time_of_day(text) else { return bound(text, u64::MAX) };
    let inputs: Vec<Input> = sources.iter().cloned().map(Input::from).collect();
    if inputs.contains(&Input::Stdin) {
        bail!("--at {text}: standard input can be read once only: name the day too");
    }
    let history = History::open(&inputs, &config.streams, Options::default())?;
    let last = history.last().context("the history holds no entry")?;
    let of_last_day = last.ms / DAY_MS * DAY_MS + ms_of_day;
    let ms = if of_last_day > last.ms { of_last_day.saturating_sub(DAY_MS) } else { of_last_day };
    Ok(EntryId::new(ms + lasts_ms - 1, u64::MAX))
}

/// Parses `HH:MM` or `HH:MM:SS`. Returns the milliseconds since midnight and the length of that minute or second. [ms]
fn time_of_day(text: &str) -> Option<(u64, u64)> {
    let parts: Vec<&str> = text.trim_end_matches(['Z', 'z']).split(':').collect();
    let two_digits = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !parts.iter().all(two_digits) {
        return None;
    }
    let number = |part: &str, end: u64| part.parse().ok().filter(|n: &u64| *n < end);
    match parts[..] {
        [hour, minute] => Some((number(hour, 24)? * 3_600_000 + number(minute, 60)? * 60_000, 60_000)),
        [hour, minute, second] => {
            let of_minute = number(hour, 24)? * 3_600_000 + number(minute, 60)? * 60_000;
            Some((of_minute + number(second, 60)? * 1000, 1000))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_lasts_as_long_as_it_is_exact() {
        assert_eq!(time_of_day("02:07"), Some((7_620_000, 60_000)));
        assert_eq!(time_of_day("02:07:05Z"), Some((7_625_000, 1_000)));
        for other in ["2026-02-04T02:07", "1770170820000-0", "25:00", "02:60", "2:07", ""] {
            assert_eq!(time_of_day(other), None, "{other}");
        }
    }
}
