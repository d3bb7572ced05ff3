//! The side of an order, and the side of a position.

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
