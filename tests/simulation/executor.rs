//! The executor: reads the stream of requests, and executes each order of ours in it.

use std::collections::BTreeMap;

use harvester::domain::event::ids::EntryId;

use super::producer::Book;
use super::redis::StreamEntry;
use super::run::PLAN;
use super::world::World;

/// Time between two reads of the stream. [µs]
const INTERVAL_US: u64 = 40_000;

#[derive(Debug, Default)]
pub struct Executor {
    pub cursor: EntryId,
    /// The epoch of the server that it reads.
    epoch: u64,
    /// How often each decision was received. [1]
    pub received: BTreeMap<String, u64>,
}

impl World {
    /// Executes new orders, and again later.
    pub fn execute(&mut self) {
        self.execute_new();
        let us = self.rng.within(INTERVAL_US / 4, INTERVAL_US * 3);
        self.after(us, World::execute);
    }

    pub fn execute_new(&mut self) {
        if self.redis.is_up {
            if self.executor.epoch != self.redis.epoch {
                self.executor.epoch = self.redis.epoch;
                // After a loss, the ids continue from an earlier one.
                let last = self.redis.stream(PLAN).last_id;
                self.executor.cursor = self.executor.cursor.min(last);
            }
            let new = self.redis.entries_after(PLAN, self.executor.cursor).to_vec();
            for entry in new {
                self.executor.cursor = entry.id;
                let decision = entry.field("decision_id").to_owned();
                if !decision.is_empty() {
                    self.execute_order(decision, &entry);
                }
            }
        }
    }

    fn execute_order(&mut self, decision: String, order: &StreamEntry) {
        let [account, symbol, side] = ["account", "symbol", "positionSide"].map(|name| order.field(name));
        let book = Book::named(account, symbol, side).expect("an order names the book of its decision");
        let times = self.executor.received.entry(decision.clone()).or_insert(0);
        *times += 1;
        if *times > 1 {
            // The check of written decisions decides whether the sender could know.
            return self.note("executor", format!("has {} already", &decision[..8]));
        }
        let asked = (order.field("qty").parse::<f64>().unwrap_or(0.0) * 10_000.0) as i64;
        let held = self.producer.open.get(&book).copied().unwrap_or(0);
        // Reduce only: never more than is open. Some orders are not filled at all.
        let qty = asked.min(held);
        if qty <= 0 || self.rng.chance(80) {
            return self.note("executor", format!("does not fill {}", &decision[..8]));
        }
        self.producer.orders += 1;
        let number = self.producer.orders.to_string();
        self.note("executor", format!("fills {} of {book}: {qty}", &decision[..8]));
        self.fill(book, order.field("plan_id"), &number, order.field("side"), qty);
    }
}
