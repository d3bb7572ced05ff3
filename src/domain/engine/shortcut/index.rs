//! The index of price bands of a symbol with several books: which of them a price concerns, without asking each.
//!
//! ```text
//!           ┌───────────── its position closes ──────────────┐
//!           ▼                                                │
//!        closed                 band known at the price      │
//!           │               ┌──────────────────────────▶  quiet
//!           │ invalidated   │                                │
//!           └─────────▶  loose  ◀────────────────────────────┘
//!                                invalidated, or its confirmation is too old
//! ```
//!
//! A loose book is asked at the next price. A quiet book is not asked as long as prices stay within its band: its hold
//! is counted with all others of the same reason. The hold that it has noted last is that of its band, so nothing has
//! to be brought up to date later.
//!
//! Promises: a price within all bands costs the same however many books are quiet. A price that leaves k of n bands
//! costs k evaluations and k × log n comparisons.

use std::collections::BTreeSet;

use super::bands::PriceBand;
use crate::domain::exit::Hold;
use crate::domain::units::Price;

/// Where a book is in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum InIndex {
    /// It has no open position, and is not asked.
    Closed,
    /// It is asked at the next price.
    #[default]
    Loose,
    Quiet(Quiet),
}

/// A book that is quiet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quiet {
    pub band: PriceBand,
    /// The hold of the band.
    pub hold: Hold,
    /// Its confirmation is young enough at least up to this time; `None`: it needs none. [ms since 1970]
    pub until_ms: Option<u64>,
}

/// The ends of the bands with the same number of decimal places.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// Decimal places. [1]
    scale: u32,
    /// The lowest price of each book. [10⁻ˢᶜᵃˡᵉ]
    lows: BTreeSet<(i64, u32)>,
    /// The highest price of each book. [10⁻ˢᶜᵃˡᵉ]
    highs: BTreeSet<(i64, u32)>,
}

/// The bands of all quiet books of a symbol, by their ends. Books have the numbers of their slot.
#[derive(Clone, Debug, Default)]
pub struct BandIndex {
    /// Prices of a symbol have a few numbers of decimal places at most.
    ends: Vec<Ends>,
    until: BTreeSet<(u64, u32)>,
    /// Quiet books by hold. [1]
    holds: Vec<(Hold, u32)>,
    /// Loose books, each once.
    loose: Vec<u32>,
}

impl BandIndex {
    /// Adds a loose book.
    pub fn add_loose(&mut self, nth: u32) {
        self.loose.push(nth);
    }

    /// Takes the loose books, to ask them.
    pub fn take_loose(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.loose)
    }

    /// Returns a quiet book whose confirmation may be too old at a time. [ms since 1970]
    pub fn overdue(&self, now_ms: u64) -> Option<u32> {
        self.until.first().filter(|(until_ms, _)| *until_ms < now_ms).map(|(_, nth)| *nth)
    }

    /// Adds a quiet book.
    pub fn add_quiet(&mut self, nth: u32, quiet: &Quiet) {
        let (low, high, scale) = quiet.band.ends();
        let place = self.ends.iter().position(|ends| ends.scale == scale).unwrap_or_else(|| {
            self.ends.push(Ends { scale, ..Ends::default() });
            self.ends.len() - 1
        });
        self.ends[place].lows.insert((low, nth));
        self.ends[place].highs.insert((high, nth));
        self.until.extend(quiet.until_ms.map(|until_ms| (until_ms, nth)));
        match self.holds.iter_mut().find(|(hold, _)| *hold == quiet.hold) {
            Some((_, books)) => *books += 1,
            None => self.holds.push((quiet.hold, 1)),
        }
    }

    /// Removes a quiet book.
    pub fn remove_quiet(&mut self, nth: u32, quiet: &Quiet) {
        let (low, high, scale) = quiet.band.ends();
        if let Some(ends) = self.ends.iter_mut().find(|ends| ends.scale == scale) {
            ends.lows.remove(&(low, nth));
            ends.highs.remove(&(high, nth));
        }
        if let Some(until_ms) = quiet.until_ms {
            self.until.remove(&(until_ms, nth));
        }
        if let Some((_, books)) = self.holds.iter_mut().find(|(hold, _)| *hold == quiet.hold) {
            *books -= 1;
        }
    }

    /// Returns the loose books.
    pub fn loose(&self) -> &[u32] {
        &self.loose
    }

    /// Forgets all quiet and loose books.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns true if a price is within the bands of all quiet books, and no book is loose.
    pub fn is_quiet_at(&self, price: Price) -> bool {
        self.loose.is_empty()
            && self.ends.iter().all(|ends| {
                let Some(highest_low) = ends.lows.last() else { return true };
                let lowest_high = ends.highs.first();
                price.at_scale(ends.scale).is_some_and(|price| {
                    highest_low.0 <= price && lowest_high.is_none_or(|lowest_high| price <= lowest_high.0)
                })
            })
    }

    /// Returns the quiet books whose band a price leaves.
    pub fn left_at(&self, price: Price) -> Vec<u32> {
        let mut left = Vec::new();
        for ends in &self.ends {
            match price.at_scale(ends.scale) {
                Some(price) => {
                    left.extend(ends.lows.range((price, u32::MAX)..).map(|(_, nth)| *nth));
                    left.extend(ends.highs.range(..(price, 0)).map(|(_, nth)| *nth));
                }
                // It has more places than the bands.
                None => left.extend(ends.lows.iter().map(|(_, nth)| *nth)),
            }
        }
        left
    }

    /// Returns the holds of the quiet books, each with the number of books. [1]
    pub fn holds(&self) -> impl Iterator<Item = (Hold, u32)> {
        self.holds.iter().copied().filter(|(_, books)| *books > 0)
    }
}
