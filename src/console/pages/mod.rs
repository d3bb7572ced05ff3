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
pub use message::message;
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
    pub href: Address,
}

impl Field {
    fn of(context: &PageContext<'_>, field: &Sourced) -> Self {
        Self {
            number: Number::of(&field.value),
            source: field.source.clone(),
            when: When::of_text(&field.entry),
            href: context.entry(&field.entry),
        }
    }
}

/// Returns the name of the book of a position.
fn book_of(view: &PositionView) -> &str {
    book_of_position(&view.position_id).unwrap_or(&view.symbol)
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
