//! All passes, and the memory of a short and a long replay.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use harvester::config::Config;

use super::input::Recorded;
use super::stages::{self, Pass};
use super::{memory, report};

/// Length of the replays whose memory is compared, as a multiple: the cache of a store is full after some eight
/// million entries.
const LONGER: [u64; 3] = [1, 8, 24];

struct Arguments {
    entries: u64,
    passes: usize,
    history: Option<PathBuf>,
}

/// Measures and prints.
pub fn all(args: &[String]) -> anyhow::Result<()> {
    let args = Arguments::parse(args)?;
    let recorded = Recorded::read(args.history)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let config = Config::from_parts(None, BTreeMap::new())?;

    let file = folder.path().join("history.jsonl.zst");
    let compressed = recorded.write(&file, args.entries)?;
    report::input(&recorded.source, args.entries, compressed);

    stages::pass(&file, args.entries, &config, folder.path())?;
    let passes: Vec<Pass> = (0..args.passes)
        .map(|_| stages::pass(&file, args.entries, &config, folder.path()))
        .collect::<Result<_, _>>()?;
    report::rates(&passes, args.entries);
    report::asked_afterwards(&passes);

    let store = folder.path().join("store");
    let mut peaks = Vec::new();
    for entries in LONGER.map(|times| times * args.entries) {
        recorded.write(&file, entries)?;
        peaks.push((entries, memory::peak_kb(&file, entries, &store)?));
    }
    report::memory("a replay with a store", &peaks);
    report::limit(&passes, args.entries);
    Ok(())
}

impl Arguments {
    fn parse(args: &[String]) -> anyhow::Result<Self> {
        let mut parsed = Self { entries: 1_000_000, passes: 5, history: None };
        for pair in args.chunks(2) {
            let [name, value] = pair else { bail!("{} has no value", pair[0]) };
            let number = || {
                value
                    .parse::<u64>()
                    .ok()
                    .filter(|n| *n > 0)
                    .with_context(|| format!("{name} {value}: want a number above 0"))
            };
            match name.as_str() {
                "--entries" => parsed.entries = number()?,
                "--passes" => parsed.passes = number()? as usize,
                "--history" => parsed.history = Some(value.into()),
                _ => bail!("bench has no {name}: it takes --entries, --passes and --history"),
            }
        }
        Ok(parsed)
    }
}
