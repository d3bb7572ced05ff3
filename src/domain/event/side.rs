//! The side of an order, the direction of a position, and the side of a book.

use serde::{Deserialize, Serialize};

use crate::domain::named;
use crate::domain::units::Qty;

named! {
    /// Side of an order.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Side {
        Buy => "BUY",
        Sell => "SELL",
    }
}

impl Side {
    pub const fn opens(self) -> Direction {
        match self {
            Self::Buy => Direction::Long,
            Self::Sell => Direction::Short,
        }
    }
}

named! {
    /// Side of a position.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Direction {
        Long => "LONG",
        Short => "SHORT",
    }
}

impl Direction {
    /// Returns the side of the order that closes it.
    pub const fn closing_side(self) -> Side {
        match self {
            Self::Long => Side::Sell,
            Self::Short => Side::Buy,
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

/// The position side of a book. The order of the variants is the order in which the books of an account are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PositionSide {
    /// One-way: the position is long or short.
    #[default]
    Both,
    Long,
    Short,
}

impl PositionSide {
    pub const ALL: [Self; 3] = [Self::Both, Self::Long, Self::Short];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "BOTH",
            Self::Long => "LONG",
            Self::Short => "SHORT",
        }
    }

    /// Returns the side of a name, in any case and with white space around it.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| name.trim().eq_ignore_ascii_case(side.name()))
    }

    /// Returns the only direction of a hedge book; `None` for a one-way book.
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Self::Both => None,
            Self::Long => Some(Direction::Long),
            Self::Short => Some(Direction::Short),
        }
    }

    pub const fn is_hedge(self) -> bool {
        self.direction().is_some()
    }
}
