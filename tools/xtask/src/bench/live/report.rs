//! What was measured, for people.

use std::path::Path;

use harvester::config::Config;

use super::backlog::Pass;
use super::latency::{Load, Measured};

/// What the service has to reach of the bare rate, at least. [1]
const RATIO_MIN: f64 = 0.5;
/// What 99 of 100 decisions may take at 1,000 prices/s. [ms]
const P99_MAX_MS: f64 = 5.0;

pub fn input(source: &Path, entries: u64, passes: usize, config: &Config) {
    println!(
        "{}, repeated to {:.1} M entries in Redis streams; {} cores for server and clients; {passes} passes; read_count \
         {}, commit_entries {}, commit_interval_ms {}\n",
        source.file_name().unwrap_or_default().to_string_lossy(),
        entries as f64 / 1e6,
        cores(),
        config.run.read_count,
        config.run.commit_entries,
        config.run.commit_interval_ms
    );
}

pub fn pass(pass: &Pass, entries: u64) {
    println!(
        "only reading and acknowledging {:>8.0} entries/s   run {:>8.0} entries/s   {:>3.0} %",
        entries as f64 / pass.bare.as_secs_f64(),
        entries as f64 / pass.run.as_secs_f64(),
        100.0 * ratio(pass)
    );
}

pub fn rates(passes: &[Pass], entries: u64) {
    let shown = |name: &str, values: Vec<f64>| {
        let spread = Spread::of(values);
        println!("{name:44} {:>9.0} / {:>9.0} / {:>9.0}", spread.min, spread.median, spread.max);
    };
    let rate = |of: fn(&Pass) -> f64| passes.iter().map(|pass| entries as f64 / of(pass)).collect();
    println!("\n{:44} {:>9} / {:>9} / {:>9}", "", "min", "median", "max");
    shown("only reading and acknowledging [entries/s]", rate(|pass| pass.bare.as_secs_f64()));
    shown("run [entries/s]", rate(|pass| pass.run.as_secs_f64()));
    let ratio = Spread::of(passes.iter().map(ratio).collect());
    println!(
        "run reaches {:.0} % of it ({:.0} to {:.0}); at least {:.0} %: {}",
        100.0 * ratio.median,
        100.0 * ratio.min,
        100.0 * ratio.max,
        100.0 * RATIO_MIN,
        yes(ratio.median >= RATIO_MIN)
    );
}

/// What limits the service: the busiest thread, or all of them together.
pub fn limit(passes: &[Pass], entries: u64) {
    let Some(pass) = passes.iter().min_by_key(|pass| pass.run) else { return };
    let wall = pass.run.as_secs_f64();
    let mut parts = vec![("the server".to_owned(), pass.run_server)];
    let role = |name: &str| if name == "harvester" { "the fold".to_owned() } else { format!("thread {name}") };
    parts.extend(pass.threads.iter().map(|(name, seconds)| (role(name), *seconds)));
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("\nprocessor time of the fastest pass, {wall:.2} s long, and the same by entry:");
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
    println!("(the server took {:.2} s for the bare client)", pass.bare_server);
}

/// What is reached over a longer backlog.
pub fn longer(pass: &Pass, entries: u64) {
    println!("over {:.1} M entries run reaches {:.0} % of the bare rate", entries as f64 / 1e6, 100.0 * ratio(pass));
}

pub fn latency(load: Load, measured: Measured) {
    let Measured { latencies_ms, rate } = measured;
    let at = |share: f64| latencies_ms[((latencies_ms.len() - 1) as f64 * share) as usize];
    println!(
        "\nfrom XADD of a price to its decision read, {rate:.0} of {} prices/s sent for {} s: p50 {:.2} ms, p99 {:.2} ms, \
         most {:.2} ms of {} decisions",
        load.rate,
        load.seconds,
        at(0.5),
        at(0.99),
        at(1.0),
        latencies_ms.len()
    );
    if load.rate <= 1000 {
        println!("p99 under {P99_MAX_MS} ms: {}", yes(at(0.99) < P99_MAX_MS));
    }
}

fn ratio(pass: &Pass) -> f64 {
    pass.bare.as_secs_f64() / pass.run.as_secs_f64()
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
