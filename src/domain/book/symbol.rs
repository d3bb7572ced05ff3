//! The state of one symbol: price, open position, orders, intents, flags.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::order::{ORDER_MEMORY_MS, Order, OrderKey};
use super::position::Position;
use crate::domain::event::ids::EntryId;
use crate::domain::event::{Direction, ExitIntent, Instrument, Intent, PriceSource};
use crate::domain::exit::Hold;
use crate::domain::units::{Price, Qty};

/// How long intents and plans are remembered. [ms]
pub const INTENT_MEMORY_MS: u64 = 24 * 3_600_000;

/// A price in use.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// [quote per base]
    pub price: Price,
    pub source: PriceSource,
    pub entry: EntryId,
}

/// A quantity of the exchange that differs from ours and waits for its confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// Signed. [base]
    pub qty: Qty,
    /// When it was first seen. [ms since 1970]
    pub since_ms: u64,
}

/// The part of a symbol that changes with every price.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Hot {
    pub mark: Option<Mark>,
    /// A price that is not near the used one and waits for the next price.
    pub held_price: Option<Mark>,
    pub open: Option<Position>,
    pub history_gap: bool,
    pub diverged: bool,
    pub disagreement: Option<Disagreement>,
    /// Last fill of the symbol. [ms since 1970]
    pub filled_ms: Option<u64>,
    /// Last snapshot or look-up with our quantity. Flat counts as a quantity.
    pub agreed: Option<EntryId>,
    /// Last snapshot or look-up whose quantity was ours or was adopted.
    pub looked_up: Option<EntryId>,
    /// The entry that last opened a position, and the number of positions that it opened.
    pub last_opening: Option<(EntryId, u32)>,
    pub instrument: Option<Instrument>,
    /// An entry other than a price has named the symbol.
    pub named: bool,
}

/// The part of a symbol that changes with intents and results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    pub orders: BTreeMap<OrderKey, Order>,
    /// Entry intents of the last 24 hours, oldest first.
    pub intents: VecDeque<Intent>,
    pub exit_intents: VecDeque<ExitIntent>,
    /// Last entry intent with both risk fields, for longs. The next field is for shorts.
    pub latest_long: Option<Intent>,
    pub latest_short: Option<Intent>,
}

/// How often all orders are searched for old ones. An order that is used is always checked. [ms]
const TIDY_INTERVAL_MS: u64 = 3_600_000;

impl Cold {
    pub fn latest_with_risk(&self, direction: Direction) -> Option<&Intent> {
        match direction {
            Direction::Long => self.latest_long.as_ref(),
            Direction::Short => self.latest_short.as_ref(),
        }
    }

    /// Returns the orders of an exchange id: one, unless several plans share it.
    pub fn orders_of_id<'s>(&'s self, id: &'s str) -> impl Iterator<Item = (&'s OrderKey, &'s Order)> {
        let first = self.orders.get_key_value(&OrderKey::Id(id.into()));
        let shared = OrderKey::Shared { id: id.into(), plan: "".into() };
        first.into_iter().chain(self.orders.range(shared..).take_while(move |(key, _)| key.id() == Some(id)))
    }

    /// Remembers an entry intent.
    pub fn remember(&mut self, intent: Intent) {
        if intent.risk_pair().is_some() {
            match intent.direction {
                Direction::Long => self.latest_long = Some(intent.clone()),
                Direction::Short => self.latest_short = Some(intent.clone()),
            }
        }
        self.intents.push_back(intent);
    }

    /// Forgets intents that are too old. Returns true if there were any.
    fn forget_intents(&mut self, now_ms: u64) -> bool {
        let from = now_ms.saturating_sub(INTENT_MEMORY_MS);
        let before = self.intents.len() + self.exit_intents.len();
        while self.intents.front().is_some_and(|i| i.id.ms < from) {
            self.intents.pop_front();
        }
        while self.exit_intents.front().is_some_and(|i| i.id.ms < from) {
            self.exit_intents.pop_front();
        }
        self.intents.len() + self.exit_intents.len() != before
    }

    /// Forgets orders that are too old. Returns true if there were any.
    fn forget_orders(&mut self, now_ms: u64) -> bool {
        let before = self.orders.len();
        self.orders.retain(|_, order| order.is_remembered(now_ms));
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

    /// Returns the latest entry intent of a direction at or before a time, at most `age_max_ms` old.
    pub fn matching_intent(&self, direction: Direction, at_ms: u64, age_max_ms: u64) -> Option<&Intent> {
        let remembered = self.intents.iter().rev().find(|i| i.direction == direction && i.id.ms <= at_ms);
        remembered.filter(|i| at_ms - i.id.ms <= age_max_ms.min(INTENT_MEMORY_MS))
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Symbol {
    pub name: Box<str>,
    pub hot: Hot,
    pub cold: Cold,
    /// Closed positions whose orders are still remembered, oldest first.
    pub closed: Vec<Position>,
    /// When all orders were last searched for old ones. [ms since 1970]
    pub tidied_ms: u64,
}

/// What a symbol has just forgotten.
pub struct Forgotten {
    /// Intents or orders, which the store still contains.
    pub cold: bool,
    pub closed: Vec<Position>,
}

impl Symbol {
    pub fn step_size(&self) -> Option<Qty> {
        self.hot.instrument.as_ref().and_then(|i| i.step_size)
    }

    /// Returns the signed quantity of the open position; zero when flat. [base]
    pub fn qty(&self) -> Qty {
        self.hot.open.as_ref().map_or(Qty::ZERO, |open| open.totals.qty)
    }

    /// Forgets what is too old. No result depends on when this is called, because each use checks the age.
    pub fn forget(&mut self, now_ms: u64) -> Forgotten {
        let mut cold = self.cold.forget_intents(now_ms);
        if now_ms.saturating_sub(self.tidied_ms) >= TIDY_INTERVAL_MS {
            self.tidied_ms = now_ms;
            cold |= self.cold.forget_orders(now_ms);
        }
        let from = now_ms.saturating_sub(ORDER_MEMORY_MS);
        let old = self.closed.iter().take_while(|i| i.closed.is_some_and(|closed| closed.id.ms < from)).count();
        Forgotten { cold, closed: self.closed.drain(..old).collect() }
    }

    /// Returns true if the position of a decision is still open, with at least the quantity that the decision closes.
    pub fn still_holds(&self, decision_id: &str) -> bool {
        self.hot.open.as_ref().is_some_and(|open| {
            let (held, step) = (open.totals.qty.abs(), self.step_size());
            let mut decisions = open.decisions.iter().filter(|decision| &*decision.decision_id == decision_id);
            decisions.any(|decision| held >= decision.qty || held.same(decision.qty, step))
        })
    }

    /// Returns the hold that forbids sending an order that was decided before: the position or its price became
    /// uncertain.
    pub fn uncertain(&self) -> Option<Hold> {
        let is_price_doubted = self.hot.open.as_ref().is_some_and(|open| open.price_doubted.is_some());
        match &self.hot {
            hot if hot.history_gap => Some(Hold::HistoryGap),
            hot if hot.diverged => Some(Hold::Diverged),
            hot if hot.held_price.is_some() || is_price_doubted => Some(Hold::PriceJump),
            _ => None,
        }
    }

    /// Returns true if the decision belongs to a position that is not too old, whether or not it is forgotten by now.
    pub fn remembers(&self, decision_id: &str, now_ms: u64) -> bool {
        let from = now_ms.saturating_sub(ORDER_MEMORY_MS);
        let is_recent = |position: &&Position| position.closed.is_none_or(|closed| closed.id.ms >= from);
        self.positions().filter(is_recent).any(|position| position.has_decision(decision_id))
    }

    /// Returns the symbol without everything that is too old, whenever it was last tidied: the part that later entries
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
        self.hot.filled_ms.unwrap_or(0).max(self.hot.looked_up.map_or(0, |entry| entry.ms))
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
}
