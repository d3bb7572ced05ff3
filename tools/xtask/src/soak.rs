//! `soak`: the checks that take too long for `ci`.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::command::{self, answers, program, target};
use crate::setup;
use crate::simulate::{self, Build};
use crate::test::all;

/// Cases of each property. [1]
const PROPTEST_CASES: &str = "20000";
/// Number of kills of a process: a store, a replay, a service in each mode. [1]
const KILLS: &str = "250";
/// Number of power cuts: of a store, and of the journal and store of a service. [1]
const POWER_CUTS: &str = "200";
/// Number of bytes that are flipped in a journal, in decisions, in a snapshot, each. [1]
const FLIPS: &str = "1000";
/// Number of mutations of the corpus for each minute of fuzzing, if libFuzzer is not available. [1]
const MUTATIONS_PER_MINUTE: u64 = 250_000;
/// Default number of runs of the simulator. [1]
const SEEDS: u64 = 100_000;
/// Default time of fuzzing. [min]
const MINUTES: u64 = 5;
/// Number of attacks of an adversary, composed at random. [1]
const ATTACKS: &str = "200";
/// Optimized, but with the checks of a build for tests.
const PROFILE: [&str; 2] = ["--profile", "soak"];

/// The arguments.
#[derive(Clone, Debug)]
struct Arguments {
    /// Time of fuzzing. [min]
    minutes: u64,
    /// Number of runs of the simulator. [1]
    seeds: u64,
    /// Only the part of this name.
    only: Option<String>,
}

/// Runs all parts, even after a failure. Ends with the outcome of each.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = arguments(args)?;
    let minutes = arguments.minutes;
    setup::for_tests()?;
    let mut parts = vec![
        ("properties and kills", properties_and_kills()),
        ("power cuts, store", power_cuts(&["store", "--", "--ignored", "power"])),
        ("power cuts, service", power_cuts(&["service", "--", "a_power_cut"])),
        ("another rounding", another_rounding()),
        ("simulator", simulate::many(Build::Soak, 0, arguments.seeds)),
        ("deliberate faults", simulate::faults(Build::Soak)),
    ];
    if has_libfuzzer() {
        parts.push(("fuzzing", libfuzzer("decoder", minutes)?));
        parts.push(("fuzzing of control entries", libfuzzer("control", minutes)?));
        parts.push(("fuzzing of replies", libfuzzer("frames", minutes)?));
    } else {
        parts.push(("mutations", mutations(minutes)));
    }
    if let Some(only) = &arguments.only {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        if !names.contains(&only.as_str()) {
            bail!("--only {only}: the parts are {}", names.join("; "));
        }
        parts.retain(|(name, _)| name == only);
    }
    let mut report = Vec::new();
    let mut failed = Vec::new();
    for (name, mut command) in parts {
        let began = Instant::now();
        let mut came = Vec::new();
        let done = command::run_and_read(&mut command, |line| {
            if is_outcome(line) {
                came.push(line.trim().to_owned());
            }
        });
        let word = if done.is_ok() { "passed" } else { "FAILED" };
        report.push(format!("{name}: {word} in {} s", began.elapsed().as_secs()));
        report.extend(came.into_iter().map(|line| format!("    {line}")));
        if let Err(error) = done {
            failed.push(format!("{error:#}"));
        }
    }
    println!("\nsoak:\n{}", report.join("\n"));
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

fn arguments(args: &[String]) -> anyhow::Result<Arguments> {
    const TAKES: &str = "soak takes --minutes N, --seeds K and --only PART";
    let mut arguments = Arguments { minutes: MINUTES, seeds: SEEDS, only: None };
    for pair in args.chunks(2) {
        let [name, value] = pair else { bail!("{TAKES}, got {args:?}") };
        let number = || value.parse().with_context(|| format!("{name} {value}: want a whole number"));
        match name.as_str() {
            "--minutes" => arguments.minutes = number()?,
            "--seeds" => arguments.seeds = number()?,
            "--only" => arguments.only = Some(value.clone()),
            _ => bail!("{TAKES}, got {name}"),
        }
    }
    Ok(arguments)
}

/// Returns true for lines to repeat at the end: counts, and outcomes of test programs that ran any test.
fn is_outcome(line: &str) -> bool {
    let is_result = line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed;");
    let is_found = line.contains(" flipped bytes found") || line.contains("another rounding: ");
    is_result
        || is_found
        || line.starts_with("attacks: ")
        || line.starts_with("simulated seeds: ")
        || line.starts_with("| ")
        || line.contains(" cuts: ")
        || line.contains(" kills: ")
        || line.contains(" mutations: ")
}

fn tests(args: &[&str]) -> Command {
    let mut command = all();
    command.args(PROFILE).args(args);
    command
}

fn properties_and_kills() -> Command {
    let mut command = tests(&[]);
    command.env("PROPTEST_CASES", PROPTEST_CASES).env("HARVESTER_KILLS", KILLS).env("HARVESTER_FLIPS", FLIPS);
    command.env("HARVESTER_ATTACKS", ATTACKS);
    command
}

fn power_cuts(which: &[&str]) -> Command {
    let mut command = tests(&[&["--test"], which, &["--nocapture"]].concat());
    command.env("HARVESTER_POWER_CUTS", POWER_CUTS);
    command
}

/// Builds the program with other rules, and audits its decisions with this one.
fn another_rounding() -> Command {
    tests(&["--test", "service", "--", "--ignored", "another_rounding", "--nocapture"])
}

/// Runs the function of the libFuzzer target with our own mutations.
fn mutations(minutes: u64) -> Command {
    let mut command = tests(&["--test", "rules", "--", "fuzz_corpus::", "--nocapture"]);
    command.env("HARVESTER_MUTATIONS", (MUTATIONS_PER_MINUTE * minutes).to_string());
    command
}

fn has_libfuzzer() -> bool {
    answers(nightly().args(["cargo", "fuzz", "--version"]))
}

fn nightly() -> Command {
    let mut command = program("rustup");
    command.args(["run", "nightly"]);
    command
}

/// New inputs go into the target folder: the committed corpus grows by hand only.
fn libfuzzer(name: &str, minutes: u64) -> anyhow::Result<Command> {
    let found = target()?.join("fuzz-corpus").join(name);
    std::fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
    // The versions that the project is tested with.
    std::fs::copy(command::root().join("Cargo.lock"), command::root().join("tools/fuzz/Cargo.lock"))?;
    let mut command = nightly();
    command.args(["cargo", "fuzz", "run", "--fuzz-dir", "tools/fuzz", name]);
    command.arg(found).arg(format!("tools/fuzz/corpus/{name}"));
    command.args(["--", "-timeout=10", &format!("-max_total_time={}", minutes * 60)]);
    Ok(command)
}
