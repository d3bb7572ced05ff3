//! The state of one book: its open position, its closed ones, its orders and flags.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::change::{Cause, PositionChange};
use super::order::{ORDER_MEMORY_MS, Order, OrderKey};
use super::position::Position;
use super::trade_index::TradeIndex;
use crate::domain::event::ids::{AccountId, EntryId};
use crate::domain::event::{PositionSide, Side, Trade};
use crate::domain::units::Qty;

/// A quantity of the exchange that differs from ours and waits for its confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// Signed. [base]
    pub qty: Qty,
    /// When it was first seen. [ms since 1970]
    pub since_ms: u64,
}

/// The part of a book that changes with positions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hot {
    pub open: Option<Position>,
    pub history_gap: bool,
    pub diverged: bool,
    pub disagreement: Option<Disagreement>,
    /// Last fill of the book. [ms since 1970]
    pub filled_ms: Option<u64>,
    /// Last snapshot or look-up with our quantity. Flat counts as a quantity.
    pub agreed: Option<EntryId>,
    /// Last snapshot or look-up whose quantity was ours or was adopted.
    pub agreed_or_adopted: Option<EntryId>,
    /// The entry that last opened a position, and the number of positions that it opened.
    pub last_opening: Option<(EntryId, u32)>,
}

/// How often all orders are searched for old ones. An order that is used is always checked. [ms]
const TIDY_INTERVAL_MS: u64 = 3_600_000;

/// One account, one symbol and one position side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    pub account: AccountId,
    /// Name of the account; empty for the account without a name.
    pub account_name: Box<str>,
    pub side: PositionSide,
    /// `SYMBOL`, with `ACCOUNT/` before it and `:LONG` or `:SHORT` after it where there is one.
    pub name: Box<str>,
    pub hot: Hot,
    /// By exchange id or plan. Boxed: most books have one order, and a node of the map has room for eleven.
    pub orders: BTreeMap<OrderKey, Box<Order>>,
    /// Closed positions whose orders are still remembered, oldest first.
    pub closed: Vec<Position>,
    /// When all orders were last searched for old ones. [ms since 1970]
    pub tidied_ms: u64,
    pub trade_index: TradeIndex,
}

/// The kinds of records that a book has just forgotten.
pub struct Forgotten {
    /// Orders, which the store still contains.
    pub orders: bool,
    pub closed: Vec<Position>,
}

/// Returns the name of a book.
pub fn book_name(account: &str, symbol: &str, side: PositionSide) -> Box<str> {
    let prefix = if account.is_empty() { "" } else { "/" };
    match side {
        PositionSide::Both => format!("{account}{prefix}{symbol}").into(),
        PositionSide::Long | PositionSide::Short => format!("{account}{prefix}{symbol}:{}", side.name()).into(),
    }
}

/// Returns account, symbol and side of the name of a book. (None of their names contains `/` or `:`.)
pub fn parts_of_name(name: &str) -> (&str, &str, PositionSide) {
    let (account, rest) = name.split_once('/').unwrap_or(("", name));
    for side in [PositionSide::Long, PositionSide::Short] {
        if let Some(symbol) = rest.strip_suffix(side.name()).and_then(|rest| rest.strip_suffix(':')) {
            return (account, symbol, side);
        }
    }
    (account, rest, PositionSide::Both)
}

/// Returns the name of the book of a position, `ACCOUNT/SYMBOL:SIDE`, from the position's id; `None` for a text of
/// another form.
pub fn book_of_position(position_id: &str) -> Option<&str> {
    position_id.rsplit_once('@').map(|(book, _)| book)
}

/// Returns the account of the name of a book or of a position; empty for the account without a name.
pub fn account_of_position(name: &str) -> &str {
    let book = name.split_once('@').map_or(name, |(book, _)| book);
    parts_of_name(book).0
}

impl Book {
    /// Creates a book before its first entry.
    pub fn new(account: AccountId, account_name: &str, symbol: &str, side: PositionSide) -> Self {
        let name = book_name(account_name, symbol, side);
        Self { account, account_name: account_name.into(), side, name, ..Self::default() }
    }

    /// Returns true if it is neither of an account nor of a hedge account.
    pub const fn is_plain(&self) -> bool {
        !self.account.is_named() && !self.side.is_hedge()
    }

    /// Returns the id of a position of the book.
    pub fn position_id(&self, position: &Position) -> String {
        position.id.with_book(&self.name)
    }

    /// Returns the orders of an exchange id: one, unless several plans share it.
    pub fn orders_of_id<'s>(&'s self, id: &'s str) -> impl Iterator<Item = (&'s OrderKey, &'s Order)> {
        let first = self.orders.get_key_value(&OrderKey::Id(id.into()));
        let shared = OrderKey::Shared { id: id.into(), plan: "".into() };
        let shared = self.orders.range(shared..).take_while(move |(key, _)| key.id() == Some(id));
        first.into_iter().chain(shared).map(|(key, order)| (key, &**order))
    }

    /// Returns true if an order that is remembered has the trade, whatever the id of the order.
    pub fn has_trade(&mut self, trade: &Trade, now_ms: u64) -> bool {
        let Self { orders, trade_index, .. } = self;
        let has_it = || orders.values().any(|order| order.is_remembered(now_ms) && order.has_trade(trade));
        let may_have = trade_index.may_have(trade, orders.values().map(|order| &**order));
        debug_assert!(may_have || !has_it(), "the index lacks trade {}", trade.trade_id);
        may_have && has_it()
    }

    /// Forgets orders that are too old. Returns true if there were any.
    fn forget_orders(&mut self, now_ms: u64) -> bool {
        let before = self.orders.len();
        self.orders.retain(|_, order| order.is_remembered(now_ms));
        self.trade_index.clear();
        self.orders.len() != before
    }

    /// Forgets one order if it is too old.
    pub fn forget_order(&mut self, key: &OrderKey, now_ms: u64) {
        if self.orders.get(key).is_some_and(|order| !order.is_remembered(now_ms)) {
            self.orders.remove(key);
        }
    }

    /// Forgets the orders of an exchange id that are too old.
    pub fn forget_orders_of_id(&mut self, id: &str, now_ms: u64) {
        let keys: Vec<OrderKey> = self.orders_of_id(id).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.forget_order(key, now_ms));
    }

    /// Forgets orders of an exchange id that only refusals have named, with another plan or side than an entry names:
    /// the id was used again.
    pub fn forget_refused_of_id(&mut self, id: &str, plan_id: Option<&str>, side: Option<Side>) {
        let is_other = |order: &Order| {
            let is_of_other_side = order.side.is_some_and(|known| side.is_some_and(|side| side != known));
            order.refused_only && (is_of_other_side || !order.counts_for(plan_id))
        };
        let others = self.orders_of_id(id).filter(|(_, order)| is_other(order)).map(|(key, _)| key.clone());
        for key in others.collect::<Vec<_>>() {
            self.orders.remove(&key);
        }
    }

    /// Returns the signed quantity of the open position; zero when flat. [base]
    pub fn qty(&self) -> Qty {
        self.hot.open.as_ref().map_or(Qty::ZERO, |open| open.totals.qty)
    }

    /// Forgets values that are too old. No result depends on the time of the call, because each use checks the age.
    pub fn forget(&mut self, now_ms: u64) -> Forgotten {
        let mut orders = false;
        if now_ms.saturating_sub(self.tidied_ms) >= TIDY_INTERVAL_MS {
            self.tidied_ms = now_ms;
            orders = self.forget_orders(now_ms);
        }
        let from = now_ms.saturating_sub(ORDER_MEMORY_MS);
        let old = self.closed.iter().take_while(|i| i.closed.is_some_and(|closed| closed.id.ms < from)).count();
        Forgotten { orders, closed: self.closed.drain(..old).collect() }
    }

    /// Returns true if the decision belongs to a position that is not too old, whether or not it is forgotten by now.
    pub fn remembers(&self, decision_id: &str, now_ms: u64) -> bool {
        let from = now_ms.saturating_sub(ORDER_MEMORY_MS);
        let is_recent = |position: &&Position| position.closed.is_none_or(|closed| closed.id.ms >= from);
        self.positions().filter(is_recent).any(|position| position.has_decision(decision_id))
    }

    /// Returns the book without everything that is too old, whenever it was last tidied: the part that later entries
    /// can use.
    pub fn tidied(&self, now_ms: u64) -> Self {
        let mut tidied = Self { tidied_ms: 0, ..self.clone() };
        tidied.forget(now_ms);
        tidied.tidied_ms = 0;
        tidied
    }

    /// Returns the position that was closed last, while it is remembered.
    pub fn last_closed(&self, now_ms: u64) -> Option<&Position> {
        let from = now_ms.saturating_sub(ORDER_MEMORY_MS);
        self.closed.last().filter(|last| last.closed.is_some_and(|closed| closed.id.ms >= from))
    }

    /// Returns the time at which fills, look-ups or snapshots last confirmed the quantity. [ms since 1970]
    pub fn known_ms(&self) -> u64 {
        let opened_ms = self.hot.last_opening.map_or(0, |(entry, _)| entry.ms);
        self.hot.filled_ms.unwrap_or(0).max(self.hot.agreed_or_adopted.map_or(0, |entry| entry.ms)).max(opened_ms)
    }

    /// Returns the entries that brought the parts of an order, oldest first. Parts that a look-up contained already are
    /// not among them.
    pub fn entries_of(&self, key: &OrderKey) -> Vec<EntryId> {
        let is_part = |change: &PositionChange| matches!(&change.cause, Cause::Fill { order, .. } if order == key);
        let late = |change: &PositionChange| {
            let late = change.late_fills.iter().filter(|fill| fill.order == *key);
            late.map(|fill| fill.entry.id).collect::<Vec<_>>()
        };
        let changes = self.positions().flat_map(|position| &position.changes);
        let entries =
            changes.flat_map(|change| late(change).into_iter().chain(is_part(change).then_some(change.entry.id)));
        let entries: BTreeSet<EntryId> = entries.collect();
        entries.into_iter().collect()
    }

    /// Returns all positions in memory, oldest first.
    pub fn positions_mut(&mut self) -> impl Iterator<Item = &mut Position> {
        self.closed.iter_mut().chain(self.hot.open.as_mut())
    }

    pub fn positions(&self) -> impl Iterator<Item = &Position> {
        self.closed.iter().chain(self.hot.open.as_ref())
    }

    /// Returns true if a snapshot has shown a position once and no second look has confirmed it yet.
    pub fn is_unconfirmed(&self) -> bool {
        self.hot.open.is_none() && self.hot.disagreement.is_some()
    }

    /// Returns true if only the name of the book is known.
    pub fn is_blank(&self, history_gap: bool) -> bool {
        self.hot == Hot { history_gap, ..Hot::default() } && self.orders.is_empty() && self.closed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_account_symbol_and_side() {
        for (account, symbol, side, name) in [
            ("", "NEARUSDT", PositionSide::Both, "NEARUSDT"),
            ("main", "NEARUSDT", PositionSide::Both, "main/NEARUSDT"),
            ("", "NEARUSDT", PositionSide::Short, "NEARUSDT:SHORT"),
            ("sub-1.a", "BTCUSDT_260327", PositionSide::Long, "sub-1.a/BTCUSDT_260327:LONG"),
            ("", "LONG", PositionSide::Both, "LONG"),
            ("", "XLONG", PositionSide::Both, "XLONG"),
        ] {
            assert_eq!(&*book_name(account, symbol, side), name);
            assert_eq!(parts_of_name(name), (account, symbol, side));
        }
    }
}
