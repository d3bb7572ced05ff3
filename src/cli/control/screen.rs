//! What a command of an operator shows: the entry, what it does, and what came of it.

use super::target::Target;
use super::{Ahead, Done, Plan};
use crate::codec::operator::OperatorCommand;
use crate::codec::time;
use crate::shell::terminal::Screen;

pub(super) fn show(plan: &Plan, stream: &str, done: &Done, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.heading(&format!("to {stream}"))?;
    for (name, value) in plan.entry.fields() {
        screen.line(&format!("  {name:<11} {value}"))?;
    }
    match done.target.as_ref().and_then(Target::says) {
        Some(says) if matches!(done.target, Some(Target::Unknown(_))) => screen.line(&says)?,
        says => {
            screen.line(&plan.effect)?;
            if let Some(says) = says {
                screen.line(&format!("Note: {says}"))?;
            }
        }
    }
    for warning in &plan.warnings {
        screen.line(&format!("Note: {warning}"))?;
    }
    match (&done.id, &done.refusal) {
        (Some(id), _) => screen.line(&format!("Written as {id}."))?,
        (None, Some(why)) if done.is_in_doubt => {
            screen.line(&format!("The connection broke, so the entry may be written or not: {why}."))?
        }
        (None, Some(why)) => {
            screen.line(&format!("The entry could not be appended: {why}. The log has no trace of this command."))?
        }
        (None, None) => screen.line("Nothing was written: --yes writes it.")?,
    }
    if let Some(value) = done.kill_key {
        screen.line(&format!("The kill key is set to {value}."))?;
    }
    if let Some(answer) = &done.answer {
        screen.line(&answer.says())?;
    }
    Ok(())
}

/// Returns what a command does. `only` is the cell that a kill is for, if it is not for all cells.
pub(super) fn effect(word: &OperatorCommand, kill_key: &str, ahead: Option<&Ahead>, only: Option<u32>) -> String {
    let turn = ahead.map(|ahead| {
        format!(
            "the ids of the control stream are {} ahead of the server's clock, and this entry has its turn at {}",
            time::span(ahead.by_ms),
            time::iso(ahead.turn_ms)
        )
    });
    let effect = match word {
        OperatorCommand::Kill(kill) => return effect_of_kill(*kill, kill_key, turn.as_deref(), only),
        OperatorCommand::AccountKill { account, kill: true } => {
            format!("No decision is made in the account {account} until `control kill off --account {account}`.")
        }
        OperatorCommand::AccountKill { account, kill: false } => {
            format!("Decisions are made again in the account {account}.")
        }
        OperatorCommand::GapAccepted { symbol, account } => {
            let within = account.as_ref().map_or_else(String::new, |account| format!(" in the account {account}"));
            match symbol {
                None => {
                    format!(
                        "Every symbol that is held for a gap in its history{within} is released, with its present quantity."
                    )
                }
                Some(symbol) => {
                    format!(
                        "If {symbol} is held for a gap in its history{within}, it is released, with its present quantity."
                    )
                }
            }
        }
        OperatorCommand::RiskAccepted(position) => {
            format!(
                "In live mode, orders for {position} are sent even if the sources of its entry price or risk fields are weak."
            )
        }
        OperatorCommand::RungRearmed(position, r) => {
            format!(
                "The rung at {r} R of {position} can be taken again: if its order was executed, it will be executed again."
            )
        }
    };
    match turn {
        Some(turn) => format!("{effect} Not before that: {turn}."),
        None => effect,
    }
}

/// Returns the effect of the kill switch for all accounts: the key counts at once, the entry when it has its turn.
fn effect_of_kill(kill: bool, kill_key: &str, turn: Option<&str>, only: Option<u32>) -> String {
    let of_cell = only.map_or_else(String::new, |cell| format!(" of cell {cell}"));
    match (kill, turn) {
        (true, turn) => {
            let decisions = match turn {
                None => "No decision is made until `control kill off`.".to_owned(),
                Some(turn) => format!(
                    "Decisions are still made until then, since {turn}: each is recorded, refused and \
                     (`decision.expired`) taken back at that time; its position is held meanwhile."
                ),
            };
            format!(
                "{kill_key} is set to 1 and refuses every order{of_cell} from then on. {decisions} Consumption goes on."
            )
        }
        (false, None) => format!(
            "{kill_key} is set to 0. Decisions are made again once the service has read this entry and believes it."
        ),
        (false, Some(turn)) => {
            format!("{kill_key} is set to 0. What is killed stays killed until then: {turn}.")
        }
    }
}

/// Returns what an operator must know about the command.
pub(super) fn warnings(word: &OperatorCommand, is_signed: bool) -> Vec<String> {
    match word {
        OperatorCommand::Kill(true) => Vec::new(),
        _ if is_signed => Vec::new(),
        OperatorCommand::Kill(false)
        | OperatorCommand::AccountKill { .. }
        | OperatorCommand::GapAccepted { .. }
        | OperatorCommand::RiskAccepted(_)
        | OperatorCommand::RungRearmed(..) => {
            vec!["no signing key is configured here: a service that has one refuses this entry".to_owned()]
        }
    }
}
