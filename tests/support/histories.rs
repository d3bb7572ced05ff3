//! Random but plausible histories of all streams.
//!
//! A [`Script`] is a list of small operations that shrink; telling it plays the part of market, executor, exchange
//! and operator against the engine itself, so that snapshots can agree and results can answer what was decided.

use std::collections::BTreeMap;

use harvester::codec::line::{FieldValue, Fields, write};
use harvester::codec::policy::from_json;
use harvester::config::Config;
use harvester::domain::event::{Direction, Side};
use harvester::domain::ids::{CanonicalKey, EntryId};
use harvester::domain::plans::bridged_plan_id;
use harvester::domain::streams::{Stream, StreamKind, Streams};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::Value;

use super::lab::Lab;

pub const CONTROL: &str = "quantum:stream:harvest.control";
pub const OBSERVATION: &str = "quantum:stream:harvest.observation";
pub const INTENT: &str = "quantum:stream:trade.intent";
pub const PLAN: &str = "quantum:stream:apply.plan";
pub const RESULT: &str = "quantum:stream:apply.result";
pub const SNAPSHOT: &str = "quantum:stream:position.snapshot";
pub const TICK: &str = "quantum:stream:market.tick";
pub const CANDLE: &str = "quantum:stream:exchange.raw";
pub const DECISION: &str = "quantum:stream:harvest.decision";

pub const SYMBOLS: [&str; 3] = ["ADAUSDT", "BTCUSDT", "1000PEPEUSDT"];
/// Price of each symbol at level 0, as a whole number and an exponent of ten. [quote per base]
const PRICES: [(i64, i32); 3] = [(4109, -4), (901_503, -1), (45_829, -7)];
/// Exponent of ten of one unit of quantity. [base]
const QTY_EXPONENTS: [i32; 3] = [-1, -4, 2];

const BEGIN_MS: u64 = 1_770_163_200_000;

/// Policies that scripts start from and adopt on the way.
const POLICIES: [&str; 6] = [
    r#"{"atr_unit":{"default":"absolute","fraction-bot":"fraction"}}"#,
    r#"{"atr_unit":{"fraction-bot":"fraction"},"base":"current","min_r":"0.3","ladder":"0.3:0.1,0.5:0.2,0.9:0.3,2:0.4"}"#,
    r#"{"mode":"live","ladder":"0.5:0.25,1:0.25,1.5:0.25","atr_unit":{"default":"absolute","fraction-bot":"fraction"},
        "price_sources":["market.tick","exchange.raw","redis_ticker"],"on_live":"skip","require_instrument":false,
        "live_entry_sources":["fill","exchange","plan","intent","legacy"],"live_risk_sources":["plan","intent","intent_nearest"]}"#,
    r#"{"mode":"live","ladder":"0.4:0.5,0.8:0.5","atr_unit":{"default":"absolute","fraction-bot":"fraction"},"price_sources":["market.tick","api"],
        "on_live":"take","max_attempts":2,"max_actions_per_min":2,"max_position_age_ms":86400000,
        "live_risk_sources":["plan","intent","intent_nearest"],"require_instrument":false,"base":"initial"}"#,
    r#"{"atr_unit":{"fraction-bot":"fraction"},"risk_too_large":"as_fraction","max_actions_per_min":1,"ladder":[{"r":"0.5","fraction":"0.333333333"}]}"#,
    r#"{"atr_unit":{"fraction-bot":"fraction"},"risk_too_large":"refuse","cost_bps":0,"ladder":"0.5:0.5,1:0.5",
        "price_sources":["market.tick"]}"#,
];

/// Numbers at the edge of what is accepted, and beyond.
const EXTREMES: [&str; 20] = [
    "99999999999999",
    "100000000000000",
    "999999999999999.9999999999999",
    "1e-20",
    "0.00000000000000000003",
    "1e-28",
    "7e-27",
    "1.2003e-12",
    "0.000000123456789012345678901",
    "7922816251426.433759354395033",
    "1e14",
    "3e-15",
    "12345678901234.56789012345678",
    "0.3333333333333333333333333333",
    "2.718281828459045235360287471",
    "10000000000001",
    "1e15",
    "-5",
    "1e400",
    "12345678901234567890123456789",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Price,
    Order,
    Progress,
    Steps,
    Intent,
    Answer,
    Snapshot,
    SnapshotAgain,
    ExchangePosition,
    Trade,
    Explain,
    LatePrice,
    Repeat,
    Contradict,
    Garbage,
    Candle,
    OtherPrice,
    StalePrice,
    ExitIntent,
    Instrument,
    Legacy,
    Kill,
    Gap,
    GapAccepted,
    RiskAccepted,
    Rearm,
    Expire,
    Skip,
    Policy,
}

/// How often each happens, simple things first: it is towards them that scripts shrink.
const WEIGHTS: [(What, u32); 29] = [
    (What::Price, 300),
    (What::Order, 110),
    (What::Progress, 60),
    (What::Steps, 10),
    (What::Intent, 70),
    (What::Answer, 90),
    (What::Snapshot, 60),
    (What::SnapshotAgain, 30),
    (What::ExchangePosition, 50),
    (What::Trade, 40),
    (What::Explain, 20),
    (What::LatePrice, 20),
    (What::Repeat, 20),
    (What::Contradict, 12),
    (What::Garbage, 35),
    (What::Candle, 20),
    (What::OtherPrice, 20),
    (What::StalePrice, 10),
    (What::ExitIntent, 6),
    (What::Instrument, 8),
    (What::Legacy, 10),
    (What::Kill, 6),
    (What::Gap, 6),
    (What::GapAccepted, 40),
    (What::RiskAccepted, 5),
    (What::Rearm, 10),
    (What::Expire, 10),
    (What::Skip, 8),
    (What::Policy, 12),
];

#[derive(Clone, Copy, Debug)]
pub enum Pause {
    Short,
    None,
    Medium,
    Minute,
    Day,
    Week,
}

const PAUSES: [(Pause, u32); 6] = [
    (Pause::Short, 90),
    (Pause::None, 60),
    (Pause::Medium, 30),
    (Pause::Minute, 14),
    (Pause::Day, 1),
    (Pause::Week, 1),
];

/// How often each symbol is meant.
const MENTIONS: [(usize, u32); 3] = [(0, 60), (1, 25), (2, 15)];

/// One thing that happens, after a pause.
#[derive(Clone, Copy)]
pub struct Op {
    pub what: What,
    pub pause: Pause,
    pub symbol: usize,
    /// Where everything else about it is drawn from.
    pub dice: u32,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, pause, symbol, dice } = self;
        write!(f, "{what:?}/{pause:?}/{symbol}/{dice}")
    }
}

/// Everything that a history is made from.
#[derive(Clone, Debug)]
pub struct Script {
    pub policy: usize,
    pub ops: Vec<Op>,
}

fn weighted<T: Copy + std::fmt::Debug>(table: &'static [(T, u32)]) -> impl Strategy<Value = T> {
    let total: u32 = table.iter().map(|(_, weight)| weight).sum();
    (0..total).prop_map(move |mut at| {
        for (item, weight) in table {
            if at < *weight {
                return *item;
            }
            at -= weight;
        }
        table[0].0
    })
}

/// Scripts of up to so many operations.
pub fn scripts(length: usize) -> impl Strategy<Value = Script> {
    let op = (weighted(&WEIGHTS), weighted(&PAUSES), weighted(&MENTIONS), any::<u32>());
    let op = op.prop_map(|(what, pause, symbol, dice)| Op { what, pause, symbol, dice });
    (0..POLICIES.len(), prop::collection::vec(op, 1..=length)).prop_map(|(policy, ops)| Script { policy, ops })
}

/// In which numbers a script is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Quantities are multiplied by ten to this power.
    pub qty_exponent: i32,
    /// Prices, and ATRs that are prices, are multiplied by ten to this power.
    pub price_exponent: i32,
    /// Most numbers are at the edge of what is accepted.
    pub extreme: bool,
    /// Nothing that does not scale: no minimum notional, no ATR that is read as a fraction for being too large.
    pub scalable: bool,
    /// No pause of more than a day: orders and closed instances are never forgotten.
    pub no_weeks: bool,
    /// No entries that are announced to be passed over.
    pub no_skips: bool,
}

/// One entry of a history.
#[derive(Clone, Debug)]
pub struct Told {
    pub stream: &'static str,
    pub key: CanonicalKey,
    pub line: String,
}

impl Told {
    pub fn id(&self) -> EntryId {
        EntryId::new(self.key.ms, self.key.seq)
    }
}

/// A script as it was told, in canonical order.
pub struct History {
    pub config: Config,
    pub entries: Vec<Told>,
}

impl History {
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|told| told.line.as_str())
    }

    pub fn text(&self) -> String {
        text_of(self.lines())
    }
}

pub fn text_of<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// The streams of a generated history: the default ones, and a second one that carries prices.
pub fn streams() -> Streams {
    let defaults = StreamKind::ALL.map(|kind| Stream { kind, name: kind.default_stream().to_owned() });
    let candles = Stream { kind: StreamKind::Price, name: CANDLE.to_owned() };
    Streams::new(defaults.into_iter().chain([candles]).collect()).expect("names are distinct")
}

fn policy_json(index: usize, style: Style) -> String {
    let mut policy: Value = serde_json::from_str(POLICIES[index]).expect("a policy is JSON");
    if style.scalable {
        policy["min_notional"] = "0".into();
        policy["risk_too_large"] = "flag".into();
    }
    policy.to_string()
}

/// The configuration that a script starts from.
pub fn config(script: &Script, style: Style) -> Config {
    let policy = from_json(&policy_json(script.policy, style)).expect("the policy is valid");
    Config { streams: streams(), policy, warnings: Vec::new() }
}

/// Tells a script.
pub fn tell(script: &Script, style: Style) -> History {
    let config = config(script, style);
    let mut world = World {
        style,
        lab: Lab::new(&config),
        now_ms: BEGIN_MS,
        dice: 0,
        ids: BTreeMap::new(),
        waiting: Vec::new(),
        told: Vec::new(),
        emitted: Vec::new(),
        orders: Vec::new(),
        results: Vec::new(),
        snapshots: [const { None }; 3],
        levels: [0; 3],
        intents: [None; 3],
        counter: 100,
    };
    world.opening();
    for op in &script.ops {
        world.op(*op);
    }
    world.pass(1_000);
    History { config, entries: world.told }
}

/// A value of a field: text, or what JSON writes without quotes.
#[derive(Clone, Debug)]
enum V {
    T(String),
    N(String),
}

impl From<&str> for V {
    fn from(text: &str) -> Self {
        Self::T(text.to_owned())
    }
}

impl From<String> for V {
    fn from(text: String) -> Self {
        Self::T(text)
    }
}

type Members = Vec<(&'static str, V)>;
/// Fields of an entry; `None` is a value that is no UTF-8.
type Raw = Vec<(&'static str, Option<String>)>;

fn object(members: &Members) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| match value {
            V::T(text) => format!("\"{name}\": {}", Value::from(text.as_str())),
            V::N(text) => format!("\"{name}\": {text}"),
        })
        .collect();
    format!("{{{}}}", members.join(", "))
}

fn flat(members: Members) -> Raw {
    members.into_iter().map(|(name, V::T(text) | V::N(text))| (name, Some(text))).collect()
}

/// `whole × 10^exponent`, written out.
fn decimal(whole: i64, exponent: i32) -> String {
    if exponent >= 0 {
        return format!("{whole}{}", "0".repeat(exponent as usize));
    }
    let places = exponent.unsigned_abs() as usize;
    let digits = format!("{:0>width$}", whole.unsigned_abs(), width = places + 1);
    let (before, behind) = digits.split_at(digits.len() - places);
    format!("{}{before}.{behind}", if whole < 0 { "-" } else { "" })
}

struct Emitted {
    decision_id: String,
    plan_id: String,
    symbol: usize,
    side: Side,
    qty: Decimal,
}

#[derive(Clone)]
struct Order {
    symbol: usize,
    buys: bool,
    reduce_only: Option<bool>,
    plan_id: Option<String>,
    order_id: Option<String>,
    /// Ordered, and filled so far, in units of the symbol.
    total: i64,
    filled: i64,
    shape: u32,
    priced: bool,
}

struct World {
    style: Style,
    lab: Lab,
    now_ms: u64,
    dice: u64,
    ids: BTreeMap<&'static str, EntryId>,
    /// Entries of the present millisecond.
    waiting: Vec<Told>,
    told: Vec<Told>,
    emitted: Vec<Emitted>,
    orders: Vec<Order>,
    results: Vec<Raw>,
    snapshots: [Option<Raw>; 3],
    /// Price of each symbol relative to where it began. [1/1000]
    levels: [i64; 3],
    intents: [Option<EntryId>; 3],
    counter: u64,
}

impl World {
    // ---- time and entries --------------------------------------------------------------------------------------

    /// A number below `n`, from the dice of the operation.
    fn draw(&mut self, n: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.draw(n) == 0
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    fn tell(&mut self, stream: &'static str, raw: Raw) -> EntryId {
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
        self.waiting.push(Told { stream, key: CanonicalKey::new(rank, id), line });
        id
    }

    /// Lets time pass; the millisecond that ends is folded in canonical order.
    fn pass(&mut self, ms: u64) {
        if ms == 0 {
            return;
        }
        self.waiting.sort_by_key(|told| told.key);
        for told in std::mem::take(&mut self.waiting) {
            let came = self.lab.feed(&told.line);
            if let Some(decision) = came.step.decision {
                let name = &*self.lab.engine.symbol(decision.symbol).name;
                self.emitted.push(Emitted {
                    decision_id: decision.decision_id.clone(),
                    plan_id: decision.plan_id.clone(),
                    symbol: SYMBOLS.iter().position(|symbol| *symbol == name).unwrap_or(0),
                    side: decision.side,
                    qty: decision.qty.get(),
                });
            }
            self.told.push(told);
        }
        self.now_ms += ms;
    }

    fn op(&mut self, op: Op) {
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
        }
    }

    /// Signals and prices, so that what follows has something to stand on.
    fn opening(&mut self) {
        for symbol in 0..SYMBOLS.len() {
            self.dice = symbol as u64;
            self.intent(symbol);
            if symbol < 2 {
                self.price(symbol);
            }
            self.pass(7);
        }
    }

    // ---- numbers -----------------------------------------------------------------------------------------------

    /// The text of a number, or in its place one from the edge.
    fn number(&mut self, text: String) -> String {
        if !self.style.extreme || self.one_in(3) {
            return text;
        }
        EXTREMES[self.draw(EXTREMES.len() as u64) as usize].to_owned()
    }

    fn units(&mut self, symbol: usize, units: i64) -> String {
        let text = decimal(units, QTY_EXPONENTS[symbol] + self.style.qty_exponent);
        self.number(text)
    }

    /// A price a little off the level of a symbol. [quote per base]
    fn near(&mut self, symbol: usize) -> String {
        let (whole, exponent) = PRICES[symbol];
        let off = self.draw(7) as i64 - 3;
        let text = decimal(whole * (10_000 + 10 * self.levels[symbol] + off), exponent - 4 + self.style.price_exponent);
        self.number(text)
    }

    fn level(&mut self, symbol: usize) -> String {
        let (whole, exponent) = PRICES[symbol];
        let text = decimal(whole * (1_000 + self.levels[symbol]), exponent - 3 + self.style.price_exponent);
        self.number(text)
    }

    /// An ATR of some thousandths of the price: as a price, or as a fraction.
    fn atr(&mut self, symbol: usize, is_fraction: bool) -> String {
        let thousandths = if self.one_in(12) { 2_000 } else { 2 + self.draw(20) as i64 };
        let (whole, exponent) = if is_fraction { (1, 0) } else { PRICES[symbol] };
        let shift = if is_fraction { 0 } else { self.style.price_exponent };
        let text = decimal(whole * thousandths, exponent - 3 + shift);
        self.number(text)
    }

    fn volatility(&mut self) -> String {
        let tenths = 5 + self.draw(20) as i64;
        self.number(decimal(tenths, -1))
    }

    /// What the engine holds of a symbol. [base]
    fn held(&self, symbol: usize) -> Decimal {
        self.lab.symbol(SYMBOLS[symbol]).map_or(Decimal::ZERO, |symbol| symbol.qty().get())
    }

    fn seconds(&self, ms: u64) -> String {
        format!("{}.{:03}", ms / 1_000, ms % 1_000)
    }

    // ---- prices ------------------------------------------------------------------------------------------------

    fn walk(&mut self, symbol: usize) {
        let step = match self.draw(10) {
            0..7 => self.draw(15) as i64 - 4,
            7 => 60 + self.draw(60) as i64,
            8 => -(self.draw(25) as i64),
            _ => -self.levels[symbol],
        };
        self.levels[symbol] = (self.levels[symbol] + step).clamp(-500, 1_500);
    }

    fn price(&mut self, symbol: usize) {
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
        self.tell(TICK, raw);
    }

    fn candle(&mut self, symbol: usize) {
        self.walk(symbol);
        let close = self.level(symbol);
        let began = self.seconds(self.now_ms - 60_000);
        let members = vec![("symbol", SYMBOLS[symbol].into()), ("close", close.into()), ("timestamp", V::N(began))];
        self.tell(CANDLE, vec![("payload", Some(object(&members)))]);
    }

    /// A price where prices are not the main thing: among results, or as an observation.
    fn other_price(&mut self, symbol: usize) {
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
            self.tell(RESULT, flat(members));
        } else {
            let source = ["redis_ticker", "redis_market", "api"][self.draw(3) as usize];
            let members = vec![("symbol", SYMBOLS[symbol].into()), ("price", price.into()), ("source", source.into())];
            self.observation("price", members);
        }
    }

    fn stale_price(&mut self, symbol: usize) {
        let price = self.level(symbol);
        let then = self.seconds(self.now_ms - 9_000 - self.now_ms % 3_000);
        let members = vec![("symbol", SYMBOLS[symbol].into()), ("mark_price", V::N(price)), ("timestamp", V::N(then))];
        self.tell(TICK, vec![("payload", Some(object(&members)))]);
    }

    // ---- signals and plans -------------------------------------------------------------------------------------

    fn intent(&mut self, symbol: usize) {
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
            // Without a source the unit is that of `default`: absolute.
            _ if is_fraction => vec![("payload", Some(object(&members))), ("source", source)],
            _ => vec![("payload", Some(object(&members)))],
        };
        self.intents[symbol] = Some(self.tell(INTENT, raw));
    }

    fn exit_intent(&mut self, symbol: usize, decision_id: Option<String>) {
        let mut members: Members =
            vec![("symbol", SYMBOLS[symbol].into()), ("side", "SELL".into()), ("reduceOnly", V::N("true".to_owned()))];
        if let Some(decision_id) = decision_id {
            members.push(("decision_id", decision_id.into()));
        }
        self.intents[symbol] = Some(self.tell(INTENT, vec![("payload", Some(object(&members)))]));
    }

    /// Tells a plan; answers its id.
    fn plan(&mut self, symbol: usize, side: &'static str, qty: String, reduce_only: bool, bridged: bool) -> String {
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
        self.tell(PLAN, flat(members));
        plan_id
    }

    // ---- orders and what is filled -----------------------------------------------------------------------------

    fn order(&mut self, symbol: usize) {
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

    fn recent_order(&mut self) -> Option<usize> {
        let back = 1 + self.draw(4) as usize;
        self.orders.len().checked_sub(back)
    }

    fn progress(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let Order { total, filled, .. } = self.orders[at];
        let more = if self.one_in(2) { total } else { filled + 1 + (total - filled) / 2 };
        self.fill(at, more.min(total));
    }

    fn fill(&mut self, at: usize, filled: i64) {
        self.orders[at].filled = self.orders[at].filled.max(filled);
        let order = self.orders[at].clone();
        let priced = order.priced;
        self.filled(&order, filled, priced);
    }

    fn filled(&mut self, order: &Order, filled: i64, priced: bool) {
        let status = if filled >= order.total { "FILLED" } else { "PARTIALLY_FILLED" };
        let qty = self.units(order.symbol, filled);
        let average = if priced { Some(self.near(order.symbol)) } else { None };
        let raw = self.result(order, status, qty, average);
        self.results.push(raw.clone());
        self.tell(RESULT, raw);
    }

    /// A result in one of the shapes of the executors.
    fn result(&mut self, order: &Order, status: &'static str, qty: String, average: Option<String>) -> Raw {
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

    /// Several orders in one entry: what is closed by one is opened again by the next.
    fn steps(&mut self, symbol: usize) {
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
        self.tell(RESULT, raw);
        if self.one_in(4) {
            // Which of the orders of the plan is meant, nobody knows.
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

    fn unfilled(&mut self, at: usize) {
        let order = self.orders[at].clone();
        let mut members: Members = vec![("symbol", SYMBOLS[order.symbol].into())];
        members.extend(order.plan_id.map(|plan_id| ("plan_id", plan_id.into())));
        members.extend(order.order_id.map(|order_id| ("order_id", order_id.into())));
        match self.draw(4) {
            0 => members.extend([("executed", "False".into()), ("error", "duplicate_plan".into())]),
            1 => members.extend([("status", "REJECTED".into()), ("filled_qty", "0".into())]),
            _ => members.extend([("executed", "True".into()), ("status", "NEW".into()), ("executedQty", "0".into())]),
        }
        self.tell(RESULT, flat(members));
    }

    /// The same quantity again, now with its average price.
    fn late_price(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let mut order = self.orders[at].clone();
        if order.filled == 0 {
            return;
        }
        order.shape = 4;
        self.filled(&order, order.filled, true);
    }

    /// An entry from before, under a new id.
    fn repeat(&mut self) {
        if self.results.is_empty() {
            return;
        }
        let at = self.draw(self.results.len() as u64) as usize;
        let raw = self.results[at].clone();
        self.tell(RESULT, raw);
    }

    /// Less than was already filled, and never said before.
    fn contradict(&mut self) {
        let Some(at) = self.recent_order() else { return };
        let order = self.orders[at].clone();
        if order.filled > 7 {
            self.filled(&order, order.filled / 7, order.priced);
        }
    }

    // ---- the exchange ------------------------------------------------------------------------------------------

    fn observation(&mut self, event: &'static str, members: Members) {
        self.tell(OBSERVATION, vec![("event_type", Some(event.to_owned())), ("payload", Some(object(&members)))]);
    }

    fn traded(&mut self, symbol: usize, order_id: String, side: &'static str, qty: String, own_ms: u64) {
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

    /// A trade of an order that is known, or of one that nobody else told of.
    fn trade(&mut self) {
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

    /// Trades from before an opening by snapshot, in one or two parts.
    fn explain(&mut self, symbol: usize) {
        let Some(open) = self.lab.symbol(SYMBOLS[symbol]).and_then(|symbol| symbol.hot.open.as_ref()) else { return };
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

    /// What the exchange holds, by its own word: what we hold, or something else.
    fn exchange_qty(&mut self, symbol: usize) -> Decimal {
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

    fn snapshot(&mut self, symbol: usize) {
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
        self.tell(SNAPSHOT, raw);
    }

    /// The snapshot from before, once the grace has passed.
    fn snapshot_again(&mut self, symbol: usize) {
        let Some(raw) = self.snapshots[symbol].clone() else { return self.snapshot(symbol) };
        self.pass(61_000);
        self.tell(SNAPSHOT, raw);
    }

    fn exchange_position(&mut self, symbol: usize) {
        let qty = self.exchange_qty(symbol).to_string();
        let qty = self.number(qty);
        let price = self.near(symbol);
        let members =
            vec![("symbol", SYMBOLS[symbol].into()), ("positionAmt", qty.into()), ("entryPrice", price.into())];
        self.observation("exchange.position", members);
    }

    fn instrument(&mut self, symbol: usize) {
        let step = self.units(symbol, 1);
        let qty_min = self.units(symbol, 2);
        let mut members: Members =
            vec![("symbol", SYMBOLS[symbol].into()), ("stepSize", step.into()), ("minQty", qty_min.into())];
        if !self.style.scalable {
            members.push(("minNotional", "5".into()));
        }
        self.observation("instrument", members);
    }

    fn legacy(&mut self, symbol: usize) {
        let (price, atr, volatility) = (self.near(symbol), self.atr(symbol, false), self.volatility());
        let members = vec![
            ("symbol", SYMBOLS[symbol].into()),
            ("entry_price", price.into()),
            ("atr_value", atr.into()),
            ("volatility_factor", volatility.into()),
        ];
        self.observation("legacy.position", members);
    }

    // ---- answers to what was decided -----------------------------------------------------------------------------

    fn answer(&mut self) {
        let back = 1 + self.draw(3) as usize;
        let Some(at) = self.emitted.len().checked_sub(back) else { return };
        let Emitted { decision_id, plan_id, symbol, side, qty } = &self.emitted[at];
        let (decision_id, mut plan_id, symbol, qty) = (decision_id.clone(), plan_id.clone(), *symbol, *qty);
        let side = side.name();
        let how = self.draw(10);
        if how == 8 {
            // A bridge makes a plan of its own of our request; the result names that.
            self.exit_intent(symbol, Some(decision_id));
            self.pass(3);
            plan_id = self.plan(symbol, side, qty.to_string(), true, true);
            self.pass(3);
        }
        let part = (qty * Decimal::new(5, 1)).normalize().to_string();
        let order_id = if self.one_in(2) { format!("9{}", &self.counter) } else { format!("9{}", self.count()) };
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
        self.tell(RESULT, flat(members));
    }

    // ---- control -----------------------------------------------------------------------------------------------

    fn control(&mut self, event: &'static str, members: Members) {
        self.tell(CONTROL, vec![("event_type", Some(event.to_owned())), ("payload", Some(object(&members)))]);
    }

    fn kill(&mut self) {
        let on = self.lab.engine.globals().killed;
        self.control("kill.changed", vec![("kill", V::N((!on).to_string()))]);
        if !on {
            self.pass(2_000);
            self.price(0);
            self.pass(500);
            self.control("kill.changed", vec![("kill", "False".into())]);
        }
    }

    fn gap(&mut self) {
        let stream = if self.one_in(2) { RESULT } else { TICK };
        let after = format!("{}-0", self.now_ms - 5_000);
        self.control("history.gap", vec![("stream", stream.into()), ("after", after.into())]);
    }

    fn gap_accepted(&mut self, symbol: usize) {
        let members = if !self.one_in(3) { Vec::new() } else { vec![("symbol", SYMBOLS[symbol].into())] };
        self.control("gap.accepted", members);
    }

    fn open_position_id(&self, symbol: usize) -> Option<String> {
        let open = self.lab.symbol(SYMBOLS[symbol])?.hot.open.as_ref()?;
        Some(open.id.with_symbol(SYMBOLS[symbol]))
    }

    fn risk_accepted(&mut self, symbol: usize) {
        let position_id = self.open_position_id(symbol).unwrap_or_else(|| "ADAUSDT@1-1".to_owned());
        self.control("risk.accepted", vec![("position_id", position_id.into())]);
    }

    fn rearm(&mut self, symbol: usize) {
        let Some(position_id) = self.open_position_id(symbol) else { return };
        let r = ["0.3", "0.4", "0.5", "1", "1.5"][self.draw(5) as usize];
        self.control("rung.rearmed", vec![("position_id", position_id.into()), ("r", r.into())]);
    }

    fn expire(&mut self) {
        let Some(emitted) = self.emitted.last() else { return };
        let decision_id = emitted.decision_id.clone();
        self.control("decision.expired", vec![("decision_id", decision_id.into()), ("reason", "kill".into())]);
    }

    /// Announces that an entry is passed over, and then tells that entry.
    fn skip(&mut self, symbol: usize) {
        if self.style.no_skips {
            return;
        }
        let (then, is_result) = (self.now_ms + 1_000, self.one_in(2));
        let stream = if is_result { RESULT } else { TICK };
        self.control("entry.skipped", vec![("stream", stream.into()), ("id", format!("{then}-0").into())]);
        self.pass(1_000);
        if is_result { self.order(symbol) } else { self.price(symbol) }
    }

    fn policy(&mut self) {
        let index = self.draw(POLICIES.len() as u64) as usize;
        let policy = policy_json(index, self.style);
        self.control("policy.adopted", vec![("policy", V::N(policy))]);
    }

    // ---- what cannot be read -------------------------------------------------------------------------------------

    fn garbage(&mut self, symbol: usize) {
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
                let raw = vec![("symbol", name()), ("positionSide", text("LONG")), ("position_amt", text("5"))];
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
        self.tell(stream, raw);
    }
}

/// The side of the order that opened a direction.
pub fn opening_side(direction: Direction) -> &'static str {
    direction.opening_side().name()
}
