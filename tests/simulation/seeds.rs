//! Runs of many seeds, and their report.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::promise::{Promise, Violation};
use super::run::Request;
use super::world::World;

/// The longest time from the end of all disturbances until everything is settled. [µs]
const SETTLE_US: u64 = 90_000_000;
/// A run whose histories have forked may end with a decision in doubt, after this time. [µs]
const DOUBT_US: u64 = 25_000_000;
/// Time between two checks whether everything is settled. [µs]
const LOOK_US: u64 = 100_000;
/// Number of checks in turn that must find everything settled. [1]
const LOOKS: u32 = 12;

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<Violation>,
    /// The whole trace if the run asked for it, otherwise its end.
    pub trace: String,
    /// Checksum and number of all lines of the trace.
    pub sum: (u64, u64),
    pub steps: u64,
    pub decisions: u64,
    pub starts: u64,
    /// Number of orders that were repeated after a loss of which the sender could not know. [1]
    pub repeated: u64,
    /// Number of entries that were trimmed unread, where the server had lost as many that were read. [1]
    pub balanced: u64,
    /// True if the run ended with a decision in doubt.
    pub in_doubt: bool,
    /// Virtual time. [s]
    pub seconds: u64,
}

impl Outcome {
    pub fn summary(&self) -> String {
        format!(
            "seed {}: {} steps, {} s, {} decisions written, {} starts, trace {:016x} of {} lines",
            self.seed, self.steps, self.seconds, self.decisions, self.starts, self.sum.0, self.sum.1
        )
    }
}

/// Runs one seed to its end.
pub fn simulate(request: Request) -> Outcome {
    let mut world = World::new(request);
    let ran = catch_unwind(AssertUnwindSafe(|| run(&mut world)));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violate(Promise::GoesOn, format!("panic: {}", text.unwrap_or_default()));
    }
    Outcome {
        seed: request.seed,
        violation: world.violation.take(),
        sum: world.trace.sum(),
        trace: world.trace.text(),
        steps: world.steps,
        decisions: world.checks.written,
        repeated: world.checks.repeated,
        balanced: world.checks.balanced,
        in_doubt: world.checks.in_doubt,
        starts: world.instances.iter().map(|at| at.starts).sum(),
        seconds: world.now_us / 1_000_000,
    }
}

fn run(world: &mut World) {
    for instance in 0..world.instances.len() {
        let us = world.rng.within(0, 800_000);
        world.start_after(instance, us);
    }
    world.after(100_000, World::produce);
    world.after(50_000, World::execute);
    world.after(300_000, World::operate);
    world.after(900_000, World::disturb);
    let until_us = world.plan.until_us;
    world.after(until_us, World::calm);
    let (mut looked_us, mut settled) = (0, 0);
    while world.violation.is_none() && world.step() {
        if world.now_us < until_us + 1 || world.now_us < looked_us + LOOK_US {
            continue;
        }
        looked_us = world.now_us;
        settled = if world.is_settled() { settled + 1 } else { 0 };
        if settled >= LOOKS {
            return world.check_end();
        }
        if world.now_us > until_us + DOUBT_US && world.ends_in_doubt() {
            world.checks.in_doubt = true;
            return;
        }
        if world.now_us > until_us + SETTLE_US {
            let all: Vec<String> = world
                .instances
                .iter()
                .map(|at| format!("{}: {}", at.name, at.process.as_ref().map_or("down".to_owned(), |p| p.describe())))
                .collect();
            return world.violate(Promise::Settles, format!("standstill: {}", all.join("; ")));
        }
    }
}

/// Runs the same with each number below `count`, on all processors. Returns the results in order.
pub fn all<T: Send>(count: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let result = work(at);
                    done.lock().expect("no thread panics with it").insert(at, result);
                }
            });
        }
    });
    done.into_inner().expect("no thread panicked with it").into_values().collect()
}

/// The result of many runs.
pub struct Report {
    pub count: u64,
    pub failed: Vec<(u64, Violation)>,
    steps: u64,
    decisions: u64,
    repeated: u64,
    balanced: u64,
    in_doubt: u64,
    seconds: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, failed, steps, decisions, seconds, repeated, balanced, in_doubt } = self;
        write!(
            f,
            "simulated seeds: {count}, {} failed; {steps} steps, {seconds} s of virtual time, {decisions} decisions; \
             after losses, {repeated} orders repeated by who could not know, {balanced} trimmed entries without a trace, \
             {in_doubt} runs ended in doubt",
            failed.len()
        )?;
        for (seed, violation) in failed.iter().take(20) {
            write!(f, "\n  seed {seed}: {violation}")?;
        }
        Ok(())
    }
}

/// Runs many seeds, each of them twice: the second run must equal the first one, to the byte.
pub fn many(from: u64, count: u64) -> Report {
    let mut report =
        Report { count, failed: Vec::new(), steps: 0, decisions: 0, repeated: 0, balanced: 0, in_doubt: 0, seconds: 0 };
    for outcome in all(count, |at| twice(Request::of(from + at))) {
        report.steps += outcome.steps;
        report.decisions += outcome.decisions;
        report.repeated += outcome.repeated;
        report.balanced += outcome.balanced;
        report.in_doubt += u64::from(outcome.in_doubt);
        report.seconds += outcome.seconds;
        report.failed.extend(outcome.violation.map(|violation| (outcome.seed, violation)));
    }
    report
}

/// Runs a request twice. Returns the first outcome without its trace, to save memory.
fn twice(request: Request) -> Outcome {
    let (first, second) = (simulate(request), simulate(request));
    let (sum, sum_again) = (first.sum, second.sum);
    let differs = (sum != sum_again || first.violation != second.violation).then(|| {
        let text = format!(
            "one trace is {:016x} of {} lines, the other {:016x} of {}",
            sum.0, sum.1, sum_again.0, sum_again.1
        );
        Violation { promise: Promise::Repeats, text }
    });
    Outcome { trace: String::new(), violation: first.violation.clone().or(differs), ..first }
}

/// Returns the seeds that have found a fault before: one a line, with the fault.
pub fn kept() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a line begins with a seed"))
        .collect()
}
