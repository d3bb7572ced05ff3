//! Prints the measurements for people.

use std::path::Path;
use std::time::Duration;

use harvester::config::Config;

use super::backlog::{Pass, Run};
use super::latency::{Load, Measured};
use super::start::{Idle, POSITIONS, Starts};

/// Smallest rate of the service, as a part of the bare rate. [1]
const RATIO_MIN: f64 = 0.7;
/// The same without a pending list, as a part of the bare rate with one. [1]
const RATIO_WITHOUT_LIST_MIN: f64 = 1.3;
/// Largest memory of a service, for any length of the backlog. [kB]
const MEMORY_MAX_KB: u64 = 50_000;

/// Largest time of a start after a kill with a second of journal. [ms]
const START_MAX_MS: f64 = 100.0;

/// Largest latency of decisions at a rate of prices, beyond that of an echo. [ms]
struct Limit {
    /// Up to this rate. [1/s]
    rate: u64,
    p50_more_ms: f64,
    p99_ms: fn(f64) -> f64,
}

const LIMITS: [Limit; 2] = [
    Limit { rate: 1_000, p50_more_ms: 1.5, p99_ms: |echo_ms| 2.0 * echo_ms + 1.0 },
    Limit { rate: u64::MAX, p50_more_ms: 3.0, p99_ms: |_| 20.0 },
];

pub fn input(source: &Path, entries: u64, passes: usize, config: &Config) {
    println!(
        "{}, repeated to {:.1} M entries in Redis streams; {} cores for server and clients; {passes} passes; read_count \
         {}, checkpoint_entries {}, checkpoint_ms {}\n",
        source.file_name().unwrap_or_default().to_string_lossy(),
        entries as f64 / 1e6,
        cores(),
        config.run.read_count,
        config.run.checkpoint_entries,
        config.run.checkpoint_ms
    );
}

pub fn pass(pass: &Pass, entries: u64) {
    let without = pass.without_list.as_ref().map_or(0.0, |run| rate(run.took, entries));
    println!(
        "bare client {:>8.0} entries/s   run {:>8.0} entries/s = {:.2}   without pending list {without:>8.0} entries/s = {:.2}",
        rate(pass.bare, entries),
        rate(pass.run.took, entries),
        ratio(pass),
        ratio_without_list(pass)
    );
}

pub fn rates(passes: &[Pass], entries: u64) {
    let shown = |name: &str, of: &dyn Fn(&Pass) -> f64, decimals: usize| {
        let Spread { min, median, max } = Spread::of(passes.iter().map(of).collect());
        println!("{name:50} {min:>9.decimals$} / {median:>9.decimals$} / {max:>9.decimals$}");
        median
    };
    println!("\n{:50} {:>9} / {:>9} / {:>9}", "", "min", "median", "max");
    shown("bare client: XREADGROUP + XACK [entries/s]", &|pass| rate(pass.bare, entries), 0);
    shown("run [entries/s]", &|pass| rate(pass.run.took, entries), 0);
    let of_without = |pass: &Pass| pass.without_list.as_ref().map_or(0.0, |run| rate(run.took, entries));
    shown("run without pending list [entries/s]", &of_without, 0);
    let with = shown("run ÷ bare client", &ratio, 2);
    let without = shown("run without pending list ÷ bare client with one", &ratio_without_list, 2);
    println!("at least {RATIO_MIN}: {}", yes(with >= RATIO_MIN));
    println!("at least {RATIO_WITHOUT_LIST_MIN}: {}", yes(without >= RATIO_WITHOUT_LIST_MIN));
}

/// Prints the busiest parts, with a pending list and without.
pub fn limits(passes: &[Pass], entries: u64) {
    if let Some(pass) = passes.iter().min_by_key(|pass| pass.run.took) {
        limit("run", &pass.run, entries);
        println!("(the server took {:.2} µs an entry for the bare client)", 1e6 * pass.bare_server / entries as f64);
    }
    if let Some(run) = passes.iter().filter_map(|pass| pass.without_list.as_ref()).min_by_key(|run| run.took) {
        limit("run without pending list", run, entries);
    }
}

/// Prints the limit of a service: its busiest thread, or all of them together.
fn limit(what: &str, run: &Run, entries: u64) {
    let wall = run.took.as_secs_f64();
    let mut parts = vec![("the server".to_owned(), run.server)];
    let role = |name: &str| if name == "harvester" { "the fold".to_owned() } else { format!("thread {name}") };
    parts.extend(run.threads.iter().map(|(name, seconds)| (role(name), *seconds)));
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("\n{what}: processor time of the fastest pass, {wall:.2} s long, and the same by entry:");
    for (name, seconds) in parts.iter().filter(|(_, seconds)| *seconds >= 0.01) {
        let (share, each) = (100.0 * seconds / wall, 1e6 * seconds / entries as f64);
        println!("    {name:24} {seconds:>6.2} s {share:>5.0} % {each:>6.2} µs");
    }
    let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let (busiest, most) = &parts[0];
    let why = if *most >= 0.9 * wall {
        format!("{busiest}, which is one thread and busy {:.0} % of the time", 100.0 * most / wall)
    } else if all >= 0.85 * wall * cores() as f64 {
        format!("the {all:.2} s of work that {} cores share, most of it of {busiest}", cores())
    } else {
        format!(
            "waiting: {all:.2} s of work on {} cores, the rest for disk and answers, or for other programs",
            cores()
        )
    };
    println!("what limits it: {why}");
}

/// Prints the time of each step of an entry, each alone on one thread.
pub fn steps(steps: &[(&str, Duration)], entries: u64) {
    println!("\nalone, on one thread, by entry:");
    for (name, took) in steps {
        println!("    {name:44} {:>6.3} µs", 1e6 * took.as_secs_f64() / entries as f64);
    }
}

/// Prints the rate over a longer backlog.
pub fn longer(pass: &Pass, entries: u64) {
    println!("over {:.1} M entries: run ÷ bare client {:.2}", entries as f64 / 1e6, ratio(pass));
}

pub fn memory_limit(peak_kb: u64) {
    let mb = peak_kb as f64 / 1000.0;
    println!("most memory {mb:.0} MB, at most {} MB: {}", MEMORY_MAX_KB / 1000, yes(peak_kb <= MEMORY_MAX_KB));
}

/// Prints the times of the disk alone, in order. [ms]
pub fn disk(took_ms: &[f64]) {
    let at = |share: f64| took_ms[((took_ms.len() - 1) as f64 * share) as usize];
    println!("\nan append and its fdatasync alone: p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
}

pub fn latency(load: Load, echo: &Measured, decisions: &Measured) {
    println!("\nfrom XADD of a price to what follows it, read; {} prices/s for {} s:", load.rate, load.seconds);
    for (name, measured) in [("echo (XREAD, XADD)", echo), ("decision", decisions)] {
        println!(
            "    {name:20} {:>6} of them at {:>6.0} prices/s   p50 {:>7.2} ms   p99 {:>7.2} ms   most {:>7.2} ms",
            measured.latencies_ms.len(),
            measured.rate,
            measured.at(0.5),
            measured.at(0.99),
            measured.at(1.0)
        );
    }
    if let Some((sync, offer)) = decisions.parts_ms {
        // A price is released in the server's next millisecond: on average after half a millisecond.
        let rest = decisions.mean_ms() - 0.5 - sync - offer;
        println!(
            "    where a decision's mean of {:.2} ms goes: end of the millisecond 0.50, sync {sync:.2}, offer {offer:.2}, \
             reading, fold and threads {rest:.2}",
            decisions.mean_ms()
        );
    }
    let Some(limit) = LIMITS.iter().find(|limit| load.rate <= limit.rate) else { return };
    let p50_max_ms = echo.at(0.5) + limit.p50_more_ms;
    let p99_max_ms = (limit.p99_ms)(echo.at(0.99));
    println!("    p50 at most {p50_max_ms:.2} ms: {}", yes(decisions.at(0.5) <= p50_max_ms));
    println!("    p99 at most {p99_max_ms:.2} ms: {}", yes(decisions.at(0.99) <= p99_max_ms));
}

/// Prints the starts after a kill, and the load of an idle service.
pub fn starts(all: &[Starts], idle: &Idle) {
    println!("\nfrom the start of a process after kill -9 until it serves, {POSITIONS} positions:");
    for starts in all {
        let took = &starts.took_ms;
        println!(
            "    {:>9} entries of the journal to fold   min {:>8.0} ms   median {:>8.0} ms   max {:>8.0} ms",
            starts.entries,
            took[0],
            took[took.len() / 2],
            took[took.len() - 1]
        );
    }
    if let Some(second) = all.first() {
        let median = second.took_ms[second.took_ms.len() / 2];
        println!(
            "    at most {START_MAX_MS:.0} ms with a second at 1,000/s of journal: {}",
            yes(median <= START_MAX_MS)
        );
    }
    println!(
        "with nothing to do: service {:.2} %, server {:.2} % of one processor",
        100.0 * idle.service,
        100.0 * idle.server
    );
}

fn rate(took: Duration, entries: u64) -> f64 {
    entries as f64 / took.as_secs_f64()
}

fn ratio(pass: &Pass) -> f64 {
    pass.bare.as_secs_f64() / pass.run.took.as_secs_f64()
}

fn ratio_without_list(pass: &Pass) -> f64 {
    pass.without_list.as_ref().map_or(0.0, |run| pass.bare.as_secs_f64() / run.took.as_secs_f64())
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
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self { min: values[0], median: values[values.len() / 2], max: values[values.len() - 1] }
    }
}
