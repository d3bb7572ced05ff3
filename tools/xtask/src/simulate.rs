//! `simulate`: the real protocol over a model of everything outside, one seed after the other.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command;
use crate::test::all;

/// Number of seeds if none is given. [1]
const SEEDS_DEFAULT: u64 = 300;

const MANY: &str = "every_promise_is_kept_for_many_seeds";
const ONE: &str = "one_seed";
const FAULTS: &str = "every_deliberate_fault_is_found";

/// The build in which the simulator runs.
#[derive(Clone, Copy, Debug)]
pub enum Build {
    /// The build of all tests.
    Tests,
    /// Optimized, but with the checks of a build for tests.
    Soak,
}

/// The arguments.
#[derive(Debug, Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: Option<u64>,
    is_traced: bool,
    has_faults: bool,
    fault: Option<String>,
}

/// Runs many seeds, one seed, or the deliberate faults.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let arguments = arguments(args)?;
    if arguments.has_faults {
        return command::run(&mut faults(Build::Tests));
    }
    if let Some(fault) = &arguments.fault {
        return command::run(faults(Build::Tests).env("HARVESTER_FAULT", fault));
    }
    match arguments.seed {
        Some(seed) if arguments.seeds.is_none() => one(seed, arguments.is_traced),
        from => command::run(&mut many(Build::Tests, from.unwrap_or(0), arguments.seeds.unwrap_or(SEEDS_DEFAULT))),
    }
}

fn arguments(args: &[String]) -> anyhow::Result<Arguments> {
    let mut arguments = Arguments::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().with_context(|| format!("{arg} needs a whole number"))?;
            value.parse().with_context(|| format!("{arg} {value}: want a whole number"))
        };
        match arg.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--seeds" => arguments.seeds = Some(number()?),
            "--trace" => arguments.is_traced = true,
            "--faults" => arguments.has_faults = true,
            "--fault" => {
                arguments.fault = Some(args.next().context("--fault needs a name, as the table has it")?.clone())
            }
            other => bail!("simulate takes --seed N, --seeds K, --trace, --faults and --fault NAME, got {other}"),
        }
    }
    Ok(arguments)
}

/// Runs the part of `ci`: many seeds and the deliberate faults.
pub fn check() -> anyhow::Result<()> {
    let mut command = tests(Build::Tests, &[MANY, FAULTS]);
    command::run(command.env("HARVESTER_SEEDS", SEEDS_DEFAULT.to_string()))
}

fn tests(build: Build, names: &[&str]) -> Command {
    let mut command = all();
    if let Build::Soak = build {
        command.args(["--profile", "soak"]);
    }
    // One test after the other: each of them uses all processors.
    command.args(["--locked", "--test", "simulation", "--"]).args(names);
    command.args(["--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    command
}

/// Returns the command for many seeds.
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

/// Returns the command that finds the deliberate faults.
pub fn faults(build: Build) -> Command {
    tests(build, &[FAULTS])
}
