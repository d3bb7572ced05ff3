//! Prices, signals and plans of a random history.

use harvester::domain::book::plans::bridged_plan_id;

use super::fields::{Members, V, flat, object};
use super::world::World;
use super::{CANDLE, INTENT, PLAN, RESULT, SYMBOLS, TICK};

/// Largest distance of prices of a calm history from their start. Any two of them are near each other. [1/1000]
const CALM: i64 = 20;

impl World {
    pub(super) fn walk(&mut self, symbol: usize) {
        let step = match self.draw(10) {
            0..7 => self.draw(15) as i64 - 4,
            7 => 60 + self.draw(60) as i64,
            8 => -(self.draw(25) as i64),
            _ => -self.levels[symbol],
        };
        let (least, most) = if self.style.calm { (-CALM, CALM) } else { (-500, 1_500) };
        self.levels[symbol] = (self.levels[symbol] + step).clamp(least, most);
    }

    pub(super) fn price(&mut self, symbol: usize) {
        self.walk(symbol);
        let mut name = SYMBOLS[symbol].to_owned();
        if self.one_in(8) {
            name = format!(" {} ", name.to_lowercase());
        }
        let price = self.level(symbol);
        let mut members: Members = vec![("symbol", name.into()), ("price", V::N(price))];
        if self.one_in(3) {
            members.push(("timestamp", V::N(self.seconds(self.now_ms))));
        }
        let raw = match self.draw(4) {
            0 => flat(members),
            1 => vec![("data", Some(object(&members)))],
            _ => vec![("event_type", Some("market.tick".to_owned())), ("payload", Some(object(&members)))],
        };
        self.append(TICK, raw);
    }

    pub(super) fn candle(&mut self, symbol: usize) {
        self.walk(symbol);
        let close = self.level(symbol);
        let began = self.seconds(self.now_ms - 60_000);
        let members = vec![("symbol", SYMBOLS[symbol].into()), ("close", close.into()), ("timestamp", V::N(began))];
        self.append(CANDLE, vec![("payload", Some(object(&members)))]);
    }

    /// Adds a price that is not in a price stream: among results, or as an observation.
    pub(super) fn other_price(&mut self, symbol: usize) {
        self.walk(symbol);
        let price = self.level(symbol);
        if self.one_in(2) {
            let members = vec![
                ("symbol", SYMBOLS[symbol].into()),
                ("side", "BUY".into()),
                ("qty", "1".into()),
                ("price", price.into()),
                ("status", "PRICE_UPDATE".into()),
            ];
            self.append(RESULT, flat(members));
        } else {
            let source = ["redis_ticker", "redis_market", "api"][self.draw(3) as usize];
            let members = vec![("symbol", SYMBOLS[symbol].into()), ("price", price.into()), ("source", source.into())];
            self.observation("price", members);
        }
    }

    pub(super) fn stale_price(&mut self, symbol: usize) {
        let price = self.level(symbol);
        let then = self.seconds(self.now_ms - 9_000 - self.now_ms % 3_000);
        let members = vec![("symbol", SYMBOLS[symbol].into()), ("mark_price", V::N(price)), ("timestamp", V::N(then))];
        self.append(TICK, vec![("payload", Some(object(&members)))]);
    }

    pub(super) fn intent(&mut self, symbol: usize) {
        let is_fraction = self.one_in(4);
        let buys = !self.one_in(3);
        let word = match (buys, self.one_in(2)) {
            (true, false) => "BUY",
            (true, true) => "long",
            (false, false) => "SELL",
            (false, true) => "Short",
        };
        let mut members: Members = vec![("symbol", SYMBOLS[symbol].into()), ("side", word.into())];
        if !self.one_in(4) {
            members.push(("entry_price", V::N(self.near(symbol))));
        }
        if !self.one_in(5) {
            members.push(("atr_value", V::N(self.atr(symbol, is_fraction))));
            members.push(("volatility_factor", V::N(self.volatility())));
        }
        let source = Some(if is_fraction { "fraction-bot" } else { "ai-engine" }.to_owned());
        let raw = match self.draw(5) {
            0 => vec![
                ("event_type", Some("trade.intent".to_owned())),
                ("payload", Some(object(&members))),
                ("trace_id", Some("t".to_owned())),
                ("source", source),
            ],
            1 => vec![("payload", Some(object(&members))), ("source", source)],
            2 => vec![("data", Some(object(&members))), ("source", source)],
            3 => {
                members.push(("stop_loss", "2.0".into()));
                let mut raw = flat(members);
                raw.push(("source", source));
                raw
            }
            // Without a source, the unit is that of `default`: absolute.
            _ if is_fraction => vec![("payload", Some(object(&members))), ("source", source)],
            _ => vec![("payload", Some(object(&members)))],
        };
        self.intents[symbol] = Some(self.append(INTENT, raw));
    }

    pub(super) fn exit_intent(&mut self, symbol: usize, decision_id: Option<String>) {
        let mut members: Members =
            vec![("symbol", SYMBOLS[symbol].into()), ("side", "SELL".into()), ("reduceOnly", V::N("true".to_owned()))];
        if let Some(decision_id) = decision_id {
            members.push(("decision_id", decision_id.into()));
        }
        self.intents[symbol] = Some(self.append(INTENT, vec![("payload", Some(object(&members)))]));
    }

    /// Adds a plan and returns its id.
    pub(super) fn plan(
        &mut self,
        symbol: usize,
        side: &'static str,
        qty: String,
        reduce_only: bool,
        bridged: bool,
    ) -> String {
        let bridge_text = format!("|{}|{side}|{qty}", SYMBOLS[symbol]);
        let plan_id = match self.intents[symbol].filter(|_| bridged) {
            Some(intent) => bridged_plan_id(intent, &bridge_text),
            None => format!("plan{}", self.count()),
        };
        let mut members: Members = vec![
            ("plan_id", plan_id.clone().into()),
            ("decision", "EXECUTE".into()),
            ("symbol", SYMBOLS[symbol].into()),
            ("side", side.into()),
            ("qty", qty.into()),
            ("reduceOnly", if reduce_only { "True" } else { "false" }.into()),
        ];
        if self.one_in(3) {
            members.push(("entry_price", self.near(symbol).into()));
        }
        if self.one_in(3) {
            members.push(("atr_value", self.atr(symbol, false).into()));
            members.push(("volatility_factor", self.volatility().into()));
        }
        self.append(PLAN, flat(members));
        plan_id
    }
}
