//! One position as a document: its numbers with their sources, the results of the evaluation, and its hold.

use serde::{Deserialize, Serialize};

use super::{missing, next_rung, rungs};
use crate::domain::book::change::{Cause, PositionChange};
use crate::domain::book::position::Position;
use crate::domain::book::state::book_of_position;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::event::PriceSource;
use crate::domain::event::ids::EntryRef;
use crate::domain::event::streams::StreamKind;
use crate::domain::exit::{self, Valuation};
use crate::domain::units::Ratio;

/// A position (docs/spec/commands.md, "positions").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PositionView {
    pub symbol: String,
    /// Absent for the account without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Absent in one-way mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_side: Option<String>,
    pub position_id: String,
    pub side: String,
    pub qty: String,
    /// The largest quantity that it has had. [base]
    pub qty_initial: String,
    pub entry_price: Option<Sourced>,
    pub atr_value: Option<Sourced>,
    pub volatility_factor: Option<Sourced>,
    /// `None` for a closed position.
    pub mark_price: Option<Sourced>,
    pub risk_price: Option<String>,
    pub entry_risk_usdt: Option<String>,
    pub unrealized_pnl: Option<String>,
    pub realized_pnl: Option<String>,
    pub r_net: Option<String>,
    pub next_rung: Option<NextRung>,
    pub rungs: Vec<Rung>,
    pub fills: Vec<Fill>,
    /// Fields that are lacking to evaluate it.
    pub missing: Vec<String>,
    pub flags: Vec<String>,
    pub hold: Option<String>,
    pub opened: String,
    pub closed: Option<String>,
}

/// A value with its source, and the entry that it was read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sourced {
    pub value: String,
    pub source: String,
    pub entry: String,
    /// The kind of the stream of the entry: entries of two streams can have the same id. `None` in a document that was
    /// read.
    #[serde(skip)]
    pub kind: Option<StreamKind>,
}

/// The lowest armed rung, and the price that reaches it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextRung {
    pub r: String,
    pub price: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    pub r: String,
    pub fraction: String,
    pub state: String,
    pub decision_id: Option<String>,
}

/// A change of the quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fill {
    pub order: Option<String>,
    /// `BUY` or `SELL`.
    pub side: String,
    pub qty: String,
    pub price: Option<String>,
    pub source: Option<String>,
    pub entry: String,
    /// As that of [`Sourced`].
    #[serde(skip)]
    pub kind: Option<StreamKind>,
}

impl PositionView {
    /// Returns a position with its hold at the last entry after which symbols are evaluated.
    pub fn of(engine: &Engine, book: BookView<'_>, position: &Position) -> Self {
        Self::of_at(engine, book, position, engine.evaluated_ms())
    }

    /// Returns a position with hold and rungs at a time. [ms since 1970]
    pub fn of_at(engine: &Engine, book: BookView<'_>, position: &Position, now_ms: u64) -> Self {
        let policy = engine.policy_of(book.account);
        let totals = &position.totals;
        let is_open = position.is_open();
        let risk = exit::risk(position, policy).ok().flatten();
        let valuation = if is_open { Valuation::of(book, policy).ok().flatten() } else { None };
        let mark = book.symbol.mark.filter(|_| is_open);
        let entry_risk = risk.and_then(|risk| risk.risk_price.for_qty(totals.qty.abs()).ok());
        let pnl = mark.and_then(|mark| position.unrealized(mark.price).ok().flatten());
        let next_rung = next_rung(position, policy, now_ms).filter(|_| is_open).map(|r| {
            let price = exit::price_at(position, policy, r.max(policy.min_r)).ok().flatten();
            NextRung { r: r.to_string(), price: text(price) }
        });
        let rungs = rungs(position, policy, now_ms).into_iter().map(|rung| Rung {
            r: rung.r.to_string(),
            fraction: rung.fraction.to_string(),
            state: rung.state.name().to_owned(),
            decision_id: rung.decision_id.map(String::from),
        });
        let hold = if is_open { engine.hold_at(book, now_ms) } else { None };
        let missing = if is_open { missing(book, position) } else { Vec::new() };
        let of_risk = |value: Option<Ratio>| {
            let risk = position.risk.as_ref()?;
            Some(Sourced::of(value?, risk.source.name(), risk.entry))
        };
        Self {
            symbol: book.symbol.name.to_string(),
            account: (!book.account_name.is_empty()).then(|| book.account_name.to_string()),
            position_side: book.side.is_hedge().then(|| book.side.name().to_owned()),
            position_id: book.position_id(position),
            side: position.direction.name().to_owned(),
            qty: totals.qty.abs().to_string(),
            qty_initial: totals.qty_largest.to_string(),
            entry_price: totals.entry.map(|entry| Sourced::of(entry.price, entry.source.name(), entry.entry)),
            atr_value: of_risk(exit::atr_value(position, policy)),
            volatility_factor: of_risk(position.risk.as_ref().map(|risk| risk.volatility_factor)),
            mark_price: mark.map(|mark| {
                let kind = match mark.source {
                    PriceSource::Stream(stream) => engine.streams().kind(stream),
                    PriceSource::RedisTicker | PriceSource::RedisMarket | PriceSource::Api => StreamKind::Observation,
                };
                Sourced::of(mark.price, engine.source_name(mark.source), EntryRef::new(kind, mark.entry))
            }),
            risk_price: text(risk.map(|risk| risk.risk_price)),
            entry_risk_usdt: text(entry_risk),
            unrealized_pnl: text(pnl),
            realized_pnl: text(totals.realized),
            r_net: text(valuation.map(|valuation| valuation.r_net)),
            next_rung,
            rungs: rungs.collect(),
            fills: position.changes.iter().filter(|change| change.cause != Cause::EntrySet).flat_map(fills).collect(),
            missing: missing.into_iter().map(str::to_owned).collect(),
            flags: exit::flags(book, position, policy).iter().map(|flag| flag.name().to_owned()).collect(),
            hold: hold.map(|hold| hold.name().to_owned()),
            opened: position.opened.id.to_string(),
            closed: text(position.closed.map(|entry| entry.id)),
        }
    }

    /// Returns the name of the book: that of the symbol, with account and position side where there is one.
    pub fn book(&self) -> &str {
        book_of_position(&self.position_id).unwrap_or(&self.symbol)
    }

    /// Returns the four fields that an evaluation rests on, by name.
    pub fn inputs(&self) -> [(&'static str, Option<&Sourced>); 4] {
        [
            ("entry_price", self.entry_price.as_ref()),
            ("atr_value", self.atr_value.as_ref()),
            ("volatility_factor", self.volatility_factor.as_ref()),
            ("mark_price", self.mark_price.as_ref()),
        ]
    }
}

impl Sourced {
    fn of(value: impl ToString, source: &str, entry: EntryRef) -> Self {
        let EntryRef { kind, id } = entry;
        Self { value: value.to_string(), source: source.to_owned(), entry: id.to_string(), kind: Some(kind) }
    }
}

fn text(value: Option<impl ToString>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// Returns a change as fills. In a look-up the part that fills have explained comes first.
fn fills(change: &PositionChange) -> Vec<Fill> {
    let side = if change.delta.is_negative() { "SELL" } else { "BUY" }.to_owned();
    let explained = change.late_fills.iter().map(|fill| Fill {
        order: Some(fill.order.text()),
        side: side.clone(),
        qty: fill.qty.to_string(),
        price: text(fill.price),
        source: Some("fill".to_owned()),
        entry: fill.entry.id.to_string(),
        kind: Some(fill.entry.kind),
    });
    let mut fills: Vec<Fill> = explained.collect();
    let rest = change.unexplained().unwrap_or(change.delta);
    if rest.is_zero() {
        return fills;
    }
    let (order, source) = match &change.cause {
        Cause::Fill { order, .. } => (Some(order.text()), change.price.map(|price| price.source.name())),
        Cause::Explained { order, .. } => (Some(order.to_string()), Some("fill")),
        Cause::StatedOpening => (None, Some("snapshot")),
        Cause::Adoption => (None, Some("exchange")),
        Cause::EntrySet => (None, None),
    };
    fills.push(Fill {
        order,
        side,
        qty: rest.abs().to_string(),
        price: text(change.price.map(|price| price.price)),
        source: source.map(str::to_owned),
        entry: change.entry.id.to_string(),
        kind: Some(change.entry.kind),
    });
    fills
}
