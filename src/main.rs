//! Parse → trace → `cli::<command>`; the only exit code.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;
use harvester::cli::{self, Cli, Command};
use harvester::codec::shown::shown;
use harvester::config::{Config, ConfigError};
use harvester::service;
use harvester::shell::exchange::CallError;
use harvester::shell::redis::ServerError;
use harvester::shell::web::ClientError;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format;

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
        // A reader that closes the pipe early (`| head`) is not a failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&sentence(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// Writes a line to standard error. Ignores a closed standard error, at which `eprintln!` would panic.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "harvester: {}", shown(text));
}

/// Returns an error with its causes as one line. Leaves out a cause whose text is in the line already.
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
    // A service that failed while it worked is worth another start. `Failed` is a context, which `chain` leaves out.
    error.is::<service::run::Failed>() || error.chain().any(is_cause)
}

/// Sets up the log on standard error. If standard error is closed, the work continues without a log. Each event is one
/// line, whatever its fields contain.
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
        // It would report a failed write on standard error, and panic.
        .log_internal_errors(false)
        .with_target(false)
        .fmt_fields(fields.delimited(" "))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}

fn run(cli: Cli, out: &mut dyn Write) -> anyhow::Result<()> {
    let (config, refused) = configuration(&cli)?;
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
        Command::Run(args) => service::run::run(&args, &config, cli.cell, cli::audit::of_origin),
        Command::Record(args) => cli::record::run(&args, &config),
        Command::Import { histories, redis, skip_bad_lines, json } => {
            cli::import::run(&cli::import::Request { histories, redis, skip_bad_lines, json }, &config, out)
        }
        Command::Positions(args) => cli::positions::execute(&args, &config, out),
        Command::Status(args) => cli::status::run(&args, &config, cli.cell, out),
        Command::Top(args) => cli::top::run(&args, &config),
        Command::Config(args) => cli::config::run(&args, &config, out),
        Command::Backfill(args) => cli::backfill::run(&args, &config, out),
        Command::Chart(command) => cli::chart::run(&command, &config),
        Command::Console(args) => cli::console::run(&args, &config, out),
        Command::Control(args) => cli::control::run(&args, &config, cli.cell, out),
        Command::History(args) => cli::history::run(&args, &config, out),
        Command::Diff(args) => cli::diff::run(&args, &config, out),
        Command::Snapshots(command) => cli::snapshots::run(&command, &config, out),
        Command::Journal(command) => cli::journal::run(&command, out),
        Command::Cells(command) => cli::cells::run(&command, &config, out),
        Command::ImportHashes(args) => cli::import_hashes::run(&args, &config, out),
        Command::Reconcile(args) => cli::reconcile::run(&args, &config, out),
        Command::Doctor(args) => cli::doctor::run(&args, &config, &refused, out),
        Command::Needs(args) => cli::needs::run(&args, out),
        Command::Feed(args) => service::feed::run(&args, &config),
        Command::Quarantine(command) => cli::quarantine::run(&command, &config, out),
        Command::Audit(args) => cli::audit::run(&args, &config, out),
        Command::Explain(args) => cli::explain::run(&args, &config, out),
        Command::Whatif(args) => cli::whatif::run(&args, &config, out),
        Command::Stats(args) => cli::stats::run(&args, out),
        Command::Demo(args) => cli::demo::run(&args, out),
        Command::Schema { name } => cli::schema::run(name.as_deref(), out),
        Command::Completions { shell } => {
            // It panics where a write fails.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut cli::command_line(), "harvester", &mut script);
            Ok(out.write_all(&script)?)
        }
    }
}

/// Returns the configuration of the command and, for `doctor`, the settings in it that are invalid.
fn configuration(cli: &Cli) -> anyhow::Result<(Config, Vec<ConfigError>)> {
    let cell = match (&cli.command, cli.cell) {
        (Command::Run(_) | Command::Control(_), cells) => cells.map(|cells| cells.first),
        (Command::Status(args), cells) if args.is_of_cells() => Some(cells.map_or(0, |cells| cells.first)),
        (Command::Cells(_), _) => Some(0),
        (_, Some(cells)) if !cells.is_one() => {
            bail!("--cell {cells}: only `run`, `control` and `status --cells` take several cells")
        }
        (_, cells) => cells.map(|cells| cells.first),
    };
    // Who looks for faults finds those of the configuration, too.
    match &cli.command {
        Command::Doctor(_) => Ok(Config::load_partly(cli.config.as_deref(), cell)),
        // Without a cell, it is for all of them.
        Command::Control(_) => match Config::load(cli.config.as_deref(), cell) {
            Err(error) if error.needs_cell() => Ok((Config::load(cli.config.as_deref(), Some(0))?, Vec::new())),
            loaded => Ok((loaded?, Vec::new())),
        },
        _ => Ok((Config::load(cli.config.as_deref(), cell)?, Vec::new())),
    }
}
