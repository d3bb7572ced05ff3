//! Numbers with a unit. All arithmetic and all rounding of the rules is here.
//!
//! Everything is a decimal. An operation whose result cannot be represented to 10⁻¹² of itself returns [`OutOfRange`]:
//! it neither rounds silently nor panics.
//!
//! In reading order: `decimals` (arithmetic and all rounding), `unit` (the units, and what all of them can do),
//! then what each can do by itself: `price`, `quantity`, `money`, `ratio`.

mod decimals;
mod money;
mod price;
mod quantity;
mod ratio;
mod unit;

pub use decimals::OutOfRange;
pub use unit::{Price, Qty, Quote, RMultiple, Ratio};
