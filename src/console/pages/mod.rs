//! The pages: each one is a value with a template that the compiler checks.

mod attention;
mod audit;
mod decision;
mod decisions;
mod entry;
mod message;
mod now;
mod position;
mod positions;
mod streams;
mod whatif;

pub use audit::{audit, audit_file};
pub use decision::decision;
pub use decisions::decisions;
pub use entry::entry;
pub use message::{message, refused};
pub use now::now;
pub use position::{chart_of, position};
pub use positions::positions;
pub use streams::streams;
pub use whatif::{equity_of, whatif, whatif_file};

use super::address::Address;
use super::format::{Number, When};
use super::frame::PageContext;
use crate::codec::view::{PositionView, Sourced};
use crate::domain::book::state::book_of_position;
use crate::domain::event::ids::EntryId;
use crate::domain::exit::{Hold, HoldSeverity};

/// A page as it is sent.
pub struct Made {
    pub body: String,
    /// The time after which a browser loads it again. [s]
    pub refresh_s: Option<u32>,
}

impl From<String> for Made {
    fn from(body: String) -> Self {
        Self { body, refresh_s: None }
    }
}

/// A text with a link.
#[derive(Clone, Debug)]
pub struct Link {
    pub text: String,
    pub href: Address,
}

/// A value with the entry that supplied it.
pub struct Field {
    pub number: Number,
    pub source: String,
    pub when: Option<When>,
    /// `None` if the source has no entries.
    pub href: Option<Address>,
}

impl Field {
    fn of(context: &PageContext<'_>, field: &Sourced) -> Self {
        Self {
            number: Number::of(&field.value),
            source: field.source.clone(),
            when: When::of_text(&field.entry),
            href: context.entry_link(&field.entry),
        }
    }
}

/// Returns the name of the book of a position.
fn book_of(view: &PositionView) -> &str {
    book_of_position(&view.position_id).unwrap_or(&view.symbol)
}

/// Returns the name of the book of a position, if it says more than the symbol; else nothing.
fn book_beside(position_id: &str, symbol: &str) -> String {
    book_of_position(position_id).filter(|book| *book != symbol).unwrap_or_default().to_owned()
}

/// Returns how severe a hold is for people: `bad`, `warn` or nothing.
fn tone_of(hold: Option<&str>) -> &'static str {
    match hold.map(|name| Hold::of_name(name).map(Hold::severity)) {
        None | Some(Some(HoldSeverity::Routine)) => "",
        Some(Some(HoldSeverity::Act)) => "bad",
        // A service of a later version may name a hold that is unknown here.
        Some(Some(HoldSeverity::Check) | None) => "warn",
    }
}

/// Returns the meaning of a hold in one sentence; nothing for a name that is not a hold.
fn meaning_of(name: &str) -> String {
    Hold::of_name(name).map_or_else(String::new, |hold| hold.meaning().replace('`', ""))
}

/// Returns how long ago an entry was. [ms]
fn age_ms(now_ms: u64, id: EntryId) -> u64 {
    now_ms.saturating_sub(id.ms)
}

/// Returns a share, rounded. [percent]
fn percent_of(part: u64, all: u64) -> u64 {
    (part * 100 + all / 2) / all.max(1)
}

#[cfg(test)]
mod tests {
    use super::percent_of;

    #[test]
    fn a_share_is_rounded_and_not_cut() {
        assert_eq!([percent_of(2, 3), percent_of(1, 3), percent_of(199, 200), percent_of(0, 0)], [67, 33, 100, 0]);
    }
}
