//! The sources of history and decisions: files, a journal, or the streams of a server.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::finding::Fault;
use crate::cli::moment;
use crate::codec::line::{self, Fields};
use crate::codec::plural::plural;
use crate::config::Config;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::pipeline::PassError;
use crate::service::server;
use crate::shell::exchange::wall_ms;
use crate::shell::history::{History, HistoryError, Input, Options};
use crate::shell::journal::Journal;
use crate::shell::redis::Server;

/// Entries requested from a server at a time. [1]
const PAGE_ENTRIES: usize = 1000;
/// A decision whose cause is at most this much older than the reading of the streams may still be in flight. [ms]
const IN_FLIGHT_MS: u64 = 30_000;

/// Flags that name the sources.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
    #[arg(value_name = "HISTORY")]
    pub histories: Vec<PathBuf>,
    /// The journal of a service instead of a history
    #[arg(long, value_name = "DIR", conflicts_with = "histories")]
    pub journal: Option<PathBuf>,
    /// The decisions that were emitted, as a history file; else those in the history
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,
    /// Read the decisions, and without a history all streams, from the server (default: that of the configuration)
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub redis: Option<String>,
}

impl SourceArgs {
    /// Returns the sources as a title.
    pub fn named(&self) -> String {
        let paths = self.histories.iter().chain(&self.journal).chain(&self.decisions);
        let mut names: Vec<String> = paths.map(|path| path.display().to_string()).collect();
        names.extend(self.redis.as_ref().map(|_| "Redis".to_owned()));
        names.join(" ")
    }
}

/// The sources of an audit.
pub struct Sources {
    pub histories: Vec<PathBuf>,
    /// Files with the emitted decisions.
    pub decisions: Vec<PathBuf>,
    /// Those that are separate from the history: the file or the stream.
    pub emitted: Vec<PathBuf>,
    /// The file of decisions that is named apart from what a service has read.
    apart: Option<PathBuf>,
    /// Faults of the journal.
    pub faults: Vec<Fault>,
    /// The facts that the sources cannot show, in sentences.
    pub unseen: Vec<String>,
    /// Positions that were opened earlier may depend on entries that the server no longer has. [ms since 1970]
    pub lacks_before_ms: Option<u64>,
    /// Decisions caused from this time on may still be in flight. [ms since 1970]
    pub in_flight_from_ms: Option<u64>,
    _dumped: Option<tempfile::TempDir>,
}

impl Sources {
    /// Finds all sources; streams of a server are copied into a temporary folder, decisions last.
    pub fn gather(args: &SourceArgs, config: &Config, only_decisions: bool) -> anyhow::Result<Self> {
        let mut sources = Self {
            histories: args.histories.clone(),
            decisions: args.decisions.iter().cloned().collect(),
            emitted: Vec::new(),
            apart: args.decisions.clone().filter(|path| !args.histories.contains(path)),
            faults: Vec::new(),
            unseen: Vec::new(),
            lacks_before_ms: None,
            in_flight_from_ms: None,
            _dumped: None,
        };
        if let Some(journal) = &args.journal {
            sources.verify_journal(journal)?;
            sources.histories.push(journal.clone());
        }
        let url = args.redis.clone().map(|url| if url.is_empty() { sources.take_url().unwrap_or(url) } else { url });
        if let Some(url) = &url {
            if args.decisions.is_some() {
                bail!("--decisions and --redis both name the decisions: give one of them");
            }
            let config = &match url.as_str() {
                "" => config.clone(),
                url => config.with_flags([("redis.url", url.to_owned())])?,
            };
            sources.dump(config, only_decisions || !sources.histories.is_empty())?;
        }
        if sources.histories.is_empty() && sources.decisions.is_empty() {
            bail!("no source is given: want a history (files, folders), --journal DIR, --decisions FILE or --redis");
        }
        if sources.histories.is_empty() && !only_decisions {
            bail!("no history is given: without one only the chain can be verified (--chain-only)");
        }
        sources.emitted.clone_from(&sources.decisions);
        if sources.decisions.is_empty() {
            sources.decisions.clone_from(&sources.histories);
        } else if !only_decisions {
            // Decisions that the history contains, too, are the same entries, and count once.
            sources.histories.extend(sources.decisions.iter().cloned());
            sources.decisions.clone_from(&sources.histories);
        }
        Ok(sources)
    }

    /// Accepts that decisions of the last seconds are in flight: the service that makes them writes the journal
    /// meanwhile.
    pub fn is_written_now(&mut self) {
        self.in_flight_from_ms = Some(wall_ms().saturating_sub(IN_FLIGHT_MS));
    }

    /// Returns true if a file is that of decisions which are named apart. A journal, a stream and a history with its
    /// decisions are what a service has read.
    pub fn is_apart(&self, input: &Input) -> bool {
        self.apart.as_ref().is_some_and(|apart| matches!(input, Input::Path(path) if path.starts_with(apart)))
    }

    /// Returns the time of the last entry. [ms since 1970]
    pub fn end_ms(&self, config: &Config) -> anyhow::Result<u64> {
        let inputs: Vec<Input> = self.histories.iter().cloned().map(Input::from).collect();
        // Bad lines are faults of the audit, which are found later.
        moment::end_of(&inputs, config, Options { skip_bad_lines: true, ..Options::default() })
    }

    /// Removes the address of `--redis` from the histories: without a `=` it was parsed as one of them.
    fn take_url(&mut self) -> Option<String> {
        let is_url = |path: &PathBuf| {
            path.to_str().is_some_and(|text| ["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme)))
        };
        let at = self.histories.iter().position(is_url)?;
        self.histories.remove(at).into_os_string().into_string().ok()
    }

    fn verify_journal(&mut self, dir: &Path) -> anyhow::Result<()> {
        if !dir.is_dir() {
            bail!("{} is not the folder of a journal", dir.display());
        }
        let fault = |why: String| Fault::of("journal", why);
        let report = match Journal::verify(dir) {
            Ok(report) => report,
            Err(error) => {
                self.faults.push(fault(error.to_string()));
                return Ok(());
            }
        };
        let found = report.findings.iter().map(|f| fault(format!("{}: {}", f.file.display(), f.what)));
        self.faults.extend(found);
        if report.first().is_some_and(|first| first > 0) {
            let first = report.first().unwrap_or(0);
            self.unseen.push(format!("the journal begins at position {first}: what was before was given up"));
        }
        Ok(())
    }

    fn dump(&mut self, config: &Config, only_decisions: bool) -> anyhow::Result<()> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let dumped = runtime.block_on(dump_streams(config, only_decisions, folder.path()))?;
        self.histories.extend(dumped.histories);
        self.decisions.extend(dumped.decisions);
        self.in_flight_from_ms = Some(dumped.now_ms.saturating_sub(IN_FLIGHT_MS));
        self.unseen.extend(dumped.others);
        for Trimmed { stream, kind, gone, first } in dumped.trimmed {
            let before = first.map_or_else(String::new, |first| format!(" before {first}"));
            self.unseen.push(format!("the server no longer holds {} of {stream}{before}", plural(gone, "entry")));
            // No position depends on an old price.
            if kind != StreamKind::Price {
                self.lacks_before_ms = self.lacks_before_ms.max(Some(first.map_or(u64::MAX, |first| first.ms)));
            }
        }
        self._dumped = Some(folder);
        Ok(())
    }
}

/// Streams of a server as files.
#[derive(Default)]
struct Dumped {
    histories: Vec<PathBuf>,
    decisions: Vec<PathBuf>,
    trimmed: Vec<Trimmed>,
    /// Keys that hold something else than a stream, in sentences.
    others: Vec<String>,
    /// The server's time before the streams were read. [ms since 1970]
    now_ms: u64,
}

/// A stream from which the server has removed entries.
struct Trimmed {
    stream: String,
    kind: StreamKind,
    /// [1]
    gone: u64,
    first: Option<EntryId>,
}

/// Copies streams into files.
async fn dump_streams(config: &Config, only_decisions: bool, folder: &Path) -> anyhow::Result<Dumped> {
    let mut server = Server::connect(&server::address(config)?).await?;
    let mut dumped = Dumped { now_ms: server.time_ms().await?, ..Dumped::default() };
    // Decisions come last in the order of streams. So the decisions on all entries that were read are included.
    for (index, (_, stream)) in config.streams.iter().enumerate() {
        let is_decision = stream.kind == StreamKind::Decision;
        if only_decisions && !is_decision {
            continue;
        }
        if let Some(kind) = server.other_kind(&stream.name).await? {
            dumped.others.push(format!("the key {} is a {kind}, no stream: nothing of it can be read", stream.name));
            continue;
        }
        let info = if is_decision { None } else { server.stream_info(&stream.name).await? };
        if let Some(info) = info
            && let Some(gone) = info.gone().filter(|gone| *gone > 0)
        {
            dumped.trimmed.push(Trimmed { stream: stream.name.clone(), kind: stream.kind, gone, first: info.first });
        }
        let path = folder.join(format!("{index}.jsonl"));
        let file = std::fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        let mut after = None;
        loop {
            let page = server.range_after(&stream.name, after, PAGE_ENTRIES).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            for entry in page.iter().filter(|entry| is_decision || entry.id.ms <= dumped.now_ms) {
                let fields = Fields::from_bytes(entry.pairs());
                writeln!(file, "{}", line::write(&stream.name, &entry.id.to_string(), &fields))?;
            }
        }
        file.flush()?;
        if is_decision { &mut dumped.decisions } else { &mut dumped.histories }.push(path);
    }
    Ok(dumped)
}

/// Returns true if a history is so damaged that no line of a file can be read.
pub fn is_damaged(error: &anyhow::Error) -> bool {
    let error = match error.downcast_ref() {
        Some(PassError::History(error)) => Some(error),
        Some(_) | None => error.downcast_ref(),
    };
    matches!(error, Some(HistoryError::Damaged { .. } | HistoryError::JournalGap { .. }))
}

/// A history that was opened although it has faulty lines.
pub struct Opened {
    pub history: History,
    /// The faults of its lines.
    pub faults: Vec<Fault>,
}

/// Opens a history in one pass, with the separate decisions. Returns `None` if one pass cannot be enough.
pub fn open_at_once(sources: &Sources, config: &Config) -> Option<Opened> {
    let named = |paths: &[PathBuf]| paths.iter().cloned().map(Input::from).collect::<Vec<_>>();
    let unread = sources.histories.len().checked_sub(sources.emitted.len())?;
    let (inputs, emitted) = (named(&sources.histories[..unread]), named(&sources.emitted));
    // Faults of a file are reported in the second attempt, which reads it in two passes.
    let history = History::in_one_pass(&inputs, &emitted, &config.streams, Options::default()).ok()??;
    Some(Opened { history, faults: Vec::new() })
}

/// Opens a history. Bad lines and damaged ends are faults, not errors.
pub fn open(paths: &[PathBuf], config: &Config, until: Option<EntryId>) -> anyhow::Result<Opened> {
    let inputs: Vec<Input> = paths.iter().cloned().map(Input::from).collect();
    let strict = Options { until, ..Options::default() };
    let why = match History::open(&inputs, &config.streams, strict.clone()) {
        Ok(history) => return Ok(Opened { history, faults: Vec::new() }),
        Err(error @ (HistoryError::BadLine { .. } | HistoryError::Damaged { .. })) => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    if inputs.contains(&Input::Stdin) {
        bail!("{why} (standard input cannot be read a second time to skip it)");
    }
    let history = History::open(&inputs, &config.streams, Options { skip_bad_lines: true, ..strict })?;
    let others = history.bad_lines().saturating_sub(1);
    let why = if others == 0 { why } else { format!("{why}, and {others} more lines that are not entries") };
    Ok(Opened { history, faults: vec![Fault::of("history", why)] })
}
