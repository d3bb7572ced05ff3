//! Prints the measurements for people.

use std::path::Path;
use std::time::Duration;

use super::stages::{POLICIES, Pass};

/// Largest time of a replay with a store, as a multiple of raw reading. [1]
const RATIO_MAX: f64 = 4.0;
/// Smallest speed of an audit, as a part of that of a replay. [1]
const AUDIT_SPEED_MIN: f64 = 0.8;
/// Largest time of eight policies, as a multiple of one replay. [1]
const WHATIF_RATIO_MAX: f64 = 2.0;
/// Largest memory of a replay, for any length of the history. [kB]
const MEMORY_MAX_KB: u64 = 100_000;
/// Largest memory of a longer replay, as a multiple, that counts as constant. [1]
const GROWTH_MAX: f64 = 1.1;

type Stage = (&'static str, fn(&Pass) -> Duration);

const STAGES: [Stage; 9] = [
    ("raw reading: decompress, split lines", |pass| pass.raw),
    ("first pass: order and counts", |pass| pass.scan),
    ("second pass: lines in order", |pass| pass.read),
    ("decode, one thread", |pass| pass.decode),
    ("fold + decide, one thread", |pass| pass.fold),
    ("replay without a store", |pass| pass.replay),
    ("replay with a store", |pass| pass.replay_with_store),
    ("audit", |pass| pass.audit),
    ("what-if, eight policies", |pass| pass.whatif),
];

pub fn input(source: &Path, entries: u64, compressed_bytes: u64) {
    let shown = source.file_name().unwrap_or_default().to_string_lossy();
    let (millions, mb) = (entries as f64 / 1e6, compressed_bytes as f64 / 1e6);
    println!("{shown}, repeated to {millions:.1} M entries, {mb:.1} MB as .jsonl.zst; {} cores", cores());
}

/// Prints a line for each stage: times, rates, and times as multiples of raw reading in the same pass.
pub fn rates(passes: &[Pass], entries: u64) {
    println!("{} passes after a warm-up: min / median\n", passes.len());
    println!("{:38} {:>15} {:>17} {:>13}", "", "s", "M entries/s", "× raw");
    for (name, of) in STAGES {
        let took = Spread::of(passes.iter().map(|pass| of(pass).as_secs_f64()));
        let ratio = Spread::of(passes.iter().map(|pass| ratio(pass, of)));
        let rate = |seconds: f64| entries as f64 / 1e6 / seconds;
        println!(
            "{name:38} {:>7.3} /{:>6.3} {:>8.2} /{:>7.2} {:>6.2} /{:>5.2}",
            took.min,
            took.median,
            rate(took.min),
            rate(took.median),
            ratio.min,
            ratio.median
        );
    }
    println!("\n{} decisions", passes.first().map_or(0, |pass| pass.decisions));
}

/// Prints the times of an audit and of a what-if as multiples of a replay in the same pass: a replay without a store,
/// which is the faster one, and one with a store.
pub fn asked_afterwards(passes: &[Pass]) {
    let of = |of: fn(&Pass) -> Duration, replay: fn(&Pass) -> Duration| {
        Spread::of(passes.iter().map(|pass| of(pass).as_secs_f64() / replay(pass).as_secs_f64())).median
    };
    let of_both = |it| (of(it, |pass| pass.replay), of(it, |pass| pass.replay_with_store));
    let (audit, audit_with) = of_both(|pass| pass.audit);
    println!(
        "audit at {AUDIT_SPEED_MIN} of the speed of replay at least: {} ({:.2}; of one with a store {:.2})",
        yes(1.0 / audit >= AUDIT_SPEED_MIN),
        1.0 / audit,
        1.0 / audit_with
    );
    let (whatif, whatif_with) = of_both(|pass| pass.whatif);
    println!(
        "{POLICIES} policies in at most {WHATIF_RATIO_MAX:.0}× the time of one replay: {} ({whatif:.2}×; of one with a \
         store {whatif_with:.2}×)",
        yes(whatif <= WHATIF_RATIO_MAX)
    );
}

/// Prints the largest memory of several lengths, each longer than the one before, as (entries, kB).
///
/// A store first fills its cache: the memory must be constant from the second length on.
pub fn memory(of: &str, peaks: &[(u64, u64)]) {
    for (entries, kb) in peaks {
        println!("peak memory of {of} over {:.1} M entries: {:.1} MB", *entries as f64 / 1e6, *kb as f64 / 1e3);
    }
    let flat = peaks[1..].windows(2).all(|pair| pair[1].1 as f64 <= pair[0].1 as f64 * GROWTH_MAX);
    let most = peaks.iter().map(|(_, kb)| *kb).max().unwrap_or_default();
    println!("flat once the store's cache is full: {}; under 100 MB: {}", yes(flat), yes(most < MEMORY_MAX_KB));
}

/// Prints what limits a replay, from the same figures.
pub fn limit(passes: &[Pass], entries: u64) {
    let seconds = |of: fn(&Pass) -> Duration| Spread::of(passes.iter().map(|pass| of(pass).as_secs_f64())).median;
    let stages =
        [("reading", seconds(|p| p.read)), ("decoding", seconds(|p| p.decode)), ("folding", seconds(|p| p.fold))];
    let work: f64 = stages.iter().map(|(_, s)| s).sum();
    let longest = stages.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or_default();
    let shared = work / cores() as f64;
    let with_store = seconds(|p| p.replay_with_store);
    let ratio = Spread::of(passes.iter().map(|pass| ratio(pass, |p| p.replay_with_store))).median;
    let parts: Vec<String> = stages.iter().map(|(name, s)| format!("{name} {:.0} %", 100.0 * s / work)).collect();
    let why = if longest.1 >= shared {
        format!("{}, which is one thread: {:.2} s", longest.0, longest.1)
    } else {
        format!("the {work:.2} s of work that {} cores share ({})", cores(), parts.join(", "))
    };
    println!(
        "with a store at most {RATIO_MAX:.0}× raw: {} ({ratio:.2}×)\n\
         A replay of {:.1} M entries with a store takes {with_store:.2} s, in one pass. What limits it is {why}.\n\
         A history that is not plain (decisions, control entries, disorder) is read once more before: {:.2} s.",
        yes(ratio <= RATIO_MAX),
        entries as f64 / 1e6,
        seconds(|p| p.scan)
    );
}

fn ratio(pass: &Pass, of: impl Fn(&Pass) -> Duration) -> f64 {
    of(pass).as_secs_f64() / pass.raw.as_secs_f64()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "NO" }
}

struct Spread {
    min: f64,
    median: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Self { min: sorted[0], median: sorted[sorted.len() / 2] }
    }
}
