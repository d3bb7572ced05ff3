//! The state of a script while it is played: its time, its numbers, and its results so far.

use crate::support::random::split_mix;
use std::collections::BTreeMap;

use harvester::codec::line::{FieldValue, Fields, write};
use harvester::config::Config;
use harvester::domain::event::Side;
use harvester::domain::event::ids::{EntryId, SortKey};
use rust_decimal::Decimal;

use super::fields::{Raw, decimal};
use super::{BEGIN_MS, EXTREMES, Entry, Op, PRICES, Pause, QTY_EXPONENTS, SYMBOLS, Style, What};
use crate::support::lab::Lab;

pub(super) struct Emitted {
    pub(super) decision_id: String,
    pub(super) plan_id: String,
    pub(super) symbol: usize,
    pub(super) side: Side,
    pub(super) qty: Decimal,
}

#[derive(Clone)]
pub(super) struct Order {
    pub(super) symbol: usize,
    pub(super) buys: bool,
    pub(super) reduce_only: Option<bool>,
    pub(super) plan_id: Option<String>,
    pub(super) order_id: Option<String>,
    /// Ordered and filled quantity, in units of the symbol.
    pub(super) total: i64,
    pub(super) filled: i64,
    pub(super) shape: u32,
    pub(super) priced: bool,
}

pub(super) struct World {
    pub(super) style: Style,
    pub(super) lab: Lab,
    pub(super) now_ms: u64,
    pub(super) dice: u64,
    pub(super) ids: BTreeMap<&'static str, EntryId>,
    /// Entries of the present millisecond.
    pub(super) waiting: Vec<Entry>,
    pub(super) entries: Vec<Entry>,
    pub(super) emitted: Vec<Emitted>,
    pub(super) orders: Vec<Order>,
    pub(super) results: Vec<Raw>,
    pub(super) snapshots: [Option<Raw>; 3],
    /// Price of each symbol relative to its start. [1/1000]
    pub(super) levels: [i64; 3],
    pub(super) intents: [Option<EntryId>; 3],
    pub(super) counter: u64,
}

impl World {
    pub(super) fn new(config: &Config, style: Style) -> Self {
        Self {
            style,
            lab: Lab::new(config),
            now_ms: BEGIN_MS,
            dice: 0,
            ids: BTreeMap::new(),
            waiting: Vec::new(),
            entries: Vec::new(),
            emitted: Vec::new(),
            orders: Vec::new(),
            results: Vec::new(),
            snapshots: [const { None }; 3],
            levels: [0; 3],
            intents: [None; 3],
            counter: 100,
        }
    }

    /// Returns a number below `n`, from the random numbers of the operation.
    pub(super) fn draw(&mut self, n: u64) -> u64 {
        split_mix(&mut self.dice) % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.draw(n) == 0
    }

    pub(super) fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn append(&mut self, stream: &'static str, raw: Raw) -> EntryId {
        let seq = match self.ids.get(stream) {
            Some(last) if last.ms == self.now_ms => last.seq + 1,
            _ => 0,
        };
        let id = EntryId::new(self.now_ms, seq);
        self.ids.insert(stream, id);
        let value = |text: Option<String>| match text {
            Some(text) => FieldValue::Text(text.into()),
            None => FieldValue::Bytes(vec![0xff, 0xfe, b'A']),
        };
        let fields = Fields { pairs: raw.into_iter().map(|(name, text)| (name.into(), value(text))).collect() };
        let line = write(stream, &id.to_string(), &fields);
        let rank = self.lab.engine.streams().id_of(stream).expect("the stream is configured");
        self.waiting.push(Entry { stream, key: SortKey::new(rank, id), line });
        id
    }

    /// Lets time pass. The entries of the millisecond that ends are folded in canonical order.
    pub(super) fn pass(&mut self, ms: u64) {
        if ms == 0 {
            return;
        }
        self.waiting.sort_by_key(|entry| entry.key);
        for entry in std::mem::take(&mut self.waiting) {
            let came = self.lab.feed(&entry.line);
            if let Some(decision) = came.step.decision {
                let name = &*self.lab.engine.book(decision.book).symbol.name;
                self.emitted.push(Emitted {
                    decision_id: decision.decision_id.clone(),
                    plan_id: decision.plan_id.clone(),
                    symbol: SYMBOLS.iter().position(|symbol| *symbol == name).unwrap_or(0),
                    side: decision.side,
                    qty: decision.qty.get(),
                });
            }
            self.entries.push(entry);
        }
        self.now_ms += ms;
    }

    pub(super) fn op(&mut self, op: Op) {
        self.dice = u64::from(op.dice);
        let ms = match op.pause {
            Pause::None => 0,
            Pause::Short => 1 + self.draw(3_000),
            Pause::Medium => 5_000 + self.draw(20_000),
            Pause::Minute => 61_000 + self.draw(30_000),
            Pause::Day => 25 * 3_600_000,
            Pause::Week if self.style.no_weeks => 0,
            Pause::Week => 8 * 24 * 3_600_000,
        };
        self.pass(ms);
        let symbol = op.symbol;
        match op.what {
            What::Price => self.price(symbol),
            What::Candle => self.candle(symbol),
            What::OtherPrice => self.other_price(symbol),
            What::StalePrice => self.stale_price(symbol),
            What::Intent => self.intent(symbol),
            What::ExitIntent => self.exit_intent(symbol, None),
            What::Order => self.order(symbol),
            What::Progress => self.progress(),
            What::Steps => self.steps(symbol),
            What::LatePrice => self.late_price(),
            What::Repeat => self.repeat(),
            What::Contradict => self.contradict(),
            What::Trade => self.trade(),
            What::Explain => self.explain(symbol),
            What::Snapshot => self.snapshot(symbol),
            What::SnapshotAgain => self.snapshot_again(symbol),
            What::ExchangePosition => self.exchange_position(symbol),
            What::Instrument => self.instrument(symbol),
            What::Legacy => self.legacy(symbol),
            What::Answer => self.answer(),
            What::Garbage => self.garbage(symbol),
            What::Kill => self.kill(),
            What::Gap => self.gap(),
            What::GapAccepted => self.gap_accepted(symbol),
            What::RiskAccepted => self.risk_accepted(symbol),
            What::Rearm => self.rearm(symbol),
            What::Expire => self.expire(),
            What::Skip => self.skip(symbol),
            What::Policy => self.policy(),
            What::Overtaken => self.overtaken(op.symbol),
        }
    }

    /// Adds signals and prices that the operations after them need.
    pub(super) fn opening(&mut self) {
        for symbol in 0..SYMBOLS.len() {
            self.dice = symbol as u64;
            self.intent(symbol);
            if symbol < 2 {
                self.price(symbol);
            }
            self.pass(7);
        }
    }

    // ---- numbers ----

    /// Returns the text of a number or, instead of it, a number at a limit.
    pub(super) fn number(&mut self, text: String) -> String {
        if !self.style.extreme || self.one_in(3) {
            return text;
        }
        EXTREMES[self.draw(EXTREMES.len() as u64) as usize].to_owned()
    }

    pub(super) fn units(&mut self, symbol: usize, units: i64) -> String {
        let text = decimal(units, QTY_EXPONENTS[symbol] + self.style.qty_exponent);
        self.number(text)
    }

    /// Returns a price a little off the level of a symbol. [quote per base]
    pub(super) fn near(&mut self, symbol: usize) -> String {
        let (whole, exponent) = PRICES[symbol];
        let off = self.draw(7) as i64 - 3;
        let text = decimal(whole * (10_000 + 10 * self.levels[symbol] + off), exponent - 4 + self.style.price_exponent);
        self.number(text)
    }

    pub(super) fn level(&mut self, symbol: usize) -> String {
        let (whole, exponent) = PRICES[symbol];
        let text = decimal(whole * (1_000 + self.levels[symbol]), exponent - 3 + self.style.price_exponent);
        self.number(text)
    }

    /// Returns an ATR of some thousandths of the price: as a price, or as a fraction.
    pub(super) fn atr(&mut self, symbol: usize, is_fraction: bool) -> String {
        let thousandths = if self.one_in(12) { 2_000 } else { 2 + self.draw(20) as i64 };
        let (whole, exponent) = if is_fraction { (1, 0) } else { PRICES[symbol] };
        let shift = if is_fraction { 0 } else { self.style.price_exponent };
        let text = decimal(whole * thousandths, exponent - 3 + shift);
        self.number(text)
    }

    pub(super) fn volatility(&mut self) -> String {
        let tenths = 5 + self.draw(20) as i64;
        self.number(decimal(tenths, -1))
    }

    /// Returns the open quantity of a symbol by the engine. [base]
    pub(super) fn held(&self, symbol: usize) -> Decimal {
        self.lab.symbol(SYMBOLS[symbol]).map_or(Decimal::ZERO, |symbol| symbol.qty().get())
    }

    pub(super) fn seconds(&self, ms: u64) -> String {
        format!("{}.{:03}", ms / 1_000, ms % 1_000)
    }
}
