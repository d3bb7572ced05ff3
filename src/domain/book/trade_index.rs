//! The trades of a book's orders by id and side, so that a new trade is not searched in each order. Without it, a replay
//! of 8,000 orders with one trade each takes four times as long.

use std::collections::BTreeSet;

use super::order::Order;
use crate::domain::event::{Side, Trade};

/// The ids of trades. They are read from the orders when they are first needed, and are not stored. Those of orders that
/// are forgotten by now may be among them.
#[derive(Clone, Debug, Default)]
pub struct TradeIndex(Option<BTreeSet<(Box<str>, Side)>>);

/// Two books that differ only in it are equal.
impl PartialEq for TradeIndex {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl TradeIndex {
    /// Returns false if no order has the trade.
    pub fn may_have<'a>(&mut self, trade: &Trade, orders: impl Iterator<Item = &'a Order>) -> bool {
        let read = || orders.flat_map(|order| &order.trades).map(key).collect();
        self.0.get_or_insert_with(read).contains(&key(trade))
    }

    /// Adds a trade that an order has taken.
    pub fn add(&mut self, trade: &Trade) {
        if let Some(known) = &mut self.0 {
            known.insert(key(trade));
        }
    }

    /// Forgets all, so that they are read from the orders again.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

fn key(trade: &Trade) -> (Box<str>, Side) {
    (trade.trade_id.clone(), trade.side)
}
