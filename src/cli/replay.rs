//! `harvester replay`: from a recorded history to positions and decisions.

use std::io::{Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use super::moment;
use crate::codec::state::{self, Row};
use crate::codec::{time, view};
use crate::config::Config;
use crate::domain::book::counters::Count;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::ids::{EntryId, SortKey};
use crate::domain::exit::policy::Policy;
use crate::drive::commits::decision_line;
use crate::drive::pipeline::single_pass_or_restart;
use crate::drive::projection::Projection;
use crate::drive::snapshots;
use crate::shell::history::{Extent, History, HistoryError, Input, Options};
use crate::shell::terminal::{Progress, Screen, Tone};

/// The arguments of a replay.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub histories: Vec<PathBuf>,
    pub store: Option<PathBuf>,
    /// Fold the store again beside the one in use, which is moved aside at the end.
    pub rebuild: bool,
    /// Rows that a rebuilt store gets beside the state: those that its service keeps.
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
    /// The summary (docs/spec/commands.md, "replay").
    pub summary: Map<String, Value>,
    pub notices: Vec<String>,
}

/// A decision sink: receives the decisions of a replay.
pub trait DecisionSink {
    /// Takes a decision that takes effect, as a history line.
    fn take(&mut self, line: &str) -> anyhow::Result<()>;

    /// Returns true if everything that was taken can be discarded.
    fn may_start_over(&self) -> bool;

    /// Discards everything that was taken: the replay starts over. After a decision it is called only if that is
    /// possible.
    fn start_over(&mut self) -> anyhow::Result<()>;
}

/// A sink that ignores the decisions.
impl DecisionSink for () {
    fn take(&mut self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn may_start_over(&self) -> bool {
        true
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl DecisionSink for Vec<String> {
    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        self.push(line.to_owned());
        Ok(())
    }

    fn may_start_over(&self) -> bool {
        true
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        self.clear();
        Ok(())
    }
}

/// Replays a history.
pub fn replay(request: &Request, config: &Config, decisions: &mut dyn DecisionSink) -> anyhow::Result<Replayed> {
    let began = Instant::now();
    let inputs: Vec<Input> = request.histories.iter().cloned().map(Input::from).collect();
    let span = Span::of(request, &inputs, config)?;
    let options = Options { skip_bad_lines: request.skip_bad_lines, until: span.until, ..Options::default() };
    let may_start_over = decisions.may_start_over() && !request.rebuild && request.snapshot_every.is_none();
    let at_once =
        if may_start_over { History::in_one_pass(&inputs, &[], &config.streams, options.clone())? } else { None };
    let again = || Ok(History::open(&inputs, &config.streams, options)?);
    let mut notices = Vec::new();
    let mut replayed = single_pass_or_restart(at_once, again, |history| {
        if !history.is_in_one_pass() {
            decisions.start_over()?;
        }
        attempt(request, span, config, history, decisions, &mut notices)
    })?;
    // A restart may repeat notices.
    notices.dedup();
    replayed.notices.splice(0..0, notices);
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    replayed.summary.insert("seconds".to_owned(), seconds.into());
    Ok(replayed)
}

/// The entries from which on a replay reports, and at which it ends.
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

/// Opens the projection that a history is folded into. The state of its store may need the look-ahead of later entries:
/// if a history that is read in one pass lacks it, this fails with the error that [`single_pass_or_restart`] expects.
fn opened(
    request: &Request,
    config: &Config,
    history: &History,
    notices: &mut Vec<String>,
) -> anyhow::Result<Projection> {
    let decisions = if request.derive { Decisions::Derived } else { Decisions::Recorded };
    let Some(dir) = &request.store else { return Projection::in_memory(config, decisions) };
    if request.rebuild {
        return Projection::rebuild(dir, config, decisions);
    }
    let mut projection = Projection::open(dir, config, decisions, notices)?;
    if history.is_in_one_pass() {
        if !projection.is_new() || projection.is_rebuild() {
            bail!(HistoryError::NotPlain { file: dir.display().to_string() });
        }
        projection.wait(state::provisional_row(Some(history.first().map_or(EntryId::default(), id_of))));
        return Ok(projection);
    }
    if let Some(from) = projection.provisional_from()? {
        let last = projection.engine.globals().last;
        let tells = history.decision_lines().chain(history.control_lines()).any(|line| line.id > last);
        // A continuation of the history, which begins later, cannot be folded instead of it.
        if tells && history.first().is_some_and(|first| id_of(first) <= from) {
            notices.push(format!(
                "the store {} is of a replay that was cut off, and the history goes on with decisions or control \
                 entries: rebuilding from the history given",
                dir.display()
            ));
            drop(projection);
            return Projection::rebuild(dir, config, decisions);
        }
        projection.wait(state::provisional_row(None));
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
        // As in two passes, a history that cannot be read leaves no store.
        Err(error) if history.is_in_one_pass() && error.is::<HistoryError>() => {
            projection.discard()?;
            return Err(error);
        }
        folded => folded?,
    };
    if history.is_in_one_pass() {
        projection.wait(state::provisional_row(None));
    }
    request.rows_beside.iter().cloned().for_each(|row| projection.wait(row));
    let (engine, aside) = projection.finish()?;
    let mut notices: Vec<String> =
        aside.map(|aside| format!("the former store was moved to {}", aside.display())).into_iter().collect();
    notices.extend(history.notices());
    let mut summary = view::summary(&engine, &engine.counters);
    summary.insert("bad_lines".to_owned(), (history.bad_lines() + bad_fields).into());
    summary.insert("other_streams".to_owned(), history.other_streams().into());
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
    let mut snapshots = Snapshots::of(request, history, config);
    let mut seen: u64 = 0;
    let mut reported = since.is_none();
    let bad_fields = projection.pipeline(history, request.skip_bad_lines, |folding, batch| {
        for ((entry, place), at) in batch.entries.iter().zip(&batch.places) {
            if !reported && since.is_some_and(|since| entry.id >= since) {
                folding.engine.reset_counters();
                reported = true;
            }
            let raw = || String::from_utf8_lossy(&batch.bytes[place.clone()]).into_owned();
            if let Some(sealed) = folding.step(entry, raw)?
                && reported
            {
                decisions.take(&decision_line(folding.engine, &sealed, entry))?;
            }
            snapshots.after(*at, folding.engine)?;
        }
        seen += batch.entries.len() as u64;
        if let Some((entry, _)) = batch.entries.last() {
            progress.at(seen, || time::iso(entry.id.ms));
        }
        Ok(())
    })?;
    progress.finish();
    if !reported {
        projection.engine.reset_counters();
    }
    snapshots.at_end(&projection.engine)?;
    Ok(bad_fields)
}

/// Snapshots that are taken during the replay.
struct Snapshots<'a> {
    dir: PathBuf,
    every: Option<u64>,
    configured: &'a Policy,
    /// By file, the position of its first line, if the history is one journal.
    journal: Vec<Option<u64>>,
    entries: u64,
    position: Option<u64>,
}

impl<'a> Snapshots<'a> {
    fn of(request: &Request, history: &History, config: &'a Config) -> Self {
        Self {
            dir: request.store.as_deref().map(snapshots::folder_of).unwrap_or_default(),
            every: request.snapshot_every.filter(|_| request.store.is_some()),
            configured: &config.policy,
            journal: history.journal_firsts(),
            entries: 0,
            position: None,
        }
    }

    fn after(&mut self, (file, number): (u32, u64), engine: &Engine) -> anyhow::Result<()> {
        let Some(every) = self.every else { return Ok(()) };
        self.entries += 1;
        if let Some(first) = self.journal[file as usize] {
            self.position = Some(first + number);
        }
        if self.entries.is_multiple_of(every) { self.take(engine) } else { Ok(()) }
    }

    fn at_end(&self, engine: &Engine) -> anyhow::Result<()> {
        match self.every {
            Some(every) if !self.entries.is_multiple_of(every) => self.take(engine),
            Some(_) | None => Ok(()),
        }
    }

    fn take(&self, engine: &Engine) -> anyhow::Result<()> {
        snapshots::take(&self.dir, engine, self.configured, self.position).map(|_| ())
    }
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
    let mut told = match decisions {
        Some(_) if to_stdout => Told::Written(out),
        Some(path) => Told::File(DecisionFile::beside(path, &request.histories)?),
        None if json => Told::Nobody,
        None => Told::Lines(Vec::new()),
    };
    let replayed = replay(request, config, &mut told)?;
    let lines = match told {
        Told::Nobody | Told::Written(_) => Vec::new(),
        Told::File(file) => {
            file.finish()?;
            Vec::new()
        }
        Told::Lines(lines) => lines,
    };
    for notice in &replayed.notices {
        tracing::warn!("{notice}");
    }
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&Value::Object(replayed.summary))?)?;
        return Ok(());
    }
    if to_stdout {
        return Ok(());
    }
    show(&replayed, &lines, &mut Screen::stdout(out))
}

/// The destination of the command's decisions.
enum Told<'a> {
    Nobody,
    /// To standard output, as they are made.
    Written(&'a mut dyn Write),
    File(DecisionFile),
    Lines(Vec<String>),
}

impl DecisionSink for Told<'_> {
    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        match self {
            Self::Nobody => Ok(()),
            Self::Written(out) => Ok(writeln!(out, "{line}")?),
            Self::File(file) => file.write(line),
            Self::Lines(lines) => lines.take(line),
        }
    }

    fn may_start_over(&self) -> bool {
        match self {
            Self::Written(_) => false,
            Self::File(file) => file.aside.is_some(),
            Self::Nobody | Self::Lines(_) => true,
        }
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Nobody | Self::Written(_) => Ok(()),
            Self::File(file) => file.start_over(),
            Self::Lines(lines) => lines.start_over(),
        }
    }
}

/// The file of decisions: written as a temporary file and renamed at the end, so that an existing file is kept until
/// its replacement is complete.
struct DecisionFile {
    path: PathBuf,
    writer: std::io::BufWriter<std::fs::File>,
    /// The temporary file; `None` for a device or pipe, which is written directly.
    aside: Option<tempfile::TempPath>,
}

impl DecisionFile {
    /// Creates the file. Errors if the path is one of the histories, which would be overwritten.
    fn beside(path: &Path, histories: &[PathBuf]) -> anyhow::Result<Self> {
        if let Ok(target) = path.canonicalize() {
            let is_read = |history: &PathBuf| history.canonicalize().is_ok_and(|history| target.starts_with(history));
            if histories.iter().any(is_read) {
                bail!("{} is part of the history that is replayed: write the decisions elsewhere", path.display());
            }
        }
        let failed = || format!("cannot write the decisions to {}", path.display());
        let (file, aside) = if path.exists() && !path.is_file() {
            (std::fs::File::options().write(true).open(path).with_context(failed)?, None)
        } else {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let made = tempfile::Builder::new().tempfile_in(folder).with_context(failed)?;
            let (file, aside) = made.into_parts();
            (file, Some(aside))
        };
        Ok(Self { path: path.to_owned(), writer: std::io::BufWriter::new(file), aside })
    }

    fn write(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.writer, "{line}")
            .with_context(|| format!("cannot write the decisions to {}", self.path.display()))
    }

    /// Empties the file, if that is possible.
    fn start_over(&mut self) -> anyhow::Result<()> {
        if self.aside.is_some() {
            self.writer.flush()?;
            self.writer.get_ref().set_len(0)?;
            self.writer.rewind()?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let failed = || format!("cannot write the decisions to {}", self.path.display());
        self.writer.flush().with_context(failed)?;
        if let Some(aside) = self.aside {
            aside.persist(&self.path).map_err(|error| error.error).with_context(failed)?;
        }
        Ok(())
    }
}

/// The most decisions that are shown to people.
const DECISIONS_SHOWN: usize = 20;

/// Formats how many decisions were made, apart from those in the history: recorded decisions are adopted, not made
/// again.
fn decided(summary: &Map<String, Value>) -> String {
    let made = summary.get("decisions").and_then(Value::as_u64).unwrap_or(0);
    let of = |key: &str| summary.get("own_decisions").and_then(|own| own.get(key)?.as_u64()).unwrap_or(0);
    let others = of("differ") + of("unexpected");
    let counts = summary.get("counts").and_then(|counts| counts.get(Count::DecisionWithoutCause.name()));
    let without_cause = counts.and_then(Value::as_u64).unwrap_or(0);
    let adopted = of("agree") + others + without_cause;
    if adopted + of("missing") == 0 {
        return format!("{made} decisions");
    }
    let mut says = format!("{adopted} recorded decision{} adopted", if adopted == 1 { "" } else { "s" });
    let mut of_them = Vec::new();
    if others > 0 {
        of_them.push(format!("{others} of them not as these rules decide"));
    }
    if without_cause > 0 {
        of_them.push(format!("{without_cause} of them with no cause in the history"));
    }
    if !of_them.is_empty() {
        says += &format!(" ({})", of_them.join(", "));
    }
    if of("missing") > 0 {
        says += &format!(", {} of ours not recorded and left out", of("missing"));
    }
    format!("{says}, {made} made anew")
}

fn show(replayed: &Replayed, decisions: &[String], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let summary = &replayed.summary;
    let number = |key: &str| summary.get(key).and_then(Value::as_u64).unwrap_or(0);
    let text = |key: &str| summary.get(key).and_then(Value::as_str).unwrap_or("none").to_owned();
    screen.heading(&format!("Replayed {} entries, {} to {}", number("entries"), text("first_id"), text("last_id")))?;
    screen.line(&format!(
        "  applied {}, duplicates {}, quarantined {}, bad lines {}, other streams {}, {} s",
        number("applied"),
        number("duplicates"),
        sum(summary.get("quarantined")),
        number("bad_lines"),
        number("other_streams"),
        summary.get("seconds").map(Value::to_string).unwrap_or_default(),
    ))?;
    if number("applied") + sum(summary.get("quarantined")) == 0 && number("duplicates") > 0 {
        screen.line("  nothing new: the store has all of these entries (to fold them anew, name a new --store)")?;
    }
    for (title, key) in
        [("quarantined", "quarantined"), ("holds", "holds"), ("missing", "missing"), ("counts", "counts")]
    {
        let counted = counted(summary.get(key));
        if !counted.is_empty() {
            screen.line(&format!("  {title:<12} {counted}"))?;
        }
    }
    let shapes = summary.get("shapes").and_then(Value::as_object);
    for (kind, shapes) in shapes.into_iter().flatten() {
        screen.line(&format!("  {kind:<12} {}", counted(Some(shapes))))?;
    }
    screen.line("")?;
    let unknown = if summary.get("positions_unknown") == Some(&Value::Bool(true)) {
        "positions unknown: no position was ever seen from anywhere (this is not the same as flat)".to_owned()
    } else {
        format!("{} positions open, {} evaluable", number("positions_open"), number("evaluable"))
    };
    screen.heading(&format!("{unknown}; {}", decided(summary)))?;
    for key in ["unconfirmed", "history_gap"] {
        let names: Vec<&str> =
            summary.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if !names.is_empty() {
            screen.line(&format!("  {key}: {}", names.join(" ")))?;
        }
    }
    if !decisions.is_empty() {
        screen.line("")?;
        let rows = decisions.iter().take(DECISIONS_SHOWN).map(|line| decision_cells(line)).collect();
        screen.table(
            &["TIME", "SYMBOL", "SIDE", "QTY", "SHARE", "RUNGS", "R_NET", "MARK", "PNL", "MODE"],
            &[3, 4, 6, 7, 8],
            rows,
        )?;
        if decisions.len() > DECISIONS_SHOWN {
            screen
                .line(&format!("… and {} more: --decisions FILE writes them all", decisions.len() - DECISIONS_SHOWN))?;
        }
    }
    Ok(())
}

fn sum(counts: Option<&Value>) -> u64 {
    counts.and_then(Value::as_object).into_iter().flat_map(Map::values).filter_map(Value::as_u64).sum()
}

fn counted(counts: Option<&Value>) -> String {
    let counts = counts.and_then(Value::as_object).into_iter().flatten();
    counts.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// Converts a decision line to cells of a table.
pub fn decision_cells(line: &str) -> Vec<(String, Tone)> {
    let entry: Value = serde_json::from_str(line).unwrap_or_default();
    let payload = entry["fields"]["payload"].as_str().unwrap_or_default();
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    let text = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
    let id = entry["id"].as_str().unwrap_or_default();
    let ms = id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0);
    let rungs: Vec<&str> = payload["rungs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let plain = |text: String| (text, Tone::Plain);
    vec![
        (time::iso(ms), Tone::Dim),
        plain(text("symbol")),
        plain(text("side")),
        plain(text("qty")),
        plain(text("close_fraction")),
        plain(rungs.join(",")),
        (text("r_net"), Tone::Good),
        plain(text("mark_price")),
        plain(rounded(&text("unrealized_pnl"))),
        plain(text("mode")),
    ]
}

/// Formats a decimal for people: at most four decimals.
pub fn rounded(text: &str) -> String {
    match text.parse::<rust_decimal::Decimal>() {
        Ok(value) => value.round_dp(4).normalize().to_string(),
        Err(_) => text.to_owned(),
    }
}
