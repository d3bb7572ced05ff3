//! The page of the command line.

use std::fmt::Write as _;

use clap::{Arg, Command};
use harvester::cli::{GROUPS, command_line};

use super::pages::{escaped, head};

/// Returns the page: the general options, then each command by purpose.
pub fn page() -> String {
    let mut command = command_line();
    command.build();
    let mut page = head("Command line", "src/cli/command_line.rs");
    page.push_str("`harvester help` lists the commands, and `harvester help COMMAND` explains one.\n");
    if let Some(codes) = command.get_after_help() {
        let _ = write!(page, "\n{}\n", escaped(&codes.to_string()));
    }
    page.push_str("\nEvery command takes:\n\n");
    for arg in command.get_arguments() {
        option(&mut page, arg);
    }
    for (group, names) in GROUPS {
        let _ = write!(page, "\n## {group}\n");
        for name in names {
            if let Some(command) = command.find_subcommand_mut(name) {
                section(&mut page, command, name, 3);
            }
        }
    }
    page
}

fn section(page: &mut String, command: &mut Command, name: &str, depth: usize) {
    let _ = write!(page, "\n{} {name}\n", "#".repeat(depth));
    if let Some(about) = command.get_about() {
        let _ = write!(page, "\n{}.\n", escaped(&about.to_string()));
    }
    let usage = command.render_usage().to_string();
    let _ = write!(page, "\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim());
    let own = command.get_arguments().filter(|arg| !arg.is_global_set() && !arg.is_hide_set());
    let own: Vec<&Arg> = own.filter(|arg| arg.get_id() != "help").collect();
    if !own.is_empty() {
        page.push('\n');
    }
    for arg in own {
        option(page, arg);
    }
    if let Some(example) = command.get_after_help() {
        let _ = write!(page, "\n```text\n{}\n```\n", example.to_string().trim());
    }
    for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
        let name = format!("{name} {}", below.get_name());
        section(page, below, &name, depth + 1);
    }
}

fn option(page: &mut String, arg: &Arg) {
    let _ = write!(page, "- `{arg}`");
    if let Some(help) = arg.get_help() {
        let _ = write!(page, ": {}", escaped(&help.to_string()));
    }
    let takes_value = arg.get_action().takes_values();
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if takes_value && !values.is_empty() {
        let _ = write!(page, " (one of {})", values.join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value && !defaults.is_empty() {
        let _ = write!(page, " (default `{}`)", defaults.join(" "));
    }
    page.push('\n');
}
