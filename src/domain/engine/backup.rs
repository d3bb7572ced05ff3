//! What a fact that may fail half way can change of a symbol, put by before it is folded.

use crate::domain::event::{Event, Outcome};
use crate::domain::ids::EntryId;
use crate::domain::order::{Order, OrderKey};
use crate::domain::symbol::{Hot, Symbol};

/// The open position, the orders that the fact names, and how many instances were closed.
///
/// Facts that move quantities are rare beside prices: they pay for this, prices do not.
pub(super) struct Backup {
    hot: Hot,
    orders: Vec<(OrderKey, Option<Order>)>,
    closed: usize,
}

impl Backup {
    /// `None` for a fact that cannot fail half way.
    pub fn before(event: &Event, id: EntryId, symbol: &Symbol) -> Option<Self> {
        let keys = match event {
            Event::Result(fact) => match &fact.outcome {
                Outcome::Fills(fills) => {
                    let by_plan = fact.plan_id.clone().map(OrderKey::Plan);
                    let by_id = fills.iter().filter_map(|fill| fill.order_id.clone()).map(OrderKey::Id);
                    let mut keys: Vec<OrderKey> = by_id.chain(by_plan).chain([OrderKey::Entry(id)]).collect();
                    if fact.plan_id.is_some() && fills.iter().any(|fill| fill.order_id.is_none()) {
                        let of_plan = symbol.cold.orders.iter().filter(|(_, order)| order.plan_id == fact.plan_id);
                        keys.extend(of_plan.map(|(key, _)| key.clone()));
                    }
                    keys
                }
                Outcome::Accepted { .. } | Outcome::Refused { .. } => return None,
            },
            Event::Trade(fact) => vec![OrderKey::Id(fact.order_id.clone())],
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
        let orders = keys.into_iter().map(|key| (key.clone(), symbol.cold.orders.get(&key).cloned())).collect();
        Some(Self { hot: symbol.hot.clone(), orders, closed: symbol.closed.len() })
    }

    pub fn restore(self, symbol: &mut Symbol) {
        symbol.hot = self.hot;
        symbol.closed.truncate(self.closed);
        for (key, order) in self.orders {
            match order {
                Some(order) => symbol.cold.orders.insert(key, order),
                None => symbol.cold.orders.remove(&key),
            };
        }
    }
}
