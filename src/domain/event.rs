//! All facts that the decoder can hand to the engine.
//!
//! In reading order: `ids` and `streams`, `selection` (whose entries are read), this file (an entry and its event),
//! `time`, `side`, then the facts: `price`, `intent`, `result`, `exchange`, `control`, `decision`. `reason` lists why
//! an entry goes to quarantine, and `reorder` is the reorder buffer.

mod control;
mod decision;
mod exchange;
pub mod ids;
mod intent;
mod price;
mod reason;
pub mod reorder;
mod result;
pub mod selection;
mod side;
pub mod streams;
mod time;

use ids::{AccountId, EntryId, StreamId, SymbolId};
use streams::StreamKind;

pub use control::{Control, ControlFact, Issue};
pub use decision::DecisionFact;
pub use exchange::{Instrument, InstrumentFact, InstrumentStatus, PositionFact, Stated, Trade, TradeFact};
pub use intent::{ExitIntent, Intent, LegacyFact, Plan, RiskPair};
pub use price::{PriceFact, PriceSource};
pub use reason::{Reason, Unreadable};
pub use result::{FillFact, NamedOrder, Outcome, ResultFact};
pub use side::{Direction, PositionSide, Side};
pub use time::{EventTime, StatedTime};

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
    /// The account that it names, or that the configuration gives to its stream. Prices and instruments have none.
    pub account: AccountId,
    /// The position side that it names.
    pub position_side: Option<PositionSide>,
    pub content: Result<Event, Unreadable>,
}

impl Entry {
    /// Returns true if it is a trade or a position of the exchange, or may be one that cannot be read.
    pub fn is_of_exchange(&self) -> bool {
        match &self.content {
            Ok(Event::Trade(_)) => true,
            Ok(Event::Position(fact)) => fact.looked_up,
            Ok(_) => false,
            Err(unreadable) => unreadable.moves,
        }
    }
}

/// The content of an entry that could be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A price of a symbol, from the price stream or a look-up.
    Price(PriceFact),
    /// An entry intent: the signal of a strategy to open.
    Intent(Box<Intent>),
    /// An exit intent. It is kept for the record and is never a source of a value.
    ExitIntent(Box<ExitIntent>),
    /// The statement that an intent will be ordered.
    Plan(Box<Plan>),
    /// A plan that is not executed (`SKIP`, a proposal, or one without a plan id).
    PlanIgnored,
    /// The report of an executor: filled, accepted or refused.
    Result(Box<ResultFact>),
    /// The quantity of a book at the exchange, from a position snapshot or a look-up.
    Position(PositionFact),
    /// A trade of the exchange.
    Trade(Box<TradeFact>),
    /// The exchange's rules for a symbol.
    Instrument(Box<InstrumentFact>),
    /// An old hash of a position, or an operator's `legacy.position`: it fills missing fields only.
    Legacy(Box<LegacyFact>),
    Control(Box<ControlFact>),
    /// A harvest decision, of this service or of another one.
    Decision(Box<DecisionFact>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small_as_nearly_all_of_them_are_prices() {
        assert!(size_of::<Entry>() <= 104, "{}", size_of::<Entry>());
    }
}
