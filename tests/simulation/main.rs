//! The simulator: the real delivery, reorder buffer, reader, engine and chain, driven by one seed over a model of
//! everything outside: a Redis server, disks, a network, an executor and an operator at the control stream.
//!
//! A run has virtual time, one queue and one source of randomness, so a seed gives the same run, to the byte.
//! `checks` contains what must always be true. `cargo xtask simulate --seed N --trace` shows a run.
//!
//! In reading order: `run` (what a seed determines), `world` (time and queue), `process` and `instance` (its event
//! loop) with `start`, `reader`, `emitter`, `lease` and `disk`, then `network`, `redis` and `script`, `producer`,
//! `executor`, `operator`, `disturb`, `ambush`; `promise`, `checks`, `end`, `losses` and `oracle`; `seeds` (many
//! runs), `faults` and `trace`.

mod ambush;
mod checks;
mod disk;
mod disturb;
mod emitter;
mod end;
mod executor;
#[cfg(feature = "faults")]
mod faults;
mod instance;
mod lease;
mod losses;
mod network;
mod operator;
mod oracle;
mod process;
mod producer;
mod promise;
mod reader;
mod redis;
mod rng;
mod run;
mod script;
mod seeds;
mod start;
mod trace;
mod world;

use seeds::{Outcome, simulate};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn assert_kept(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        panic!("seed {}: {violation}\n{}", outcome.seed, outcome.trace);
    }
}

/// One undisturbed instance.
#[test]
fn an_undisturbed_run_makes_the_decisions_of_the_oracle() {
    for seed in 0..10 {
        let outcome = simulate(run::Request { is_calm: true, ..run::Request::of(seed) });
        assert_kept(&outcome);
    }
}

#[test]
fn a_seed_runs_twice_to_the_same_bytes() {
    for seed in [1, 7, 42] {
        let traced = run::Request { is_traced: true, ..run::Request::of(seed) };
        assert_eq!(simulate(traced).trace, simulate(traced).trace, "seed {seed}");
    }
}

#[test]
fn a_trace_line_has_a_time_an_actor_and_an_event() {
    let outcome = simulate(run::Request { is_traced: true, ..run::Request::of(7) });
    assert_kept(&outcome);
    let actors = ["plan", "one", "two", "three", "server", "world", "executor", "operator", "CHAIN"];
    let mut last_s = 0.0;
    for line in outcome.trace.lines() {
        let mut words = line.split_whitespace();
        let at_s: f64 = words.next().and_then(|time| time.parse().ok()).expect("a line begins with its time");
        assert!(at_s >= last_s, "{line}");
        assert!(words.next().is_some_and(|who| actors.contains(&who)) && words.next().is_some(), "{line}");
        last_s = at_s;
    }
    assert_eq!(outcome.trace.lines().count() as u64, outcome.sum.1, "the trace has every line");
    for what in ["takes the lease 1 ", " leads", " offers 1 ", ": written ", "is calm"] {
        assert!(outcome.trace.contains(what), "{what} in\n{}", outcome.trace);
    }
}

/// Runs `HARVESTER_SEEDS` seeds from seed 0 on, or from `HARVESTER_SEED_FROM`.
#[test]
fn every_promise_is_kept_for_many_seeds() {
    let (from, count) = (number("HARVESTER_SEED_FROM").unwrap_or(0), number("HARVESTER_SEEDS").unwrap_or(40));
    let report = seeds::many(from, count);
    println!("{report}");
    assert!(report.failed.is_empty(), "{report}");
}

/// Seeds that have found a fault before.
#[test]
fn every_promise_is_kept_for_seeds_that_found_a_fault() {
    for seed in seeds::kept() {
        assert_kept(&simulate(run::Request::of(seed)));
    }
}

/// Runs `HARVESTER_SEED` with its trace.
#[test]
#[ignore = "shows one seed"]
fn one_seed() {
    let seed = number("HARVESTER_SEED").expect("HARVESTER_SEED names a seed");
    let outcome = simulate(run::Request { is_traced: true, ..run::Request::of(seed) });
    if number("HARVESTER_TRACE") == Some(1) || outcome.violation.is_some() {
        println!("{}", outcome.trace);
    }
    println!("{}", outcome.summary());
    assert_kept(&Outcome { trace: String::new(), ..outcome });
}

/// `HARVESTER_FAULT` selects one fault.
#[cfg(feature = "faults")]
#[test]
#[ignore = "runs up to 200 seeds for each fault"]
fn every_deliberate_fault_is_found() {
    let table = faults::table(std::env::var("HARVESTER_FAULT").ok().as_deref());
    println!("{table}");
    assert_eq!(table.missed(), [], "faults that were not found");
}
