//! The fuzz targets without a fuzzer: the committed corpus, and mutations of it that are the same in every run.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use crate::support::cases;
use crate::support::fuzz::{self, Folded, fold};
use crate::support::random::split_mix;

const SEED: u64 = 0x5eed_2026_0204;
const MUTATIONS: u64 = 4000;
/// Largest number of changes of an input. [1]
const CHANGES_MAX: u64 = 6;

#[test]
fn every_line_of_the_corpus_is_counted() {
    for (name, seed) in corpus() {
        let folded = fold(&seed);
        let lines = seed.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let counted = folded.applied + folded.duplicates + folded.quarantined + folded.refused;
        // The text after the last line end is an empty line.
        assert_eq!(counted, lines + 1, "{name}");
    }
}

/// The corpus reaches every shape and reason that the cases reach. For a new shape or reason, copy its entries into a
/// file of the corpus.
#[test]
fn corpus_holds_every_shape_and_reason_of_the_cases() {
    let reached = |folded: Folded| folded.seen;
    let in_corpus: BTreeSet<_> = corpus().into_iter().flat_map(|(_, seed)| reached(fold(&seed))).collect();
    let histories = cases().into_iter().map(|case| case.join("events.jsonl"));
    let in_cases: BTreeSet<_> =
        histories.flat_map(|path| reached(fold(&fs::read(path).expect("a case has a history")))).collect();
    assert!(in_cases.len() > 30, "only {in_cases:?}");
    let lacking: Vec<_> = in_cases.difference(&in_corpus).collect();
    assert!(lacking.is_empty(), "tools/fuzz/corpus/decoder lacks {lacking:?}");
}

#[test]
fn mutations_of_the_corpus_neither_panic_nor_lose_an_entry() {
    let mutations = std::env::var("HARVESTER_MUTATIONS").map_or(MUTATIONS, |n| n.parse().expect("a number"));
    let seeds: Vec<Vec<u8>> = corpus().into_iter().map(|(_, seed)| seed).collect();
    let words: Vec<&[u8]> = seeds.iter().flat_map(|seed| words(seed).into_iter().map(|at| &seed[at])).collect();
    let mut random = Random(SEED);
    let mut all = Folded::default();
    for n in 0..mutations {
        let mut input = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(CHANGES_MAX as usize) {
            change(&mut input, &seeds, &words, &mut random);
        }
        let folded = catch_unwind(|| fold(&input)).unwrap_or_else(|_| {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mutation-{n}"));
            fs::write(&kept, &input).expect("the input is kept");
            panic!(
                "mutation {n} fails; its input is {}: correct the code, and add the input to the corpus",
                kept.display()
            );
        });
        all.applied += folded.applied;
        all.duplicates += folded.duplicates;
        all.quarantined += folded.quarantined;
        all.refused += folded.refused;
        all.decisions += folded.decisions;
        all.seen.extend(folded.seen);
    }
    let Folded { applied, duplicates, quarantined, decisions, refused, seen } = all;
    println!(
        "{mutations} mutations: {applied} applied, {duplicates} duplicates, {quarantined} quarantined, \
         {decisions} decisions, {refused} lines refused, {} pairs of shape and reason",
        seen.len()
    );
    // Mutations that all end in the same refusal would test nothing.
    assert!(applied > mutations && quarantined > mutations / 4 && refused > mutations / 4);
    assert!(duplicates > 0 && decisions > 0 && seen.len() > 60, "{seen:?}");
}

/// The entries of an operator, or of somebody who writes as one: changed as above, and nested.
#[test]
fn mutations_of_control_entries_neither_panic_nor_end_the_process() {
    let mutations = std::env::var("HARVESTER_MUTATIONS").map_or(MUTATIONS, |n| n.parse().expect("a number"));
    // Each is folded under nine names.
    let mutations = mutations / 10;
    let seeds = seeds("tools/fuzz/corpus/control", 15);
    let words: Vec<&[u8]> = seeds.iter().flat_map(|(_, seed)| words(seed).into_iter().map(|at| &seed[at])).collect();
    let plain: Vec<Vec<u8>> = seeds.iter().map(|(_, seed)| seed.clone()).collect();
    let mut seen: BTreeSet<_> = plain.iter().flat_map(|seed| fuzz::control(seed)).collect();
    assert!(seen.contains(&("policy.adopted", "")) && seen.contains(&("policy.adopted", "bad_json")), "{seen:?}");
    let mut random = Random(SEED);
    for n in 0..mutations {
        let mut input = plain[random.below(plain.len())].clone();
        for _ in 0..=random.below(CHANGES_MAX as usize) {
            change(&mut input, &plain, &words, &mut random);
        }
        if random.below(4) == 0 {
            nest(&mut input, &mut random);
        }
        seen.extend(catch_unwind(|| fuzz::control(&input)).unwrap_or_else(|_| {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("control-{n}"));
            fs::write(&kept, &input).expect("the input is kept");
            panic!(
                "mutation {n} fails; its input is {}: correct the code, and add the input to the corpus",
                kept.display()
            );
        }));
    }
    println!("{mutations} mutations of control entries: {} pairs of shape and reason", seen.len());
    assert!(seen.len() > 15, "{seen:?}");
}

// ---- mutations --------------------------------------------------------------------------------------------------------

/// Texts that replace a number.
const NUMBERS: [&str; 28] = [
    "",
    "0",
    "-0",
    "-1",
    "1",
    "00012",
    "+1",
    ".5",
    "5.",
    "1e3",
    "1E+3",
    "1e15",
    "1e400",
    "1e-400",
    "0.0000000000000000000000000001",
    "999999999999999",
    "1000000000000000",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "79228162514264337593543950335",
    "79228162514264337593543950336",
    "0.9999999999999999999999999999999",
    "123456789012345678901234567890",
    "NaN",
    "-Infinity",
    "1_000",
    "0x10",
];

/// Texts that replace a word.
const WORDS: [&str; 16] = [
    "", " ", "None", "null", "true", "False", "BUY", "sell", "FLAT", "SHORT", "FILLED", "CLOSE", "[]", "{}", "\\u0000",
    "\\ud800",
];

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], words_of_all: &[&[u8]], random: &mut Random) {
    match random.below(10) {
        // Changes a byte.
        0 => {
            if let Some(at) = random.place(input.len()) {
                input[at] ^= 1 << random.below(8);
            }
        }
        // Cuts the end off.
        1 => input.truncate(random.below(input.len() + 1)),
        // Inserts a piece of another input, or replaces a piece by it.
        2 => {
            let other = &seeds[random.below(seeds.len())];
            let (piece, place) = (random.range(other.len(), 400), random.range(input.len(), 400));
            input.splice(place, other[piece].iter().copied());
        }
        // Repeats or moves a line.
        3 | 4 => {
            let lines: Vec<Range<usize>> = spans(input, |byte| byte != b'\n');
            if let (Some(from), Some(to)) = (random.place(lines.len()), random.place(lines.len())) {
                let mut line = input[lines[from].clone()].to_vec();
                line.push(b'\n');
                let at = lines[to].start;
                input.splice(at..at, line);
            }
        }
        // Replaces a number by an extreme one.
        5..=7 => {
            let numbers = spans(input, |byte| byte.is_ascii_digit() || byte == b'.');
            if let Some(n) = random.place(numbers.len()) {
                let number = NUMBERS[random.below(NUMBERS.len())];
                input.splice(numbers[n].clone(), number.bytes());
            }
        }
        // Replaces a word by another one: of any seed, name or value.
        _ => {
            let own = words(input);
            if let Some(n) = random.place(own.len()) {
                let word = match random.below(3) {
                    0 => WORDS[random.below(WORDS.len())].as_bytes(),
                    _ => words_of_all[random.below(words_of_all.len())],
                };
                input.splice(own[n].clone(), word.iter().copied());
            }
        }
    }
}

/// Puts any number of brackets around a piece.
fn nest(input: &mut Vec<u8>, random: &mut Random) {
    let depth = [1, 62, 63, 64, 65, 127, 128, 129, 20_000][random.below(9)];
    let (open, close) = [("[", "]"), ("{\"a\":", "}")][random.below(2)];
    let values = spans(input, |byte| byte.is_ascii_alphanumeric() || byte == b'"');
    let Some(n) = random.place(values.len()) else { return };
    let value = input[values[n].clone()].to_vec();
    let closed = if random.below(3) == 0 { 0 } else { depth };
    let nested = [open.repeat(depth).into_bytes(), value, close.repeat(closed).into_bytes()].concat();
    input.splice(values[n].clone(), nested);
}

/// Returns names and values: the texts between quotes, escaped or not.
fn words(input: &[u8]) -> Vec<Range<usize>> {
    spans(input, |byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
}

/// Returns the longest runs of bytes that belong together.
fn spans(input: &[u8], belongs: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = None;
    for (at, &byte) in input.iter().enumerate() {
        match (start, belongs(byte)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                spans.push(from..at);
                start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    spans.extend(start.map(|from| from..input.len()));
    spans
}

/// Chooses places in an input.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        split_mix(&mut self.0)
    }

    /// Returns a number from 0 to `end`, without `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn place(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.below(len))
    }

    fn range(&mut self, len: usize, longest: usize) -> Range<usize> {
        let start = self.below(len + 1);
        start..(start + self.below(longest)).min(len)
    }
}

// ---- the corpus -------------------------------------------------------------------------------------------------------

fn corpus() -> Vec<(String, Vec<u8>)> {
    seeds("tools/fuzz/corpus/decoder", 50)
}

/// Returns the seeds in a folder. Asserts that there are more than so many.
fn seeds(folder: &str, more_than: usize) -> Vec<(String, Vec<u8>)> {
    let seeds: Vec<_> = files(folder)
        .into_iter()
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a seed reads")))
        .collect();
    assert!(seeds.len() > more_than, "only {} seeds were found", seeds.len());
    seeds
}

/// Returns the files in a folder of the project, by name, without the texts beside the cases.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    paths.retain(|path| path.extension().is_none_or(|extension| extension != "md"));
    paths.sort();
    paths
}
