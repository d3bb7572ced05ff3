//! The policy: ladder, limits, sources. Each instance of the type is valid.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::domain::named;
use crate::domain::units::{OutOfRange, Quote, RMultiple, Ratio};

named! {
    /// Whether decisions request orders.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Mode {
        /// Decisions are made and recorded. No order is requested.
        Shadow => "shadow",
        /// Decisions request orders. More holds apply, such as `weak_entry`.
        Live => "live",
    }
}

named! {
    /// The quantity of which a fraction of the ladder is a part.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Base {
        /// The largest quantity of the position so far.
        Initial => "initial",
        /// The quantity that is open at the decision.
        Current => "current",
    }
}

/// Unit in which a producer states the average true range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AtrUnit {
    /// Quote per base.
    Absolute,
    /// Fraction of the price.
    Fraction,
}

/// The treatment of a risk per unit that is at least the entry price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RiskTooLarge {
    /// The position gets the flag `risk_too_large`, and is evaluated with this risk.
    Flag,
    /// The position gets a hold.
    Refuse,
    /// The ATR is read as a fraction of the entry price.
    AsFraction,
}

/// The treatment of reached or shadowed rungs when the mode becomes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnLive {
    /// They count as taken.
    Skip,
    /// They may be taken.
    Take,
}

named! {
    /// Source of an entry price, weakest first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum EntrySource {
        Legacy => "legacy",
        Intent => "intent",
        Plan => "plan",
        Exchange => "exchange",
        Fill => "fill",
    }
}

named! {
    /// Source of risk fields, weakest first.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum RiskSource {
        Legacy => "legacy",
        IntentNearest => "intent_nearest",
        Intent => "intent",
        Plan => "plan",
    }
}

/// One step of the ladder: close `fraction` of the position at `r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LadderStep {
    /// [R]
    pub r: RMultiple,
    /// [1]
    pub fraction: Ratio,
}

/// The rules in force. Only [`Policy::checked`] builds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub mode: Mode,
    pub ladder: Vec<LadderStep>,
    pub base: Base,
    /// Net gain below which nothing is decided. [R]
    pub min_r: RMultiple,
    /// Cost of a round trip. [basis points of the entry notional]
    pub cost_bps: Ratio,
    /// Most decisions in a minute, over all symbols of an account. [1]
    pub max_actions_per_min: u64,
    /// Smallest notional of a decision. [quote]
    pub min_notional: Quote,
    /// By producer, lower case. `default` applies to the rest; without it the unit is absolute.
    pub atr_unit: BTreeMap<Box<str>, AtrUnit>,
    pub risk_too_large: RiskTooLarge,
    /// Smallest risk per unit that is evaluated. [basis points of the entry price]
    pub risk_floor_bps: Ratio,
    /// Accepted price sources; empty = all.
    pub price_sources: Vec<Box<str>>,
    /// Age above which a price is not used, and above which the price in use is stale. [ms]
    pub max_price_age_ms: u64,
    /// Distance from the price in use, as a ratio of it, above which a price is held back. [1]
    pub max_price_jump: Ratio,
    /// Shortest time from a held price to a price near it that confirms it. [ms]
    pub price_confirm_ms: u64,
    /// Age above which an intent matches no fill. [ms]
    pub intent_max_age_ms: u64,
    /// How long after a fill snapshots of its symbol have no effect. [ms]
    pub snapshot_settle_ms: u64,
    /// Shortest time between two statements of a different quantity by the exchange, after which it is adopted. [ms]
    pub divergence_grace_ms: u64,
    /// How long a requested or partly filled decision waits for a result. Then it is unknown, or filled. Live. [ms]
    pub result_timeout_ms: u64,
    /// How long a refused rung waits for its next attempt. Live. [ms]
    pub retry_after_ms: u64,
    /// Refusals after which a rung has failed. Live. [1]
    pub max_attempts: u32,
    /// True if a position has a hold while the step size of its symbol is unknown. Live.
    pub require_instrument: bool,
    /// How long after the last confirmation of its quantity a position is evaluated. Live. [ms]
    pub max_position_age_ms: u64,
    /// Symbols that may be traded; empty = all. Live.
    pub live_symbols: Vec<Box<str>>,
    /// Sources of the entry price with which a position is evaluated. Live.
    pub live_entry_sources: Vec<EntrySource>,
    /// Sources of the risk fields with which a position is evaluated. Live.
    pub live_risk_sources: Vec<RiskSource>,
    /// Accounts that are configured, sorted. In live mode, entries of other accounts are refused.
    pub known_accounts: Vec<Box<str>>,
    /// Always present when the mode is live.
    pub on_live: Option<OnLive>,
    /// `cost_bps` as a ratio of the entry notional. [1]
    pub cost: Ratio,
    /// `risk_floor_bps` as a ratio of the entry price. [1]
    pub risk_floor: Ratio,
    /// SHA-256 hex of the canonical JSON (docs/spec/decision.md, "Hash of a policy").
    pub hash: Box<str>,
}

/// Why a policy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("ladder: {0}")]
    Ladder(&'static str),
    #[error("{key} = {value}: {want}")]
    Value { key: &'static str, value: String, want: &'static str },
    /// Names all keys that are missing.
    #[error("mode = live needs {0} to be named in the policy itself: there is no default for what moves money")]
    LiveNeeds(String),
}

impl Policy {
    /// Checks the values together: order and sum of the ladder, signs, limits.
    ///
    /// ```
    /// use harvester::domain::exit::policy::{LadderStep, Policy, PolicyError};
    /// use harvester::domain::units::{RMultiple, Ratio};
    ///
    /// let step = |r: &str, fraction: &str| LadderStep {
    ///     r: RMultiple::new(r.parse().expect("a number")),
    ///     fraction: Ratio::new(fraction.parse().expect("a number")),
    /// };
    /// let with = |ladder: &[LadderStep]| Policy { ladder: ladder.to_vec(), ..Policy::default() }.checked();
    ///
    /// // 0.25 + 0.25 + 0.5 = 1: all of the position
    /// assert!(with(&[step("0.5", "0.25"), step("1", "0.25"), step("2", "0.5")]).is_ok());
    /// // 0.5 + 0.6 = 1.1
    /// let refused = PolicyError::Ladder("fractions sum up to more than 1");
    /// assert_eq!(with(&[step("0.5", "0.5"), step("1", "0.6")]), Err(refused));
    /// let refused = PolicyError::Ladder("r must be positive and ascending");
    /// assert_eq!(with(&[step("1", "0.25"), step("0.5", "0.25")]), Err(refused));
    /// ```
    pub fn checked(mut self) -> Result<Self, PolicyError> {
        if self.ladder.is_empty() {
            return Err(PolicyError::Ladder("at least one rung is needed"));
        }
        let mut sum = Decimal::ZERO;
        let mut below = RMultiple::ZERO;
        for step in &self.ladder {
            if step.r <= below {
                return Err(PolicyError::Ladder("r must be positive and ascending"));
            }
            if !step.fraction.is_positive() {
                return Err(PolicyError::Ladder("fractions must be positive"));
            }
            below = step.r;
            sum = sum.checked_add(step.fraction.get()).ok_or(PolicyError::Ladder("fractions sum up to more than 1"))?;
        }
        if sum > Decimal::ONE {
            return Err(PolicyError::Ladder("fractions sum up to more than 1"));
        }
        let not_negative = |key, value: Decimal| {
            if value < Decimal::ZERO {
                return Err(PolicyError::Value { key, value: value.to_string(), want: "must not be negative" });
            }
            Ok(())
        };
        not_negative("min_r", self.min_r.get())?;
        not_negative("cost_bps", self.cost_bps.get())?;
        not_negative("min_notional", self.min_notional.get())?;
        not_negative("risk_floor_bps", self.risk_floor_bps.get())?;
        not_negative("max_price_jump", self.max_price_jump.get())?;
        let ratio_of = |key, bps: Ratio| {
            let want = "must be a ratio that can be held";
            Ratio::from_bps(bps).map_err(|OutOfRange| PolicyError::Value { key, value: bps.to_string(), want })
        };
        self.cost = ratio_of("cost_bps", self.cost_bps)?;
        self.risk_floor = ratio_of("risk_floor_bps", self.risk_floor_bps)?;
        if self.mode == Mode::Live {
            if self.price_sources.is_empty() {
                return Err(PolicyError::LiveNeeds("price_sources (not empty)".to_owned()));
            }
            if self.on_live.is_none() {
                return Err(PolicyError::LiveNeeds("on_live".to_owned()));
            }
        }
        Ok(self)
    }

    /// Returns true if entries of an account with this name are refused, unless it has a policy of its own.
    pub fn refuses_account(&self, name: &str) -> bool {
        self.mode == Mode::Live && self.known_accounts.binary_search_by(|known| (**known).cmp(name)).is_err()
    }

    /// Returns the unit in which a producer states its ATR.
    pub fn atr_unit_of(&self, producer: Option<&str>) -> AtrUnit {
        producer
            .and_then(|name| self.atr_unit.get(name))
            .or_else(|| self.atr_unit.get("default"))
            .copied()
            .unwrap_or(AtrUnit::Absolute)
    }
}
