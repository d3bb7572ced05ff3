//! How one fact changes one book, or the symbol that books share (docs/spec/fold.md). Intents and prices are here;
//! fills and facts of the exchange are in `apply/`.

use super::change::{Cause, EntryPrice, PositionChange};
use super::counters::{Count, Counters, Unreadables};
use super::plans::{KnownPlan, Plans};
use super::position::RiskFields;
use super::state::Book;
use super::symbol::{Mark, Symbol};
use super::view::BookMut;
use crate::domain::event::ids::{AccountId, EntryRef, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Intent, LegacyFact, PriceFact, Reason, RiskPair};
use crate::domain::exit::policy::{EntrySource, Policy, RiskSource};
use crate::domain::units::{OutOfRange, Price, Qty, Ratio};

mod exchange;
mod fills;
mod order_of;
mod overtaken;

/// A fill of an unknown order whose event time is older than this is too late. [ms]
const TOO_LATE_MS: u64 = 24 * 3_600_000;

impl From<OutOfRange> for Reason {
    fn from(_: OutOfRange) -> Self {
        Self::OutOfRange
    }
}

/// The entry that is folded, and the context of its book.
pub struct BookFold<'a> {
    pub entry: EntryRef,
    pub symbol: Option<SymbolId>,
    /// The account of the book.
    pub account: AccountId,
    /// The policy of the account.
    pub policy: &'a Policy,
    pub plans: &'a Plans,
    pub counters: &'a mut Counters,
}

impl<'a> BookFold<'a> {
    fn now_ms(&self) -> u64 {
        self.entry.id.ms
    }

    /// Returns the plan of an id, if the plan belongs to the symbol and serves the account.
    fn plan_of(&self, plan_id: Option<&str>) -> Option<&'a KnownPlan> {
        self.plans.of(self.account, plan_id?, self.symbol?)
    }

    fn count_unreadable_time(&mut self) {
        self.counters.count(Count::UnreadableTime);
        self.counters.unreadable(Unreadables::Times, self.entry.id.ms);
    }

    /// Returns true if a fill of an order that is not remembered happened too long before its entry.
    fn is_too_late(&self, time_ms: Option<u64>) -> bool {
        time_ms.is_some_and(|time_ms| time_ms.saturating_add(TOO_LATE_MS) < self.now_ms())
    }

    /// Lets an entry intent supply the risk fields that no entry before the opening had.
    pub fn intent(&self, book: &mut Book, intent: &Intent) {
        if let Some(open) = &mut book.hot.open
            && open.direction == intent.direction
            && open.risk.as_ref().is_none_or(|risk| risk.source == RiskSource::Legacy)
            && let Some(risk) = risk_of(intent, RiskSource::IntentNearest)
        {
            open.risk = Some(risk);
        }
    }

    /// Fills missing fields from an old hash, and changes nothing else.
    pub fn legacy(&self, book: &mut Book, fact: &LegacyFact) -> Result<(), Reason> {
        let entry = self.entry;
        let Some(open) = &mut book.hot.open else { return Ok(()) };
        if fact.direction.is_some_and(|direction| direction != open.direction) {
            return Ok(());
        }
        if open.totals.entry.is_none()
            && let Some(price) = fact.entry_price
        {
            let price = Some(EntryPrice { price, source: EntrySource::Legacy, entry });
            open.apply(PositionChange::new(Cause::EntrySet, Qty::ZERO, price, entry))?;
        }
        if open.risk.is_none()
            && let Some(pair) = RiskPair::of(fact.atr_value, fact.volatility_factor)
        {
            open.risk = Some(RiskFields::new(pair, RiskSource::Legacy, entry, None));
        }
        Ok(())
    }

    /// Takes a price into use if it is near the last used price or, before the first, near the first entry price of the
    /// open books. Otherwise the price is held until another one confirms it (docs/spec/fold.md, "Price jump"). The
    /// caller has accepted the source.
    ///
    /// Returns the held price that it confirms, if it does: the open books may have to doubt it.
    pub fn price(
        &mut self,
        symbol: &mut Symbol,
        fact: PriceFact,
        first_entry: impl FnOnce() -> Option<Price>,
    ) -> Result<Option<PriceConfirmed>, Reason> {
        match fact.time.age_ms(self.now_ms()) {
            None => {
                self.count_unreadable_time();
                return Ok(None);
            }
            Some(age_ms) if age_ms > self.policy.max_price_age_ms => {
                self.counters.count(Count::LatePrice);
                return Ok(None);
            }
            Some(_) => {}
        }
        let mark = Mark { price: fact.price, source: fact.source, entry: self.entry.id };
        let is_near = |earlier: Price| mark.price.is_near(earlier, self.policy.max_price_jump);
        let used = symbol.mark.map(|mark| mark.price);
        let reference = used.or_else(first_entry);
        if reference.map_or(Ok(false), is_near)? {
            use_price(symbol, mark);
            return Ok(None);
        }
        match symbol.held_price {
            Some(held) if is_near(held.price)? => {
                let is_later = mark.entry.ms >= held.entry.ms.saturating_add(self.policy.price_confirm_ms);
                if is_later || mark.source != held.source {
                    use_price(symbol, mark);
                    return Ok(Some(PriceConfirmed { held, used, price: mark.price }));
                }
            }
            Some(_) | None => symbol.held_price = Some(mark),
        }
        self.counters.count(Count::PriceHeld);
        Ok(None)
    }

    /// Holds back the used price where a position has just opened far from it.
    pub(crate) fn hold_price_far_from_entry(&self, book: &mut BookMut<'_>) -> Result<(), Reason> {
        let entry = book.hot.open.as_ref().and_then(|open| open.totals.entry);
        let (Some(mark), Some(entry)) = (book.symbol.mark, entry) else { return Ok(()) };
        if !entry.price.is_near(mark.price, self.policy.max_price_jump)? {
            book.symbol.held_price = Some(Mark { entry: self.entry.id, ..mark });
            book.symbol.mark = None;
        }
        Ok(())
    }
}

/// A price that confirmed a held one.
#[derive(Clone, Copy, Debug)]
pub struct PriceConfirmed {
    held: Mark,
    /// The price that was used before. [quote per base]
    used: Option<Price>,
    /// [quote per base]
    price: Price,
}

impl PriceConfirmed {
    /// Puts the price in doubt for a book, where it could come from a rescaled contract, until a look-up that is later
    /// than the price that was held.
    pub fn doubt(&self, book: &mut Book) -> Result<(), OutOfRange> {
        let confirmed = book.hot.agreed_or_adopted;
        let Some(open) = &mut book.hot.open else { return Ok(()) };
        // A look-up from before the opening agreed with another quantity.
        let is_confirmed = confirmed.is_some_and(|confirmed| confirmed > self.held.entry.max(open.opened.id));
        let reference = self.used.or(open.totals.entry.map(|entry| entry.price));
        let is_doubted = reference.map_or(Ok(false), |reference| could_be_rescaled(reference, self.price))?;
        if is_doubted && !is_confirmed {
            open.price_doubted = Some(self.held.entry);
        }
        Ok(())
    }
}

fn use_price(symbol: &mut Symbol, mark: Mark) {
    symbol.mark = Some(mark);
    symbol.held_price = None;
}

/// Returns true if the factor between two prices could come from a rescaled contract.
fn could_be_rescaled(before: Price, after: Price) -> Result<bool, OutOfRange> {
    Ok(after > before.times(Ratio::RESCALED_PRICE)? || after.times(Ratio::RESCALED_PRICE)? < before)
}

fn risk_of(intent: &Intent, source: RiskSource) -> Option<RiskFields> {
    let entry = EntryRef::new(StreamKind::Intent, intent.id);
    Some(RiskFields::new(intent.risk_pair()?, source, entry, intent.producer.clone()))
}
