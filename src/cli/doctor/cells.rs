//! The claims of cells: which cell acts for which accounts, and whether two act for one.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Check;
use crate::codec::scope;
use crate::config::Config;
use crate::domain::event::selection::Selection;
use crate::service::run::claim::shared;
use crate::service::server::decision_stream;
use crate::shell::redis::{Claim, Server, ServerError, claims_key};

const AREA: &str = "cells";

/// Runs the checks of a cell; none for a service that is no cell and reads all accounts.
pub async fn checks(server: &mut Server, config: &Config) -> Vec<Check> {
    if config.scope().is_everything() {
        return Vec::new();
    }
    let siblings = siblings(config);
    let mut checks = Vec::new();
    let mut keys: BTreeSet<String> = siblings.keys().map(|decisions| claims_key(decisions)).collect();
    match server.claim_keys().await {
        Ok(found) => keys.extend(found),
        Err(error) => checks.push(not_read("claims of other configurations", &error)),
    }
    let mut is_claimed = false;
    for key in keys {
        match server.claims_in(&key).await {
            Ok(claims) => {
                is_claimed |= !claims.is_empty();
                checks.extend(claims.iter().map(|claim| of_claim(config, &siblings, claim)));
            }
            Err(error) => checks.push(not_read(&key, &error)),
        }
    }
    if !is_claimed {
        checks.push(Check::ok(AREA, "claims", "no cell is at work"));
    }
    checks
}

fn not_read(subject: &str, error: &ServerError) -> Check {
    let next = "allow scan and hgetall on the keys *harvester.cells: without them, two cells that act for one account are not seen";
    Check::warning(AREA, subject, format!("they cannot be read: {error}"), next)
}

/// Returns the decision streams of all cells of the configuration, each with the number and the accounts of its cell.
fn siblings(config: &Config) -> BTreeMap<String, (Option<u32>, Selection)> {
    let own = std::iter::once(config.clone());
    let others = config.all_cells().unwrap_or_default().into_iter().filter_map(|cell| config.for_cell(cell).ok());
    let of = |config: Config| {
        let selection = config.streams.selection().clone();
        (decision_stream(&config.streams), (config.run.cell, selection))
    };
    own.chain(others).map(of).collect()
}

fn of_claim(config: &Config, siblings: &BTreeMap<String, (Option<u32>, Selection)>, claim: &Claim) -> Check {
    let subject = &claim.decisions;
    let accounts = scope::read_selection(&claim.text).map_or_else(|_| claim.text.clone(), |of| of.to_string());
    let group = scope::group_of_claim(&claim.text).map_or_else(String::new, |group| format!(", group {group}"));
    if let Some((cell, selection)) = siblings.get(subject) {
        let cell = cell.map_or_else(|| "this service".to_owned(), |cell| format!("cell {cell}"));
        if scope::read_selection(&claim.text).is_ok_and(|of| of == *selection) {
            return Check::ok(AREA, subject, format!("{cell} acts for {accounts}{group}"));
        }
        let next = "stop it: a cell of another configuration has the name of this one";
        let found = format!("a service acts for {accounts}{group}, and {cell} of this configuration for {selection}");
        return Check::problem(AREA, subject, found, next);
    }
    match shared(config.streams.selection(), claim) {
        Some(both) => {
            let next = "stop one of the two cells, or take the accounts out of its configuration: both send orders";
            let found = format!("a cell of another configuration acts for {both} as well ({accounts}{group})");
            Check::problem(AREA, subject, found, next)
        }
        None => Check::ok(AREA, subject, format!("a cell of another configuration acts for {accounts}{group}")),
    }
}
