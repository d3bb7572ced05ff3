//! `harvester replay`: computes positions and decisions from a recorded history.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;

use super::{json, moment};
use crate::codec::state::{self, Row};
use crate::codec::time;
use crate::codec::view::Summary;
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::ids::{EntryId, SortKey};
use crate::drive::commits::decision_line;
use crate::drive::pipeline::{PassError, single_pass_or_restart};
use crate::drive::projection::Projection;
use crate::drive::scope;
use crate::shell::history::{Extent, History, HistoryError, Input, Options};
use crate::shell::terminal::{Progress, Screen};

mod screen;
mod sink;
mod snapshots;

use sink::{DecisionFile, DecisionOutput};
use snapshots::Snapshots;

pub use screen::{decision_table, rounded};
pub use sink::DecisionSink;

/// The arguments of a replay.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub histories: Vec<PathBuf>,
    pub store: Option<PathBuf>,
    /// Folds the store again, next to the one in use, which is moved aside at the end.
    pub rebuild: bool,
    /// Rows that a rebuilt store gets in addition to the state: those that its service keeps.
    pub rows_beside: Vec<Row>,
    /// A snapshot is taken after every such number of entries, and at the end. [1]
    pub snapshot_every: Option<u64>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub derive: bool,
    pub skip_bad_lines: bool,
}

/// The result of a replay.
pub struct Replayed {
    pub engine: Engine,
    pub summary: Summary,
    pub notices: Vec<String>,
}

/// Replays a history.
pub fn replay(request: &Request, config: &Config, decisions: &mut dyn DecisionSink) -> anyhow::Result<Replayed> {
    let began = Instant::now();
    let inputs: Vec<Input> = request.histories.iter().cloned().map(Input::from).collect();
    let config = &*scope::over(config, &inputs)?;
    let span = Span::of(request, &inputs, config)?;
    let options = Options { skip_bad_lines: request.skip_bad_lines, until: span.until, ..Options::default() };
    let may_start_over = decisions.may_start_over() && !request.rebuild && request.snapshot_every.is_none();
    let at_once =
        if may_start_over { History::in_one_pass(&inputs, &[], &config.streams, options.clone())? } else { None };
    let again = || Ok(History::open(&inputs, &config.streams, options)?);
    let mut notices = Vec::new();
    let read = |history: History| {
        if !history.is_in_one_pass() {
            decisions.start_over()?;
        }
        attempt(request, span, config, history, decisions, &mut notices)
    };
    let is_not_plain = |error: &anyhow::Error| error.downcast_ref().is_some_and(PassError::is_not_plain);
    let mut replayed = single_pass_or_restart(at_once, again, read, is_not_plain)?;
    // A restart may repeat notices.
    notices.dedup();
    replayed.notices.splice(0..0, notices);
    replayed.summary.seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(replayed)
}

/// The entry from which on a replay reports, and the one at which it ends.
#[derive(Clone, Copy, Debug)]
struct Span {
    since: Option<EntryId>,
    until: Option<EntryId>,
}

impl Span {
    fn of(request: &Request, inputs: &[Input], config: &Config) -> anyhow::Result<Self> {
        let options = || Options { skip_bad_lines: request.skip_bad_lines, ..Options::default() };
        let end_ms = || moment::end_of(inputs, config, options());
        let since = request.since.as_deref().map(|text| moment::since("--since", text, end_ms)).transpose()?;
        let until = request.until.as_deref().map(|text| moment::until("--until", text, end_ms)).transpose()?;
        Ok(Self { since, until })
    }
}

/// Opens the projection into which a history is folded. The state of its store may need the look-ahead of later
/// entries. A history that is read in one pass may lack it; then this fails with the error that
/// [`single_pass_or_restart`] expects.
fn opened(
    request: &Request,
    config: &Config,
    history: &History,
    notices: &mut Vec<String>,
) -> anyhow::Result<Projection> {
    let decisions = if request.derive { Decisions::Derived } else { Decisions::Recorded };
    let Some(dir) = &request.store else { return Ok(Projection::in_memory(config, decisions)?) };
    if request.rebuild {
        return Ok(Projection::rebuild(dir, config, decisions)?);
    }
    let mut projection = Projection::open(dir, config, decisions, notices)?;
    if history.is_in_one_pass() {
        if !projection.is_new() || projection.is_rebuild() {
            bail!(PassError::History(HistoryError::NotPlain { file: dir.display().to_string() }));
        }
        projection.stage(state::provisional_row(Some(history.first().map_or(EntryId::default(), id_of))));
        return Ok(projection);
    }
    if let Some(from) = projection.provisional_from()? {
        let last = projection.engine.globals().last;
        let tells = history.decision_lines().chain(history.control_lines()).any(|line| line.id > last);
        // A continuation of the history, which begins later, cannot be folded in its place.
        if tells && history.first().is_some_and(|first| id_of(first) <= from) {
            notices.push(format!(
                "the store {} is of a replay that was cut off, and the history goes on with decisions or control \
                 entries: rebuilding from the history given",
                dir.display()
            ));
            drop(projection);
            return Ok(Projection::rebuild(dir, config, decisions)?);
        }
        projection.stage(state::provisional_row(None));
    }
    Ok(projection)
}

fn id_of(key: SortKey) -> EntryId {
    EntryId::new(key.ms, key.seq)
}

/// Folds a history from its beginning to its end. Discards everything if a single pass was not enough.
fn attempt(
    request: &Request,
    span: Span,
    config: &Config,
    mut history: History,
    decisions: &mut dyn DecisionSink,
    notices: &mut Vec<String>,
) -> anyhow::Result<Replayed> {
    let mut projection = opened(request, config, &history, notices)?;
    let bad_fields = match fold(request, span, config, &mut history, &mut projection, decisions) {
        // A history that cannot be read leaves no store, in one pass as in two.
        Err(error) if history.is_in_one_pass() && matches!(error.downcast_ref(), Some(PassError::History(_))) => {
            projection.discard()?;
            return Err(error);
        }
        folded => folded?,
    };
    if history.is_in_one_pass() {
        projection.stage(state::provisional_row(None));
    }
    request.rows_beside.iter().cloned().for_each(|row| projection.stage(row));
    let (engine, aside) = projection.finish()?;
    let mut notices: Vec<String> =
        aside.map(|aside| format!("the former store was moved to {}", aside.display())).into_iter().collect();
    notices.extend(history.notices());
    let mut summary = Summary::of(&engine, &engine.counters);
    summary.bad_lines = history.bad_lines() + bad_fields;
    summary.other_streams = history.other_streams();
    Ok(Replayed { engine, summary, notices })
}

/// Folds all entries. Returns the number of lines with unreadable fields.
fn fold(
    request: &Request,
    Span { since, until }: Span,
    config: &Config,
    history: &mut History,
    projection: &mut Projection,
    decisions: &mut dyn DecisionSink,
) -> anyhow::Result<u64> {
    projection.look_ahead(history, until);
    let progress = progress_of(history);
    let mut snapshots = Snapshots::of(request.store.as_deref(), request.snapshot_every, history, config);
    let mut seen: u64 = 0;
    let mut reported = since.is_none();
    let bad_fields = projection.pipeline(history, request.skip_bad_lines, |folding, batch| {
        for ((entry, place), at) in batch.entries.iter().zip(&batch.places) {
            if !reported && since.is_some_and(|since| entry.id >= since) {
                folding.engine.reset_counters();
                reported = true;
            }
            let raw = || String::from_utf8_lossy(&batch.bytes[place.clone()]).into_owned();
            for sealed in folding.step(entry, raw)? {
                if reported {
                    decisions.take(&decision_line(folding.engine, &sealed, entry))?;
                }
            }
            snapshots.after(*at, folding.engine)?;
        }
        seen += batch.entries.len() as u64;
        if let Some((entry, _)) = batch.entries.last() {
            progress.at(seen, || time::iso(entry.id.ms));
        }
        anyhow::Ok(())
    })?;
    progress.finish();
    if !reported {
        projection.engine.reset_counters();
    }
    snapshots.at_end(&projection.engine)?;
    Ok(bad_fields)
}

/// Returns a progress bar for the reading of a history.
pub(crate) fn progress_of(history: &History) -> Progress {
    match history.extent() {
        Extent::Entries(entries) => Progress::of_entries(*entries),
        Extent::Bytes { total, read } => Progress::of_bytes(*total, Arc::clone(read)),
    }
}

// ---- the command ----------------------------------------------------------------------------------------------------

/// Runs the command: decisions to a file, the summary to `out`.
pub fn run(
    request: &Request,
    config: &Config,
    decisions: Option<&Path>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if request.histories.is_empty() {
        bail!("no history is given: want files, folders, or - for standard input");
    }
    let to_stdout = decisions.is_some_and(|path| path.as_os_str() == "-");
    if to_stdout && json {
        bail!("--decisions - and --json both write to standard output: give --decisions a file");
    }
    let mut output = match decisions {
        Some(_) if to_stdout => DecisionOutput::Written(out),
        Some(path) => DecisionOutput::File(DecisionFile::beside(path, &request.histories)?),
        None if json => DecisionOutput::Dropped,
        None => DecisionOutput::Lines(Vec::new()),
    };
    let replayed = replay(request, config, &mut output)?;
    let lines = match output {
        DecisionOutput::Dropped | DecisionOutput::Written(_) => Vec::new(),
        DecisionOutput::File(file) => {
            file.finish()?;
            Vec::new()
        }
        DecisionOutput::Lines(lines) => lines,
    };
    for notice in &replayed.notices {
        tracing::warn!("{notice}");
    }
    if json {
        return json::write(out, &replayed.summary);
    }
    if to_stdout {
        return Ok(());
    }
    screen::show(&replayed, &lines, &mut Screen::stdout(out))
}
