//! Policies side by side, as a document.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Compared;
use super::variant::{FILL_MODEL, Fill, Made, Variant};
use crate::codec::payload::Payload;
use crate::codec::view::{Counted, as_text};
use crate::domain::units::{OutOfRange, Qty, Quote, RMultiple};

/// Sums over decisions.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sums {
    pub decisions: u64,
    pub filled: u64,
    #[serde(rename = "realized_pnl", serialize_with = "as_text")]
    pub pnl: Quote,
    #[serde(rename = "realized_r", serialize_with = "as_text")]
    pub r: RMultiple,
}

/// Sums over the decisions of one symbol.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct SymbolSums {
    #[serde(flatten)]
    pub sums: Sums,
    #[serde(serialize_with = "as_text")]
    pub qty: Qty,
}

impl Sums {
    fn add(&mut self, made: &Made) -> Result<(), OutOfRange> {
        self.decisions += 1;
        if let Some(fill) = made.fill {
            self.filled += 1;
            self.pnl = self.pnl.plus(fill.pnl.unwrap_or(Quote::ZERO))?;
            self.r = self.r.plus(fill.r.unwrap_or(RMultiple::ZERO))?;
        }
        Ok(())
    }
}

impl SymbolSums {
    fn add(&mut self, made: &Made) -> Result<(), OutOfRange> {
        self.qty = self.qty.plus(made.decision.qty)?;
        self.sums.add(made)
    }
}

/// Sums of a policy that do not fit a decimal.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the sums of {name} do not fit a decimal")]
pub struct SumsError {
    /// Name of the policy.
    name: String,
    source: OutOfRange,
}

/// Returns a policy's sums: all, and by symbol.
pub fn sums(variant: &Variant) -> Result<(Sums, BTreeMap<String, SymbolSums>), SumsError> {
    let mut all = Sums::default();
    let mut symbols: BTreeMap<String, SymbolSums> = BTreeMap::new();
    for made in &variant.made {
        let fits = symbols
            .entry(variant.engine.book(made.decision.book).name.to_string())
            .or_default()
            .add(made)
            .and_then(|()| all.add(made));
        fits.map_err(|source| SumsError { name: variant.name.clone(), source })?;
    }
    Ok((all, symbols))
}

pub fn ids(variant: &Variant) -> BTreeSet<&str> {
    variant.made.iter().map(|made| &*made.decision.decision_id).collect()
}

/// The document of `--json`.
#[derive(Serialize)]
pub struct Document<'a> {
    pub entries: u64,
    pub fill_model: &'static str,
    pub recorded: usize,
    pub policies: Vec<PolicyResult<'a>>,
}

/// The decisions and sums of one policy.
#[derive(Serialize)]
pub struct PolicyResult<'a> {
    pub name: &'a str,
    pub policy: &'a str,
    pub mode: &'static str,
    pub total: Sums,
    pub symbols: BTreeMap<String, SymbolSums>,
    pub holds: Counted,
    pub only_here: Vec<&'a str>,
    pub only_in_the_first: Vec<&'a str>,
    pub recorded_alike: usize,
    pub decisions: Vec<DecisionResult<'a>>,
}

#[derive(Serialize)]
pub struct DecisionResult<'a> {
    pub payload: Payload,
    pub fill: Option<&'a Fill>,
}

impl<'a> Document<'a> {
    pub fn of(compared: &'a Compared) -> Result<Self, SumsError> {
        let first = compared.variants.first().map(ids).unwrap_or_default();
        let result = |variant: &'a Variant| {
            let (total, symbols) = sums(variant)?;
            let own = ids(variant);
            let decisions = variant
                .made
                .iter()
                .map(|made| DecisionResult { payload: variant.payload(made), fill: made.fill.as_ref() });
            let (policy, counters) = (variant.engine.policy(), &variant.engine.counters);
            Ok(PolicyResult {
                name: &variant.name,
                policy: &policy.hash,
                mode: policy.mode.name(),
                total,
                symbols,
                holds: counters.holds().map(|(hold, n)| (hold.name(), n)).collect(),
                only_here: own.difference(&first).copied().collect(),
                only_in_the_first: first.difference(&own).copied().collect(),
                recorded_alike: compared.recorded.iter().filter(|id| own.contains(&***id)).count(),
                decisions: decisions.collect(),
            })
        };
        Ok(Self {
            entries: compared.entries,
            fill_model: FILL_MODEL,
            recorded: compared.recorded.len(),
            policies: compared.variants.iter().map(result).collect::<Result<_, _>>()?,
        })
    }
}
