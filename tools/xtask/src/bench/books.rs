//! `bench books`: many accounts, each with positions in several symbols.
//!
//! Three figures of one run, each compared with the same for one account or one book:
//!
//! - entries/s of 1,000 accounts × 10 positions at the prices of 500 symbols, one a second each;
//! - memory of the state of 10,000 accounts × 10 positions, in a process of its own;
//! - the time of a price that changes nothing, for one book of its symbol and for 10,000.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use harvester::cli::replay::{Request, replay};
use harvester::codec::line;
use harvester::config::Config;
use harvester::domain::engine::Decisions;
use harvester::domain::event::Entry;
use harvester::drive::projection::Projection;

use super::memory::resident_of_this_process_kb;
use super::task::BOOKS_MEMORY;
use crate::command::program;

/// Smallest speed, as a part of the speed with one account. [1]
const SPEED_MIN: f64 = 0.5;
/// Largest memory of the state of 10,000 × 10 positions. [kB]
const STATE_MAX_KB: u64 = 400_000;
/// Largest time of a price, as a multiple of the time with one book. [1]
const QUIET_MAX: f64 = 3.0;

/// Positions of each account. [1]
const POSITIONS: usize = 10;
const SYMBOLS: usize = 500;
/// Seconds of prices, with one price a second of each symbol. [s]
const SECONDS: usize = 1_200;
/// Number of prices that change nothing. [1]
const QUIET: usize = 200_000;
const BEGIN_MS: u64 = 1_770_163_200_000;
const POLICY: &str = r#"{"atr_unit":{"default":"absolute"},"ladder":"0.5:0.25,1:0.25,1.5:0.25","min_r":"0.3"}"#;

/// How prices move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Prices {
    /// A random walk, by a hundredth of a percent at a time.
    Walk,
    /// Two prices near the entry price, in turn.
    Still,
}

/// A generated history: every account opens its positions, then prices come.
#[derive(Clone, Copy)]
struct Made {
    accounts: usize,
    positions: usize,
    symbols: usize,
    /// Prices of each symbol. [1]
    prices: usize,
    moves: Prices,
}

/// Measures and prints.
pub fn all(args: &[String]) -> anyhow::Result<()> {
    let passes = match args {
        [] => 3,
        [name, passes] if name == "--passes" => passes.parse().context("--passes wants a number")?,
        _ => bail!("bench books takes --passes"),
    };
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    speed(folder.path(), passes)?;
    state()?;
    quiet(passes)
}

fn config() -> anyhow::Result<Config> {
    let config = Config::from_parts(None, BTreeMap::new())?;
    Ok(Config { policy: harvester::codec::policy::from_json(POLICY)?, ..config })
}

fn speed(folder: &Path, passes: usize) -> anyhow::Result<()> {
    let config = config()?;
    let made =
        |accounts| Made { accounts, positions: POSITIONS, symbols: SYMBOLS, prices: SECONDS, moves: Prices::Walk };
    let (one, many) = (folder.join("one.jsonl"), folder.join("many.jsonl"));
    let (of_one, of_many) = (made(1).write(&one)?, made(1_000).write(&many)?);
    println!("{SYMBOLS} symbols, a price a second each for {SECONDS} s; {passes} passes: best entries/s\n");
    let (mut best, mut best_fold) = ([0.0_f64; 2], [0.0_f64; 2]);
    for _ in 0..passes {
        for (at, (file, entries, made)) in
            [(&one, of_one, made(1)), (&many, of_many, made(1_000))].into_iter().enumerate()
        {
            let request = Request { histories: vec![file.clone()], ..Request::default() };
            let began = Instant::now();
            let replayed = replay(&request, &config, &mut ())?;
            best[at] = best[at].max(entries as f64 / began.elapsed().as_secs_f64());
            ensure!(replayed.engine.counters.entries() == entries, "not all entries were counted");
            let (took, folded) = fold_after(made, &config, made.openings())?;
            best_fold[at] = best_fold[at].max(folded as f64 / took.as_secs_f64());
        }
    }
    for (what, [one, many]) in [("replay", best), ("fold alone, prices only", best_fold)] {
        println!("{what:30} 1 account: {one:>10.0}/s   1,000 accounts: {many:>10.0}/s   ratio {:.2}", many / one);
    }
    let ratio = best[1] / best[0];
    println!(
        "1,000 accounts × 10 at {SPEED_MIN} of the speed of one account at least: {} ({ratio:.2})\n",
        yes(ratio >= SPEED_MIN)
    );
    Ok(())
}

fn state() -> anyhow::Result<()> {
    let kb = |accounts: usize| -> anyhow::Result<u64> {
        let output = program(std::env::current_exe()?).arg(BOOKS_MEMORY).arg(accounts.to_string()).output()?;
        ensure!(output.status.success(), "the process failed: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().with_context(|| format!("the process answered {text:?}"))
    };
    let (empty, full) = (kb(0)?, kb(10_000)?);
    let mb = |kb: u64| kb as f64 / 1e3;
    println!(
        "state of 10,000 accounts × 10 positions: {:.0} MB resident, of which {:.0} MB without accounts",
        mb(full),
        mb(empty)
    );
    println!("under 400 MB: {}\n", yes(full < STATE_MAX_KB));
    Ok(())
}

/// Makes the state of so many accounts, and prints its memory: the child process of [`state`].
pub fn memory_child(args: &[String]) -> anyhow::Result<()> {
    let [accounts] = args else { bail!("want ACCOUNTS, got {args:?}") };
    let config = config()?;
    let made =
        Made { accounts: accounts.parse()?, positions: POSITIONS, symbols: SYMBOLS, prices: 3, moves: Prices::Walk };
    let mut projection = Projection::in_memory(&config, Decisions::Recorded)?;
    let mut failed = Ok(());
    made.each(|line| {
        if failed.is_ok() {
            failed = fold(&mut projection, &config, line);
        }
    });
    failed?;
    println!("{}", resident_of_this_process_kb()?);
    std::hint::black_box(&projection);
    Ok(())
}

fn quiet(passes: usize) -> anyhow::Result<()> {
    let config = config()?;
    let made = |accounts| Made { accounts, positions: 1, symbols: 1, prices: QUIET, moves: Prices::Still };
    let mut best = [f64::MAX; 2];
    for _ in 0..passes {
        for (at, accounts) in [1, 10_000].into_iter().enumerate() {
            // The first prices after the openings are evaluated for every book.
            let (took, prices) = fold_after(made(accounts), &config, made(accounts).openings() + 10)?;
            best[at] = best[at].min(took.as_nanos() as f64 / prices as f64);
        }
    }
    let [one, many] = best;
    let ratio = many / one;
    println!("a price that changes nothing: {one:.0} ns for one book, {many:.0} ns for 10,000 books of its symbol");
    println!("at most {QUIET_MAX:.0}× one book: {} ({ratio:.2}×)", yes(ratio <= QUIET_MAX));
    Ok(())
}

/// Folds a decoded history on this thread. Returns the time of the entries from `skipped` on, and their number.
fn fold_after(made: Made, config: &Config, skipped: usize) -> anyhow::Result<(Duration, usize)> {
    let mut projection = Projection::in_memory(config, Decisions::Recorded)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut failed = Ok(());
    made.each(|line| match decoded(&mut projection, config, line) {
        Ok(entry) => entries.push(entry),
        Err(error) => failed = Err(error),
    });
    failed?;
    let (before, measured) = entries.split_at(skipped);
    for entry in before {
        projection.folding().step(entry, String::new)?;
    }
    let began = Instant::now();
    for entry in measured {
        projection.folding().step(entry, String::new)?;
    }
    Ok((began.elapsed(), measured.len()))
}

fn fold(projection: &mut Projection, config: &Config, line: &str) -> anyhow::Result<()> {
    let entry = decoded(projection, config, line)?;
    projection.folding().step(&entry, String::new)?;
    Ok(())
}

fn decoded(projection: &mut Projection, config: &Config, line: &str) -> anyhow::Result<Entry> {
    let (stream, id) = line::head(line.as_bytes())?;
    let stream = config.streams.id_of(&stream).context("the stream is configured")?;
    let id = id.parse().ok().context("an id is one")?;
    Ok(projection.decode_line(stream, id, line.as_bytes())?)
}

impl Made {
    /// Returns the number of entries before the first price after all openings. [1]
    fn openings(self) -> usize {
        2 * self.symbols + self.accounts * self.positions
    }

    /// Writes the history. Returns the number of entries.
    fn write(self, path: &Path) -> anyhow::Result<u64> {
        let mut out = BufWriter::new(std::fs::File::create(path)?);
        let (mut entries, mut written) = (0, Ok(()));
        self.each(|line| {
            entries += 1;
            if written.is_ok() {
                written = writeln!(out, "{line}");
            }
        });
        written?;
        out.flush()?;
        Ok(entries)
    }

    fn each(self, mut take: impl FnMut(&str)) {
        let mut ms = BEGIN_MS;
        let mut line = |ms: u64, seq: usize, stream: &str, payload: &str| {
            take(&format!(
                r#"{{"stream":"quantum:stream:{stream}","id":"{ms}-{seq}","fields":{{"payload":"{}"}}}}"#,
                payload.replace('"', "\\\"")
            ));
        };
        let mut levels = vec![1_000_000_i64; self.symbols];
        let price = |level: i64| format!("{}.{:04}", level / 10_000, level % 10_000);
        for symbol in 0..self.symbols {
            let payload = format!(
                r#"{{"symbol":"S{symbol}USDT","side":"BUY","entry_price":100,"atr_value":1.5,"volatility_factor":1}}"#
            );
            line(ms, symbol, "trade.intent", &payload);
        }
        ms += 1;
        for symbol in 0..self.symbols {
            line(ms, symbol, "market.tick", &format!(r#"{{"symbol":"S{symbol}USDT","price":"100"}}"#));
        }
        for account in 0..self.accounts {
            ms += 1;
            for nth in 0..self.positions {
                let symbol = (account * self.positions + nth) % self.symbols;
                let order = account * self.positions + nth;
                // Entry prices differ, and so do the prices at which rungs are reached.
                let entry = price(1_000_000 + (order as i64 * 37) % 2_000 - 1_000);
                let payload = format!(
                    r#"{{"account":"account-{account}","symbol":"S{symbol}USDT","side":"BUY","executedQty":"10",{}}}"#,
                    format_args!(r#""avgPrice":"{entry}","orderId":"{order}","status":"FILLED""#)
                );
                line(ms, nth, "apply.result", &payload);
            }
        }
        let mut seed = 7_u64;
        for second in 0..self.prices {
            ms += 1_000;
            for (symbol, level) in levels.iter_mut().enumerate() {
                *level = match self.moves {
                    Prices::Still => 1_000_000 + 10 * (second as i64 % 2),
                    Prices::Walk => {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        *level + ((seed >> 33) % 201) as i64 - 100
                    }
                };
                line(
                    ms,
                    symbol,
                    "market.tick",
                    &format!(r#"{{"symbol":"S{symbol}USDT","price":"{}"}}"#, price(*level)),
                );
            }
        }
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "NO" }
}
