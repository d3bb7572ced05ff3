//! `soak`: what takes too long for `ci`.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::command::{self, answers, program, target};
use crate::setup;
use crate::simulate::{self, Build};
use crate::test::all;

/// Cases of each property. [1]
const PROPTEST_CASES: &str = "20000";
/// Times that a process is killed: a store, a replay, a service in each mode. [1]
const KILLS: &str = "250";
/// Times that the power goes: of a store, and of the journal and store of a service. [1]
const POWER_CUTS: &str = "200";
/// Bytes that are flipped in a journal, in decisions, in a snapshot, each. [1]
const FLIPS: &str = "1000";
/// Mutations of the corpus for each minute of fuzzing, where it is not libFuzzer that makes them. [1]
const MUTATIONS_PER_MINUTE: u64 = 250_000;
/// Runs of the simulator, if no number is given. [1]
const SEEDS: u64 = 100_000;
/// Time of fuzzing, if none is given. [min]
const MINUTES: u64 = 5;
/// Attacks of an adversary, put together at random. [1]
const ATTACKS: &str = "200";
/// Optimized, but with the checks of a build for tests.
const PROFILE: [&str; 2] = ["--profile", "soak"];

/// What is asked for.
#[derive(Clone, Debug)]
struct Asked {
    /// Time of fuzzing. [min]
    minutes: u64,
    /// Runs of the simulator. [1]
    seeds: u64,
    /// Only the part of this name.
    only: Option<String>,
}

/// Runs all parts, whatever fails on the way, and ends with what each came to.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let asked = asked(args)?;
    let minutes = asked.minutes;
    setup::for_tests()?;
    let mut parts = vec![
        ("properties and kills", properties_and_kills()),
        ("losses of power, store", losses_of_power(&["store", "--", "--ignored", "power"])),
        ("losses of power, service", losses_of_power(&["service", "--", "a_power_cut"])),
        ("another rounding", another_rounding()),
        ("simulator", simulate::many(Build::Soak, 0, asked.seeds)),
        ("deliberate faults", simulate::faults(Build::Soak)),
    ];
    if has_libfuzzer() {
        parts.push(("fuzzing", libfuzzer("decoder", minutes)?));
        parts.push(("fuzzing of control entries", libfuzzer("control", minutes)?));
        parts.push(("fuzzing of replies", libfuzzer("frames", minutes)?));
    } else {
        parts.push(("mutations", mutations(minutes)));
    }
    if let Some(only) = &asked.only {
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
            if tells_the_outcome(line) {
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

fn asked(args: &[String]) -> anyhow::Result<Asked> {
    const TAKES: &str = "soak takes --minutes N, --seeds K and --only PART";
    let mut asked = Asked { minutes: MINUTES, seeds: SEEDS, only: None };
    for pair in args.chunks(2) {
        let [name, value] = pair else { bail!("{TAKES}, got {args:?}") };
        let number = || value.parse().with_context(|| format!("{name} {value}: want a whole number"));
        match name.as_str() {
            "--minutes" => asked.minutes = number()?,
            "--seeds" => asked.seeds = number()?,
            "--only" => asked.only = Some(value.clone()),
            _ => bail!("{TAKES}, got {name}"),
        }
    }
    Ok(asked)
}

/// Lines that are worth repeating at the end: counts, and outcomes of test programs that ran any test.
fn tells_the_outcome(line: &str) -> bool {
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

fn losses_of_power(which: &[&str]) -> Command {
    let mut command = tests(&[&["--test"], which, &["--nocapture"]].concat());
    command.env("HARVESTER_POWER_CUTS", POWER_CUTS);
    command
}

/// What a build of the program with other rules emits, audited by this one.
fn another_rounding() -> Command {
    tests(&["--test", "service", "--", "--ignored", "another_rounding", "--nocapture"])
}

/// The same function as under libFuzzer, with mutations of our own.
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
