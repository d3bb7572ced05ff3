//! The deliberate faults: the promise that each of them breaks, and the seed that finds it.

use std::fmt;

use harvester::domain::delivery::fault::{Fault, Faults};

use super::promise::{Promise, Violation};
use super::run::Request;
use super::seeds::{all, simulate};

/// A fault must be found within so many seeds. [1]
const SEEDS_MAX: u64 = 200;

/// The promises that a fault breaks. Another violation does not count as its finding.
const fn breaks(fault: Fault) -> &'static [Promise] {
    match fault {
        Fault::AcknowledgeBeforeSync => &[Promise::AcknowledgedWhenDurable],
        Fault::OfferBeforeSync => &[Promise::WrittenWhenDurable],
        Fault::CursorBeforeOutbox => &[Promise::Chain, Promise::DecisionsOfOracle, Promise::OneOutcome],
        Fault::CheckpointBeforeSync => &[Promise::Starts],
        Fault::TokenNumberOnly | Fault::NoFence => &[Promise::WrittenByHolder],
        Fault::NoMemory => &[Promise::OneOrder, Promise::Chain],
        Fault::NoLookAtLast => &[Promise::Chain],
        Fault::NoLookForLostFacts => &[Promise::NoOrderOverLoss],
        Fault::KillKeyNotRead => &[Promise::NoOrderWhenKilled],
        Fault::ClockOfClient => &[Promise::OrderIsYoung, Promise::OrderIsFresh],
        Fault::AgainWithOrder | Fault::ForgetDoubtAtFailover => &[Promise::OneOrder],
        Fault::IgnoreKillOfAccount => &[Promise::NoOrderOfKilledAccount],
        Fault::OfferWithoutPosition => &[Promise::OrderHasPosition],
        Fault::TakeInFlightForSent => &[Promise::Settles],
        Fault::SkipOwnRange => &[Promise::GapIsReal, Promise::SameState, Promise::DecisionsOfOracle, Promise::Settles],
        Fault::NoCount | Fault::NoticeNothingForgotten => &[Promise::LossIsNamed],
        Fault::ReleaseAtOnce => &[Promise::CanonicalOrder, Promise::SameState, Promise::DecisionsOfOracle],
        Fault::RetryWithoutAsking => &[Promise::OwnEntryOnce],
    }
}

/// A seed that has found a fault.
struct Found {
    seed: u64,
    violation: Violation,
}

/// The seed that found each fault, and the broken promise.
pub struct Table {
    rows: Vec<(Fault, Option<Found>)>,
}

impl Table {
    pub fn missed(&self) -> Vec<Fault> {
        self.rows.iter().filter(|(_, found)| found.is_none()).map(|(fault, _)| *fault).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| fault | seed | broken promise | what was seen |\n|---|---|---|---|")?;
        for (fault, found) in &self.rows {
            match found {
                Some(Found { seed, violation }) => {
                    writeln!(f, "| {fault:?} | {seed} | {:?} | {} |", violation.promise, violation.text)?;
                }
                None => writeln!(f, "| {fault:?} | not within {SEEDS_MAX} | | |")?,
            }
        }
        Ok(())
    }
}

/// Runs seeds for each fault, or for the named one, up to the first seed that finds it.
pub fn table(named: Option<&str>) -> Table {
    let is_meant = |fault: &Fault| named.is_none_or(|name| format!("{fault:?}") == name);
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(is_meant).collect();
    let found = all(faults.len() as u64, |at| {
        let fault = faults[at as usize];
        let faults = Faults::only(fault);
        (0..SEEDS_MAX).find_map(|seed| {
            let violation = simulate(Request { faults, ..Request::of(seed) }).violation?;
            breaks(fault).contains(&violation.promise).then_some(Found { seed, violation })
        })
    });
    Table { rows: faults.into_iter().zip(found).collect() }
}
