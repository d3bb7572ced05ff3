//! `simulate`: the real protocol over a model of everything outside, one seed after the other.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::command::{self, cargo};

/// Seeds that are run if no number is given. [1]
const SEEDS_DEFAULT: u64 = 300;

/// Optimized, but with the checks of a build for tests.
const PROFILE: [&str; 2] = ["--profile", "soak"];

/// What is asked for.
#[derive(Debug, Default)]
struct Asked {
    seed: Option<u64>,
    seeds: Option<u64>,
    is_traced: bool,
    has_faults: bool,
}

/// Runs what is asked for: many seeds, one seed, or the deliberate faults.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let asked = asked(args)?;
    if asked.has_faults {
        return command::run(&mut faults());
    }
    match asked.seed {
        Some(seed) if asked.seeds.is_none() => one(seed, asked.is_traced),
        from => {
            let mut command = many(asked.seeds.unwrap_or(SEEDS_DEFAULT));
            command.env("HARVESTER_SEED_FROM", from.unwrap_or(0).to_string());
            command::run(&mut command)
        }
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
            other => bail!("simulate takes --seed N, --seeds K, --trace and --faults, got {other}"),
        }
    }
    Ok(asked)
}

fn tests(name: &str) -> Command {
    let mut command = cargo();
    command.arg("test").args(PROFILE).args(["--locked", "--test", "simulation", "--features", "faults", "--"]);
    command.args([name, "--exact", "--include-ignored", "--nocapture"]);
    command
}

/// Many seeds.
pub fn many(seeds: u64) -> Command {
    let mut command = tests("what_must_hold_holds_for_many_seeds");
    command.env("HARVESTER_SEEDS", seeds.to_string());
    command
}

fn one(seed: u64, is_traced: bool) -> anyhow::Result<()> {
    let mut command = tests("one_seed");
    command.env("HARVESTER_SEED", seed.to_string()).env("HARVESTER_TRACE", u8::from(is_traced).to_string());
    command::run(&mut command)
}

/// How soon each deliberate fault is found.
pub fn faults() -> Command {
    tests("every_deliberate_fault_is_found")
}
