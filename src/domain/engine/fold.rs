//! How events, and the passage of time, change books. The changes themselves are in `book/apply`.

use super::accounts::Accounts;
use super::books::Naming;
use super::globals::Globals;
use super::of_fill::BookFound;
use super::rollback::Rollbacks;
use super::{BooksNamed, Engine};
use crate::domain::book::apply::BookFold;
use crate::domain::book::counters::{Count, Counters};
use crate::domain::book::plans::Plans;
use crate::domain::book::position::Position;
use crate::domain::book::state::{Book, Hot};
use crate::domain::book::view::BookView;
use crate::domain::event::ids::{AccountId, BookId, EntryId, EntryRef, PositionId, SymbolId};
use crate::domain::event::{
    Entry, Event, Intent, LegacyFact, Plan, PositionFact, PositionSide, PriceFact, Reason, TradeFact, Unreadable,
};
use crate::domain::exit::policy::EntrySource;
use crate::domain::units::{Price, Qty};

impl Engine {
    /// Takes a price into use, if its source is accepted and it is near the one in use.
    pub(super) fn fold_price(&mut self, fact: PriceFact, entry: &Entry, id: SymbolId) -> Result<(), Reason> {
        if !self.accepts(fact.source) {
            self.counters.count(Count::PriceUnaccepted);
            return Ok(());
        }
        self.invalidate_symbol(id);
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let mut fold = fold_of(globals, accounts, plans, counters, entry, AccountId::NONE);
        let slot = &mut slots[id];
        // Only a symbol without a used price asks for the entry prices of its books.
        let entry_price = |book: &Book| book.hot.open.as_ref()?.totals.entry.map(|entry| entry.price);
        let first_entry =
            if slot.symbol.mark.is_some() { None } else { slot.books().find_map(|(_, book)| entry_price(book)) };
        if let Some(confirmed) = fold.price(&mut slot.symbol, fact, || first_entry)? {
            confirmed.doubt(&mut slot.book)?;
            for other in &mut slot.others {
                confirmed.doubt(&mut other.book)?;
            }
        }
        Ok(())
    }

    /// Changes the books of an event other than a price, a control entry or a decision. Returns those that it names.
    pub(super) fn fold_fact(
        &mut self,
        event: &Event,
        entry: &Entry,
        symbol: SymbolId,
        rollbacks: &mut Rollbacks,
    ) -> Result<BooksNamed, Unreadable> {
        let now_ms = entry.id.ms;
        let forgotten = self.plans.forget(now_ms);
        if !self.changes.ignored {
            self.changes.plans_forgotten.extend(forgotten);
        }
        let of_account = if entry.account.is_named() { Some(entry.account) } else { None };
        match event {
            Event::Result(fact) => self.fold_result(event, fact, entry, symbol, rollbacks),
            Event::Position(fact) => self.fold_position(*fact, entry, symbol, rollbacks),
            Event::Trade(fact) => self.fold_trade(event, fact, entry, symbol, rollbacks),
            Event::Legacy(fact) => self.fold_legacy(event, fact, entry, symbol, rollbacks),
            Event::Intent(intent) => {
                self.fold_intent(intent, entry, symbol);
                Ok(BooksNamed::Of { symbol, account: of_account, side: None })
            }
            Event::ExitIntent(intent) => {
                self.invalidate_account(symbol, entry.account);
                self.changes.touch_intents(symbol, entry.account);
                self.slots[symbol].symbol.intents_mut(entry.account).exits.push_back((**intent).clone());
                self.forget_intents(symbol);
                Ok(BooksNamed::Of { symbol, account: of_account, side: None })
            }
            Event::Plan(plan) => {
                self.fold_plan(plan, symbol)?;
                Ok(BooksNamed::Of { symbol, account: of_account, side: entry.position_side })
            }
            Event::PlanIgnored => {
                self.invalidate_account(symbol, entry.account);
                Ok(BooksNamed::Of { symbol, account: of_account, side: entry.position_side })
            }
            Event::Instrument(instrument) => {
                self.invalidate_symbol(symbol);
                let known = self.slots[symbol].symbol.instrument.unwrap_or_default();
                self.slots[symbol].symbol.instrument = Some(known.with(instrument));
                Ok(BooksNamed::all_of(symbol))
            }
            Event::Price(_) | Event::Control(_) | Event::Decision(_) => {
                unreachable!("`fold_and_decide` folds these itself")
            }
        }
    }

    /// Remembers an entry intent. The first one after an opening supplies the risk fields that no earlier entry had.
    fn fold_intent(&mut self, intent: &Intent, entry: &Entry, symbol: SymbolId) {
        self.invalidate_account(symbol, entry.account);
        self.changes.touch_intents(symbol, entry.account);
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let fold = fold_of(globals, accounts, plans, counters, entry, entry.account);
        let slot = &mut slots[symbol];
        slot.symbol.intents_mut(entry.account).remember(intent.clone());
        let mut touched = Vec::new();
        for (book, nth) in std::iter::once(&mut slot.book).chain(slot.others.iter_mut().map(|o| &mut o.book)).zip(0..) {
            let is_for = !entry.account.is_named() || entry.account == book.account;
            if is_for && book.hot.open.is_some() {
                fold.intent(book, intent);
                touched.push(BookId { symbol, nth });
            }
        }
        touched.into_iter().for_each(|book| self.changes.touch_hot(book));
        self.forget_intents(symbol);
    }

    fn fold_plan(&mut self, plan: &Plan, symbol: SymbolId) -> Result<(), Unreadable> {
        if plan.position_side == Some(PositionSide::Both) && plan.has_qty && self.has_open_hedge_book(plan.account) {
            return Err(Unreadable::new(Reason::NoPositionSide));
        }
        self.invalidate_account(symbol, plan.account);
        if let Some(side) = plan.position_side {
            self.accounts.is_split |= side.is_hedge();
            if plan.has_qty {
                self.note_mode(plan.account, side);
            }
        }
        if self.plans.remember(plan.clone(), &self.slots[symbol].symbol) && !self.changes.ignored {
            self.changes.plans.push((plan.plan_id.clone(), plan.account));
        }
        Ok(())
    }

    /// Fills missing fields from an old hash, in the open books that it can be about.
    fn fold_legacy(
        &mut self,
        event: &Event,
        fact: &LegacyFact,
        entry: &Entry,
        symbol: SymbolId,
        rollbacks: &mut Rollbacks,
    ) -> Result<BooksNamed, Unreadable> {
        let is_hedged = self.accounts.get(entry.account).hedged;
        // Of LONG and SHORT side by side, a hash that names neither is about none.
        let is_known = !is_hedged || fact.direction.is_some() || entry.position_side.is_some();
        let is_of = |book: &Book| {
            is_known && book.account == entry.account && entry.position_side.is_none_or(|side| side == book.side)
        };
        let books = self.books_where(symbol, is_of);
        for book in &books {
            rollbacks.save(event, entry.id, *book, &self.slots);
            self.invalidate(*book);
            let Self { globals, accounts, plans, counters, slots, .. } = self;
            let fold = fold_of(globals, accounts, plans, counters, entry, entry.account);
            fold.legacy(slots.book_mut(*book), fact).map_err(Unreadable::new)?;
        }
        Ok(BooksNamed::Books(books))
    }

    /// Returns the book of a snapshot or look-up: that of its account and side.
    fn book_of_position(&mut self, fact: &PositionFact, entry: &Entry, symbol: SymbolId) -> Result<BookId, Unreadable> {
        let side = match entry.position_side {
            None if self.accounts.get(entry.account).hedged => return Err(Unreadable::sideless(entry.account)),
            side => side.unwrap_or_default(),
        };
        let is_both = entry.position_side == Some(PositionSide::Both);
        if is_both && !fact.qty.is_zero() && self.has_open_hedge_book(entry.account) {
            return Err(Unreadable::sideless(entry.account));
        }
        Ok(self.intern_book(symbol, entry.account, side))
    }

    /// Folds a position of the exchange.
    fn fold_position(
        &mut self,
        fact: PositionFact,
        entry: &Entry,
        symbol: SymbolId,
        rollbacks: &mut Rollbacks,
    ) -> Result<BooksNamed, Unreadable> {
        let id = self.book_of_position(&fact, entry, symbol)?;
        rollbacks.save(&Event::Position(fact), entry.id, id, &self.slots);
        self.changes.touch_hot(id);
        let before = EvaluationInputs::of(self.slots.view(id));
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let mut fold = fold_of(globals, accounts, plans, counters, entry, entry.account);
        let folded = fold.position(&mut slots.edit(id), fact);
        let after = EvaluationInputs::of(self.slots.view(id));
        if after != before {
            self.invalidate(id);
        }
        folded.map_err(Unreadable::new)?;
        if let Some(side) = entry.position_side.filter(|_| !fact.qty.is_zero()) {
            self.note_mode(entry.account, side);
        }
        self.globals.positions_known |= fact.qty.is_zero();
        if after.position != before.position {
            self.changes.touch_cold(id);
        }
        if (after.position, after.qty) != (before.position, before.qty) {
            self.after_positions(id);
        }
        Ok(BooksNamed::Book(id))
    }

    /// Folds a trade of the exchange.
    fn fold_trade(
        &mut self,
        event: &Event,
        fact: &TradeFact,
        entry: &Entry,
        symbol: SymbolId,
        rollbacks: &mut Rollbacks,
    ) -> Result<BooksNamed, Unreadable> {
        let naming = Naming {
            symbol,
            account: entry.account,
            side: entry.position_side,
            order_id: Some(&fact.order_id),
            plan_id: None,
            has_qty: true,
            fill: None,
            assigns: true,
            now_ms: entry.id.ms,
        };
        let book = match self.book_to_fill(&naming, entry, event, rollbacks)? {
            BookFound::Known(book) => book,
            BookFound::Ambiguous(books) => return Ok(BooksNamed::Books(books)),
        };
        self.invalidate(book);
        self.changes.touch_cold(book);
        let Self { globals, accounts, plans, counters, slots, .. } = self;
        let account = slots.book(book).account;
        let mut fold = fold_of(globals, accounts, plans, counters, entry, account);
        fold.trade(&mut slots.edit(book), fact).map_err(Unreadable::new)?;
        self.note_mode_of_fill(&naming, book);
        self.after_positions(book);
        Ok(BooksNamed::Book(book))
    }

    pub(super) fn after_positions(&mut self, id: BookId) {
        self.forget(id);
        let book = self.slots.book(id);
        self.globals.positions_known |= book.hot.last_opening.is_some();
        if book.positions().any(Position::awaits_time) {
            self.in_flight.insert(id);
        } else {
            self.in_flight.remove(&id);
        }
    }

    fn forget_intents(&mut self, symbol: SymbolId) {
        let forgotten = self.slots[symbol].symbol.forget_intents(self.globals.last.ms);
        for account in forgotten {
            self.changes.touch_intents(symbol, account);
        }
    }

    fn forget(&mut self, id: BookId) {
        self.forget_intents(id.symbol);
        let forgotten = self.slots.book_mut(id).forget(self.globals.last.ms);
        if forgotten.orders {
            self.changes.touch_cold(id);
        }
        for position in forgotten.closed {
            for decision in &position.decisions {
                self.decision_plans.remove(&decision.plan_id);
            }
            if position.dirty.0 && !self.changes.ignored {
                self.changes.closed_forgotten.push((id, position));
            }
        }
    }

    /// Expires the timeouts of decisions that wait for their results.
    #[inline(always)]
    pub(super) fn expire_timeouts(&mut self, now_ms: u64) {
        if !self.in_flight.is_empty() {
            self.expire_in_flight(now_ms);
        }
    }

    fn expire_in_flight(&mut self, now_ms: u64) {
        let waiting: Vec<BookId> = self.in_flight.iter().copied().collect();
        for id in waiting {
            let Self { accounts, globals, slots, .. } = self;
            let book = slots.book_mut(id);
            let policy = accounts.policy_of(book.account, globals);
            let mut changed = false;
            for position in book.positions_mut() {
                changed |= position.expire_timeouts(now_ms, policy);
            }
            if changed {
                self.invalidate(id);
                self.changes.touch_cold(id);
            }
        }
    }
}

/// The values that an evaluation reads and a position of the exchange can change. The time of its confirmation is not
/// one of them: that is looked up at each use.
#[derive(PartialEq)]
struct EvaluationInputs {
    history_gap: bool,
    diverged: bool,
    position: Option<PositionId>,
    qty: Option<Qty>,
    entry: Option<(Price, EntrySource)>,
    price_doubted: Option<EntryId>,
}

impl EvaluationInputs {
    fn of(book: BookView<'_>) -> Self {
        let Hot { history_gap, diverged, open, .. } = &book.hot;
        let open = open.as_ref();
        Self {
            history_gap: *history_gap,
            diverged: *diverged,
            position: open.map(|open| open.id),
            qty: open.map(|open| open.totals.qty),
            entry: open.and_then(|open| open.totals.entry).map(|entry| (entry.price, entry.source)),
            price_doubted: open.and_then(|open| open.price_doubted),
        }
    }
}

pub(super) fn fold_of<'a>(
    globals: &'a Globals,
    accounts: &'a Accounts,
    plans: &'a Plans,
    counters: &'a mut Counters,
    entry: &Entry,
    account: AccountId,
) -> BookFold<'a> {
    let policy = accounts.policy_of(account, globals);
    let symbol = entry.symbol;
    BookFold { entry: EntryRef::new(entry.kind, entry.id), symbol, account, policy, plans, counters }
}
