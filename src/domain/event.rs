//! All facts that the decoder can hand to the engine.

pub mod ids;
pub mod reorder;
pub mod streams;

use serde::{Deserialize, Serialize};

use super::exit::policy::Policy;
use super::units::{Price, Qty, RMultiple, Ratio};
use ids::{EntryId, StreamId, SymbolId};
use streams::StreamKind;

/// Why an entry could not be used (docs/spec/streams.md, "Reasons of quarantine").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    BadJson,
    NotUtf8,
    TooLarge,
    NoSymbol,
    NoDirection,
    NoSide,
    NoPrice,
    NoQuantity,
    NoOutcome,
    BadNumber,
    OutOfRange,
    UnknownWord,
    UnknownEvent,
    TooLate,
    HedgeMode,
    TooManySymbols,
    /// A contract that is settled in coins.
    InverseContract,
    BadSignature,
}

impl Reason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::NoSymbol => "no_symbol",
            Self::NoDirection => "no_direction",
            Self::NoSide => "no_side",
            Self::NoPrice => "no_price",
            Self::NoQuantity => "no_quantity",
            Self::NoOutcome => "no_outcome",
            Self::BadNumber => "bad_number",
            Self::OutOfRange => "out_of_range",
            Self::UnknownWord => "unknown_word",
            Self::UnknownEvent => "unknown_event",
            Self::TooLate => "too_late",
            Self::HedgeMode => "hedge_mode",
            Self::TooManySymbols => "too_many_symbols",
            Self::InverseContract => "inverse_contract",
            Self::BadSignature => "bad_signature",
        }
    }
}

/// One stream entry, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub stream: StreamId,
    pub kind: StreamKind,
    pub id: EntryId,
    /// Name of its shape.
    pub shape: &'static str,
    /// The symbol that it names, where one could be read, even if the rest could not.
    pub symbol: Option<SymbolId>,
    pub content: Result<Event, Unreadable>,
}

/// An entry that goes to quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub reason: Reason,
    /// A result whose `executed` is plainly false. It moved no quantity.
    pub refusal: bool,
    /// A `kill.changed` or `policy.adopted`. If it cannot be read, it kills.
    pub kills: bool,
    /// A `history.gap`. If it cannot be read, it counts as a gap of every stream.
    pub gap: bool,
    /// Known symbols whose names are words of its text, where its own symbol cannot be read.
    pub named: Box<[SymbolId]>,
}

impl Unreadable {
    pub fn new(reason: Reason) -> Self {
        Self { reason, refusal: false, kills: false, gap: false, named: Box::default() }
    }
}

/// The event time of a fact: when it happened, as its producer states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// The fact has none.
    Absent,
    /// [ms since 1970]
    At(u64),
    /// A text that is not a time, or a time that the entry id makes impossible.
    Unreadable,
}

impl EventTime {
    /// How far an event time may be ahead of its entry id, because clocks differ. [ms]
    const AHEAD_MAX_MS: u64 = 60_000;

    /// Returns the time, unless it is too far ahead of the entry that carries it.
    pub fn checked(self, entry: EntryId) -> Self {
        match self {
            Self::At(ms) if ms > entry.ms.saturating_add(Self::AHEAD_MAX_MS) => Self::Unreadable,
            time => time,
        }
    }

    /// Returns the time, if it is known. [ms since 1970]
    pub fn ms(self) -> Option<u64> {
        match self {
            Self::At(ms) => Some(ms),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// Returns how much older the fact is than its entry, 0 without an event time. `None` if the time is unreadable.
    /// [ms]
    pub fn age_ms(self, entry_ms: u64) -> Option<u64> {
        match self {
            Self::Absent => Some(0),
            Self::At(ms) => Some(entry_ms.saturating_sub(ms)),
            Self::Unreadable => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Price(PriceFact),
    Intent(Box<Intent>),
    /// An exit intent. It is kept for the record and is never a source of a value.
    ExitIntent(Box<ExitIntent>),
    Plan(Box<Plan>),
    /// A plan that is not executed (`SKIP`, a proposal, or one without a plan id).
    PlanIgnored,
    Result(Box<ResultFact>),
    Position(PositionFact),
    Trade(Box<TradeFact>),
    Instrument(Box<Instrument>),
    Legacy(Box<LegacyFact>),
    Control(Box<ControlFact>),
    Decision(Box<DecisionFact>),
}

/// The source of a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PriceSource {
    /// A stream. Its short name is the name of the source.
    Stream(StreamId),
    RedisTicker,
    RedisMarket,
    Api,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceFact {
    pub price: Price,
    pub source: PriceSource,
    /// Event time of the price. Always absent for `close` shapes.
    pub time: EventTime,
}

/// Side of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    Buy,
    Sell,
}

impl Side {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Buy => "BUY",
            Self::Sell => "SELL",
        }
    }

    pub const fn opens(self) -> Direction {
        match self {
            Self::Buy => Direction::Long,
            Self::Sell => Direction::Short,
        }
    }
}

/// Side of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    Long,
    Short,
}

impl Direction {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Long => "LONG",
            Self::Short => "SHORT",
        }
    }

    /// Returns the side of the order that closes it.
    pub const fn closing_side(self) -> Side {
        match self {
            Self::Long => Side::Sell,
            Self::Short => Side::Buy,
        }
    }

    pub const fn opening_side(self) -> Side {
        match self {
            Self::Long => Side::Buy,
            Self::Short => Side::Sell,
        }
    }

    /// Returns a magnitude as a signed quantity. [base]
    pub fn signed(self, qty: Qty) -> Qty {
        match self {
            Self::Long => qty.abs(),
            Self::Short => qty.abs().negated(),
        }
    }
}

/// A signal to enter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub id: EntryId,
    pub direction: Direction,
    /// Planned entry price. [quote per base]
    pub entry_price: Option<Price>,
    /// Average true range, in the unit that the policy knows for the producer.
    pub atr_value: Option<Ratio>,
    /// [1]
    pub volatility_factor: Option<Ratio>,
    /// Producer: `source` of the envelope, lower case.
    pub producer: Option<Box<str>>,
}

impl Intent {
    pub fn risk_pair(&self) -> Option<RiskPair> {
        RiskPair::of(self.atr_value, self.volatility_factor)
    }
}

/// Both risk fields, and their product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RiskPair {
    pub atr_value: Ratio,
    pub volatility_factor: Ratio,
    /// Their product.
    pub factor: Ratio,
}

impl RiskPair {
    /// Returns both fields, if both are present. (The decoder refuses an entry whose product is out of range.)
    pub fn of(atr_value: Option<Ratio>, volatility_factor: Option<Ratio>) -> Option<Self> {
        let (atr_value, volatility_factor) = (atr_value?, volatility_factor?);
        let factor = atr_value.times(volatility_factor).ok()?;
        Some(Self { atr_value, volatility_factor, factor })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitIntent {
    pub id: EntryId,
    /// The decision of ours, where the intent is our request.
    pub decision_id: Option<Box<str>>,
}

/// A plan: an order that a service is about to place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub plan_id: Box<str>,
    pub symbol: SymbolId,
    pub id: EntryId,
    pub side: Option<Side>,
    pub reduce_only: Option<bool>,
    /// Planned entry price. [quote per base]
    pub entry_price: Option<Price>,
    pub atr_value: Option<Ratio>,
    pub volatility_factor: Option<Ratio>,
    /// Producer: `source`, lower case.
    pub producer: Option<Box<str>>,
    /// `|symbol|side|qty` as written. A bridge hashes it, after an intent id, to the plan id.
    pub bridge_text: Box<str>,
}

impl Plan {
    pub fn risk_pair(&self) -> Option<RiskPair> {
        RiskPair::of(self.atr_value, self.volatility_factor)
    }
}

/// An execution, an acceptance or a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultFact {
    pub plan_id: Option<Box<str>>,
    pub time: EventTime,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Fills, one per order named in the entry; never empty.
    Fills(Vec<FillFact>),
    Accepted {
        order_id: Option<Box<str>>,
    },
    Refused {
        order_id: Option<Box<str>>,
        /// `duplicate_plan`: it reports nothing about the order.
        duplicate: bool,
        /// Refused for good. A retry is useless.
        permanent: bool,
    },
}

/// What one order has filled so far.
#[derive(Clone, Debug, PartialEq)]
pub struct FillFact {
    pub order_id: Option<Box<str>>,
    pub side: Option<Side>,
    pub reduce_only: Option<bool>,
    /// The action contains CLOSE.
    pub closes: bool,
    /// Filled by the order so far, positive. [base]
    pub cumulative: Qty,
    /// Average price of the cumulative quantity. [quote per base]
    pub average: Option<Price>,
    /// The order will not fill any further.
    pub is_final: bool,
    /// The ordered quantity, where its status reports that all of it was filled. [base]
    pub ordered: Option<Qty>,
}

/// A position at the exchange, as a snapshot stream or a look-up reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PositionFact {
    /// Signed. [base]
    pub qty: Qty,
    /// [quote per base]
    pub entry_price: Option<Price>,
    /// It comes from a look-up of ours (`exchange.position`), not from the snapshot stream.
    pub looked_up: bool,
}

/// One trade of an order, as the exchange reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct TradeFact {
    pub order_id: Box<str>,
    pub time: EventTime,
    pub trade: Trade,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    pub trade_id: Box<str>,
    pub order_id: Box<str>,
    pub side: Side,
    /// Positive. [base]
    pub qty: Qty,
    /// [quote per base]
    pub price: Price,
    /// Event time of the trade. [ms since 1970]
    pub own_ms: Option<u64>,
    pub entry: EntryId,
}

/// The filters of an instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instrument {
    /// [base]
    pub step_size: Option<Qty>,
    /// [base]
    pub qty_min: Option<Qty>,
    /// The smaller of the limits for limit and for market orders. [base]
    pub qty_max: Option<Qty>,
    /// For orders that open a position. The exchange exempts orders that only reduce. [quote]
    pub notional_min: Option<super::units::Quote>,
    pub status: Option<InstrumentStatus>,
}

/// The status of an instrument: whether the exchange accepts orders for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstrumentStatus {
    Trading,
    /// Any other status: settling, halted, delisted.
    NotTrading,
}

/// The contents of an old hash.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyFact {
    pub direction: Option<Direction>,
    pub entry_price: Option<Price>,
    pub atr_value: Option<Ratio>,
    pub volatility_factor: Option<Ratio>,
}

/// A control entry, with its issue.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlFact {
    pub control: Control,
    /// Of an entry that loosens. `None`: it carries no nonce.
    pub issue: Option<Issue>,
}

/// The time at which a control entry was issued, and its nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// [ms since 1970]
    pub issued_ms: u64,
    pub nonce: Box<str>,
    /// The signature was verified with a key. A nonce that was seen before is then refused.
    pub is_verified: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    PolicyAdopted(Box<Policy>),
    KillChanged {
        kill: bool,
    },
    HistoryGap {
        stream: Box<str>,
        after: Option<EntryId>,
        before: Option<EntryId>,
    },
    /// For one symbol (that of the entry) or, without a symbol, for all.
    GapAccepted,
    RiskAccepted {
        position_id: Box<str>,
    },
    DecisionExpired {
        decision_id: Box<str>,
    },
    RungRearmed {
        position_id: Box<str>,
        r: RMultiple,
    },
    EntrySkipped {
        stream: Box<str>,
        id: EntryId,
    },
}

impl Control {
    /// Returns true if an entry permits what was held before, so that it needs a signature where there is a key.
    ///
    /// `decision.expired` is among them: it arms rungs again, and an order that was sent would be sent twice.
    pub const fn loosens(&self) -> bool {
        match self {
            Self::PolicyAdopted(_)
            | Self::KillChanged { kill: false }
            | Self::GapAccepted
            | Self::RiskAccepted { .. }
            | Self::DecisionExpired { .. }
            | Self::RungRearmed { .. }
            | Self::EntrySkipped { .. } => true,
            Self::KillChanged { kill: true } | Self::HistoryGap { .. } => false,
        }
    }
}

/// A recorded decision. It is a fact and is not derived again.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionFact {
    pub decision_id: Box<str>,
    pub plan_id: Box<str>,
    pub position_id: Box<str>,
    pub symbol: SymbolId,
    pub side: Side,
    /// [base]
    pub qty: Qty,
    /// Share of the position to close. [1]
    pub share: Ratio,
    pub rungs: Vec<RMultiple>,
    pub attempt: u32,
    pub live: bool,
    /// Its number in the chain. 0: the entry has none.
    pub seq: u64,
    /// Hash of the decision before it.
    pub prev: Box<str>,
    pub hash: Box<str>,
    /// The hash matches `prev` and the payload and, with a key, the signature matches the hash.
    pub is_sealed: bool,
    pub cause_stream: Box<str>,
    pub cause_id: EntryId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small_as_nearly_all_of_them_are_prices() {
        assert!(size_of::<Entry>() <= 104, "{}", size_of::<Entry>());
    }
}
