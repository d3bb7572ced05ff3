//! All checks, one area after the other.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::check::{Check, Verdict, found_or_said};
use super::settings::are_unknown;
use super::{cells, cluster, exchange, outside, positions, prices, server, settings, streams};
use crate::cli::backfill::dump;
use crate::cli::exit_code::Found;
use crate::cli::json;
use crate::cli::replay;
use crate::codec::plural::plural;
use crate::config::flags::RedisFlag;
use crate::config::{Config, ConfigError, Origin, Setting};
use crate::domain::engine::Engine;
use crate::service::run::preflight::no_trust_in_the_future;
use crate::shell::redis::Server;
use crate::shell::terminal::Screen;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    redis: RedisFlag,
    /// Folder of the store; else the configuration
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The journal of a service; else the configured one, if it is there
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// EnvironmentFile of a systemd unit, checked for lines that systemd drops; may be given several times
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Show checks without a finding too
    #[arg(long)]
    all: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the command. `refused` are invalid settings of the configuration. They count as not set.
pub fn run(args: &Args, config: &Config, refused: &[ConfigError], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut checks = settings::refused(config, refused);
    let flagged = args.redis.over(config);
    let config = match &flagged {
        Ok(flagged) => flagged,
        Err(error) => {
            checks.extend(settings::refused(config, std::slice::from_ref(error)));
            config
        }
    };
    let unknown = Unknown::of(config, refused, flagged.as_ref().err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    checks.extend(runtime.block_on(all(args, config, &unknown)));
    let shown = show(args, config, &checks, out);
    // The findings count even if a reader such as `head` has closed the output.
    match checks.iter().filter(|check| check.verdict != Verdict::Ok).count() {
        0 => shown,
        n if shown.as_ref().is_err_and(|error| !is_closed(error)) => shown.context(plural(n, "finding")),
        n => bail!(Found(plural(n, "finding"))),
    }
}

/// The addresses that cannot be checked, because they are among the invalid settings.
struct Unknown {
    redis: bool,
    exchange: bool,
}

impl Unknown {
    fn of(config: &Config, refused: &[ConfigError], flag: Option<&ConfigError>) -> Self {
        let is_default = |key| config.settings.iter().any(|s| s.key == key && s.origin == Origin::Default);
        let of_redis = are_unknown(refused, &["redis.url"], &["REDIS_URL", "REDIS_HOST", "REDIS_PORT"]);
        Self {
            redis: flag.is_some() || of_redis && is_default("redis.url"),
            exchange: are_unknown(refused, &["exchange."], &[]) && is_default("exchange.base_url"),
        }
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Runs all checks. A check that fails to run is a finding, and does not stop the others.
async fn all(args: &Args, config: &Config, unknown: &Unknown) -> Vec<Check> {
    let mut checks = settings::checks(config, &args.env_file);
    let not_known = |area, what: &str| {
        let found = format!("{what} is not known: its setting is invalid, and another one is not asked");
        Check::problem(area, "address", found, "correct the setting, and run the doctor again")
    };
    let (of_server, now_ms) = match unknown.redis {
        true => (vec![not_known("redis", "the address of the server")], None),
        false => of_server(args, config).await,
    };
    checks.extend(of_server);
    match unknown.exchange {
        true => checks.push(not_known("exchange", "the exchange")),
        false => checks.extend(exchange::checks(config).await),
    }
    checks.extend(outside::journal(args.journal.as_ref().unwrap_or(&config.run.journal)));
    let store = args.store.clone().unwrap_or_else(|| config.run.store.clone());
    checks.extend(outside::store(&store, now_ms.unwrap_or_default()));
    checks
}

/// Runs the checks that need the server, and returns its clock. [ms since 1970]
async fn of_server(args: &Args, config: &Config) -> (Vec<Check>, Option<u64>) {
    let reached = match crate::service::server::address(config) {
        Ok(address) => Server::connect(&address).await,
        Err(error) => Err(error),
    };
    let mut server = match reached {
        Ok(server) => server,
        Err(error) => {
            let next = "start it, or correct REDIS_URL; nothing else of it can be looked at";
            return (vec![Check::problem("redis", "reachable", error.to_string(), next)], None);
        }
    };
    let mut checks = Vec::new();
    checks.extend(found_or_said("redis", "server", server::checks(&mut server, config).await));
    checks.extend(found_or_said("cluster", "cluster", cluster::checks(&mut server, config).await));
    checks.extend(cells::checks(&mut server, config).await);
    let now_ms = match server.time_ms().await {
        Ok(now_ms) => now_ms,
        Err(error) => {
            checks.extend(found_or_said("redis", "clock", Err(error)));
            return (checks, None);
        }
    };
    if let Err(error) = no_trust_in_the_future(config, now_ms) {
        let next = "correct it: no service starts with it";
        checks.push(Check::problem("configuration", "trust", error.to_string(), next));
    }
    checks.extend(streams::checks(&mut server, config, now_ms).await);
    match fold(args, config, &mut server).await {
        Ok(engine) => {
            checks.extend(positions::checks(&engine, now_ms));
            let prices = prices::checks(&mut server, &engine, now_ms).await;
            checks.extend(found_or_said("prices", "hashes", prices));
        }
        Err(error) => {
            let next = "see the file and line that are named";
            checks.push(Check::problem("positions", "history", format!("{error:#}"), next));
        }
    }
    checks.push(outside::clock(now_ms));
    (checks, Some(now_ms))
}

/// Folds the positions from the available part of the streams, and from the journal if there is one.
async fn fold(args: &Args, config: &Config, server: &mut Server) -> anyhow::Result<Engine> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    dump(server, &config.streams, folder.path()).await?;
    let journal = args.journal.clone().or_else(|| Some(config.run.journal.clone()).filter(|dir| has_files(dir)));
    let histories = [folder.path().to_owned()].into_iter().chain(journal).collect();
    let request = replay::Request { histories, skip_bad_lines: true, ..replay::Request::default() };
    Ok(replay::replay(&request, config, &mut ())?.engine)
}

fn has_files(dir: &std::path::Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

#[derive(Serialize)]
struct Document<'a> {
    problems: usize,
    warnings: usize,
    ok: usize,
    checks: &'a [Check],
    settings: &'a [Setting],
}

fn show(args: &Args, config: &Config, checks: &[Check], out: &mut dyn Write) -> anyhow::Result<()> {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    if args.json {
        let (problems, warnings, ok) = (count(Verdict::Problem), count(Verdict::Warning), count(Verdict::Ok));
        return json::write(out, &Document { problems, warnings, ok, checks, settings: &config.settings });
    }
    let mut screen = Screen::stdout(out);
    for check in checks.iter().filter(|check| args.all || check.verdict != Verdict::Ok) {
        check.show(&mut screen)?;
    }
    screen.line(&format!(
        "{} problems, {} warnings, {} checks without a finding{}",
        count(Verdict::Problem),
        count(Verdict::Warning),
        count(Verdict::Ok),
        if args.all { "" } else { " (--all shows them)" }
    ))?;
    Ok(())
}
