//! Flags: properties of a position that are worth showing and do not stop its evaluation by themselves.

use super::policy::Policy;
use super::valuation::risk;
use crate::domain::book::position::Position;
use crate::domain::book::rung::RungState;
use crate::domain::book::view::BookView;
use crate::domain::named;

named! {
    /// A flag of a position.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Flag {
        HistoryGap => "history_gap",
        Diverged => "diverged",
        EntryPriceDisagrees => "entry_price_disagrees",
        RiskTooLarge => "risk_too_large",
        RiskTooSmall => "risk_too_small",
        RiskAsFraction => "risk_as_fraction",
        RiskAccepted => "risk_accepted",
        ResultUnknown => "result_unknown",
        RungFailed => "rung_failed",
        /// The contract was rescaled while the position was open.
        Rescaled => "rescaled",
        /// A decision is limited to the largest quantity that the exchange accepts in one order.
        Capped => "capped",
    }
}

/// Returns the flags of a position, in the order of the contract.
pub fn flags(book: BookView<'_>, position: &Position, policy: &Policy) -> Vec<Flag> {
    let risk = risk(position, policy).ok().flatten();
    let any = |state| position.rungs.iter().any(|rung| rung.state == state);
    let open = position.is_open();
    [
        (open && book.hot.history_gap, Flag::HistoryGap),
        (open && book.hot.diverged, Flag::Diverged),
        (position.entry_price_disagrees, Flag::EntryPriceDisagrees),
        (risk.is_some_and(|r| r.too_large), Flag::RiskTooLarge),
        (risk.is_some_and(|r| r.too_small), Flag::RiskTooSmall),
        (risk.is_some_and(|r| r.as_fraction), Flag::RiskAsFraction),
        (position.risk_accepted, Flag::RiskAccepted),
        (any(RungState::Unknown), Flag::ResultUnknown),
        (any(RungState::Failed), Flag::RungFailed),
        (!position.rescales.is_empty(), Flag::Rescaled),
    ]
    .into_iter()
    .filter_map(|(is_set, flag)| is_set.then_some(flag))
    .collect()
}
