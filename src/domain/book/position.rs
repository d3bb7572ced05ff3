//! One position: from the moment its quantity leaves zero until it is zero again.
//!
//! The position is a fold over its changes. The effect of a change is never patched: a price that becomes known later
//! replaces the one in the change, and the position is folded again.

use serde::{Deserialize, Serialize};

use super::change::{Cause, EntryPrice, LateFill, PositionChange};
use super::hold_log::HoldLog;
use super::order::OrderKey;
use super::rescale::Rescale;
use super::rung::{DecisionRecord, Rung};
use super::totals::PositionTotals;
use crate::domain::event::ids::{EntryId, EntryRef, PositionId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Direction, RiskPair, Trade};
use crate::domain::exit::policy::{EntrySource, RiskSource};
use crate::domain::units::{OutOfRange, Price, Qty, Quote, Ratio};

/// Risk fields of a position, taken once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskFields {
    /// Average true range, in the unit that the policy knows for the producer.
    pub atr_value: Ratio,
    /// [1]
    pub volatility_factor: Ratio,
    /// `atr_value × volatility_factor`, in the unit of the ATR.
    pub factor: Ratio,
    pub source: RiskSource,
    pub entry: EntryRef,
    pub producer: Option<Box<str>>,
}

impl RiskFields {
    pub fn new(pair: RiskPair, source: RiskSource, entry: EntryRef, producer: Option<Box<str>>) -> Self {
        let RiskPair { atr_value, volatility_factor, factor } = pair;
        Self { atr_value, volatility_factor, factor, source, entry, producer }
    }
}

/// One life of a book, from open to flat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub id: PositionId,
    pub direction: Direction,
    pub opened: EntryRef,
    pub closed: Option<EntryRef>,
    pub totals: PositionTotals,
    pub changes: Vec<PositionChange>,
    pub risk: Option<RiskFields>,
    /// An operator accepted weak sources for this position.
    pub risk_accepted: bool,
    /// The exchange's entry price and that of the fills differ by more than 0.1 %.
    pub entry_price_disagrees: bool,
    /// Rungs that are reached when the position can first be evaluated count as taken (policy `on_live`).
    pub skips_reached: bool,
    pub rungs: Vec<Rung>,
    pub decisions: Vec<DecisionRecord>,
    /// The holds over time.
    pub holds: HoldLog,
    /// Quantity of an opening by snapshot, which older trades may explain, signed. [base]
    pub snapshot_qty: Option<Qty>,
    /// Trades from before such an opening, by event time.
    pub explaining: Vec<Trade>,
    /// Time at which fills, snapshots or the exchange last confirmed the quantity. [ms since 1970]
    pub confirmed_ms: u64,
    /// Set if a price was confirmed that could come from a rescaled contract. Only a look-up later than this entry
    /// settles it.
    pub price_doubted: Option<EntryId>,
    /// The rescales of the contract, oldest first.
    pub rescales: Vec<Rescale>,
    /// Changed since the last write to the store.
    #[serde(skip)]
    pub dirty: Dirty,
}

/// A mark for the store. It is ignored in comparisons: two positions that differ only in it are equal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dirty(pub bool);

impl PartialEq for Dirty {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Position {
    pub fn new(id: PositionId, direction: Direction, opened: EntryRef) -> Self {
        Self {
            id,
            direction,
            opened,
            closed: None,
            totals: PositionTotals::START,
            changes: Vec::new(),
            risk: None,
            risk_accepted: false,
            entry_price_disagrees: false,
            skips_reached: false,
            rungs: Vec::new(),
            decisions: Vec::new(),
            holds: HoldLog::default(),
            snapshot_qty: None,
            explaining: Vec::new(),
            confirmed_ms: opened.id.ms,
            price_doubted: None,
            rescales: Vec::new(),
            dirty: Dirty(true),
        }
    }

    /// Applies a change. Errors, with the position unchanged, if the totals are out of range.
    pub fn apply(&mut self, change: PositionChange) -> Result<(), OutOfRange> {
        self.totals = self.totals.after(&change)?;
        self.dirty.0 = true;
        // Snapshots come every second. Of consecutive entry prices only the last one matters.
        if change.cause == Cause::EntrySet && self.changes.last().is_some_and(|m| m.cause == Cause::EntrySet) {
            self.changes.pop();
        }
        self.changes.push(change);
        Ok(())
    }

    /// Folds the position again from its changes.
    pub fn refold(&mut self) -> Result<(), OutOfRange> {
        let qty = self.totals.qty;
        let mut totals = PositionTotals::START;
        for change in &self.changes {
            totals = totals.after(change)?;
        }
        // Quantities do not depend on prices: a dropped excess, or a close by "same quantity", is not done again.
        self.dirty.0 = true;
        totals.qty = qty;
        totals.qty_largest = self.totals.qty_largest;
        self.totals = totals;
        Ok(())
    }

    /// Sets traded prices in the changes of an order's parts. Returns true if one changed.
    pub fn reprice(&mut self, order: &OrderKey, prices: &[(u32, Price)], entry: EntryRef) -> Result<bool, OutOfRange> {
        let mut changed = false;
        for (place, change) in self.changes.iter_mut().enumerate() {
            // The price of a trade before a rescale is in the old unit.
            let later = self.rescales.iter().filter(|rescale| place < rescale.changes);
            let price_of = |part: u32| -> Result<Option<Price>, OutOfRange> {
                let Some((_, price)) = prices.iter().find(|(of, _)| *of == part) else { return Ok(None) };
                later.clone().try_fold(*price, |price, rescale| rescale.price(price)).map(Some)
            };
            if let Cause::Fill { order: of, part } = &change.cause
                && of == order
                && let Some(price) = price_of(*part)?
            {
                change.price = Some(EntryPrice { price, source: EntrySource::Fill, entry });
                changed = true;
            }
            for fill in change.late_fills.iter_mut().filter(|fill| fill.order == *order) {
                if let Some(price) = price_of(fill.part)? {
                    (fill.price, fill.entry) = (Some(price), entry);
                    changed = true;
                }
            }
        }
        if changed {
            self.refold()?;
        }
        Ok(changed)
    }

    /// Replaces the opening by snapshot by the trades that explain it, once they add up to its quantity. Returns the
    /// entry id of the first trade and its time, if they do.
    pub fn explain(&mut self, trade: Trade, step: Option<Qty>) -> Result<Option<(EntryId, u64)>, OutOfRange> {
        let Some(opening_qty) = self.snapshot_qty else { return Ok(None) };
        if self.explaining.iter().any(|t| t.trade_id == trade.trade_id) {
            return Ok(None);
        }
        self.explaining.push(trade);
        self.explaining.sort_by(|a, b| (a.own_ms, trade_order(a)).cmp(&(b.own_ms, trade_order(b))));
        let signed = |t: &Trade| t.side.opens().signed(t.qty);
        // Only trades after the quantity was last zero belong to this position.
        let mut sum = Qty::ZERO;
        let mut first = 0;
        for (i, trade) in self.explaining.iter().enumerate() {
            let next = sum.plus(signed(trade))?;
            if next.same(Qty::ZERO, step) {
                first = i + 1;
                sum = Qty::ZERO;
            } else {
                sum = next;
            }
        }
        if first == self.explaining.len() || !sum.same(opening_qty, step) {
            return Ok(None);
        }
        let explained: Vec<PositionChange> = self.explaining[first..]
            .iter()
            .map(|trade| {
                let entry = EntryRef::new(StreamKind::Observation, trade.entry);
                let price = EntryPrice { price: trade.price, source: EntrySource::Fill, entry };
                PositionChange::new(
                    Cause::Explained { order: trade.order_id.clone() },
                    signed(trade),
                    Some(price),
                    entry,
                )
            })
            .collect();
        let began = (self.explaining[first].entry, self.explaining[first].own_ms.unwrap_or(self.opened.id.ms));
        let rest = self
            .changes
            .iter()
            .filter(|m| !matches!(m.cause, Cause::SnapshotOpening | Cause::Explained { .. }))
            .cloned();
        let changes: Vec<PositionChange> = explained.into_iter().chain(rest).collect();
        let kept = std::mem::replace(&mut self.changes, changes);
        if let Err(error) = self.refold() {
            self.changes = kept;
            return Err(error);
        }
        Ok(Some(began))
    }

    /// Lets a fill explain a part of a change that a look-up had shown. Returns true if it is the first to explain an
    /// opening.
    ///
    /// On an error the position is left half changed, and the caller restores it.
    pub fn add_late_fill(&mut self, change: usize, fill: LateFill) -> Result<bool, OutOfRange> {
        let change = &mut self.changes[change];
        let is_first = change.cause == Cause::SnapshotOpening && change.late_fills.is_empty();
        change.late_fills.push(fill);
        self.refold()?;
        Ok(is_first)
    }

    /// Rescales the position. This is not a trade, but another unit of the same contract: shares taken and profits
    /// realised do not change.
    ///
    /// On an error the position is left half changed, and the caller restores it.
    pub fn rescale(&mut self, to: Qty, atr_is_absolute: bool, entry: EntryRef) -> Result<(), OutOfRange> {
        let rescale = Rescale { from: self.totals.qty, to, changes: self.changes.len(), entry };
        let mut rest = to;
        for change in &mut self.changes {
            change.delta = rescale.qty(change.delta)?;
            rest = rest.minus(change.delta)?;
            if let Some(price) = &mut change.price {
                price.price = rescale.price(price.price)?;
            }
            for fill in &mut change.late_fills {
                fill.qty = rescale.qty(fill.qty)?;
                fill.price = fill.price.map(|price| rescale.price(price)).transpose()?;
            }
        }
        // The rounding difference goes to the last change, so that all changes add up to the quantity.
        let is_rounding = rest.abs() <= to.abs().times(Ratio::TRILLIONTH)?;
        if let Some(last) = self.changes.iter_mut().rfind(|change| !change.delta.is_zero())
            && is_rounding
        {
            last.delta = last.delta.plus(rest)?;
        }
        for trade in &mut self.explaining {
            trade.qty = rescale.qty(trade.qty)?;
            trade.price = rescale.price(trade.price)?;
        }
        for decision in &mut self.decisions {
            decision.qty = rescale.qty(decision.qty)?;
        }
        if let Some(risk) = self.risk.as_mut().filter(|_| atr_is_absolute) {
            let unit = |ratio: Ratio| rescale.price(Price::new(ratio.get())).map(|price| Ratio::new(price.get()));
            (risk.atr_value, risk.factor) = (unit(risk.atr_value)?, unit(risk.factor)?);
        }
        self.snapshot_qty = self.snapshot_qty.map(|qty| rescale.qty(qty)).transpose()?;
        self.totals.qty_largest = rescale.qty(self.totals.qty_largest)?.abs().max(to.abs());
        self.totals.qty = to;
        self.rescales.push(rescale);
        self.risk_accepted = false;
        self.refold()
    }

    /// Returns the profit of the open quantity at a price: (mark − entry) × signed qty. [quote]
    pub fn unrealized(&self, mark: Price) -> Result<Option<Quote>, OutOfRange> {
        match self.totals.entry {
            Some(entry) => mark.minus(entry.price)?.for_qty(self.totals.qty).map(Some),
            None => Ok(None),
        }
    }

    /// Returns the number of the next part of an order that is no longer remembered. It follows the parts that its key
    /// has in this position.
    pub fn next_part(&self, order: &OrderKey) -> u32 {
        let parts = self.changes.iter().filter_map(|change| match &change.cause {
            Cause::Fill { order: of, part } if of == order => Some(part + 1),
            _ => None,
        });
        let fill = self.changes.iter().flat_map(|change| &change.late_fills);
        let fill = fill.filter(|fill| fill.order == *order).map(|fill| fill.part + 1);
        parts.chain(fill).max().unwrap_or(0)
    }

    /// Returns true if an order has changed the position.
    pub fn has_order(&self, key: &OrderKey) -> bool {
        let is_of = |change: &PositionChange| matches!(&change.cause, Cause::Fill { order, .. } if order == key);
        self.changes.iter().any(|change| is_of(change) || change.late_fills.iter().any(|fill| fill.order == *key))
    }

    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}

/// Returns the sort key of a trade id. Trade ids are numbers at the exchange: 9 sorts before 10. Other ids sort as text
/// after the numbers.
fn trade_order(trade: &Trade) -> (u64, &str) {
    (trade.trade_id.parse().unwrap_or(u64::MAX), &trade.trade_id)
}
