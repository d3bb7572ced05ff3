//! The exchange of a random history: its quantities and trades, as it and as others report them.

use rust_decimal::Decimal;

use super::fields::{Members, V, decimal, flat, object};
use super::world::World;
use super::{OBSERVATION, QTY_EXPONENTS, RESULT, SNAPSHOT, SYMBOLS};

impl World {
    pub(super) fn observation(&mut self, event: &'static str, members: Members) {
        self.append(OBSERVATION, vec![("event_type", Some(event.to_owned())), ("payload", Some(object(&members)))]);
    }

    pub(super) fn traded(&mut self, symbol: usize, order_id: String, side: &'static str, qty: String, own_ms: u64) {
        let price = self.near(symbol);
        let id = self.count().to_string();
        let members = vec![
            ("symbol", SYMBOLS[symbol].into()),
            ("orderId", V::N(order_id)),
            ("id", V::N(id)),
            ("side", side.into()),
            ("qty", qty.into()),
            ("price", price.into()),
            ("time", V::N(own_ms.to_string())),
        ];
        self.observation("exchange.trade", members);
    }

    /// Adds a trade of a known order, or of an order that no other entry has reported.
    pub(super) fn trade(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let order = self.orders[at].clone();
        let (order_id, units) = match order.order_id.clone().filter(|_| !self.one_in(5)) {
            Some(order_id) => (order_id, [order.filled, order.total - order.filled, order.total / 3 + 1]),
            None => (self.count().to_string(), [order.total; 3]),
        };
        let units = units[self.draw(3) as usize].max(1);
        let qty = self.units(order.symbol, units);
        let own_ms = self.now_ms - 50;
        self.traded(order.symbol, order_id, if order.buys { "BUY" } else { "SELL" }, qty, own_ms);
    }

    /// Adds trades from before an opening by a stated quantity, in one or two parts.
    pub(super) fn explain(&mut self, symbol: usize) {
        let Some(open) = self.lab.symbol(SYMBOLS[symbol]).and_then(|book| book.book.hot.open.as_ref()) else { return };
        let (Some(qty), opened_ms) = (open.snapshot_qty, open.opened.id.ms) else { return };
        let side = if qty.is_negative() { "SELL" } else { "BUY" };
        let qty = qty.abs().get();
        let part = (qty * Decimal::new(4, 1)).normalize();
        let rest = qty.checked_sub(part).unwrap_or(qty).normalize();
        let order_id = self.count().to_string();
        if self.one_in(2) {
            self.traded(symbol, order_id, side, qty.to_string(), opened_ms - 10_000);
        } else {
            self.traded(symbol, order_id.clone(), side, part.to_string(), opened_ms - 9_000);
            self.traded(symbol, order_id, side, rest.to_string(), opened_ms - 8_000);
        }
    }

    /// Returns the quantity that the exchange states: ours, or another.
    pub(super) fn exchange_qty(&mut self, symbol: usize) -> Decimal {
        let held = self.held(symbol);
        let other = |text: String| text.parse::<Decimal>().unwrap_or(Decimal::ONE);
        match self.draw(10) {
            0..6 => held,
            6 => Decimal::ZERO,
            7 => -held,
            8 => (held * Decimal::new(5, 1)).normalize(),
            _ => {
                let units = 1 + self.draw(3_000) as i64;
                other(decimal(units, QTY_EXPONENTS[symbol] + self.style.qty_exponent))
            }
        }
    }

    pub(super) fn snapshot(&mut self, symbol: usize) {
        let qty = self.exchange_qty(symbol);
        let side = match qty {
            _ if qty.is_zero() => "FLAT",
            _ if qty.is_sign_negative() => "SHORT",
            _ => "LONG",
        };
        let mut members: Members = vec![("symbol", SYMBOLS[symbol].into()), ("mark_price", "1".into())];
        match self.draw(3) {
            0 => members.extend([("side", side.into()), ("position_qty", self.number(qty.abs().to_string()).into())]),
            1 => members.push(("position_amt", self.number(qty.to_string()).into())),
            _ => members.extend([("positionAmt", qty.to_string().into()), ("positionSide", "BOTH".into())]),
        }
        if !self.one_in(4) {
            members.push(("entry_price", self.near(symbol).into()));
        }
        let raw = flat(members);
        self.snapshots[symbol] = Some(raw.clone());
        self.append(SNAPSHOT, raw);
    }

    /// Repeats the last snapshot after the grace period.
    pub(super) fn snapshot_again(&mut self, symbol: usize) {
        let Some(raw) = self.snapshots[symbol].clone() else { return self.snapshot(symbol) };
        self.pass(61_000);
        self.append(SNAPSHOT, raw);
    }

    pub(super) fn exchange_position(&mut self, symbol: usize) {
        let qty = self.exchange_qty(symbol).to_string();
        let qty = self.number(qty);
        let price = self.near(symbol);
        let members =
            vec![("symbol", SYMBOLS[symbol].into()), ("positionAmt", qty.into()), ("entryPrice", price.into())];
        self.observation("exchange.position", members);
    }

    /// Adds a fill that the exchange shows before its result comes, or that happened long before.
    pub(super) fn overtaken(&mut self, symbol: usize) {
        let (held, happened_ms) = (self.held(symbol), self.now_ms);
        let units = 100 * (1 + self.draw(5) as i64);
        let qty = self.units(symbol, units);
        let Ok(filled) = qty.parse::<Decimal>() else { return };
        let buys = !self.one_in(3);
        let Some(shown) = held.checked_add(if buys { filled } else { -filled }) else { return };
        let price = self.near(symbol);
        let members: Members = vec![
            ("symbol", SYMBOLS[symbol].into()),
            ("positionAmt", shown.normalize().to_string().into()),
            ("entryPrice", price.clone().into()),
        ];
        self.pass(21_000);
        self.observation("exchange.position", members.clone());
        if !held.is_zero() {
            self.pass(61_000);
            self.observation("exchange.position", members);
        }
        let later_ms = 1 + self.draw(5_000);
        self.pass(later_ms);
        let earlier_ms = [0, 0, 1_000, 40_000][self.draw(4) as usize];
        let members: Members = vec![
            ("symbol", SYMBOLS[symbol].into()),
            ("side", if buys { "BUY" } else { "SELL" }.into()),
            ("executedQty", qty.into()),
            ("avgPrice", price.into()),
            ("orderId", self.count().to_string().into()),
            ("order_status", "FILLED".into()),
            ("timestamp", self.seconds(happened_ms - earlier_ms).into()),
        ];
        self.append(RESULT, flat(members));
    }

    pub(super) fn instrument(&mut self, symbol: usize) {
        let step = self.units(symbol, 1);
        let qty_min = self.units(symbol, 2);
        let mut members: Members =
            vec![("symbol", SYMBOLS[symbol].into()), ("stepSize", step.into()), ("minQty", qty_min.into())];
        if !self.style.scalable {
            members.push(("minNotional", "5".into()));
        }
        self.observation("instrument", members);
    }

    pub(super) fn legacy(&mut self, symbol: usize) {
        let (price, atr, volatility) = (self.near(symbol), self.atr(symbol, false), self.volatility());
        let members = vec![
            ("symbol", SYMBOLS[symbol].into()),
            ("entry_price", price.into()),
            ("atr_value", atr.into()),
            ("volatility_factor", volatility.into()),
        ];
        self.observation("legacy.position", members);
    }
}
