//! Rollback: saves the parts of the books that an entry changes before the fold, in case the entry turns out not to
//! fit.

use super::slots::{Slot, Slots};
use crate::domain::book::order::{Order, OrderKey};
use crate::domain::book::position::Position;
use crate::domain::book::state::{Book, Hot};
use crate::domain::book::symbol::{Mark, Symbol};
use crate::domain::book::view::BookView;
use crate::domain::event::ids::{BookId, EntryId};
use crate::domain::event::{Event, Outcome};

/// The books that an entry changes, as they were before.
#[derive(Default)]
pub(super) struct Rollbacks(Vec<(BookId, Rollback)>);

impl Rollbacks {
    /// Saves a book, before the entry changes it for the first time.
    pub fn save(&mut self, event: &Event, id: EntryId, book: BookId, slots: &Slots) {
        if self.0.iter().all(|(saved, _)| *saved != book)
            && let Some(before) = Rollback::before(event, id, slots.view(book))
        {
            self.0.push((book, before));
        }
    }

    /// Saves further orders of a book that is saved, before the entry changes them.
    pub fn add_orders(&mut self, book: BookId, keys: &[OrderKey], slots: &Slots) {
        let Some((_, saved)) = self.0.iter_mut().find(|(saved, _)| *saved == book) else { return };
        for key in keys {
            if saved.orders.iter().all(|(known, _)| known != key) {
                saved.orders.push((key.clone(), slots.book(book).orders.get(key).cloned()));
            }
        }
    }

    pub fn restore(self, slots: &mut Slots) {
        for (book, saved) in self.0.into_iter().rev() {
            saved.prices.restore(&mut slots[book.symbol].symbol);
            saved.restore(slots.book_mut(book));
        }
    }
}

/// The used and the held price of a symbol.
#[derive(Clone, Copy)]
struct Prices {
    mark: Option<Mark>,
    held: Option<Mark>,
}

impl Prices {
    const fn of(symbol: &Symbol) -> Self {
        Self { mark: symbol.mark, held: symbol.held_price }
    }

    fn restore(self, symbol: &mut Symbol) {
        symbol.mark = self.mark;
        symbol.held_price = self.held;
    }
}

/// The open position, the orders that the fact names, the number of closed positions, and those of them that the fact
/// can change: the last one, and those with a part of these orders, which a price that comes later changes.
///
/// Facts that move quantities are rare compared with prices. They pay for this copy; prices do not.
struct Rollback {
    prices: Prices,
    hot: Hot,
    orders: Vec<(OrderKey, Option<Box<Order>>)>,
    closed: usize,
    changed_closed: Vec<(usize, Position)>,
}

impl Rollback {
    /// Saves the state before a fact. Returns `None` for a fact that cannot fail half way.
    fn before(event: &Event, id: EntryId, book: BookView<'_>) -> Option<Self> {
        let keys = match event {
            Event::Result(fact) => match &fact.outcome {
                Outcome::Fills(fills) => {
                    let by_plan = fact.plan_id.clone().map(OrderKey::Plan);
                    let ids: Vec<&str> = fills.iter().filter_map(|fill| fill.order_id.as_deref()).collect();
                    let by_id = ids.iter().flat_map(|id| keys_of_id(&book, id, fact.plan_id.as_deref()));
                    let mut keys: Vec<OrderKey> = by_id.chain(by_plan).chain([OrderKey::Entry(id)]).collect();
                    if let Some(plan_id) = fact.plan_id.as_deref().filter(|_| ids.len() < fills.len()) {
                        let of_plan = book.orders.iter().filter(|(_, order)| order.has_plan(plan_id));
                        keys.extend(of_plan.map(|(key, _)| key.clone()));
                    }
                    keys
                }
                Outcome::Accepted { .. } | Outcome::Refused { .. } => return None,
            },
            Event::Trade(fact) => keys_of_id(&book, &fact.order_id, None),
            // A confirmation of our own quantity fails before it changes anything, and comes many times a minute: to
            // copy the position for each makes a replay take 8 % more instructions, an audit 7 %.
            Event::Position(fact) if book.qty().same(fact.qty, book.step_size()) => return None,
            Event::Position(_) | Event::Legacy(_) => Vec::new(),
            Event::Price(_)
            | Event::Intent(_)
            | Event::ExitIntent(_)
            | Event::Plan(_)
            | Event::PlanIgnored
            | Event::Instrument(_)
            | Event::Control(_)
            | Event::Decision(_) => return None,
        };
        let last = book.closed.len().saturating_sub(1);
        // An order that is not remembered has no part in a closed position, unless its trades explain the opening.
        let remembered: Vec<&OrderKey> = keys.iter().filter(|key| book.orders.contains_key(*key)).collect();
        let has_part = |closed: &Position| match closed.is_explained() {
            true => keys.iter().any(|key| closed.has_order(key)),
            false => remembered.iter().any(|key| closed.has_order(key)),
        };
        let changed = book.closed.iter().enumerate().filter(|(nth, closed)| *nth == last || has_part(closed));
        let changed_closed = changed.map(|(nth, closed)| (nth, closed.clone())).collect();
        let orders = keys.into_iter().map(|key| (key.clone(), book.orders.get(&key).cloned())).collect();
        let prices = Prices::of(book.symbol);
        Some(Self { prices, hot: book.hot.clone(), orders, closed: book.closed.len(), changed_closed })
    }

    fn restore(self, book: &mut Book) {
        book.hot = self.hot;
        book.closed.truncate(self.closed);
        for (nth, before) in self.changed_closed {
            book.closed[nth] = before;
        }
        for (key, order) in self.orders {
            match order {
                Some(order) => book.orders.insert(key, order),
                None => book.orders.remove(&key),
            };
        }
    }
}

/// The part of a symbol and its books that a price can change.
pub(super) struct PriceRollback {
    prices: Prices,
    doubted: Option<EntryId>,
    /// Of the other books, where there are any.
    others_doubted: Vec<Option<EntryId>>,
}

fn doubted(book: &Book) -> Option<EntryId> {
    book.hot.open.as_ref().and_then(|open| open.price_doubted)
}

fn restore_doubt(book: &mut Book, doubted: Option<EntryId>) {
    if let Some(open) = &mut book.hot.open {
        open.price_doubted = doubted;
    }
}

impl PriceRollback {
    /// Saves the state before a price.
    pub fn before(slot: &Slot) -> Self {
        let others_doubted = slot.others.iter().map(|other| doubted(&other.book)).collect();
        Self { prices: Prices::of(&slot.symbol), doubted: doubted(&slot.book), others_doubted }
    }

    pub fn restore(self, slot: &mut Slot) {
        self.prices.restore(&mut slot.symbol);
        restore_doubt(&mut slot.book, self.doubted);
        for (other, doubted) in slot.others.iter_mut().zip(self.others_doubted) {
            restore_doubt(&mut other.book, doubted);
        }
    }
}

/// Returns the keys under which an exchange id may be found or remembered.
fn keys_of_id(book: &Book, id: &str, plan_id: Option<&str>) -> Vec<OrderKey> {
    let known = book.orders_of_id(id).map(|(key, _)| key.clone());
    let shared = plan_id.map(|plan_id| OrderKey::Shared { id: id.into(), plan: plan_id.into() });
    known.chain([OrderKey::Id(id.into())]).chain(shared).collect()
}
