//! The producers: they open positions, and publish prices that reach rungs.

use std::collections::BTreeMap;

use super::run::{PLAN, PRICE, RESULT};
use super::world::World;

const SYMBOLS: [&str; 3] = ["AAAUSDT", "BBBUSDT", "CCCUSDT"];
/// Of a new position. [base]
const QTY: i64 = 100;

/// What is open at the exchange.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open {
    /// [base · 10^4]
    pub qty: i64,
    /// In hundredths of a cent. [quote · 10^4]
    pub price: i64,
}

#[derive(Debug)]
pub struct Producer {
    pub open: BTreeMap<&'static str, Open>,
    symbols: usize,
    pub orders: u64,
}

impl Producer {
    pub fn new(symbols: usize) -> Self {
        Self { open: BTreeMap::new(), symbols, orders: 0 }
    }
}

/// Returns a number of ten-thousandths as text.
pub fn decimal(of: i64) -> String {
    format!("{}.{:04}", of / 10_000, of % 10_000)
}

fn pairs(fields: &[(&str, String)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

impl World {
    /// Produces one entry, and the next one later.
    pub fn produce(&mut self) {
        if self.now_us > self.plan.until_us {
            return;
        }
        let us = match self.rng.within(0, 20) {
            // Within one millisecond: a reader can come in between.
            0..4 => self.rng.within(20, 500),
            4..8 => self.rng.within(100, 3_000),
            8..19 => self.rng.within(3_000, 120_000),
            _ => self.rng.within(120_000, 900_000),
        };
        if self.redis.is_up {
            self.keep_copy();
            self.produce_one();
        }
        self.after(us, World::produce);
    }

    fn produce_one(&mut self) {
        let symbol = SYMBOLS[self.rng.within(0, self.producer.symbols as u64) as usize];
        let Some(open) = self.producer.open.get(symbol).copied().filter(|open| open.qty > 0) else {
            return self.open_position(symbol);
        };
        match self.rng.within(0, 100) {
            // Something that cannot be read.
            0 => {
                self.redis.add(RESULT, pairs(&[("symbol", symbol.to_owned()), ("executedQty", "many".to_owned())]));
            }
            // The position is closed by somebody else.
            1 | 2 => {
                let order = self.next_order();
                self.fill(symbol, "", &order, "SELL", open.qty);
            }
            _ => {
                // Prices grow, so that rungs are reached; a new position begins at the price.
                let step = self.rng.within(0, 40) as i64 - 12;
                let price = (open.price + step * 100).max(10_000);
                self.producer.open.insert(symbol, Open { price, ..open });
                self.redis.add(PRICE, pairs(&[("symbol", symbol.to_owned()), ("price", decimal(price))]));
            }
        }
    }

    fn next_order(&mut self) -> String {
        self.producer.orders += 1;
        self.producer.orders.to_string()
    }

    /// A plan with its risk, and its execution. At a gain of 0.5 R, 1 R and 1.5 R a part is sold.
    fn open_position(&mut self, symbol: &'static str) {
        let order = self.next_order();
        let plan = format!("plan-{order}");
        let price = self.producer.open.get(symbol).map_or(1_000_000, |open| open.price);
        let fields = [
            ("plan_id", plan.clone()),
            ("symbol", symbol.to_owned()),
            ("side", "BUY".to_owned()),
            ("qty", QTY.to_string()),
            ("atr_value", "0.5".to_owned()),
            ("volatility_factor", "1".to_owned()),
        ];
        self.redis.add(PLAN, pairs(&fields));
        self.producer.open.insert(symbol, Open { qty: 0, price });
        self.fill(symbol, &plan, &order, "BUY", QTY * 10_000);
    }

    /// A fill at the price of now.
    pub fn fill(&mut self, symbol: &'static str, plan: &str, order: &str, side: &str, qty: i64) {
        let open = self.producer.open.entry(symbol).or_default();
        open.qty += if side == "BUY" { qty } else { -qty };
        let price = open.price;
        let mut fields = vec![
            ("symbol", symbol.to_owned()),
            ("side", side.to_owned()),
            ("executedQty", decimal(qty)),
            ("avgPrice", decimal(price)),
            ("orderId", order.to_owned()),
            ("status", "FILLED".to_owned()),
            ("reduceOnly", (side == "SELL").to_string()),
        ];
        if !plan.is_empty() {
            fields.push(("plan_id", plan.to_owned()));
        }
        self.redis.add(RESULT, pairs(&fields));
    }
}

/// Returns the symbol of a name.
pub fn symbol_of(name: &str) -> Option<&'static str> {
    SYMBOLS.into_iter().find(|symbol| *symbol == name)
}
