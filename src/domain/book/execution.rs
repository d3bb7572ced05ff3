//! The execution of a decision: filled quantity, price, time and profit.

use super::change::Cause;
use super::position::Position;
use super::rung::{DecisionRecord, OutcomeKind, RungState};
use crate::domain::event::Side;
use crate::domain::event::ids::EntryId;
use crate::domain::exit::policy::EntrySource;
use crate::domain::named;
use crate::domain::units::{OutOfRange, Price, Qty, Quote, RMultiple, Ratio};

/// The terms of a decision that its execution is measured against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecisionTerms {
    pub side: Side,
    /// [base]
    pub qty: Qty,
    /// Mark at the decision. [quote per base]
    pub mark: Price,
    /// [quote per base]
    pub entry_price: Price,
    /// [quote per base]
    pub risk_price: Price,
    /// Time of the decision. [ms since 1970]
    pub decided_ms: u64,
}

named! {
    /// The outcome of a request, final or so far.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Outcome {
        /// No result yet.
        Requested => "requested",
        Accepted => "accepted",
        Filled => "filled",
        /// Less than the requested quantity was filled, so far or finally.
        Partial => "partial",
        Refused => "refused",
        /// No result in time.
        Unknown => "unknown",
    }
}

/// The execution of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Execution {
    /// `None`: nothing was requested, or the request was withdrawn before it was sent.
    pub outcome: Option<Outcome>,
    pub expired: bool,
    /// The result came after the timeout.
    pub late: bool,
    /// [base]
    pub filled: Qty,
    /// Average price, if every part has a price. [quote per base]
    pub price: Option<Price>,
    /// From the decision to its last fill. [ms]
    pub delay_ms: Option<u64>,
    /// How much worse the price was than the mark; negative where it was better. [quote]
    pub slippage: Option<Quote>,
    /// The slippage as a share of the mark. [1]
    pub slippage_share: Option<Ratio>,
    /// filled × (price − entry) × sign. [quote]
    pub pnl: Option<Quote>,
    /// The profit as a multiple of the position's largest risk. [R]
    pub r: Option<RMultiple>,
}

impl Execution {
    /// Computes the execution of a decision from its position. `timeout_ms` is the time for a result. [ms]
    pub fn of(
        position: &Position,
        record: &DecisionRecord,
        terms: &DecisionTerms,
        timeout_ms: u64,
    ) -> Result<Self, OutOfRange> {
        let mut execution =
            Self { expired: record.expired, late: is_late(record, terms, timeout_ms), ..Self::default() };
        let mut cost = Some(Quote::ZERO);
        let is_fill = |entry: EntryId| {
            record.outcomes.iter().any(|outcome| outcome.what == OutcomeKind::Filled && outcome.entry == entry)
        };
        let closes = |delta: Qty| delta.is_negative() == (terms.side == Side::Sell);
        for change in &position.changes {
            let is_part = matches!(change.cause, Cause::Fill { .. }) && closes(change.delta);
            if !is_part || !is_fill(change.entry.id) {
                continue;
            }
            let qty = change.delta.abs();
            execution.filled = execution.filled.plus(qty)?;
            execution.delay_ms = Some(change.entry.id.ms.saturating_sub(terms.decided_ms));
            let price = change.price.filter(|price| price.source == EntrySource::Fill);
            cost = match (cost, price) {
                (Some(cost), Some(price)) => Some(cost.plus(price.price.for_qty(qty)?)?),
                (Some(_) | None, _) => None,
            };
        }
        execution.outcome = outcome(record, execution.filled, terms.qty);
        if let Some(cost) = cost.filter(|_| execution.filled.is_positive()) {
            execution.price_at(cost, position, terms)?;
        }
        Ok(execution)
    }

    fn price_at(&mut self, cost: Quote, position: &Position, terms: &DecisionTerms) -> Result<(), OutOfRange> {
        let gain = |from: Price| {
            let worth = from.for_qty(self.filled)?;
            if terms.side == Side::Sell { cost.minus(worth) } else { worth.minus(cost) }
        };
        let (at_mark, at_entry) = (gain(terms.mark)?, gain(terms.entry_price)?);
        let risk = terms.risk_price.for_qty(position.totals.qty_largest)?;
        self.price = Some(cost.per(self.filled)?);
        self.slippage = Some(at_mark.negated());
        self.slippage_share = Some(at_mark.negated().ratio(terms.mark.for_qty(self.filled)?)?);
        self.pnl = Some(at_entry);
        self.r = Some(at_entry.in_r(risk)?);
        Ok(())
    }
}

fn outcome(record: &DecisionRecord, filled: Qty, asked: Qty) -> Option<Outcome> {
    let outcome = |what| record.outcomes.iter().any(|outcome| outcome.what == what);
    match record.state {
        _ if filled.is_positive() && filled < asked && !filled.same(asked, None) => Some(Outcome::Partial),
        RungState::Filled => Some(Outcome::Filled),
        RungState::Partial => Some(Outcome::Partial),
        RungState::Refused | RungState::Failed => Some(Outcome::Refused),
        RungState::Unknown => Some(Outcome::Unknown),
        RungState::Requested if outcome(OutcomeKind::Accepted) => Some(Outcome::Accepted),
        RungState::Requested => Some(Outcome::Requested),
        // It was armed again: the request was withdrawn before it was sent, or an operator gave it up.
        RungState::Armed if outcome(OutcomeKind::Rearmed) && !record.expired => Some(Outcome::Unknown),
        RungState::Armed | RungState::Shadowed | RungState::Skipped => None,
    }
}

fn is_late(record: &DecisionRecord, terms: &DecisionTerms, timeout_ms: u64) -> bool {
    let mut last_outcome_ms = terms.decided_ms;
    for outcome in &record.outcomes {
        let is_answer = match outcome.what {
            OutcomeKind::Accepted | OutcomeKind::Filled | OutcomeKind::Refused => true,
            OutcomeKind::Expired | OutcomeKind::Adopted | OutcomeKind::Rearmed => false,
        };
        if !is_answer {
            continue;
        }
        if outcome.entry.ms.saturating_sub(last_outcome_ms) > timeout_ms {
            return true;
        }
        last_outcome_ms = outcome.entry.ms;
    }
    false
}
