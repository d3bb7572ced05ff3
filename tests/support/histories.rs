//! Random but plausible histories of all streams.
//!
//! A [`Script`] is a list of small operations that shrink. To play it is to act as market, executor, exchange and
//! operator against the engine itself, so that snapshots can agree and results can answer decisions.

mod exchange;
mod executor;
mod fields;
mod market;
mod operator;
mod world;

use harvester::codec::policy::from_json;
use harvester::config::Config;
use harvester::domain::event::ids::{EntryId, SortKey};
use harvester::domain::event::streams::{Stream, StreamKind, Streams};
use proptest::prelude::*;
use serde_json::Value;
use world::World;

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

/// Policies that scripts start with or adopt later.
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

/// Numbers at the limits of what is accepted, and beyond.
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
    Overtaken,
}

/// Weight of each operation, simple ones first: scripts shrink towards these.
const WEIGHTS: [(What, u32); 30] = [
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
    (What::Overtaken, 30),
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

/// Weight of each symbol.
const MENTIONS: [(usize, u32); 3] = [(0, 60), (1, 25), (2, 15)];

/// One operation, after a pause.
#[derive(Clone, Copy)]
pub struct Op {
    pub what: What,
    pub pause: Pause,
    pub symbol: usize,
    /// The seed of all other choices of the operation.
    pub dice: u32,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, pause, symbol, dice } = self;
        write!(f, "{what:?}/{pause:?}/{symbol}/{dice}")
    }
}

/// Everything that determines a history.
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

/// Returns scripts of up to this number of operations.
pub fn scripts(length: usize) -> impl Strategy<Value = Script> {
    let op = (weighted(&WEIGHTS), weighted(&PAUSES), weighted(&MENTIONS), any::<u32>());
    let op = op.prop_map(|(what, pause, symbol, dice)| Op { what, pause, symbol, dice });
    (0..POLICIES.len(), prop::collection::vec(op, 1..=length)).prop_map(|(policy, ops)| Script { policy, ops })
}

/// The numbers that a script is played with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Quantities are multiplied by ten to this power.
    pub qty_exponent: i32,
    /// Prices, and ATRs that are prices, are multiplied by ten to this power.
    pub price_exponent: i32,
    /// True if most numbers are at the limits of what is accepted.
    pub extreme: bool,
    /// True if nothing is used that does not scale: no minimum notional, and no ATR that is read as a fraction
    /// because it is too large.
    pub scalable: bool,
    /// True if no pause is longer than a day: orders and closed positions are never forgotten.
    pub no_weeks: bool,
    /// True if no entries are announced as skipped.
    pub no_skips: bool,
    /// True if prices stay near each other, and so near every entry price: no price is ever deferred.
    pub calm: bool,
}

/// One entry of a history.
#[derive(Clone, Debug)]
pub struct Entry {
    pub stream: &'static str,
    pub key: SortKey,
    pub line: String,
}

impl Entry {
    pub fn id(&self) -> EntryId {
        EntryId::new(self.key.ms, self.key.seq)
    }
}

/// A script as it was played, in canonical order.
pub struct History {
    pub config: Config,
    pub entries: Vec<Entry>,
}

impl History {
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.line.as_str())
    }

    pub fn text(&self) -> String {
        text_of(self.lines())
    }
}

pub fn text_of<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// Returns the streams of a generated history: the default ones, and a second one with prices.
pub fn streams() -> Streams {
    let defaults = StreamKind::ALL.map(|kind| Stream { kind, name: kind.default_stream().to_owned(), account: None });
    let candles = Stream { kind: StreamKind::Price, name: CANDLE.to_owned(), account: None };
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

/// Returns the configuration that a script starts with.
pub fn config(script: &Script, style: Style) -> Config {
    let policy = from_json(&policy_json(script.policy, style)).expect("the policy is valid");
    Config { streams: streams(), policy, ..super::config(None) }
}

/// Plays a script.
pub fn play(script: &Script, style: Style) -> History {
    let config = config(script, style);
    let mut world = World::new(&config, style);
    world.opening();
    for op in &script.ops {
        world.op(*op);
    }
    world.pass(1_000);
    History { config, entries: world.entries }
}
