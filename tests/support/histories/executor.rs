//! Orders of a random history, their fills, and the answers to decisions.

use rust_decimal::Decimal;

use super::fields::{Members, Raw, V, flat, object};
use super::world::{Emitted, Order, World};
use super::{RESULT, SYMBOLS};

impl World {
    pub(super) fn order(&mut self, symbol: usize) {
        let reduces = self.one_in(4);
        let held = self.held(symbol);
        let buys =
            if reduces && !held.is_zero() && !self.one_in(4) { held.is_sign_negative() } else { !self.one_in(3) };
        let total = match self.draw(3) {
            0 => 1 + self.draw(20) as i64 * 100,
            1 => 1 + self.draw(20_000) as i64,
            _ => 1_000,
        };
        let side = if buys { "BUY" } else { "SELL" };
        let plan_id = match self.draw(4) {
            0 => None,
            1 if self.one_in(3) => self.orders.last().and_then(|order| order.plan_id.clone()),
            1 => Some(format!("plan{}", self.count())),
            n => {
                let qty = self.units(symbol, total);
                Some(self.plan(symbol, side, qty, reduces, n == 3))
            }
        };
        let order_id = (plan_id.is_none() || !self.one_in(4)).then(|| self.count().to_string());
        let reduce_only = (reduces || self.one_in(3)).then_some(reduces);
        let shape = self.draw(8) as u32;
        let priced = !self.one_in(4);
        self.orders.push(Order { symbol, buys, reduce_only, plan_id, order_id, total, filled: 0, shape, priced });
        let at = self.orders.len() - 1;
        match self.draw(6) {
            0 => self.unfilled(at),
            1 | 2 => self.fill(at, 1 + total / 3),
            _ => self.fill(at, total),
        }
    }

    pub(super) fn recent_order(&mut self) -> Option<usize> {
        let back = 1 + self.draw(4) as usize;
        self.orders.len().checked_sub(back)
    }

    pub(super) fn progress(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let Order { total, filled, .. } = self.orders[at];
        let more = if self.one_in(2) { total } else { filled + 1 + (total - filled) / 2 };
        self.fill(at, more.min(total));
    }

    pub(super) fn fill(&mut self, at: usize, filled: i64) {
        self.orders[at].filled = self.orders[at].filled.max(filled);
        let order = self.orders[at].clone();
        let priced = order.priced;
        self.filled(&order, filled, priced);
    }

    pub(super) fn filled(&mut self, order: &Order, filled: i64, priced: bool) {
        let status = if filled >= order.total { "FILLED" } else { "PARTIALLY_FILLED" };
        let qty = self.units(order.symbol, filled);
        let average = if priced { Some(self.near(order.symbol)) } else { None };
        let raw = self.result(order, status, qty, average);
        self.results.push(raw.clone());
        self.append(RESULT, raw);
    }

    /// Adds a result in one of the shapes of the executors.
    pub(super) fn result(&mut self, order: &Order, status: &'static str, qty: String, average: Option<String>) -> Raw {
        let side = if order.buys { "BUY" } else { "SELL" };
        let mut members: Members = vec![("symbol", SYMBOLS[order.symbol].into())];
        if let Some(plan_id) = &order.plan_id {
            members.push(("plan_id", plan_id.clone().into()));
        }
        let order_id = order.order_id.clone();
        let reduce_only = order.reduce_only.map(|yes| V::from(if yes { "True" } else { "false" }));
        match order.shape {
            0 if let Some(order_id) = &order_id => {
                let mut step: Members = vec![
                    ("step", if order.reduce_only == Some(true) { "CLOSE" } else { "OPEN" }.into()),
                    ("status", status.into()),
                    ("order_id", V::N(order_id.clone())),
                    ("side", side.into()),
                    ("executed_qty", qty.into()),
                ];
                if let Some(yes) = order.reduce_only {
                    step.push(("reduce_only", V::N(yes.to_string())));
                }
                members.push(("executed", "True".into()));
                members.push(("steps_results", format!("[{}]", object(&step)).into()));
            }
            1 => {
                let mut details: Members = vec![
                    ("side", side.into()),
                    ("filled_qty", V::N(qty)),
                    ("order_status", status.into()),
                    ("permit", "x".into()),
                ];
                if let Some(order_id) = order_id {
                    details.push(("order_id", V::N(order_id)));
                }
                members.push(("executed", "true".into()));
                members.push(("details", object(&details).into()));
            }
            2 if status == "FILLED" => {
                members.extend([("side", side.into()), ("qty", qty.into()), ("status", status.into())]);
                members.extend(average.map(|average| ("price", average.into())));
                members.extend(order_id.map(|order_id| ("order_id", order_id.into())));
                members.extend(reduce_only.map(|yes| ("reduceOnly", yes)));
            }
            _ => {
                members.extend([
                    ("executed", "true".into()),
                    ("side", side.into()),
                    ("executedQty", qty.into()),
                    ("order_status", status.into()),
                    ("timestamp", self.seconds(self.now_ms).into()),
                ]);
                members.extend(average.map(|average| ("avgPrice", average.into())));
                members.extend(order_id.map(|order_id| ("orderId", order_id.into())));
                members.extend(reduce_only.map(|yes| ("reduce_only", yes)));
            }
        }
        flat(members)
    }

    /// Adds several orders in one entry: each order opens again what the one before has closed.
    pub(super) fn steps(&mut self, symbol: usize) {
        let mut steps = Vec::new();
        for _ in 0..2 + self.draw(2) {
            let units = 100 * (1 + self.draw(3) as i64);
            let side = if self.one_in(2) { "SELL" } else { "BUY" };
            let step: Members = vec![
                ("step", "ENTRY".into()),
                ("status", "FILLED".into()),
                ("order_id", V::N(self.count().to_string())),
                ("side", side.into()),
                ("executed_qty", self.units(symbol, units).into()),
            ];
            steps.push(object(&step));
        }
        let plan_id = format!("plan{}", self.count());
        let members = vec![
            ("symbol", SYMBOLS[symbol].into()),
            ("plan_id", plan_id.clone().into()),
            ("executed", "True".into()),
            ("steps_results", format!("[{}]", steps.join(", ")).into()),
        ];
        let raw = flat(members);
        self.results.push(raw.clone());
        self.append(RESULT, raw);
        if self.one_in(4) {
            // The entry does not state which order of the plan it means.
            let plan_id = Some(plan_id);
            let order = Order {
                symbol,
                buys: true,
                reduce_only: None,
                plan_id,
                order_id: None,
                total: 9,
                filled: 0,
                shape: 3,
                priced: true,
            };
            self.filled(&order, 9, true);
        }
    }

    pub(super) fn unfilled(&mut self, at: usize) {
        let order = self.orders[at].clone();
        let mut members: Members = vec![("symbol", SYMBOLS[order.symbol].into())];
        members.extend(order.plan_id.map(|plan_id| ("plan_id", plan_id.into())));
        members.extend(order.order_id.map(|order_id| ("order_id", order_id.into())));
        match self.draw(4) {
            0 => members.extend([("executed", "False".into()), ("error", "duplicate_plan".into())]),
            1 => members.extend([("status", "REJECTED".into()), ("filled_qty", "0".into())]),
            _ => members.extend([("executed", "True".into()), ("status", "NEW".into()), ("executedQty", "0".into())]),
        }
        self.append(RESULT, flat(members));
    }

    /// Repeats a quantity, now with its average price.
    pub(super) fn late_price(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let mut order = self.orders[at].clone();
        if order.filled == 0 {
            return;
        }
        order.shape = 4;
        self.filled(&order, order.filled, true);
    }

    /// Repeats an earlier entry under a new id.
    pub(super) fn repeat(&mut self) {
        if self.results.is_empty() {
            return;
        }
        let at = self.draw(self.results.len() as u64) as usize;
        let raw = self.results[at].clone();
        self.append(RESULT, raw);
    }

    /// Reports a smaller quantity than was already filled, which no entry has reported before.
    pub(super) fn contradict(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let order = self.orders[at].clone();
        if order.filled > 7 {
            self.filled(&order, order.filled / 7, order.priced);
        }
    }

    // ---- answers to decisions ----

    pub(super) fn answer(&mut self) {
        let back = 1 + self.draw(3) as usize;
        let Some(at) = self.emitted.len().checked_sub(back) else { return };
        let Emitted { decision_id, plan_id, symbol, side, qty } = &self.emitted[at];
        let (decision_id, mut plan_id, symbol, qty) = (decision_id.clone(), plan_id.clone(), *symbol, *qty);
        let side = side.name();
        let how = self.draw(10);
        if how == 8 {
            // A bridge makes its own plan of our request, and the result names that plan.
            self.exit_intent(symbol, Some(decision_id));
            self.pass(3);
            plan_id = self.plan(symbol, side, qty.to_string(), true, true);
            self.pass(3);
        }
        let part = (qty * Decimal::new(5, 1)).normalize().to_string();
        // Answers to one decision belong to one order, or each to its own.
        let order_id = if self.one_in(2) { format!("8{at:06}") } else { format!("9{}", self.count()) };
        let mut members: Members =
            vec![("symbol", SYMBOLS[symbol].into()), ("plan_id", plan_id.into()), ("action", "PARTIAL_CLOSE".into())];
        let filled = |qty: String, status: &'static str, price: String| -> Members {
            vec![
                ("executed", "True".into()),
                ("reduceOnly", "True".into()),
                ("side", side.into()),
                ("filled_qty", qty.into()),
                ("order_id", order_id.clone().into()),
                ("status", status.into()),
                ("avgPrice", price.into()),
            ]
        };
        let refused = |error: &'static str| -> Members { vec![("executed", "False".into()), ("error", error.into())] };
        let price = self.near(symbol);
        members.extend(match how {
            1 => filled(part, "PARTIALLY_FILLED", price),
            2 => vec![("executed", "True".into()), ("status", "NEW".into()), ("order_id", order_id.into())],
            3 => refused("cooldown"),
            4 => refused("not_in_allowlist"),
            5 => refused("duplicate_plan"),
            6 => refused("permit_ok"),
            7 => vec![("status", "CANCELED".into()), ("order_id", order_id.into())],
            _ => filled(qty.to_string(), "FILLED", price),
        });
        self.append(RESULT, flat(members));
    }
}
