//! Control entries and unreadable entries of a random history.

use super::fields::{Members, Raw, V, object};
use super::world::World;
use super::{CONTROL, INTENT, OBSERVATION, PLAN, POLICIES, RESULT, SNAPSHOT, SYMBOLS, TICK, policy_json};

impl World {
    pub(super) fn control(&mut self, event: &'static str, members: Members) {
        self.append(CONTROL, vec![("event_type", Some(event.to_owned())), ("payload", Some(object(&members)))]);
    }

    pub(super) fn kill(&mut self) {
        let on = self.lab.engine.globals().killed;
        self.control("kill.changed", vec![("kill", V::N((!on).to_string()))]);
        if !on {
            self.pass(2_000);
            self.price(0);
            self.pass(500);
            self.control("kill.changed", vec![("kill", "False".into())]);
        }
    }

    pub(super) fn gap(&mut self) {
        let stream = if self.one_in(2) { RESULT } else { TICK };
        let after = format!("{}-0", self.now_ms - 5_000);
        self.control("history.gap", vec![("stream", stream.into()), ("after", after.into())]);
    }

    pub(super) fn gap_accepted(&mut self, symbol: usize) {
        let members = if !self.one_in(3) { Vec::new() } else { vec![("symbol", SYMBOLS[symbol].into())] };
        self.control("gap.accepted", members);
    }

    pub(super) fn open_position_id(&self, symbol: usize) -> Option<String> {
        let book = self.lab.symbol(SYMBOLS[symbol])?;
        Some(book.position_id(book.book.hot.open.as_ref()?))
    }

    pub(super) fn risk_accepted(&mut self, symbol: usize) {
        let position_id = self.open_position_id(symbol).unwrap_or_else(|| "ADAUSDT@1-1".to_owned());
        self.control("risk.accepted", vec![("position_id", position_id.into())]);
    }

    pub(super) fn rearm(&mut self, symbol: usize) {
        let Some(position_id) = self.open_position_id(symbol) else { return };
        let r = ["0.3", "0.4", "0.5", "1", "1.5"][self.draw(5) as usize];
        self.control("rung.rearmed", vec![("position_id", position_id.into()), ("r", r.into())]);
    }

    pub(super) fn expire(&mut self) {
        let Some(emitted) = self.emitted.last() else { return };
        let decision_id = emitted.decision_id.clone();
        self.control("decision.expired", vec![("decision_id", decision_id.into()), ("reason", "kill".into())]);
    }

    /// Announces that an entry is skipped, and then adds that entry.
    pub(super) fn skip(&mut self, symbol: usize) {
        if self.style.no_skips {
            return;
        }
        let (then, is_result) = (self.now_ms + 1_000, self.one_in(2));
        let stream = if is_result { RESULT } else { TICK };
        self.control("entry.skipped", vec![("stream", stream.into()), ("id", format!("{then}-0").into())]);
        self.pass(1_000);
        if is_result { self.order(symbol) } else { self.price(symbol) }
    }

    pub(super) fn policy(&mut self) {
        let index = self.draw(POLICIES.len() as u64) as usize;
        let policy = policy_json(index, self.style);
        self.control("policy.adopted", vec![("policy", V::N(policy))]);
    }

    // ---- unreadable entries ----

    pub(super) fn garbage(&mut self, symbol: usize) {
        let name = || Some(SYMBOLS[symbol].to_owned());
        let text = |text: &str| Some(text.to_owned());
        let (stream, raw): (_, Raw) = match self.draw(18) {
            0 => (TICK, vec![("payload", text(r#"{"price": 1.5}"#))]),
            1 => (TICK, vec![("symbol", name()), ("price", text("12abc"))]),
            2 => (TICK, vec![("symbol", name()), ("price", text("0"))]),
            3 => (TICK, vec![("payload", text("{\"symbol\":"))]),
            4 => (RESULT, vec![("symbol", name()), ("status", text("SIDEWAYS"))]),
            5 => (RESULT, vec![("symbol", name()), ("plan_id", text("x"))]),
            6 => (RESULT, vec![("symbol", name()), ("executed", text("true")), ("filled_qty", text("1"))]),
            7 => (INTENT, vec![("payload", text(r#"{"symbol":"BTCUSDT","side":"BUY","entry_price":1e15}"#))]),
            8 => (INTENT, vec![("symbol", name()), ("side", text("UPWARDS"))]),
            9 => (INTENT, vec![("symbol", name())]),
            10 => (SNAPSHOT, vec![("symbol", name()), ("position_qty", text("5"))]),
            11 => {
                let raw = vec![("symbol", name()), ("positionSide", text("LEFT")), ("position_amt", text("5"))];
                (SNAPSHOT, raw)
            }
            12 => (CONTROL, vec![("event_type", text("coffee.brewed"))]),
            13 => (OBSERVATION, vec![("event_type", text("exchange.mood")), ("payload", text("{}"))]),
            14 => (RESULT, vec![("symbol", None), ("status", text("FILLED")), ("qty", text("1"))]),
            15 => (TICK, Vec::new()),
            16 => {
                let days_ago = self.seconds(self.now_ms - 2 * 24 * 3_600_000);
                let raw = vec![
                    ("symbol", name()),
                    ("side", text("BUY")),
                    ("executedQty", text("5")),
                    ("orderId", text("777777")),
                    ("timestamp", Some(days_ago)),
                ];
                (RESULT, raw)
            }
            _ => (PLAN, vec![("symbol", name()), ("plan_id", text("p")), ("side", text("UP")), ("qty", text("1"))]),
        };
        self.append(stream, raw);
    }
}
