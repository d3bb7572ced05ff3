//! The reasons to hold, in one table.
//!
//! `CONTRIBUTING.md`, *a reason to hold*, lists the places that a new one needs.

use serde::{Deserialize, Serialize};

/// The class of a hold, as the log lines for operators count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldClass {
    /// The numbers were complete: the position was evaluated.
    Evaluated,
    Risk,
    Price,
    Entry,
    Other,
}

/// How a hold depends on the price while neither the position nor the policy changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceDependence {
    /// It is the same at every price and at every time.
    Fixed,
    /// It depends only on the gain, so it is the same over a band of prices.
    Gain,
    /// It depends on more than the gain, for example on the time: each price is evaluated.
    Changes,
}

/// How much a hold needs a person. Screens colour it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldSeverity {
    /// The usual course: the position was evaluated, and waits.
    Routine,
    /// A value is missing, old or in doubt.
    Check,
    /// Nothing is harvested until a person or a result settles it.
    Act,
}

macro_rules! holds {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal, $class:ident, $dependence:ident, $severity:ident;)*) => {
        /// Why nothing is harvested, in the order of the contract (docs/spec/decision.md, "Reasons to hold"). The first
        /// one that applies counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Hold {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Hold {
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Returns the name in JSON, metrics and log lines.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the hold of a name, if there is one.
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|hold| hold.name() == name)
            }

            /// Returns when it applies, in a sentence. Names of settings are between backticks.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*).trim_ascii(),)*
                }
            }

            /// Returns the class under which log lines count it.
            pub const fn class(self) -> HoldClass {
                match self {
                    $(Self::$variant => HoldClass::$class,)*
                }
            }

            /// Returns how the hold depends on the price.
            pub const fn price_dependence(self) -> PriceDependence {
                match self {
                    $(Self::$variant => PriceDependence::$dependence,)*
                }
            }

            /// Returns how much it needs a person.
            pub const fn severity(self) -> HoldSeverity {
                match self {
                    $(Self::$variant => HoldSeverity::$severity,)*
                }
            }
        }
    };
}

holds! {
    /// The kill switch is set.
    Killed => "killed", Other, Fixed, Act;
    /// An order of the position has no result yet.
    AwaitingResult => "awaiting_result", Other, Fixed, Act;
    /// Entries of its history are missing.
    HistoryGap => "history_gap", Other, Fixed, Act;
    /// The exchange has another quantity.
    Diverged => "diverged", Other, Fixed, Act;
    /// No source gives the entry price.
    MissingEntryPrice => "missing_entry_price", Entry, Fixed, Check;
    /// No source gives the risk fields.
    MissingRisk => "missing_risk", Risk, Fixed, Check;
    /// The risk per unit is below `risk_floor` times the entry price.
    RiskTooSmall => "risk_too_small", Risk, Fixed, Check;
    /// The risk per unit is at least the entry price, and the policy refuses that.
    RiskTooLarge => "risk_too_large", Risk, Fixed, Check;
    /// No price is in use.
    NoPrice => "no_price", Price, Changes, Check;
    /// The last price is in doubt until another one confirms it.
    PriceJump => "price_jump", Price, Changes, Check;
    /// The price is older than `max_price_age`.
    StalePrice => "stale_price", Price, Changes, Check;
    /// Live: the source of the entry price is not in `live_entry_sources`.
    WeakEntry => "weak_entry", Entry, Fixed, Check;
    /// Live: the source of the risk fields is not in `live_risk_sources`.
    WeakRisk => "weak_risk", Risk, Fixed, Check;
    /// Live: nothing has confirmed the quantity for `max_position_age`.
    StalePosition => "stale_position", Other, Changes, Check;
    /// Live: the symbol is not in `live_symbols`.
    NotLive => "not_live", Other, Fixed, Check;
    /// Live: the step size is unknown.
    NoInstrument => "no_instrument", Other, Fixed, Check;
    /// Live: the exchange accepts no orders for the symbol.
    NotTrading => "not_trading", Other, Fixed, Check;
    /// The net gain is below `min_r`.
    BelowMinR => "below_min_r", Evaluated, Gain, Routine;
    /// No armed rung is reached.
    NoRung => "no_rung", Evaluated, Gain, Routine;
    /// The reached rungs were refused, and wait for the next attempt.
    RetryWait => "retry_wait", Evaluated, Changes, Routine;
    /// The quantity is below the smallest order.
    BelowMinimum => "below_minimum", Evaluated, Changes, Routine;
    /// The policy allows no more decisions in this minute.
    RateLimited => "rate_limited", Evaluated, Changes, Routine;
    /// The numbers do not fit exact arithmetic. It is the last resort, so that each evaluation has an outcome.
    OutOfRange => "out_of_range", Other, Changes, Act;
}
