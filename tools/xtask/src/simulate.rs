//! `simulate`: the real protocol over a model of everything outside, one seed after the other.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command;
use crate::test::all;

/// Seeds that are run if no number is given. [1]
const SEEDS_DEFAULT: u64 = 300;

const MANY: &str = "what_must_hold_holds_for_many_seeds";
const ONE: &str = "one_seed";
const FAULTS: &str = "every_deliberate_fault_is_found";

/// The build in which the simulator runs.
#[derive(Clone, Copy, Debug)]
pub enum Build {
    /// As all tests.
    Tests,
    /// Optimized, but with the checks of a build for tests.
    Soak,
}

/// What is asked for.
#[derive(Debug, Default)]
struct Asked {
    seed: Option<u64>,
    seeds: Option<u64>,
    is_traced: bool,
    has_faults: bool,
    fault: Option<String>,
}

/// Runs what is asked for: many seeds, one seed, or the deliberate faults.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let asked = asked(args)?;
    if asked.has_faults {
        return command::run(&mut faults(Build::Tests));
    }
    if let Some(fault) = &asked.fault {
        return command::run(faults(Build::Tests).env("HARVESTER_FAULT", fault));
    }
    match asked.seed {
        Some(seed) if asked.seeds.is_none() => one(seed, asked.is_traced),
        from => command::run(&mut many(Build::Tests, from.unwrap_or(0), asked.seeds.unwrap_or(SEEDS_DEFAULT))),
    }
}

fn asked(args: &[String]) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().with_context(|| format!("{arg} needs a whole number"))?;
            value.parse().with_context(|| format!("{arg} {value}: want a whole number"))
        };
        match arg.as_str() {
            "--seed" => asked.seed = Some(number()?),
            "--seeds" => asked.seeds = Some(number()?),
            "--trace" => asked.is_traced = true,
            "--faults" => asked.has_faults = true,
            "--fault" => asked.fault = Some(args.next().context("--fault needs a name, as the table has it")?.clone()),
            other => bail!("simulate takes --seed N, --seeds K, --trace, --faults and --fault NAME, got {other}"),
        }
    }
    Ok(asked)
}

/// What has to pass before a change lands: many seeds and the deliberate faults.
pub fn check() -> anyhow::Result<()> {
    let mut command = tests(Build::Tests, &[MANY, FAULTS]);
    command::run(command.env("HARVESTER_SEEDS", SEEDS_DEFAULT.to_string()))
}

fn tests(build: Build, names: &[&str]) -> Command {
    let mut command = all();
    if let Build::Soak = build {
        command.args(["--profile", "soak"]);
    }
    // One after the other: each of them uses all processors.
    command.args(["--locked", "--test", "simulation", "--"]).args(names);
    command.args(["--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Many seeds.
pub fn many(build: Build, from: u64, seeds: u64) -> Command {
    let mut command = tests(build, &[MANY]);
    command.env("HARVESTER_SEED_FROM", from.to_string()).env("HARVESTER_SEEDS", seeds.to_string());
    command
}

fn one(seed: u64, is_traced: bool) -> anyhow::Result<()> {
    let mut command = tests(Build::Tests, &[ONE]);
    command.env("HARVESTER_SEED", seed.to_string()).env("HARVESTER_TRACE", u8::from(is_traced).to_string());
    command::run(&mut command)
}

/// How soon each deliberate fault is found.
pub fn faults(build: Build) -> Command {
    tests(build, &[FAULTS])
}
