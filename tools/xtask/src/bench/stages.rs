//! One pass over the input, stage by stage and as a whole.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use harvester::cli::audit;
use harvester::cli::replay::{Request, replay};
use harvester::codec::policy;
use harvester::config::Config;
use harvester::domain::engine::Decisions;
use harvester::domain::event::Entry;
use harvester::domain::event::ids::{EntryId, StreamId};
use harvester::drive::projection::Projection;
use harvester::drive::stop::Stop;
use harvester::drive::whatif;
use harvester::shell::history::{History, Input, Options, raw_scan};

/// Number of entries that are decoded, then folded, at a time: enough that the clock costs nothing, few enough to
/// stay in memory.
const CHUNK_ENTRIES: usize = 8192;

/// Policies of a what-if. [1]
pub const POLICIES: usize = 8;

/// The measurements of one pass.
pub struct Pass {
    pub raw: Duration,
    /// One reading for order and counts.
    pub scan: Duration,
    /// A second reading, in canonical order.
    pub read: Duration,
    pub decode: Duration,
    pub fold: Duration,
    pub replay: Duration,
    pub replay_with_store: Duration,
    /// A replay whose decisions are compared with the emitted ones.
    pub audit: Duration,
    /// [`POLICIES`] policies over the same history.
    pub whatif: Duration,
    /// Decisions of the replay. [1]
    pub decisions: u64,
}

/// Measures everything once. `folder` is where a store may be made.
pub fn pass(file: &Path, entries: u64, config: &Config, folder: &Path) -> anyhow::Result<Pass> {
    let input = [Input::Path(file.to_owned())];
    let began = Instant::now();
    let (_, lines) = raw_scan(&input)?;
    let raw = began.elapsed();
    ensure!(lines == entries, "{lines} lines were read, {entries} were written");

    let began = Instant::now();
    let mut history = History::open(&input, &config.streams, Options::default())?;
    let scan = began.elapsed();
    while history.next_line()?.is_some() {}
    let read = began.elapsed() - scan;

    let (decode, fold) = decode_and_fold(&input, config)?;

    let (replay, decisions) = whole(file, entries, config, None)?;
    let store = folder.join("store");
    let (replay_with_store, with_store) = whole(file, entries, config, Some(store.clone()))?;
    ensure!(decisions == with_store, "{decisions} decisions without a store, {with_store} with one");
    std::fs::remove_dir_all(store)?;
    let audit = audited(file, config, folder)?;
    let whatif = compared(file, config)?;
    Ok(Pass { raw, scan, read, decode, fold, replay, replay_with_store, audit, whatif, decisions })
}

/// Audits the decisions that a replay has just made. The audit must have no findings.
fn audited(file: &Path, config: &Config, folder: &Path) -> anyhow::Result<Duration> {
    let request = Request { histories: vec![file.to_owned()], ..Request::default() };
    let mut lines = Vec::new();
    replay(&request, config, &mut lines)?;
    let decisions = folder.join("decisions.jsonl");
    std::fs::write(&decisions, lines.join("\n"))?;
    let args = audit::Args::of(file.to_owned(), decisions);
    let began = Instant::now();
    audit::run(&args, config, &mut std::io::sink())?;
    Ok(began.elapsed())
}

/// Compares several policies, each with another `min_r`.
fn compared(file: &Path, config: &Config) -> anyhow::Result<Duration> {
    let policies =
        (1..=POLICIES).map(|n| Ok((format!("min_r 0.{n}"), policy::from_json(&format!("{{\"min_r\":\"0.{n}\"}}"))?)));
    let policies = policies.collect::<anyhow::Result<Vec<_>>>()?;
    let began = Instant::now();
    whatif::fold_all(&[file.to_owned()], policies, false, config, &Stop::never())?;
    Ok(began.elapsed())
}

/// Measures decoding and folding on one thread, each by itself: entries wait in memory in between.
fn decode_and_fold(input: &[Input], config: &Config) -> anyhow::Result<(Duration, Duration)> {
    let mut history = History::open(input, &config.streams, Options::default())?;
    let mut projection = Projection::in_memory(config, Decisions::Recorded)?;
    let (mut decode, mut fold) = (Duration::ZERO, Duration::ZERO);
    let mut bytes: Vec<u8> = Vec::new();
    let mut lines: Vec<(Range<usize>, StreamId, EntryId)> = Vec::with_capacity(CHUNK_ENTRIES);
    let mut entries: Vec<Entry> = Vec::with_capacity(CHUNK_ENTRIES);
    loop {
        bytes.clear();
        lines.clear();
        while lines.len() < CHUNK_ENTRIES
            && let Some(line) = history.next_line()?
        {
            let start = bytes.len();
            bytes.extend_from_slice(line.bytes);
            lines.push((start..bytes.len(), line.stream, line.id));
        }
        if lines.is_empty() {
            return Ok((decode, fold));
        }

        let began = Instant::now();
        entries.clear();
        for (place, stream, id) in &lines {
            entries.push(projection.decode_line(*stream, *id, &bytes[place.clone()])?);
        }
        decode += began.elapsed();

        let began = Instant::now();
        for entry in &entries {
            projection.folding().step(entry, String::new)?;
        }
        fold += began.elapsed();
    }
}

/// Replays as the command does. Returns the number of decisions.
pub fn whole(file: &Path, entries: u64, config: &Config, store: Option<PathBuf>) -> anyhow::Result<(Duration, u64)> {
    let request = Request { histories: vec![file.to_owned()], store, ..Request::default() };
    let began = Instant::now();
    let replayed = replay(&request, config, &mut ())?;
    let took = began.elapsed();
    let counters = &replayed.engine.counters;
    ensure!(counters.entries() == entries, "{} entries were counted, {entries} were written", counters.entries());
    ensure!(counters.duplicates == 0, "{} entries were duplicates", counters.duplicates);
    Ok((took, counters.decisions))
}
