//! Commands to several cells: which cells a command is for, and one line for each.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::{Command, Document, Done, How, Others, Plan, To, verdict};
use crate::cli::exit_code::Found;
use crate::cli::json;
use crate::codec::operator::OperatorCommand;
use crate::codec::plural::plural;
use crate::config::{Cells, Config};
use crate::domain::book::state::account_of_position;
use crate::shell::terminal::{Screen, Tone};

/// Returns the configuration of each cell that a command is for; that of the service if there are no cells.
pub(super) fn asked(config: Config, cells: Option<Cells>, word: &OperatorCommand) -> anyhow::Result<Vec<Config>> {
    let of_cell = |cell: u32| {
        let config = config.for_cell(cell)?;
        config.check_number()?;
        Ok::<_, anyhow::Error>(config)
    };
    if let Some(cells) = cells {
        return cells.iter().map(of_cell).collect();
    }
    if config.run.cell.is_none() || config.states_its_cell() {
        return Ok(vec![config]);
    }
    let all = config.all_cells().context(
        "the configuration does not state how many cells there are, and the command is for all of them: set run.cells, or give \
         --cell 0..15",
    )?;
    let all = all.into_iter().map(of_cell).collect::<anyhow::Result<Vec<_>>>()?;
    let Some(account) = account_of(word) else { return Ok(all) };
    let reads = |config: &Config| config.streams.selection().contains(account);
    let of_account: Vec<Config> = all.into_iter().filter(reads).collect();
    if of_account.is_empty() {
        bail!("no cell of the configuration reads the account {account:?}: give --cell N if you mean another one");
    }
    Ok(of_account)
}

/// Returns the only account that a command concerns; empty for the account without a name.
fn account_of(word: &OperatorCommand) -> Option<&str> {
    match word {
        OperatorCommand::Kill(_) => None,
        OperatorCommand::AccountKill { account, .. } => Some(account),
        OperatorCommand::GapAccepted { account, .. } => account.as_deref(),
        OperatorCommand::RiskAccepted(position) | OperatorCommand::RungRearmed(position, _) => {
            Some(account_of_position(position))
        }
    }
}

/// Returns the cells that a kill at these cells does not reach: those with another kill key.
pub(super) fn others(asked: &[&Config], word: &OperatorCommand) -> Others {
    let [first, ..] = asked else { return Others::default() };
    let (OperatorCommand::Kill(_), Some(cell)) = (word, first.run.cell) else { return Others::default() };
    let cell = (asked.len() == 1).then_some(cell);
    let keys: BTreeSet<&str> = asked.iter().map(|config| &*config.emit.kill_key).collect();
    let reached: BTreeSet<Option<u32>> = asked.iter().map(|config| config.run.cell).collect();
    let Some(all) = first.all_cells() else {
        // Whether a name has the cell in it shows in the name of any other cell.
        let other = (0..2).find(|other| Some(*other) != first.run.cell).and_then(|other| first.for_cell(other).ok());
        let is_shared = other.is_none_or(|other| keys.contains(&*other.emit.kill_key));
        let not_reached = if is_shared { String::new() } else { "all other cells".to_owned() };
        return Others { cell: cell.filter(|_| !is_shared), not_reached };
    };
    let is_other = |of: &u32| {
        let config = || first.for_cell(*of).ok();
        !reached.contains(&Some(*of)) && config().is_some_and(|config| !keys.contains(&*config.emit.kill_key))
    };
    let numbers: Vec<String> = all.iter().filter(|of| is_other(of)).map(ToString::to_string).collect();
    let not_reached = match numbers.len() {
        0 => return Others::default(),
        1 => format!("cell {}", numbers[0]),
        _ => format!("the cells {}", numbers.join(", ")),
    };
    Others { cell, not_reached }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Documents<'a> {
    cells: Vec<OfCell<'a>>,
    /// The cells that the command does not reach, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'a str>,
}

#[derive(Serialize)]
struct OfCell<'a> {
    cell: u32,
    #[serde(flatten)]
    document: Option<Document<'a>>,
    /// Why the command failed at this cell.
    error: Option<String>,
}

/// A cell with what was done there, or why nothing was.
struct Carried<'a> {
    to: &'a To<'a>,
    outcome: Option<(Plan, Done)>,
    /// Why the command failed at this cell.
    error: Option<String>,
}

/// Carries a command out at all of these cells, at the same time. Fails with [`Found`] if one did not work, and with the
/// error of the first one if none could be reached.
pub(super) fn run(order: &Command, cells: &[Config], how: &How, out: &mut dyn Write) -> anyhow::Result<()> {
    if how.url.is_some() {
        bail!(
            "--url is the address of one service, and the command is for {} cells: give --cell N as well",
            cells.len()
        );
    }
    let mut streams: BTreeSet<String> = BTreeSet::new();
    let mut all: Vec<To<'_>> = Vec::new();
    for config in cells {
        let mut to = To::of(config, None)?;
        to.writes_entry = streams.insert(to.stream.clone());
        all.push(to);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let carried = runtime.block_on(futures_util::future::join_all(all.iter().map(|to| to.carry_out(order))));
    let configs: Vec<&Config> = cells.iter().collect();
    let warning = others(&configs, &order.word).warning(&order.word);
    let mut failed: Vec<(u32, anyhow::Error)> = Vec::new();
    let mut done: Vec<Carried<'_>> = Vec::new();
    let mut unreached = 0;
    for (to, carried) in all.iter().zip(carried) {
        let cell = to.config.run.cell.unwrap_or_default();
        let (outcome, error) = match carried {
            Ok(outcome) => {
                let error = verdict(&order.word, &outcome.1).err();
                (Some(outcome), error)
            }
            Err(error) => {
                unreached += 1;
                (None, Some(error))
            }
        };
        done.push(Carried { to, outcome, error: error.as_ref().map(|error| format!("{error:#}")) });
        failed.extend(error.map(|error| (cell, error)));
    }
    if how.json {
        let cells = done.iter().map(|Carried { to, outcome, error }| OfCell {
            cell: to.config.run.cell.unwrap_or_default(),
            document: outcome.as_ref().map(|(plan, done)| Document::of(plan, to, done)),
            error: error.clone(),
        });
        json::write(out, &Documents { cells: cells.collect(), warning: warning.as_deref() })?;
    } else {
        show(order, &done, warning.as_deref(), &mut Screen::stdout(out))?;
    }
    if unreached == cells.len() {
        return Err(failed.swap_remove(0).1);
    }
    match failed.len() {
        0 => Ok(()),
        n => {
            let numbers: Vec<String> = failed.iter().map(|(cell, _)| cell.to_string()).collect();
            let of = cells.len();
            Err(Found(format!("at {} of {of} it did not work: {}", plural(n as u64, "cell"), numbers.join(", ")))
                .into())
        }
    }
}

fn show(order: &Command, all: &[Carried<'_>], warning: Option<&str>, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.heading(&format!("to {}", plural(all.len() as u64, "cell")))?;
    for (name, value) in order.entry.fields() {
        screen.line(&format!("  {name:<11} {value}"))?;
    }
    let mut rows = Vec::new();
    let mut notes: Vec<&str> = Vec::new();
    for Carried { to, outcome, error } in all {
        let cell = format!("cell {}", to.config.run.cell.unwrap_or_default());
        let (tone, said) = match (outcome, error) {
            (_, Some(error)) => (Tone::Bad, format!("FAILED: {error}")),
            (Some((plan, done)), None) => (Tone::Good, said(to, plan, done, order.is_written)),
            (None, None) => continue,
        };
        rows.push(vec![(cell, Tone::Plain), (said, tone)]);
        let warnings = outcome.iter().flat_map(|(plan, _)| &plan.warnings);
        notes.extend(warnings.map(String::as_str).filter(|note| !notes.contains(note)).collect::<Vec<_>>());
    }
    screen.rows(rows)?;
    for note in notes.into_iter().chain(warning) {
        screen.line(&format!("Note: {note}"))?;
    }
    if !order.is_written {
        screen.line("Nothing was written: --yes writes it.")?;
    }
    Ok(())
}

/// Returns what was done at a cell, or what would be done.
fn said(to: &To<'_>, plan: &Plan, done: &Done, is_written: bool) -> String {
    if !is_written {
        let target =
            done.target.as_ref().and_then(super::Target::says).map_or_else(String::new, |says| format!(" {says}"));
        return format!("{}: {}{target}", to.stream, plan.effect);
    }
    let mut parts = Vec::new();
    parts.extend(done.kill_key.map(|value| format!("{} is set to {value}.", to.config.emit.kill_key)));
    parts.push(match &done.id {
        Some(id) => format!("Written as {id}."),
        None => format!("It reads the entry in {}.", to.stream),
    });
    parts.extend(done.answer.as_ref().map(super::Answer::says));
    parts.extend(done.target.as_ref().and_then(super::Target::says));
    parts.join(" ")
}
