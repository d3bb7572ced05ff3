//! The results of the decisions, one by one and in sums: by symbol, by rung, by day.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

use crate::codec::chain::{Chain, Link};
use crate::codec::{number, time};
use crate::domain::book::execution::{Execution, Outcome, Terms};
use crate::domain::book::position::Position;
use crate::domain::engine::{Changes, Engine};
use crate::domain::event::Side;
use crate::domain::event::ids::EntryId;
use crate::domain::units::{OutOfRange, Price, Qty, Quote, RMultiple};

/// The known execution of each decision.
pub struct Executions {
    terms: BTreeMap<String, Terms>,
    known: BTreeMap<String, Execution>,
    /// Refusals, by the executor's reason. [1]
    pub refusals: BTreeMap<String, u64>,
}

/// Sums over decisions.
#[derive(Clone, Debug, Default)]
struct Sums {
    decided: u64,
    sent: u64,
    filled: u64,
    pnl: Quote,
    r: RMultiple,
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
        for &(symbol, place) in &changes.closed {
            self.see(engine, &engine.symbol(symbol).closed[place]);
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
        for position in engine.symbols().flat_map(|symbol| symbol.positions()) {
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
    pub fn report(&self, links: &[&Link]) -> Result<Map<String, Value>, OutOfRange> {
        let mut outcomes: BTreeMap<Outcome, u64> = Outcome::ALL.into_iter().map(|outcome| (outcome, 0)).collect();
        let (mut expired, mut late) = (0_u64, 0_u64);
        let mut listed = Vec::new();
        let mut sums: [BTreeMap<String, Sums>; 3] = Default::default();
        let mut total = Sums::default();
        for link in links {
            let execution = self.known.get(link.decision_id()).copied().unwrap_or_default();
            expired += u64::from(execution.expired);
            late += u64::from(execution.late);
            if let Some(outcome) = execution.outcome {
                *outcomes.entry(outcome).or_default() += 1;
                listed.push(shown(link, &execution));
            }
            total.add(&execution)?;
            for (sums, key) in sums.iter_mut().zip([link.text("symbol").to_owned(), rungs(link), day(link)]) {
                sums.entry(key).or_default().add(&execution)?;
            }
        }
        let named = |sums: &BTreeMap<String, Sums>| -> Value {
            sums.iter().map(|(key, sums)| (key.clone(), sums.json())).collect::<Map<_, _>>().into()
        };
        let [symbols, rungs, days] = &sums;
        let report = json!({
            "expired": expired,
            "outcomes": outcomes.iter().map(|(outcome, n)| (outcome.name().to_owned(), Value::from(*n))).collect::<Map<_, _>>(),
            "late": late,
            "refusals": self.refusals,
            "executions": listed,
            "totals": {"all": total.json(), "symbol": named(symbols), "rung": named(rungs), "day": named(days)},
        });
        Ok(report.as_object().cloned().unwrap_or_default())
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

    fn json(&self) -> Value {
        json!({
            "decided": self.decided,
            "sent": self.sent,
            "filled": self.filled,
            "realized_pnl": self.pnl.to_string(),
            "realized_r": self.r.to_string(),
            "unpriced": self.unpriced,
        })
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
    let rungs = link.object.get("rungs").and_then(Value::as_array);
    rungs.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn day(link: &Link) -> String {
    let ms = link.cause().map_or(link.id, |(_, cause): (&str, EntryId)| cause).ms;
    time::iso(ms).get(..10).unwrap_or_default().to_owned()
}

fn shown(link: &Link, execution: &Execution) -> Value {
    let text = |value: Option<String>| value.map_or(Value::Null, Value::from);
    json!({
        "decision_id": link.decision_id(),
        "symbol": link.text("symbol"),
        "rungs": link.object.get("rungs"),
        "outcome": execution.outcome.map(Outcome::name),
        "late": execution.late,
        "asked": link.text("qty"),
        "filled": execution.filled.to_string(),
        "price": text(execution.price.map(|p| p.to_string())),
        "mark_price": link.text("mark_price"),
        "delay_ms": execution.delay_ms,
        "slippage": text(execution.slippage.map(|s| s.to_string())),
        "slippage_bps": text(execution.slippage_share.map(|s| format!("{:.2}", s.get() * Decimal::from(10_000)))),
        "realized_pnl": text(execution.pnl.map(|p| p.to_string())),
        "realized_r": text(execution.r.map(|r| r.to_string())),
    })
}
