//! A gap of a stream that another history can fill: the store is folded anew from all of it.
//!
//! The flag of the gap is not taken away here: it goes when the exchange, or an operator, confirms what the filled
//! history came to. What was sold before is a fact of the journal, and is not sold again.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::history;
use crate::app::found::Found;
use crate::app::projection;
use crate::app::replay;
use crate::config::Config;
use crate::domain::engine::Gap;
use crate::domain::ids::EntryId;
use crate::shell::history::{History, Input, Options};

/// What is there to fill it with.
pub struct Given<'a> {
    pub journal: Option<&'a PathBuf>,
    pub histories: &'a [PathBuf],
    pub dry_run: bool,
}

/// A gap, and how many entries of it were found.
struct Filling {
    gap: Gap,
    entries: u64,
}

/// Fills the gaps that a store knows of, as far as the history given holds them.
pub fn fill(
    store: &Path,
    given: &Given<'_>,
    skip_bad_lines: bool,
    config: &Config,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let histories = history::inputs(None, given.journal, given.histories);
    if histories.is_empty() {
        bail!("no history is given that could fill a gap: name a --journal and the files that hold what is missing");
    }
    let gaps = {
        let (engine, _store) = projection::read(store)?;
        engine.globals().gaps.clone()
    };
    let found = look(&gaps, &histories, skip_bad_lines, config)?;
    let filled = found.iter().filter(|found| found.entries > 0).count();
    let mut summary = Value::Null;
    if filled > 0 && !given.dry_run {
        let request = replay::Request {
            histories,
            store: Some(store.to_owned()),
            rebuild: true,
            skip_bad_lines,
            ..replay::Request::default()
        };
        let replayed = replay::replay(&request, config, &mut ())?;
        for notice in &replayed.notices {
            tracing::warn!("{notice}");
        }
        summary = Value::Object(replayed.summary);
    }
    show(&found, &summary, given.dry_run, json, out)?;
    match found.len() - filled {
        0 => Ok(()),
        left => bail!(Found(format!("{left} of {} gaps are not filled by what was given", found.len()))),
    }
}

/// Counts what the history holds of each gap.
fn look(gaps: &[Gap], histories: &[PathBuf], skip_bad_lines: bool, config: &Config) -> anyhow::Result<Vec<Filling>> {
    let mut found: Vec<Filling> = gaps.iter().cloned().map(|gap| Filling { gap, entries: 0 }).collect();
    let inputs: Vec<Input> = histories.iter().cloned().map(Input::from).collect();
    let options = Options { skip_bad_lines, ..Options::default() };
    let mut history = History::open(&inputs, &config.streams, options).context("reading what was given")?;
    while let Some(line) = history.next_line()? {
        let name = &config.streams.get(line.stream).name;
        for found in found.iter_mut().filter(|found| *found.gap.stream == **name) {
            found.entries += u64::from(is_within(&found.gap, line.id));
        }
    }
    Ok(found)
}

fn is_within(gap: &Gap, id: EntryId) -> bool {
    gap.after.is_none_or(|after| id > after) && gap.before.is_none_or(|before| id < before)
}

fn show(found: &[Filling], summary: &Value, dry_run: bool, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let bound = |id: Option<EntryId>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    if json {
        let gaps: Vec<Value> = found
            .iter()
            .map(|Filling { gap, entries }| {
                json!({"stream": &*gap.stream, "after": bound(gap.after), "before": bound(gap.before), "entries": entries})
            })
            .collect();
        let document = json!({"gaps": gaps, "dry_run": dry_run, "replay": summary});
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
        return Ok(());
    }
    for Filling { gap, entries } in found {
        let stretch = format!("{} after {} before {}", gap.stream, bound(gap.after), bound(gap.before));
        match entries {
            0 => writeln!(out, "[BACKFILL] gap of {stretch}: not in what was given")?,
            n => writeln!(out, "[BACKFILL] gap of {stretch}: {n} entries found")?,
        }
    }
    if found.is_empty() {
        writeln!(out, "[BACKFILL] the store knows of no gap")?;
    }
    if let Some(entries) = summary["entries"].as_u64() {
        writeln!(
            out,
            "[BACKFILL] store folded anew: {entries} entries, {} positions; the former one was moved aside",
            summary["positions_open"]
        )?;
    }
    Ok(())
}
