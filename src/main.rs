//! Parse → trace → `cli::<command>`; the only exit code.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use harvester::cli;
use harvester::codec::shown::shown;
use harvester::config::Config;
use harvester::service;
use harvester::shell::exchange::CallError;
use harvester::shell::redis::ServerError;
use harvester::shell::web::ClientError;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format;

/// From the history of a futures trading system to trustworthy positions and harvest decisions.
#[derive(Parser)]
#[command(name = "harvester", version, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 a check found something, 2 wrong usage, configuration or input, \
                        3 a service could not be reached.")]
struct Cli {
    /// Configuration file (TOML); the environment counts above it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay recorded histories: positions, decisions and a summary
    #[command(after_help = "Example: harvester replay history/ --store state --decisions decisions.jsonl")]
    Replay {
        /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
        #[arg(required = true, value_name = "HISTORY")]
        histories: Vec<PathBuf>,
        /// Keep the projection in this folder; more history continues from there
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
        /// Take a snapshot of the state every so many entries, and at the end, into DIR.snapshots
        #[arg(long, value_name = "N", requires = "store", value_parser = clap::value_parser!(u64).range(1..))]
        snapshot_every: Option<u64>,
        /// Fold from the start, report from here (entry id or time)
        #[arg(long, value_name = "ID|TIME")]
        since: Option<String>,
        /// Stop behind this (entry id or time)
        #[arg(long, value_name = "ID|TIME")]
        until: Option<String>,
        /// Ignore decisions in the history: derive all of them anew
        #[arg(long)]
        derive: bool,
        /// Write the decisions as a history file, - for standard output
        #[arg(long, value_name = "FILE")]
        decisions: Option<PathBuf>,
        /// Count lines that are no entries instead of stopping at them
        #[arg(long)]
        skip_bad_lines: bool,
        /// The summary as one JSON document
        #[arg(long)]
        json: bool,
    },
    Run(service::run::Args),
    /// Keep a journal of the live streams, and nothing else
    Record(cli::record::Args),
    /// Write a history into Redis streams under its own ids; streams that are not empty are refused
    #[command(
        after_help = "Example: harvester import replay/nights/incident-2026-02-04/events.jsonl --redis redis://127.0.0.1:6379"
    )]
    Import {
        /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
        #[arg(required = true, value_name = "HISTORY")]
        histories: Vec<PathBuf>,
        #[command(flatten)]
        redis: harvester::config::flags::RedisFlag,
        /// Count lines that are no entries instead of stopping at them
        #[arg(long)]
        skip_bad_lines: bool,
        /// The summary as one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show open positions, what they rest on, and why they are held
    Positions(cli::positions::Args),
    /// Say how the running service is; exit code 1 if anything needs someone
    Status(cli::status::Args),
    /// Read history, fetch what is still missing, say what became of each position
    #[command(after_help = "Example: harvester backfill --dry-run --write-back
         harvester backfill --gap --store state --journal journal archive/apply.result.jsonl.zst
Exit code 1: a position still lacks something.")]
    Backfill(cli::backfill::Args),
    /// Make history of what the hashes of the old service hold, once, at a migration
    #[command(after_help = "Example: harvester import-hashes --dry-run")]
    ImportHashes(cli::import_hashes::Args),
    /// Compare all positions with the exchange, now; exit code 1 if something differs
    #[command(after_help = "Examples: harvester reconcile --store state
          harvester reconcile --url http://127.0.0.1:9464 --json")]
    Reconcile(cli::reconcile::Args),
    /// Find what is wrong on this machine, with a next step for each finding; exit code 1 if there is one
    #[command(after_help = "Example: harvester doctor --env-file /etc/default/harvester")]
    Doctor(cli::doctor::Args),
    /// What the projection lacks and a look-up could bring
    #[command(after_help = "Example: harvester needs --store state")]
    Needs(cli::needs::Args),
    /// Bring in what the exchange tells by itself: mark prices, fills
    #[command(subcommand)]
    Feed(service::feed::Args),
    /// Show the effective settings, who set each, and the hashes of policy and settings; secrets are masked
    #[command(after_help = "Example: harvester config --config harvester.toml")]
    Config(cli::config::Args),
    /// Say something to the service: kill switch, gaps, risk, rungs. A dry run, unless --yes
    Control(cli::control::Args),
    /// Every change of a symbol's positions, in order, with its cause
    History(cli::history::Args),
    /// Where two stores, snapshots or replays part; exit code 1 if they do
    Diff(cli::diff::Args),
    /// Snapshots of the state, for looking back
    #[command(subcommand)]
    Snapshots(cli::snapshots::Command),
    /// Our own record of everything consumed
    #[command(subcommand)]
    Journal(cli::journal::Command),
    /// Recompute what was decided and hold it against what was emitted: clean, findings, or incomplete
    #[command(after_help = "Example: harvester audit history/ --decisions decisions.jsonl")]
    Audit(cli::audit::Args),
    /// Explain a decision, or why a symbol was not harvested, on one screen
    Explain(cli::explain::Args),
    /// Fold one history under several policies, side by side
    Whatif(cli::whatif::Args),
    /// How long positions stood under each reason to hold
    #[command(after_help = "Example: harvester stats --store state")]
    Stats(cli::stats::Args),
    /// Entries that were put aside, with the reason
    #[command(subcommand)]
    Quarantine(cli::quarantine::Command),
    /// The night when 44 positions were open and none could be evaluated: no server, no file of yours
    #[command(after_help = "Example: harvester demo")]
    Demo,
    /// Print the schemas of all entries read and written
    #[command(after_help = "Example: harvester schema apply.result.v2")]
    Schema {
        /// Name of a schema; without one, all names
        name: Option<String>,
    },
    /// Print the shell's completion script
    #[command(after_help = "Example: harvester completions bash > /etc/bash_completion.d/harvester")]
    Completions {
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    harvester::shell::process::with_steady_memory();
    harvester::shell::process::with_private_files();
    let cli = Cli::parse();
    if let Err(error) = harvester::shell::process::without_core_dumps() {
        say(&format!("core dumps cannot be switched off: {error}"));
    }
    let mut out = std::io::stdout().lock();
    let done = run(cli, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&sentence(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// To standard error, whether or not somebody still reads it: `eprintln!` would panic where nobody does.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "harvester: {}", shown(text));
}

/// An error and its causes; what says its cause itself does not say it twice.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut said, cause| {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            said.push_str(if said.is_empty() { "" } else { ": " });
            said.push_str(&cause);
        }
        said
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    match () {
        () if error.is::<cli::exit_code::Found>() => 1,
        () if is_unreachable(error) => 3,
        () => 2,
    }
}

fn is_unreachable(error: &anyhow::Error) -> bool {
    let is_cause = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref().is_some_and(ServerError::is_unreachable)
            || cause.downcast_ref().is_some_and(CallError::is_unreachable)
            || cause.downcast_ref().is_some_and(ClientError::is_unreachable)
    };
    // A service that was at work, whatever ended it, is worth another start. A context is no link of the chain.
    error.is::<service::run::Failed>() || error.chain().any(is_cause)
}

/// Logs go to standard error, as long as somebody reads it; the work goes on without. An event is one line, whatever its
/// fields hold.
fn trace(level: LevelFilter) {
    let fields = format::debug_fn(|to, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(to, "{}", shown(&value)),
            name => write!(to, "{}={}", name.trim_start_matches("r#"), shown(&value)),
        }
    });
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        // It would say so on standard error, and panic.
        .log_internal_errors(false)
        .with_target(false)
        .fmt_fields(fields.delimited(" "))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

fn run(cli: Cli, out: &mut dyn Write) -> anyhow::Result<()> {
    // Who looks for faults finds those of the configuration, too.
    let (config, refused) = match &cli.command {
        Command::Doctor(_) => Config::load_partly(cli.config.as_deref()),
        _ => (Config::load(cli.config.as_deref())?, Vec::new()),
    };
    trace(config.log_level);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match cli.command {
        Command::Replay { histories, store, snapshot_every, since, until, derive, decisions, skip_bad_lines, json } => {
            let rebuild = false;
            let request = cli::replay::Request {
                histories,
                store,
                rebuild,
                rows_beside: Vec::new(),
                snapshot_every,
                since,
                until,
                derive,
                skip_bad_lines,
            };
            cli::replay::run(&request, &config, decisions.as_deref(), json, out)
        }
        Command::Run(args) => service::run::run(&args, &config),
        Command::Record(args) => cli::record::run(&args, &config),
        Command::Import { histories, redis, skip_bad_lines, json } => {
            cli::import::run(&cli::import::Request { histories, redis, skip_bad_lines, json }, &config, out)
        }
        Command::Positions(args) => cli::positions::execute(&args, &config, out),
        Command::Status(args) => cli::status::run(&args, &config, out),
        Command::Config(args) => cli::config::run(&args, &config, out),
        Command::Backfill(args) => cli::backfill::run(&args, &config, out),
        Command::Control(args) => cli::control::run(&args, &config, out),
        Command::History(args) => cli::history::run(&args, &config, out),
        Command::Diff(args) => cli::diff::run(&args, &config, out),
        Command::Snapshots(command) => cli::snapshots::run(&command, &config, out),
        Command::Journal(command) => cli::journal::run(&command, out),
        Command::ImportHashes(args) => cli::import_hashes::run(&args, &config, out),
        Command::Reconcile(args) => cli::reconcile::run(&args, &config, out),
        Command::Doctor(args) => cli::doctor::run(&args, &config, &refused, out),
        Command::Needs(args) => cli::needs::run(&args, out),
        Command::Feed(args) => service::feed::run(&args, &config),
        Command::Quarantine(command) => cli::quarantine::run(&command, out),
        Command::Audit(args) => cli::audit::run(&args, &config, out),
        Command::Explain(args) => cli::explain::run(&args, &config, out),
        Command::Whatif(args) => cli::whatif::run(&args, &config, out),
        Command::Stats(args) => cli::stats::run(&args, out),
        Command::Demo => cli::demo::run(out),
        Command::Schema { name } => cli::schema::run(name.as_deref(), out),
        Command::Completions { shell } => {
            // It panics where a write fails.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "harvester", &mut script);
            Ok(out.write_all(&script)?)
        }
    }
}
