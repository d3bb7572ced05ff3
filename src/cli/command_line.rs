//! The definition of the command line: every command and option, and the list of commands by purpose.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

use super::moment;
use crate::config::Cells;
use crate::service;

/// The commands by purpose. Each command is in exactly one group; a test checks that.
pub const GROUPS: [(&str, &[&str]); 5] = [
    ("Look", &["console", "chart", "status", "top", "positions", "explain", "history", "stats", "needs"]),
    ("Run", &["run", "record", "feed", "control"]),
    ("Repair", &["doctor", "reconcile", "backfill", "quarantine", "journal"]),
    ("Prove", &["replay", "audit", "diff", "whatif", "snapshots"]),
    ("Set up", &["demo", "config", "import", "import-hashes", "cells", "schema", "completions"]),
];

/// Width of the list of commands. [columns]
const HELP_WIDTH: usize = 80;

/// Derive positions and decisions to take profit from the history of a futures trading system.
#[derive(Parser)]
#[command(name = "harvester", version, arg_required_else_help = true, help_template = grouped())]
#[command(after_help = "Exit codes: 0 done, 1 a check found something, 2 wrong usage, configuration or input, \
                        3 a service could not be reached, or failed while it worked.")]
pub struct Cli {
    /// Configuration file (TOML); variables of the environment override it
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    pub config: Option<PathBuf>,
    /// Number of the cell, for `%cell%` in the configuration; `run`, `control` and `status --cells` take several: 0..15 is 0
    /// to 15, both included
    #[arg(long, global = true, value_name = "N|N..M", display_order = 900)]
    pub cell: Option<Cells>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Replay recorded histories: positions, decisions and a summary
    #[command(after_help = "Example: harvester replay history/ --store state --decisions decisions.jsonl")]
    Replay {
        /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
        #[arg(required = true, value_name = "HISTORY")]
        histories: Vec<PathBuf>,
        /// Keep the state in this folder. Entries that the store has already applied are skipped
        #[arg(long, value_name = "DIR")]
        store: Option<PathBuf>,
        /// Take a snapshot of the state after every N entries, and at the end, into DIR.snapshots
        #[arg(long, value_name = "N", requires = "store", value_parser = clap::value_parser!(u64).range(1..))]
        snapshot_every: Option<u64>,
        #[arg(long, value_name = "ID|TIME", help = moment::help_since("Report"))]
        since: Option<String>,
        #[arg(long, value_name = "ID|TIME", help = moment::help("Stop after this entry or time"))]
        until: Option<String>,
        /// Ignore decisions in the history: derive all of them anew
        #[arg(long)]
        derive: bool,
        /// Write the decisions as a history file, - for standard output
        #[arg(long, value_name = "FILE")]
        decisions: Option<PathBuf>,
        /// Skip and count lines that are not entries, instead of stopping at them
        #[arg(long)]
        skip_bad_lines: bool,
        /// The summary as one JSON document
        #[arg(long)]
        json: bool,
    },
    Run(service::run::Args),
    /// Keep a journal of the live streams, and nothing else, without a consumer group
    Record(super::record::Args),
    /// Write a history into Redis streams under its own ids; streams that are not empty are refused
    #[command(
        after_help = "Example: harvester import replay/nights/incident-2026-02-04/events.jsonl --redis redis://127.0.0.1:6379"
    )]
    Import {
        /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
        #[arg(required = true, value_name = "HISTORY")]
        histories: Vec<PathBuf>,
        #[command(flatten)]
        redis: crate::config::flags::RedisFlag,
        /// Skip and count lines that are not entries, instead of stopping at them
        #[arg(long)]
        skip_bad_lines: bool,
        /// The summary as one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show open positions, the source of each number, and their holds
    Positions(super::positions::Args),
    /// Show the running service; exit code 1 if it needs a person
    Status(super::status::Args),
    /// Watch a running service in the terminal: positions, holds, decisions, inputs
    Top(super::top::Args),
    /// Read history, look up what is still missing, report the result for each position
    #[command(after_help = "Examples: harvester backfill --dry-run --write-back
          harvester backfill --gap --store state --journal journal archive/apply.result.jsonl.zst
Exit code 1: a position still lacks something.")]
    Backfill(super::backfill::Args),
    /// Convert the hashes of the old service to history, once, at a migration
    #[command(after_help = "Example: harvester import-hashes --dry-run")]
    ImportHashes(super::import_hashes::Args),
    /// Compare all positions with the exchange, now; exit code 1 if something differs
    #[command(after_help = "Examples: harvester reconcile --store state
          harvester reconcile --url http://127.0.0.1:9464 --json")]
    Reconcile(super::reconcile::Args),
    /// Find what is wrong on this machine, with a next step for each finding; exit code 1 if there is one
    #[command(after_help = "Example: harvester doctor --env-file /etc/default/harvester")]
    Doctor(super::doctor::Args),
    /// List the missing values of positions that harvester can fetch
    #[command(after_help = "Example: harvester needs --store state")]
    Needs(super::needs::Args),
    /// Write the messages of the exchange's sockets to the streams: mark prices, fills
    #[command(
        subcommand,
        after_help = "Examples: harvester feed mark
          harvester feed user --listen 127.0.0.1:9466"
    )]
    Feed(service::feed::Args),
    /// Show the effective settings, the origin of each, and the hashes of policy and settings; secrets are masked
    #[command(after_help = "Example: harvester config --config harvester.toml")]
    Config(super::config::Args),
    /// Draw the life of a position, or the profits of policies, as an SVG or PNG file
    #[command(subcommand)]
    Chart(super::chart::Command),
    /// Show a history, a journal or a store in the browser, as of any moment
    Console(super::console::Args),
    /// Write a control entry: kill switch, gaps, risk, rungs; for all cells, unless --cell is given. A dry run, unless
    /// --yes is given
    #[command(after_help = "Examples: harvester control kill on --reason \"exchange is down\" --yes
          harvester control gap-accept NEARUSDT --reason \"checked by hand\" --yes")]
    Control(super::control::Args),
    /// List every change of a symbol's positions, in order, with its cause
    History(super::history::Args),
    /// Find where two stores, snapshots or replays differ; exit code 1 if they do
    Diff(super::diff::Args),
    /// List and verify snapshots of the state
    #[command(subcommand, after_help = "Example: harvester snapshots verify --store live")]
    Snapshots(super::snapshots::Command),
    /// Verify the journal, the record that harvester keeps of every entry that it read
    #[command(subcommand, after_help = "Example: harvester journal verify journal/")]
    Journal(super::journal::Command),
    /// Deal the accounts of several cells to another number of cells
    #[command(subcommand, after_help = "Example: harvester cells split --from three.toml --config five.toml")]
    Cells(super::cells::Command),
    /// Recompute the decisions and compare them with those that were emitted: clean, findings, or incomplete
    #[command(after_help = "Example: harvester audit history/ --decisions decisions.jsonl")]
    Audit(super::audit::Args),
    /// Explain a decision, or why a symbol was not harvested, on one screen
    Explain(super::explain::Args),
    /// Fold one history under several policies, side by side
    Whatif(super::whatif::Args),
    /// Show how long positions had each hold
    #[command(after_help = "Example: harvester stats --store state")]
    Stats(super::stats::Args),
    /// Show quarantined entries, with the reason
    #[command(subcommand, after_help = "Example: harvester quarantine list --store state")]
    Quarantine(super::quarantine::Command),
    /// Replay the night when 44 positions were open and none could be evaluated; needs no server and no files
    #[command(after_help = "Examples: harvester demo
          harvester demo --console")]
    Demo(super::demo::Args),
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

/// Returns the definition, for completions and the reference.
pub fn command_line() -> clap::Command {
    Cli::command()
}

/// Returns the template of the help, with the commands by purpose in place of one long list.
fn grouped() -> clap::builder::StyledStr {
    let commands = Command::augment_subcommands(clap::Command::new("harvester"));
    let header = *commands.get_styles().get_header();
    let literal = *commands.get_styles().get_literal();
    let names = GROUPS.iter().flat_map(|(_, names)| *names);
    let column = names.map(|name| name.len()).max().unwrap_or(0);
    let mut text = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (group, names) in GROUPS {
        let _ = write!(text, "\n{header}{group}:{header:#}\n");
        for name in names {
            let about = commands.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            for (at, line) in wrapped(&about, HELP_WIDTH - column - 4).iter().enumerate() {
                let shown = if at == 0 { name } else { "" };
                let _ = writeln!(text, "  {literal}{shown:column$}{literal:#}  {line}");
            }
        }
    }
    let _ = write!(text, "\n{header}Options:{header:#}\n{{options}}\n\n`harvester help COMMAND` explains one command.");
    text.push_str("{after-help}");
    text.into()
}

/// Breaks a text at blanks into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command_line().debug_assert();
    }

    #[test]
    fn each_command_is_in_exactly_one_group() {
        let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            *listed.entry(name).or_default() += 1;
        }
        let command = command_line();
        let defined: BTreeMap<&str, usize> = command.get_subcommands().map(|command| (command.get_name(), 1)).collect();
        assert_eq!(listed, defined);
    }

    /// Asserts that the help of a command, and of each command below it, has an example of it.
    fn expect_example(command: &clap::Command, name: &str) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Example") && help.contains(name), "the help of `{name}` has no example of it: {help:?}");
        for below in command.get_subcommands() {
            expect_example(below, &format!("{name} {}", below.get_name()));
        }
    }

    #[test]
    fn the_help_lists_each_command_once_and_names_the_help_of_one() {
        let help = command_line().render_help().to_string();
        for name in GROUPS.iter().flat_map(|(_, names)| *names) {
            // A description that is continued is further to the right.
            let names = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
            let lines = names.filter(|first| first == name);
            assert_eq!(lines.count(), 1, "{name} in\n{help}");
        }
        for part in ["Look:", "Set up:", "--config <FILE>", "harvester help COMMAND", "Exit codes: 0 done"] {
            assert_eq!(help.matches(part).count(), 1, "{part} in\n{help}");
        }
        for command in command_line().get_subcommands_mut() {
            expect_example(command, &format!("harvester {}", command.get_name()));
            assert!(command.get_about().is_some(), "{} is not described", command.get_name());
            assert!(!command.render_long_help().to_string().contains("Set up:"), "{}", command.get_name());
        }
    }
}
