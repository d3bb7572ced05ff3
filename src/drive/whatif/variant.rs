//! One policy over the history: its engine, its decisions, and their assumed profit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::codec::payload::Payload;
use crate::codec::seal;
use crate::codec::view::{as_text, as_text_or_null};
use crate::domain::engine::{Decision, Engine};
use crate::domain::event::ids::{EntryId, SymbolId};
use crate::domain::event::{Control, Entry, Event, Side};
use crate::domain::exit::policy::Mode;
use crate::domain::units::{OutOfRange, Price, Quote, RMultiple, Ratio};
use crate::drive::pipeline::EntryBatch;

/// The assumption about executions, as it is printed.
pub const FILL_MODEL: &str = "filled whole at the mark of the symbol's next accepted price; pnl = (fill − entry) × qty × sign − \
     cost_bps × qty × entry; R = pnl / (risk_price × largest |qty|); the position stays what the history says";

/// A decision under a policy.
pub struct Made {
    pub decision: Decision,
    /// The assumed fill; `None` if no price has come after the decision.
    pub fill: Option<Fill>,
    /// Risk of the whole position. [quote]
    risk: Result<Quote, OutOfRange>,
}

/// An assumed fill.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fill {
    #[serde(serialize_with = "as_text")]
    pub entry: EntryId,
    #[serde(serialize_with = "as_text")]
    pub price: Price,
    /// After cost; `None` if it does not fit a decimal. [quote]
    #[serde(rename = "realized_pnl", serialize_with = "as_text_or_null")]
    pub pnl: Option<Quote>,
    #[serde(rename = "realized_r", serialize_with = "as_text_or_null")]
    pub r: Option<RMultiple>,
}

pub struct Variant {
    pub name: String,
    pub engine: Engine,
    pub made: Vec<Made>,
    cost: Ratio,
    /// Decisions whose fill waits for the next price.
    waiting: BTreeMap<SymbolId, Vec<usize>>,
    recorded: Arc<BTreeSet<String>>,
}

impl Variant {
    /// Begins with an engine before the first entry. The entries of all accounts are applied: which accounts there are is
    /// no question of the policies that are compared.
    pub fn new(name: String, cost: Ratio, mut engine: Engine, recorded: Arc<BTreeSet<String>>) -> Self {
        engine.ignore_changes();
        engine.accept_all_accounts();
        Self { name, engine, made: Vec::new(), cost, waiting: BTreeMap::new(), recorded }
    }

    /// Folds a batch. The policy never changes: adoptions in the history are skipped.
    pub(super) fn fold(&mut self, batch: &EntryBatch) {
        batch.begin(&mut self.engine);
        for (entry, _) in &batch.entries {
            if let Ok(Event::Control(fact)) = &entry.content
                && matches!(fact.control, Control::PolicyAdopted(_))
            {
                continue;
            }
            let step = self.engine.step(entry);
            if !self.waiting.is_empty() {
                self.fill(entry);
            }
            for decision in step.decisions {
                self.make(decision);
            }
        }
    }

    fn make(&mut self, decision: Decision) {
        let book = self.engine.book(decision.book);
        let largest = book.hot.open.as_ref().map_or(decision.qty, |open| open.totals.qty_largest);
        let risk = decision.valuation.risk.risk_price.for_qty(largest);
        self.waiting.entry(decision.book.symbol).or_default().push(self.made.len());
        self.made.push(Made { decision, fill: None, risk });
    }

    /// Returns the payload of a decision.
    pub fn payload(&self, made: &Made) -> Payload {
        seal::payload(&self.engine, &made.decision)
    }

    /// Fills the waiting decisions at an accepted price.
    fn fill(&mut self, entry: &Entry) {
        let (Some(id), Ok(Event::Price(_))) = (entry.symbol, &entry.content) else { return };
        let mark = self.engine.symbol(id).mark.filter(|mark| mark.is_of(entry));
        let Some(mark) = mark else { return };
        for place in self.waiting.remove(&id).unwrap_or_default() {
            let made = &mut self.made[place];
            let pnl = made.pnl(mark.price, self.cost).ok();
            let r = pnl.and_then(|pnl| pnl.in_r(made.risk.ok()?).ok());
            made.fill = Some(Fill { entry: entry.id, price: mark.price, pnl, r });
            // Decisions that have results in the history are filled by those.
            if self.engine.policy().mode == Mode::Live && !self.recorded.contains(&made.decision.decision_id) {
                self.engine.suppose_filled(made.decision.book, &made.decision.decision_id, entry.id);
            }
        }
    }
}

impl Made {
    /// Returns the profit at a price, after cost. [quote]
    fn pnl(&self, price: Price, cost: Ratio) -> Result<Quote, OutOfRange> {
        let (entry_price, qty) = (self.decision.valuation.entry_price.price, self.decision.qty);
        let apart = match self.decision.side {
            Side::Sell => price.minus(entry_price)?,
            Side::Buy => entry_price.minus(price)?,
        };
        apart.for_qty(qty)?.minus(entry_price.for_qty(qty)?.times(cost)?)
    }
}
