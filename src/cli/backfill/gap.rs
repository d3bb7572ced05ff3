//! Fills a gap of a stream from another history: the store is folded again from all of it.
//!
//! This does not clear the flag of the gap. The exchange or an operator clears it by confirming the quantity that the
//! filled history gives. Earlier sales are recorded decisions of the journal, so nothing is sold again. For that
//! reason, a service's store is filled only if the journal contains everything that the service has folded and emitted.
//! The rows that the service keeps in addition to the state (outbox, counts of entries, position in the journal) do not
//! change.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::history;
use crate::cli::exit_code::Found;
use crate::cli::json;
use crate::cli::replay::{Request, replay};
use crate::codec::live;
use crate::codec::plural::plural;
use crate::codec::view::Summary;
use crate::config::Config;
use crate::domain::delivery::row::OutboxRow;
use crate::domain::engine::{Engine, Gap};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::projection;
use crate::shell::history::{History, Input, Options};
use crate::shell::journal::Journal;
use crate::shell::store::Store;

/// The inputs for filling a gap.
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

/// Fills the known gaps of a store with those of their entries that the given history contains.
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
        bail!("no history is given that could fill a gap: give --journal DIR and the files with the missing entries");
    }
    let (gaps, kept) = {
        let (engine, opened) = projection::read(store)?;
        if live::is_of_service(&opened)? {
            ensure_journal_is_whole(&engine, &opened, given.journal)?;
        }
        (engine.globals().gaps.clone(), live::rows(&opened)?)
    };
    let found = look(&gaps, &histories, skip_bad_lines, config)?;
    let filled = found.iter().filter(|found| found.entries > 0).count();
    let mut summary = None;
    if filled > 0 && !given.dry_run {
        let request = Request {
            histories,
            store: Some(store.to_owned()),
            rebuild: true,
            rows_beside: kept,
            skip_bad_lines,
            ..Request::default()
        };
        let replayed = replay(&request, config, &mut ())?;
        for notice in &replayed.notices {
            tracing::warn!("{notice}");
        }
        summary = Some(replayed.summary);
    }
    show(&found, summary.as_ref(), given.dry_run, json, out)?;
    match found.len() - filled {
        0 => Ok(()),
        left => bail!(Found(format!("not filled by what was given: {left} of {}", plural(found.len(), "gap")))),
    }
}

/// Returns true if the journal contains everything that a service has folded and emitted. The engine would make
/// decisions again that it lacks.
fn ensure_journal_is_whole(engine: &Engine, store: &Store, journal: Option<&PathBuf>) -> anyhow::Result<()> {
    let Some(journal) = journal else {
        bail!(
            "the store belongs to a service: give its --journal DIR too, which has every entry that the service folded"
        );
    };
    let report = Journal::verify(journal).context("reading the journal")?;
    if let Some(finding) = report.findings.first() {
        bail!("the journal is not as it was written: {}: {}", finding.file.display(), finding.what);
    }
    if let Some(first) = report.first().filter(|first| *first > 0) {
        bail!("the journal begins with entry {first}: the entries before it cannot be folded again");
    }
    let (folded, journalled) = (live::checkpoint(store)?.journal, report.count());
    if folded != journalled {
        bail!(
            "the store holds {} of the journal, which has {journalled}: start the service and stop it first",
            plural(folded, "entry")
        );
    }
    let decisions = engine.streams().iter().find(|(_, stream)| stream.kind == StreamKind::Decision);
    let read = decisions.and_then(|(stream, _)| engine.cursor(stream));
    let is_read = |row: &OutboxRow| row.written.is_some_and(|written| read.is_some_and(|read| written <= read));
    if let Some(row) = live::outbox(store)?.iter().find(|row| !is_read(row)) {
        bail!(
            "decision {} has not come back to the service yet: start the service, let it read, and stop it first",
            row.seq
        );
    }
    Ok(())
}

/// Counts the entries of each gap that the history contains.
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

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    gaps: Vec<GapDocument<'a>>,
    dry_run: bool,
    /// `None` if the store was not folded again.
    replay: Option<&'a Summary>,
}

#[derive(Serialize)]
struct GapDocument<'a> {
    stream: &'a str,
    after: String,
    before: String,
    entries: u64,
}

impl<'a> GapDocument<'a> {
    fn of(Filling { gap, entries }: &'a Filling) -> Self {
        let (after, before) = (bound(gap.after), bound(gap.before));
        Self { stream: &gap.stream, after, before, entries: *entries }
    }
}

/// Returns the end of a gap, `-` if it has none.
fn bound(id: Option<EntryId>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

fn show(
    found: &[Filling],
    replay: Option<&Summary>,
    dry_run: bool,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if json {
        let gaps = found.iter().map(GapDocument::of).collect();
        return json::write(out, &Document { gaps, dry_run, replay });
    }
    for Filling { gap, entries } in found {
        let range = format!("{} after {} before {}", gap.stream, bound(gap.after), bound(gap.before));
        match entries {
            0 => writeln!(out, "[BACKFILL] gap of {range}: not in what was given")?,
            n => writeln!(out, "[BACKFILL] gap of {range}: {} found", plural(*n, "entry"))?,
        }
    }
    if found.is_empty() {
        writeln!(out, "[BACKFILL] the store knows of no gap")?;
    }
    if let Some(Summary { entries, positions_open, .. }) = replay {
        writeln!(
            out,
            "[BACKFILL] store folded anew: {}, {}; the former one was moved aside",
            plural(*entries, "entry"),
            plural(*positions_open, "position")
        )?;
        writeln!(
            out,
            "[BACKFILL] keep what was given: the journal alone has the gap, and so has a store that is folded from it"
        )?;
    }
    Ok(())
}
