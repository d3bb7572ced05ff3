//! One position: from the moment its quantity leaves zero until it is zero again.
//!
//! The position is a fold over its changes. The effect of a change is never patched: a price that becomes known later
//! replaces the one in the change, and the position is folded again.

use serde::{Deserialize, Serialize};

use super::change::{Cause, EntryPrice, PositionChange};
use super::hold_log::HoldLog;
use super::order::{OrderKey, Part};
use super::rescale::Rescale;
use super::rung::{DecisionRecord, Rung};
use super::totals::PositionTotals;
use crate::domain::event::ids::{EntryId, EntryRef, PositionId};
use crate::domain::event::{Direction, RiskPair, Trade};
use crate::domain::exit::policy::{EntrySource, RiskSource};
use crate::domain::units::{OutOfRange, Price, Qty, Quote, Ratio};

/// Risk fields of a position, taken once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskFields {
    /// Average true range as it was stated, in the unit that the policy knows for the producer.
    pub atr_value: Ratio,
    /// [1]
    pub volatility_factor: Ratio,
    /// `atr_value × volatility_factor`, in the unit of the ATR.
    pub factor: Ratio,
    /// The same as prices in the present unit of the contract, if it was rescaled since. A fraction has no unit, and
    /// which of the two it is may depend on the entry price.
    pub rescaled: Option<RescaledRisk>,
    pub source: RiskSource,
    pub entry: EntryRef,
    pub producer: Option<Box<str>>,
}

impl RiskFields {
    pub fn new(pair: RiskPair, source: RiskSource, entry: EntryRef, producer: Option<Box<str>>) -> Self {
        let RiskPair { atr_value, volatility_factor, factor } = pair;
        Self { atr_value, volatility_factor, factor, rescaled: None, source, entry, producer }
    }

    /// Returns `atr_value × volatility_factor` as a price in the present unit. [quote per base]
    pub fn absolute(&self) -> Price {
        Price::new(self.rescaled.map_or(self.factor, |rescaled| rescaled.factor).get())
    }

    fn rescale(&mut self, rescale: &Rescale) -> Result<(), OutOfRange> {
        let unit = |ratio: Ratio| rescale.price(Price::new(ratio.get())).map(|price| Ratio::new(price.get()));
        let RescaledRisk { atr_value, factor } =
            self.rescaled.unwrap_or(RescaledRisk { atr_value: self.atr_value, factor: self.factor });
        self.rescaled = Some(RescaledRisk { atr_value: unit(atr_value)?, factor: unit(factor)? });
        Ok(())
    }
}

/// Risk fields in another unit of the contract than that in which they were stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescaledRisk {
    /// [quote per base]
    pub atr_value: Ratio,
    /// [quote per base]
    pub factor: Ratio,
}

/// One life of a book, from open to flat.
///
/// ```
/// use harvester::domain::book::change::{Cause, EntryPrice, PositionChange};
/// use harvester::domain::book::order::OrderKey;
/// use harvester::domain::book::position::Position;
/// use harvester::domain::event::Direction;
/// use harvester::domain::event::ids::{EntryId, EntryRef, PositionId};
/// use harvester::domain::event::streams::StreamKind;
/// use harvester::domain::exit::policy::EntrySource;
/// use harvester::domain::units::{Price, Qty};
///
/// let fill = |order: &str, qty: i64, price: i64, ms: u64| {
///     let entry = EntryRef::new(StreamKind::Result, EntryId::new(ms, 0));
///     let price = EntryPrice { price: Price::new(price.into()), source: EntrySource::Fill, entry };
///     let cause = Cause::Fill { order: OrderKey::Id(order.into()), part: 0 };
///     PositionChange::new(cause, Qty::new(qty.into()), Some(price), entry)
/// };
/// let opening = fill("1", 10, 100, 1000);
/// let id = PositionId { opened: opening.entry.id, nth: 1 };
/// let mut position = Position::new(id, Direction::Long, opening.entry);
/// position.apply(opening)?;
/// position.apply(fill("2", 5, 103, 2000))?;
/// position.apply(fill("3", -3, 105, 3000))?;
///
/// let totals = position.totals;
/// // 10 + 5 − 3 = 12; at most 10 + 5 = 15
/// assert_eq!((totals.qty, totals.qty_largest), (Qty::new(12.into()), Qty::new(15.into())));
/// // (10 × 100 + 5 × 103) / 15 = 1515 / 15 = 101
/// assert_eq!(totals.entry.map(|entry| entry.price), Some(Price::new(101.into())));
/// // 3 × (105 − 101) = 12
/// assert_eq!(totals.realized.map(|realized| realized.to_string()).as_deref(), Some("12"));
/// # Ok::<(), harvester::domain::units::OutOfRange>(())
/// ```
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
    /// Quantity of an opening by a stated quantity, which older trades may explain, signed. [base]
    pub snapshot_qty: Option<Qty>,
    /// Trades from before such an opening, by event time.
    pub explaining: Vec<ExplainingTrade>,
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

/// A trade from before an opening by a stated quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainingTrade {
    /// The new part that it brought: quantity and price are those of the part.
    pub trade: Trade,
    /// The number of that part within its order.
    pub part: u32,
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
        self.set_totals(self.totals.after(&change)?);
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
        let last = self.changes.len().saturating_sub(1);
        for (place, change) in self.changes.iter_mut().enumerate() {
            // An adoption that closes keeps the entry price of the closed quantity.
            if change.cause == Cause::Adoption && place == last && self.closed.is_some() {
                change.price = totals.entry;
            }
            totals = totals.after(change)?;
        }
        // Quantities do not depend on prices: a dropped excess, or a close by "same quantity", is not done again.
        self.dirty.0 = true;
        totals.qty = qty;
        totals.qty_largest = self.totals.qty_largest;
        self.set_totals(totals);
        Ok(())
    }

    /// Sets the totals. The exchange can only disagree with a price of fills that is in use.
    fn set_totals(&mut self, totals: PositionTotals) {
        self.totals = totals;
        self.entry_price_disagrees &= totals.entry.is_some_and(|entry| entry.source == EntrySource::Fill);
    }

    /// Sets traded prices in the changes of an order's parts. Returns true if one changed.
    pub fn reprice(&mut self, order: &OrderKey, prices: &[(u32, Price)], entry: EntryRef) -> Result<bool, OutOfRange> {
        let mut changed = false;
        let first = self.first_of(order).unwrap_or(usize::MAX);
        for (place, change) in self.changes.iter_mut().enumerate() {
            // An order from before a rescale keeps its old unit.
            let later = self.rescales.iter().filter(|rescale| place.min(first) < rescale.changes);
            let price_of = |part: u32| -> Result<Option<Price>, OutOfRange> {
                let Some((_, price)) = prices.iter().find(|(of, _)| *of == part) else { return Ok(None) };
                later.clone().try_fold(*price, |price, rescale| rescale.price(price)).map(Some)
            };
            let part = match &change.cause {
                Cause::Fill { order: of, part } => (of == order).then_some(*part),
                Cause::Explained { order: of, part } => (order.id() == Some(of)).then_some(*part),
                Cause::StatedOpening | Cause::Adoption | Cause::EntrySet => None,
            };
            if let Some(price) = part.map(price_of).transpose()?.flatten() {
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
        for ExplainingTrade { trade, part } in &mut self.explaining {
            let price = prices.iter().find(|(of, _)| of == part).filter(|_| order.id() == Some(&trade.order_id));
            if let Some((_, price)) = price {
                trade.price = self.rescales.iter().try_fold(*price, |price, rescale| rescale.price(price))?;
                self.dirty.0 = true;
            }
        }
        if changed {
            self.refold()?;
        }
        Ok(changed)
    }

    /// Rescales the position. This is not a trade, but another unit of the same contract: shares taken and profits
    /// realised do not change.
    ///
    /// On an error the position is left half changed, and the caller restores it.
    pub fn rescale(&mut self, to: Qty, entry: EntryRef) -> Result<(), OutOfRange> {
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
        for ExplainingTrade { trade, .. } in &mut self.explaining {
            trade.qty = rescale.qty(trade.qty)?;
            trade.price = rescale.price(trade.price)?;
        }
        for decision in &mut self.decisions {
            decision.qty = rescale.qty(decision.qty)?;
        }
        if let Some(risk) = &mut self.risk {
            risk.rescale(&rescale)?;
        }
        self.snapshot_qty = self.snapshot_qty.map(|qty| rescale.qty(qty)).transpose()?;
        self.totals.qty_largest = rescale.qty(self.totals.qty_largest)?.abs().max(to.abs());
        self.totals.qty = to;
        self.rescales.push(rescale);
        self.risk_accepted = false;
        self.refold()
    }

    /// Returns the rescales of the contract between a time at which a value was stated and now, as this position counts
    /// them: those of the symbol up to its opening, and then its own.
    pub fn rescales_since<'a>(
        &'a self,
        stated: EntryId,
        of_symbol: &'a [Rescale],
    ) -> impl Iterator<Item = &'a Rescale> + Clone {
        let opened = self.opened.id;
        let before = of_symbol.iter().filter(move |rescale| rescale.entry.id <= opened);
        before.chain(&self.rescales).filter(move |rescale| stated.ms < rescale.entry.id.ms)
    }

    /// Sets the risk fields, in the unit of the contract in which the position is.
    pub fn take_risk(&mut self, risk: Option<RiskFields>, of_symbol: &[Rescale]) -> Result<(), OutOfRange> {
        let mut risk = risk;
        if let Some(risk) = &mut risk {
            self.rescales_since(risk.entry.id, of_symbol).try_for_each(|rescale| risk.rescale(rescale))?;
        }
        self.risk = risk;
        Ok(())
    }

    /// Returns true if the position was open before this rescale of its symbol and does not contain it yet. The next
    /// rescale that a look-up shows is then this one.
    pub fn lacks(&self, of_symbol: &Rescale) -> bool {
        let at = of_symbol.entry.id;
        self.opened.id < at && self.rescales.iter().all(|rescale| rescale.entry.id < at)
    }

    /// Returns a quantity and a price of a change in the unit that the contract had then.
    pub fn in_unit_of(&self, place: usize, qty: Qty, price: Option<Price>) -> Result<(Qty, Option<Price>), OutOfRange> {
        let later = self.rescales.iter().rev().filter(|rescale| place < rescale.changes);
        later.map(Rescale::inverse).try_fold((qty, price), |(qty, price), rescale| {
            Ok((rescale.qty(qty)?, price.map(|price| rescale.price(price)).transpose()?))
        })
    }

    /// Returns a part of an order in the present unit of the contract. An order from before a rescale keeps its old
    /// unit. Returns `None` if the unit has not changed since.
    pub fn rescaled_part(&self, order: &OrderKey, part: Part) -> Result<Option<Part>, OutOfRange> {
        let Some(first) = self.first_of(order) else { return Ok(None) };
        let later: Vec<&Rescale> = self.rescales.iter().filter(|rescale| first < rescale.changes).collect();
        if later.is_empty() {
            return Ok(None);
        }
        later
            .into_iter()
            .try_fold(part, |part, rescale| {
                let price = part.price.map(|price| rescale.price(price)).transpose()?;
                Ok(Part { qty: rescale.qty(part.qty)?, price, ..part })
            })
            .map(Some)
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
        let explaining = self.explaining.iter().filter(|t| order.id() == Some(&t.trade.order_id)).map(|t| t.part + 1);
        let fill = self.changes.iter().flat_map(|change| &change.late_fills);
        let fill = fill.filter(|fill| fill.order == *order).map(|fill| fill.part + 1);
        parts.chain(fill).chain(explaining).max().unwrap_or(0)
    }

    /// Returns true if an order has changed the position, or explains its opening.
    pub fn has_order(&self, key: &OrderKey) -> bool {
        self.first_of(key).is_some()
    }

    /// Returns true if trades explain its opening.
    pub fn is_explained(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.cause, Cause::Explained { .. }))
    }

    /// Returns the place of the first change that an order is part of.
    pub(super) fn first_of(&self, key: &OrderKey) -> Option<usize> {
        let is_of = |change: &PositionChange| match &change.cause {
            Cause::Fill { order, .. } => order == key,
            Cause::Explained { order, .. } => key.id() == Some(order),
            Cause::StatedOpening | Cause::Adoption | Cause::EntrySet => false,
        };
        self.changes.iter().position(|change| is_of(change) || change.late_fills.iter().any(|fill| fill.order == *key))
    }

    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }
}
