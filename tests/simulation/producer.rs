//! The producers: they open positions, and publish prices that reach rungs.

use std::collections::BTreeMap;
use std::fmt;

use super::run::{PLAN, PRICE, RESULT};
use super::world::World;

const SYMBOLS: [&str; 3] = ["AAAUSDT", "BBBUSDT", "CCCUSDT"];
/// Account and position side of the books of a symbol, in a run with accounts.
const BOOKS: [(&str, Side); 4] =
    [("", Side::Both), ("main", Side::Both), ("hedged", Side::Long), ("hedged", Side::Short)];
/// The accounts that the operator can kill alone.
pub const NAMED: [&str; 2] = ["main", "hedged"];
/// Quantity of a new position. [base]
const QTY: i64 = 100;
/// Price of a symbol before its first entry, in hundredths of a cent. [quote · 10^4]
const FIRST_PRICE: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Both,
    Long,
    Short,
}

impl Side {
    /// Returns the name of the side of a hedge book.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::Both => None,
            Self::Long => Some("LONG"),
            Self::Short => Some("SHORT"),
        }
    }

    pub const fn opens(self) -> &'static str {
        match self {
            Self::Both | Self::Long => "BUY",
            Self::Short => "SELL",
        }
    }

    pub const fn closes(self) -> &'static str {
        match self {
            Self::Both | Self::Long => "SELL",
            Self::Short => "BUY",
        }
    }
}

/// The book of a position at the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Book {
    /// Empty for the account without a name.
    pub account: &'static str,
    pub symbol: &'static str,
    pub side: Side,
}

impl Book {
    /// Returns the book with these names, if there is one.
    pub fn named(account: &str, symbol: &str, side: &str) -> Option<Self> {
        let symbol = SYMBOLS.into_iter().find(|known| *known == symbol)?;
        let is_named = |book: &&(&str, Side)| book.0 == account && book.1.name().unwrap_or_default() == side;
        BOOKS.iter().find(is_named).map(|(account, side)| Self { account, symbol, side: *side })
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.account.is_empty() {
            write!(f, "{}/", self.account)?;
        }
        f.write_str(self.symbol)?;
        self.side.name().map_or(Ok(()), |side| write!(f, ":{side}"))
    }
}

#[derive(Debug)]
pub struct Producer {
    /// Open quantities. [base · 10^4]
    pub open: BTreeMap<Book, i64>,
    /// The last prices, in hundredths of a cent. [quote · 10^4]
    prices: BTreeMap<&'static str, i64>,
    symbols: usize,
    pub orders: u64,
    /// True if prices fall, so that SHORT reaches its rungs.
    is_falling: bool,
}

impl Producer {
    pub fn new(symbols: usize) -> Self {
        Self { open: BTreeMap::new(), prices: BTreeMap::new(), symbols, orders: 0, is_falling: false }
    }

    fn price(&self, symbol: &str) -> i64 {
        self.prices.get(symbol).copied().unwrap_or(FIRST_PRICE)
    }
}

/// Returns a number of ten-thousandths as text.
pub fn decimal(of: i64) -> String {
    format!("{}.{:04}", of / 10_000, of % 10_000)
}

fn pairs(fields: &[(&str, String)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Returns the fields that name the book in an entry, beside the symbol.
fn naming(book: Book) -> impl Iterator<Item = (&'static str, String)> {
    let account = (!book.account.is_empty()).then(|| ("account", book.account.to_owned()));
    account.into_iter().chain(book.side.name().map(|side| ("positionSide", side.to_owned())))
}

impl World {
    /// Produces one entry, and the next one later.
    pub fn produce(&mut self) {
        if self.now_us > self.plan.until_us {
            return;
        }
        let us = match self.rng.within(0, 20) {
            // Both entries within one millisecond: a reader can come in between.
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
        let (account, side) = if self.plan.has_accounts { self.rng.pick(&BOOKS) } else { BOOKS[0] };
        let book = Book { account, symbol, side };
        let Some(open) = self.producer.open.get(&book).copied().filter(|open| *open > 0) else {
            return self.open_position(book);
        };
        match self.rng.within(0, 100) {
            // An unreadable entry.
            0 => {
                let mut fields = vec![("symbol", symbol.to_owned()), ("executedQty", "many".to_owned())];
                fields.extend(naming(book));
                self.redis.add(RESULT, pairs(&fields));
            }
            // Another program closes the position.
            1 | 2 => {
                let order = self.next_order();
                self.fill(book, "", &order, book.side.closes(), open);
            }
            _ => {
                // Prices grow, so that rungs are reached; a new position begins at the price.
                let mut step = self.rng.within(0, 40) as i64 - 12;
                if self.plan.has_accounts {
                    self.producer.is_falling ^= self.rng.chance(40);
                    step = if self.producer.is_falling { -step } else { step };
                }
                let price = (self.producer.price(symbol) + step * 100).max(10_000);
                self.producer.prices.insert(symbol, price);
                self.redis.add(PRICE, pairs(&[("symbol", symbol.to_owned()), ("price", decimal(price))]));
            }
        }
    }

    /// Another program closes one of the open positions, if there is one.
    pub fn close_one(&mut self) {
        let open = self.producer.open.iter().find(|(_, qty)| **qty > 0).map(|(book, qty)| (*book, *qty));
        if let Some((book, qty)) = open {
            let order = self.next_order();
            self.fill(book, "", &order, book.side.closes(), qty);
        }
    }

    fn next_order(&mut self) -> String {
        self.producer.orders += 1;
        self.producer.orders.to_string()
    }

    /// Writes a plan with its risk, and its execution. At a gain of 0.5 R, 1 R and 1.5 R a part is sold; in the
    /// account in hedge mode, at 0.4 R, 0.8 R and 1.2 R.
    fn open_position(&mut self, book: Book) {
        let order = self.next_order();
        let plan = format!("plan-{order}");
        let mut fields = vec![
            ("plan_id", plan.clone()),
            ("symbol", book.symbol.to_owned()),
            ("side", book.side.opens().to_owned()),
            ("qty", QTY.to_string()),
            ("atr_value", "0.5".to_owned()),
            ("volatility_factor", "1".to_owned()),
        ];
        fields.extend(naming(book));
        self.redis.add(PLAN, pairs(&fields));
        self.fill(book, &plan, &order, book.side.opens(), QTY * 10_000);
    }

    /// Writes a fill at the present price. A fill of a plan need not name its book.
    pub fn fill(&mut self, book: Book, plan: &str, order: &str, side: &str, qty: i64) {
        let price = self.producer.price(book.symbol);
        self.producer.prices.insert(book.symbol, price);
        let is_closing = side == book.side.closes();
        *self.producer.open.entry(book).or_default() += if is_closing { -qty } else { qty };
        let mut fields = vec![
            ("symbol", book.symbol.to_owned()),
            ("side", side.to_owned()),
            ("executedQty", decimal(qty)),
            ("avgPrice", decimal(price)),
            ("orderId", order.to_owned()),
            ("status", "FILLED".to_owned()),
            ("reduceOnly", is_closing.to_string()),
        ];
        if !plan.is_empty() {
            fields.push(("plan_id", plan.to_owned()));
        }
        let is_left_out = self.plan.has_accounts && !plan.is_empty() && self.rng.chance(300);
        if !is_left_out {
            fields.extend(naming(book));
        }
        self.redis.add(RESULT, pairs(&fields));
    }
}
