//! The results of the decisions, one by one and in sums: by symbol, by rung, by day.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Serialize;

use crate::codec::chain::{Chain, Link};
use crate::codec::payload::PayloadValue;
use crate::codec::view::{Counted, as_text};
use crate::codec::{number, time};
use crate::domain::book::execution::{Execution, Outcome, Terms};
use crate::domain::book::position::Position;
use crate::domain::engine::{Changes, Engine};
use crate::domain::event::Side;
use crate::domain::event::ids::EntryId;
use crate::domain::units::{OutOfRange, Price, Qty, Quote, RMultiple, Ratio};

/// The known execution of each decision.
pub struct Executions {
    terms: BTreeMap<String, Terms>,
    known: BTreeMap<String, Execution>,
    /// Refusals, by the executor's reason. [1]
    pub refusals: BTreeMap<String, u64>,
}

/// Sums over decisions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    pub decided: u64,
    pub sent: u64,
    pub filled: u64,
    #[serde(rename = "realized_pnl", serialize_with = "as_text")]
    pub pnl: Quote,
    #[serde(rename = "realized_r", serialize_with = "as_text")]
    pub r: RMultiple,
    /// Filled at an unknown price: not in the sums. [1]
    unpriced: u64,
}

impl Executions {
    pub fn new(chain: &Chain) -> Self {
        let terms = chain.links.iter().filter_map(|link| Some((link.decision_id().to_owned(), terms(link)?)));
        Self { terms: terms.collect(), known: BTreeMap::new(), refusals: BTreeMap::new() }
    }

    /// Notes the positions that were closed since the last call, before they are forgotten.
    pub fn see_closed(&mut self, engine: &Engine, changes: &Changes) {
        for &(book, place) in &changes.closed {
            self.see(engine, &engine.book(book).closed[place]);
        }
        for (_, position) in &changes.closed_forgotten {
            self.see(engine, position);
        }
    }

    /// Returns true if the request of a decision was not sent.
    pub fn is_expired(&self, decision_id: &str) -> bool {
        self.known.get(decision_id).is_some_and(|execution| execution.expired)
    }

    /// Notes the positions that are still in the state at the end.
    pub fn see_all(&mut self, engine: &Engine) {
        for position in engine.books().flat_map(|book| book.book.positions()) {
            self.see(engine, position);
        }
    }

    fn see(&mut self, engine: &Engine, position: &Position) {
        for record in &position.decisions {
            let Some(terms) = self.terms.get(&*record.decision_id) else { continue };
            // Numbers that do not fit leave the execution without them. The state is still reported.
            let execution = Execution::of(position, record, terms, engine.policy().result_timeout_ms)
                .unwrap_or(Execution { expired: record.expired, ..Execution::default() });
            self.known.insert(record.decision_id.to_string(), execution);
        }
    }

    /// Returns counts and lists of the results of the decisions in scope.
    pub fn report(self, links: &[&Link]) -> Result<ExecutionReport, OutOfRange> {
        let mut report = ExecutionReport::default();
        let mut details = Details { refusals: self.refusals, ..Details::default() };
        for link in links {
            let execution = self.known.get(link.decision_id()).copied().unwrap_or_default();
            report.expired += u64::from(execution.expired);
            details.late += u64::from(execution.late);
            if let Some(outcome) = execution.outcome {
                *report.outcomes.entry(outcome.name()).or_default() += 1;
                details.executions.push(ExecutionView::of(link, &execution));
            }
            let Totals { all, symbol, rung, day } = &mut details.totals;
            all.add(&execution)?;
            for (sums, key) in [(symbol, link.text("symbol").to_owned()), (rung, rungs(link)), (day, day_of(link))] {
                sums.entry(key).or_default().add(&execution)?;
            }
        }
        report.details = Some(details);
        Ok(report)
    }
}

/// The results of the decisions.
#[derive(Debug, Serialize)]
pub struct ExecutionReport {
    /// Decisions whose request was not sent. [1]
    pub expired: u64,
    pub outcomes: Counted,
    /// `None` if only the chain was verified.
    #[serde(flatten)]
    pub details: Option<Details>,
}

#[derive(Debug, Default, Serialize)]
pub struct Details {
    /// Results that came too late. [1]
    pub late: u64,
    pub refusals: BTreeMap<String, u64>,
    executions: Vec<ExecutionView>,
    pub totals: Totals,
}

#[derive(Debug, Default, Serialize)]
pub struct Totals {
    pub all: Sums,
    pub symbol: BTreeMap<String, Sums>,
    pub rung: BTreeMap<String, Sums>,
    pub day: BTreeMap<String, Sums>,
}

impl Default for ExecutionReport {
    fn default() -> Self {
        let outcomes = Outcome::ALL.into_iter().map(|outcome| (outcome.name(), 0)).collect();
        Self { expired: 0, outcomes, details: None }
    }
}

impl Sums {
    fn add(&mut self, execution: &Execution) -> Result<(), OutOfRange> {
        self.decided += 1;
        self.sent += u64::from(execution.outcome.is_some());
        if execution.filled.is_positive() {
            self.filled += 1;
            self.pnl = self.pnl.plus(execution.pnl.unwrap_or(Quote::ZERO))?;
            self.r = self.r.plus(execution.r.unwrap_or(RMultiple::ZERO))?;
            self.unpriced += u64::from(execution.pnl.is_none());
        }
        Ok(())
    }
}

/// Returns the terms by which the execution of a decision is measured; `None` if its payload lacks them.
fn terms(link: &Link) -> Option<Terms> {
    let decimal = |key: &str| -> Option<Decimal> { number::decimal(link.text(key)).ok() };
    Some(Terms {
        side: if link.text("side") == "SELL" { Side::Sell } else { Side::Buy },
        qty: Qty::new(decimal("qty")?),
        mark: Price::new(decimal("mark_price")?),
        entry_price: Price::new(decimal("entry_price")?),
        risk_price: Price::new(decimal("risk_price")?),
        decided_ms: link.cause()?.1.ms,
    })
}

fn rungs(link: &Link) -> String {
    link.object.rungs().join(",")
}

fn day_of(link: &Link) -> String {
    let ms = link.cause().map_or(link.id, |(_, cause): (&str, EntryId)| cause).ms;
    time::iso(ms).get(..10).unwrap_or_default().to_owned()
}

/// The execution of one decision.
#[derive(Debug, Serialize)]
struct ExecutionView {
    decision_id: String,
    symbol: String,
    rungs: Option<PayloadValue>,
    outcome: Option<&'static str>,
    late: bool,
    asked: String,
    filled: String,
    price: Option<String>,
    mark_price: String,
    delay_ms: Option<u64>,
    slippage: Option<String>,
    slippage_bps: Option<String>,
    realized_pnl: Option<String>,
    realized_r: Option<String>,
}

impl ExecutionView {
    fn of(link: &Link, execution: &Execution) -> Self {
        let bps = |share: Ratio| format!("{:.2}", share.get() * Decimal::from(10_000));
        Self {
            decision_id: link.decision_id().to_owned(),
            symbol: link.text("symbol").to_owned(),
            rungs: link.object.value("rungs"),
            outcome: execution.outcome.map(Outcome::name),
            late: execution.late,
            asked: link.text("qty").to_owned(),
            filled: execution.filled.to_string(),
            price: execution.price.map(|price| price.to_string()),
            mark_price: link.text("mark_price").to_owned(),
            delay_ms: execution.delay_ms,
            slippage: execution.slippage.map(|slippage| slippage.to_string()),
            slippage_bps: execution.slippage_share.map(bps),
            realized_pnl: execution.pnl.map(|pnl| pnl.to_string()),
            realized_r: execution.r.map(|r| r.to_string()),
        }
    }
}
