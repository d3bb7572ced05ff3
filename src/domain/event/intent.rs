//! Intents and plans: announcements of strategies and executors.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, EntryId, SymbolId};
use super::side::{Direction, PositionSide, Side};
use crate::domain::units::{Price, Ratio};

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
    /// The account that it belongs to. Without a name it serves all accounts.
    #[serde(skip)]
    pub account: AccountId,
    #[serde(skip)]
    pub position_side: Option<PositionSide>,
    /// It names a quantity that is not 0.
    #[serde(skip)]
    pub has_qty: bool,
}

impl Plan {
    pub fn risk_pair(&self) -> Option<RiskPair> {
        RiskPair::of(self.atr_value, self.volatility_factor)
    }
}

/// The contents of an old hash.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyFact {
    pub direction: Option<Direction>,
    pub entry_price: Option<Price>,
    pub atr_value: Option<Ratio>,
    pub volatility_factor: Option<Ratio>,
}
