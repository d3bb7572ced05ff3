//! One order at the exchange: its filled parts, each with its price once that is known.

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::EntryId;
use crate::domain::event::{Side, Trade};
use crate::domain::units::{OutOfRange, Price, Qty, Quote};

/// How long orders are remembered after their last entry. Closed positions are remembered equally long. [ms]
pub const ORDER_MEMORY_MS: u64 = 7 * 24 * 3_600_000;

/// Identifies an order within its symbol (docs/spec/streams/result.md, "Order key").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OrderKey {
    /// By its id at the exchange.
    Id(Box<str>),
    /// A further order under an id that another order already has. Its plan identifies it.
    Shared { id: Box<str>, plan: Box<str> },
    /// By its plan: no entry names an id.
    Plan(Box<str>),
    /// By the entry that reports it: no entry names an id or a plan.
    Entry(EntryId),
}

impl OrderKey {
    /// Returns the exchange id, if it is known.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Id(id) | Self::Shared { id, .. } => Some(id),
            Self::Plan(_) | Self::Entry(_) => None,
        }
    }

    pub fn text(&self) -> String {
        match self {
            Self::Id(text) | Self::Shared { id: text, .. } | Self::Plan(text) => text.to_string(),
            Self::Entry(id) => id.to_string(),
        }
    }
}

/// A part of an order that was applied in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Positive. [base]
    pub qty: Qty,
    /// Cumulative quantity of the order after this part. [base]
    pub end: Qty,
    /// [quote per base]
    pub price: Option<Price>,
}

/// The effect of a cumulative quantity on its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delta {
    /// Nothing new. Prices may have come with it.
    Repeated,
    /// Less than the applied quantity, and not seen before.
    Contradictory,
    /// A new part, by its index.
    New { part: u32 },
}

/// The effect of a trade on its order: the new part with its number, and the parts whose price became known.
pub type Taken = (Option<(u32, Trade)>, Vec<(u32, Price)>);

/// An order, as results and trades report it. Quantities are cumulative, so a report that comes twice counts once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub plan_id: Option<Box<str>>,
    /// Other plan ids under which the order was reported.
    pub plan_ids_other: Vec<Box<str>>,
    pub side: Option<Side>,
    /// Stated by a result.
    pub reduce_only: Option<bool>,
    /// Average price of the last cumulative quantity. [quote per base]
    pub average: Option<Price>,
    /// Largest cumulative quantity of its results. [base]
    pub results_qty: Qty,
    /// Cumulative quantities that results reported. [base]
    pub seen: Vec<Qty>,
    pub parts: Vec<Part>,
    /// Number of the first part. It is not 0 where an order of the same key was forgotten.
    pub parts_from: u32,
    pub trades: Vec<Trade>,
    /// The account that an entry named for it, while its book is of the account without a name.
    pub account: Option<Box<str>>,
    /// The decision of ours that the order belongs to.
    pub decision_id: Option<Box<str>>,
    /// Only refusals have named it. It may never have existed: some executors refuse under ids that they use again.
    pub refused_only: bool,
    /// Last entry that named it. [ms since 1970]
    pub last_ms: u64,
}

impl Order {
    /// Returns true if an entry named it in the last seven days.
    pub fn is_remembered(&self, now_ms: u64) -> bool {
        self.last_ms >= now_ms.saturating_sub(ORDER_MEMORY_MS)
    }

    /// Returns true if it is known under this plan.
    pub fn has_plan(&self, plan_id: &str) -> bool {
        self.plan_id.iter().chain(&self.plan_ids_other).any(|known| **known == *plan_id)
    }

    /// Returns true if an entry with its id, which names a plan or none, can belong to it. Of an order that only
    /// refusals have named, no more than its plan is known.
    pub fn counts_for(&self, plan_id: Option<&str>) -> bool {
        !self.refused_only || plan_id.is_none_or(|plan_id| self.has_plan(plan_id))
    }

    /// Returns true if a result repeats the fill of the order: same side, quantity and price, as far as both name
    /// them (docs/spec/streams/result.md, "Reused order ids").
    pub fn is_repeated_by(&self, side: Option<Side>, cumulative: Qty, average: Option<Price>) -> bool {
        let agrees = |ours: Option<Price>, theirs: Option<Price>| ours.is_none() || theirs.is_none() || ours == theirs;
        let has_side = self.side.is_none() || side.is_none() || self.side == side;
        has_side && cumulative.same(self.results_qty, None) && agrees(self.average, average)
    }

    /// Returns true if the trade is one of its trades.
    pub fn has_trade(&self, trade: &Trade) -> bool {
        self.trades.iter().any(|known| known.is_same(trade))
    }

    fn number(&self, index: usize) -> u32 {
        self.parts_from + index as u32
    }

    /// Returns the part with a number.
    pub fn part(&self, number: u32) -> Part {
        self.parts[(number - self.parts_from) as usize]
    }

    /// Splits the part that was applied last, so that each side of a flip has a price of its own. `first` is the
    /// quantity that stays in it. [base]
    ///
    /// Returns the number of the new part.
    pub fn split_last(&mut self, first: Qty) -> Result<u32, OutOfRange> {
        let number = self.number(self.parts.len());
        if let Some(last) = self.parts.last_mut() {
            let Part { qty, end, price } = *last;
            let rest = qty.minus(first)?;
            *last = Part { qty: first, end: end.minus(rest)?, price };
            self.parts.push(Part { qty: rest, end, price });
        }
        Ok(number)
    }

    /// Returns the applied quantity: the larger of the cumulative quantity of its results and the sum of its trades.
    /// [base]
    pub fn applied(&self) -> Qty {
        self.parts.last().map_or(Qty::ZERO, |part| part.end)
    }

    /// Applies a result's cumulative quantity and average price.
    ///
    /// Returns what is new, and the parts whose price became known with it.
    pub fn take_result(
        &mut self,
        cumulative: Qty,
        average: Option<Price>,
        step: Option<Qty>,
    ) -> Result<(Delta, Vec<(u32, Price)>), OutOfRange> {
        let seen = self.seen.contains(&cumulative);
        if !seen {
            self.seen.push(cumulative);
        }
        let applied = self.applied();
        let ahead = cumulative > self.results_qty;
        if cumulative >= self.results_qty {
            self.average = average.or(self.average.filter(|_| !ahead));
        }
        self.results_qty = self.results_qty.max(cumulative);
        let delta = if seen || cumulative.same(applied, step) {
            Delta::Repeated
        } else if cumulative < applied {
            // Trades may be ahead of results. A result may not be lower than an earlier result.
            if ahead { Delta::Repeated } else { Delta::Contradictory }
        } else {
            let qty = cumulative.minus(applied)?;
            let price = self.price_of_next(qty, cumulative, average)?;
            self.parts.push(Part { qty, end: cumulative, price });
            Delta::New { part: self.number(self.parts.len() - 1) }
        };
        // A part may end at a quantity that no result has stated, because a flip splits it.
        let priced = match average {
            Some(average) if delta != Delta::Contradictory => self.supply(cumulative, average, step)?,
            Some(_) | None => Vec::new(),
        };
        Ok((delta, priced))
    }

    /// Returns the price of the next part: from the two cumulative averages if both are known, or else the average of a
    /// first fill.
    fn price_of_next(&self, qty: Qty, cumulative: Qty, average: Option<Price>) -> Result<Option<Price>, OutOfRange> {
        let Some(average) = average else { return Ok(None) };
        if self.parts.is_empty() {
            return Ok(Some(average));
        }
        let (known, unpriced) = self.known_cost(self.parts.len())?;
        if !unpriced.is_zero() {
            return Ok(None);
        }
        let price = average.for_qty(cumulative)?.minus(known)?.per(qty)?;
        Ok(Some(price).filter(|p| p.is_positive()))
    }

    /// Returns the cost of the priced parts among the first `count`, and the quantity of the others.
    fn known_cost(&self, count: usize) -> Result<(Quote, Qty), OutOfRange> {
        let mut cost = Quote::ZERO;
        let mut unpriced = Qty::ZERO;
        for part in &self.parts[..count] {
            match part.price {
                Some(price) => cost = cost.plus(price.for_qty(part.qty)?)?,
                None => unpriced = unpriced.plus(part.qty)?,
            }
        }
        Ok((cost, unpriced))
    }

    /// Derives prices of parts without one from the average of a cumulative quantity.
    fn supply(&mut self, cumulative: Qty, average: Price, step: Option<Qty>) -> Result<Vec<(u32, Price)>, OutOfRange> {
        let Some(last) = self.parts.iter().position(|part| part.end.same(cumulative, step)) else {
            return Ok(Vec::new());
        };
        let (known, unpriced) = self.known_cost(last + 1)?;
        if unpriced.is_zero() {
            return Ok(Vec::new());
        }
        let price = if known.is_zero() {
            average
        } else {
            average.for_qty(self.parts[last].end)?.minus(known)?.per(unpriced)?
        };
        if !price.is_positive() {
            return Ok(Vec::new());
        }
        let parts_from = self.parts_from;
        let mut priced = Vec::new();
        for (i, part) in self.parts[..=last].iter_mut().enumerate() {
            if part.price.is_none() {
                part.price = Some(price);
                priced.push((parts_from + i as u32, price));
            }
        }
        Ok(priced)
    }

    /// Applies a trade. A repeated trade id changes nothing.
    ///
    /// Returns what is new, if anything, and the parts whose price became known with it.
    pub fn take_trade(&mut self, trade: &Trade, step: Option<Qty>) -> Result<Taken, OutOfRange> {
        if self.has_trade(trade) {
            return Ok((None, Vec::new()));
        }
        self.trades.push(trade.clone());
        let sum = self.trades.iter().try_fold(Qty::ZERO, |sum, t| sum.plus(t.qty))?;
        let applied = self.applied();
        let new = if sum.same(applied, step) || sum < applied {
            None
        } else {
            let qty = sum.minus(applied)?;
            let new = self.new_of_trades(trade, qty)?;
            self.parts.push(Part { qty, end: sum, price: Some(new.price) });
            Some((self.number(self.parts.len() - 1), new))
        };
        let priced = if sum.same(self.applied(), step) { self.price_from_trades()? } else { Vec::new() };
        Ok((new, priced))
    }

    /// Prices the parts again where the trades add up to the applied quantity: a flip has split the last of them.
    ///
    /// Returns the parts whose price changed.
    pub fn priced_again(&mut self, step: Option<Qty>) -> Result<Vec<(u32, Price)>, OutOfRange> {
        let sum = self.trades.iter().try_fold(Qty::ZERO, |sum, t| sum.plus(t.qty))?;
        if sum.same(self.applied(), step) { self.price_from_trades() } else { Ok(Vec::new()) }
    }

    /// Returns the trade that a new quantity consists of. The cumulative quantity of the results covers the first
    /// trades of the order by time. A trade among them moves a later one out of what they cover, and that one is new.
    fn new_of_trades(&self, trade: &Trade, qty: Qty) -> Result<Trade, OutOfRange> {
        let key = |t: &Trade| (t.own_ms, t.trade_id.parse::<u64>().unwrap_or(u64::MAX));
        let mut sorted: Vec<&Trade> = self.trades.iter().collect();
        sorted.sort_by_key(|t| key(t));
        let mut before = sorted.iter().take_while(|t| t.trade_id != trade.trade_id);
        let before = before.try_fold(Qty::ZERO, |sum, t| sum.plus(t.qty))?;
        if before >= self.results_qty || self.trades.iter().any(|t| t.own_ms.is_none()) {
            return Ok(Trade { qty, ..trade.clone() });
        }
        let from = self.results_qty;
        let to = from.plus(qty)?;
        let (mut begin, mut cost, mut own_ms) = (Qty::ZERO, Quote::ZERO, trade.own_ms);
        let mut covered = Qty::ZERO;
        for t in sorted {
            let end = begin.plus(t.qty)?;
            let part = end.min(to).minus(begin.max(from))?;
            begin = end;
            if part.is_positive() {
                (cost, covered, own_ms) = (cost.plus(t.price.for_qty(part)?)?, covered.plus(part)?, t.own_ms);
            }
        }
        let price = if covered.is_zero() { trade.price } else { cost.per(covered)? };
        Ok(Trade { qty, price, own_ms, ..trade.clone() })
    }

    /// Replaces the prices of results by those of trades, once the trades add up to the applied quantity. Each part
    /// gets the cost of its trades, with trades and parts in the order in which they happened.
    fn price_from_trades(&mut self) -> Result<Vec<(u32, Price)>, OutOfRange> {
        let mut trades: Vec<(Qty, Price)> = {
            let mut sorted: Vec<&Trade> = self.trades.iter().collect();
            sorted.sort_by_key(|t| (t.own_ms, t.trade_id.parse::<u64>().unwrap_or(u64::MAX)));
            sorted.into_iter().rev().map(|t| (t.qty, t.price)).collect()
        };
        let parts_from = self.parts_from;
        let mut priced = Vec::new();
        let last = self.parts.len().saturating_sub(1);
        for (i, part) in self.parts.iter_mut().enumerate() {
            let mut open = part.qty;
            let mut cost = Quote::ZERO;
            let mut covered = Qty::ZERO;
            while let Some((qty, price)) = trades.pop() {
                let taken = if i == last { qty } else { qty.min(open) };
                cost = cost.plus(price.for_qty(taken)?)?;
                covered = covered.plus(taken)?;
                open = open.minus(taken)?;
                if taken < qty {
                    trades.push((qty.minus(taken)?, price));
                }
                if i != last && !open.is_positive() {
                    break;
                }
            }
            if covered.is_zero() {
                continue;
            }
            let price = cost.per(covered)?;
            if part.price != Some(price) {
                part.price = Some(price);
                priced.push((parts_from + i as u32, price));
            }
        }
        Ok(priced)
    }
}
