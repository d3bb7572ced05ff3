//! `bench live`: the service on a Redis server of its own.
//!
//! In reading order: `place` (server, streams, service), `processes` (processor time and memory of processes),
//! `backlog` (entries/s, compared with `bare`: a client that only reads and acknowledges), `steps` (the steps of an
//! entry, each alone), `latency` (from a price to its decision, compared with an echo), `disk` (an `fdatasync`
//! alone), `start` (after a kill, and idle), `console` (pages, charts, and browsers that follow); `report` prints.
//! `--only` measures the latency, the start, the memory or the console alone.

mod backlog;
mod bare;
mod console;
mod disk;
mod latency;
mod place;
mod processes;
mod report;
mod start;
mod steps;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use harvester::config::Config;

use super::input::Recorded;
use super::report::memory;

/// Prices a second whose latency is measured, and the number of seconds.
const LOADS: [(u64, u64); 2] = [(1000, 20), (20_000, 10)];
/// Length of the backlogs whose memory is compared, as a multiple: after some four million entries the memory of a
/// service no longer grows.
const LONGER: [u64; 2] = [4, 12];

struct Arguments {
    entries: u64,
    passes: usize,
    history: Option<PathBuf>,
    only: Option<Only>,
}

/// A part of the measurements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Latency,
    Start,
    Memory,
    Console,
}

/// Measures and prints.
pub fn all(args: &[String]) -> anyhow::Result<()> {
    let args = Arguments::parse(args)?;
    let config = Config::from_parts(None, BTreeMap::new())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let is_asked = |part| args.only.is_none_or(|only| only == part);
    if is_asked(Only::Memory) {
        backlogs(&args, &config, &runtime)?;
    }
    if is_asked(Only::Latency) {
        latencies(&config, &runtime)?;
    }
    if is_asked(Only::Start) {
        let (starts, idle) = runtime.block_on(start::measure(&config))?;
        report::starts(&starts, &idle);
    }
    if is_asked(Only::Console) {
        console::report(&runtime.block_on(console::measure(&config))?);
    }
    Ok(())
}

fn backlogs(args: &Arguments, config: &Config, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let recorded = Recorded::read(args.history.clone())?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let file = folder.path().join("history.jsonl.zst");

    let mut peaks = Vec::new();
    if args.only.is_none() {
        recorded.write(&file, args.entries)?;
        peaks.push((args.entries, passes(args, config, runtime, &file, &recorded)?));
    }
    println!();
    for entries in LONGER.map(|times| times * args.entries) {
        recorded.write(&file, entries)?;
        let longer = runtime.block_on(backlog::with_list(&file, entries, config))?;
        report::longer(&longer, entries);
        peaks.push((entries, longer.run.peak_kb));
    }
    memory("run", &peaks);
    report::memory_limit(peaks.iter().map(|(_, kb)| *kb).max().unwrap_or_default());
    Ok(())
}

/// Measures the backlog the given number of times. Returns the largest memory of the service. [kB]
fn passes(
    args: &Arguments,
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    file: &Path,
    recorded: &Recorded,
) -> anyhow::Result<u64> {
    report::input(&recorded.source, args.entries, args.passes, config);
    let mut passes = Vec::new();
    for _ in 0..args.passes {
        let pass = runtime.block_on(backlog::pass(file, args.entries, config))?;
        report::pass(&pass, args.entries);
        passes.push(pass);
    }
    report::rates(&passes, args.entries);
    report::limits(&passes, args.entries);
    let (steps, of_entries) = steps::measure(file, config)?;
    report::steps(&steps, of_entries);
    Ok(passes.iter().map(|pass| pass.run.peak_kb).max().unwrap_or_default())
}

fn latencies(config: &Config, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    report::disk(&disk::syncs()?);
    for (rate, seconds) in LOADS {
        let load = latency::Load { rate, seconds };
        let echo = latency::of_echoes(load, config)?;
        let decisions = runtime.block_on(latency::of_decisions(load, config))?;
        report::latency(load, &echo, &decisions);
    }
    Ok(())
}

impl Arguments {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut parsed = Self { entries: 1_000_000, passes: 3, history: None, only: None };
        for pair in args.chunks(2) {
            let [name, value] = pair else { bail!("{} has no value", pair[0]) };
            let number = || {
                let number = value.parse::<u64>().ok().filter(|number| *number > 0);
                number.with_context(|| format!("{name} {value}: want a number above 0"))
            };
            match name.as_str() {
                "--entries" => parsed.entries = number()?,
                "--passes" => parsed.passes = number()? as usize,
                "--history" => parsed.history = Some(value.into()),
                "--only" if value == "latency" => parsed.only = Some(Only::Latency),
                "--only" if value == "start" => parsed.only = Some(Only::Start),
                "--only" if value == "memory" => parsed.only = Some(Only::Memory),
                "--only" if value == "console" => parsed.only = Some(Only::Console),
                _ => bail!(
                    "bench live has no {name} {value}: it takes --entries, --passes, --history, and --only latency, start, \
                     memory or console"
                ),
            }
        }
        Ok(parsed)
    }
}
