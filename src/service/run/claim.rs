//! The claim of a cell that it alone acts for its accounts (docs/spec/emission.md, "Claims of cells").

use std::collections::BTreeSet;

use anyhow::bail;

use crate::codec::scope;
use crate::config::Config;
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::{StreamKind, Streams};
use crate::shell::redis::{Claim, Server, claims_key};

/// Configured cells whose claims are looked up at a start. [1]
const LOOKED_UP_MAX: u32 = 64;

/// The claim of this cell.
#[derive(Clone, Debug)]
pub struct OwnClaim {
    pub claim: Claim,
    selection: Selection,
}

impl OwnClaim {
    /// Returns the claim of a cell; `None` for a service that reads all accounts, which claims nothing.
    pub fn of(config: &Config) -> Option<Self> {
        let selection = config.streams.selection().clone();
        let text = scope::claim_text(&selection, &config.run.group);
        let claim = Claim { decisions: decisions_of(&config.streams), text };
        (!selection.is_all()).then_some(Self { claim, selection })
    }

    /// Returns, in words, the accounts that another cell claims, too.
    pub fn shared_with(&self, other: &Claim) -> Option<String> {
        shared(&self.selection, other)
    }
}

/// Returns the accounts that both act for. A claim that cannot be read may be for any account.
pub fn shared(selection: &Selection, other: &Claim) -> Option<String> {
    match scope::read_selection(&other.text) {
        Ok(of_other) => selection.shared_with(&of_other),
        Err(_) => Some(selection.to_string()),
    }
}

fn decisions_of(streams: &Streams) -> String {
    let decisions = streams.iter().find(|(_, stream)| stream.kind == StreamKind::Decision);
    decisions.map_or(StreamKind::Decision.default_stream(), |(_, stream)| &stream.name).to_owned()
}

/// Logs that the claims of a cell could not be read.
fn log_unreadable(decisions: &str, error: &str) {
    tracing::warn!(of = decisions, error, "the claims of a cell cannot be read, and are not compared");
}

/// Checks that no other cell at work acts for an account of this cell. The error names the other cell. A service that
/// is not a cell and reads all accounts checks nothing.
pub async fn check(config: &Config, server: &mut Server) -> anyhow::Result<()> {
    let own = decisions_of(&config.streams);
    if config.scope().is_everything() {
        return Ok(());
    }
    // The owners of slots that did not answer: each is asked once.
    let mut silent: BTreeSet<String> = BTreeSet::new();
    for decisions in cells_beside(config, &own) {
        let owner = server.owner_of(&claims_key(&decisions));
        if let Some(owner) = owner.as_ref().filter(|owner| decisions != own && silent.contains(*owner)) {
            log_unreadable(&decisions, &format!("Redis at {owner} did not answer before"));
            continue;
        }
        let claims = match server.claims(&decisions).await {
            Ok(claims) => claims,
            Err(error) if decisions == own => return Err(error.into()),
            // In a cluster, the cells of other slots are on other servers. The configuration was already compared with
            // theirs.
            Err(error) => {
                log_unreadable(&decisions, &error.to_string());
                silent.extend(owner.filter(|_| error.is_unreachable()));
                continue;
            }
        };
        claims.iter().try_for_each(|other| compare(config, &own, other))?;
    }
    Ok(())
}

/// Returns the decision streams under which cells claim: that of this cell, and those of the other configured cells whose
/// claims are elsewhere.
fn cells_beside(config: &Config, own: &str) -> Vec<String> {
    let cells = 0..config.cells().unwrap_or(0).min(LOOKED_UP_MAX);
    let others = cells.filter(|cell| Some(*cell) != config.run.cell);
    let others = others.filter_map(|cell| Some(decisions_of(&config.for_cell(cell).ok()?.streams)));
    let mut beside: Vec<String> = Vec::new();
    for decisions in std::iter::once(own.to_owned()).chain(others) {
        let is_known = |of: &String| claims_key(of) == claims_key(&decisions);
        if !beside.iter().any(is_known) {
            beside.push(decisions);
        }
    }
    beside
}

/// Compares a claim with this cell. Errors if both would act for an account, or share a consumer group.
fn compare(config: &Config, own: &str, other: &Claim) -> anyhow::Result<()> {
    let selection = config.streams.selection();
    if other.decisions == own {
        let is_same = scope::read_selection(&other.text).is_ok_and(|of_other| of_other == *selection);
        if !is_same {
            bail!(
                "the decision stream {own} is led by a service of other accounts ({}), and this one reads {selection}: stop that \
                 one, or give this one a decision stream of its own",
                other.text
            );
        }
    } else if let Some(both) = shared(selection, other) {
        bail!(
            "the cell of {} acts for {both} as well: both would send orders. Stop it, or take the accounts out of run.accounts \
             or run.shard of one of the two",
            other.decisions
        );
    } else if scope::group_of_claim(&other.text).as_ref() == Some(&config.run.group) {
        bail!(
            "the cell of {} reads in the consumer group {:?}, too: each would get a part of the entries of a shared stream. \
             Give this one a run.group of its own",
            other.decisions,
            config.run.group
        );
    }
    Ok(())
}
