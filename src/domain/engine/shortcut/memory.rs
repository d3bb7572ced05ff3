//! The memory that the shortcuts have of a book, until the book changes.

use super::bands::PriceBand;
use super::index::Quiet;
use crate::domain::book::view::BookView;
use crate::domain::exit::policy::{Mode, Policy};
use crate::domain::exit::{EntryTerms, Hold};
use crate::domain::units::Price;

/// The outcome of the last evaluation of a book, and the prices at which it is the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The hold of the last evaluation, and the terms that it used. The next price makes a band of it.
    last: Option<(Hold, EntryTerms)>,
    band: Option<PriceBand>,
}

impl Memory {
    /// Returns the outcome of an evaluation at a price and time, if it is known. `Some(None)`: no position is open.
    #[inline(always)]
    pub fn hold_at(&mut self, book: BookView<'_>, policy: &Policy, price: Price, now_ms: u64) -> Option<Option<Hold>> {
        if self.band.is_none() {
            self.learn(book, policy);
        }
        self.known_at(book, policy, price, now_ms)
    }

    /// Does the same, and makes no band.
    #[inline(always)]
    pub fn known_at(&self, book: BookView<'_>, policy: &Policy, price: Price, now_ms: u64) -> Option<Option<Hold>> {
        let hold = self.band.as_ref()?.hold_at(price)?;
        is_confirmed(book, policy, now_ms).then_some(hold)
    }

    /// Returns the band of an open position, if it is known that an evaluation at a price and time has its outcome.
    pub fn quiet_at(&mut self, book: BookView<'_>, policy: &Policy, price: Price, now_ms: u64) -> Option<Quiet> {
        let hold = self.hold_at(book, policy, price, now_ms)??;
        let open = book.book.hot.open.as_ref()?;
        let until_ms = match policy.mode {
            Mode::Live => Some(open.confirmed_ms.saturating_add(policy.max_position_age_ms)),
            Mode::Shadow => None,
        };
        Some(Quiet { band: self.band?, hold, until_ms })
    }

    /// Makes a band of the last evaluation.
    #[inline(never)]
    fn learn(&mut self, book: BookView<'_>, policy: &Policy) {
        let last = self.last.take();
        if book.hot.open.is_none() || last.is_some() {
            self.band = PriceBand::around(book, policy, last);
        }
    }

    /// Remembers the outcome of an evaluation.
    pub fn remember(&mut self, last: Option<(Hold, EntryTerms)>) {
        self.last = last;
    }

    /// Forgets outcomes that may have changed.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Returns true if the quantity of the open position is confirmed, as far as the policy asks for it.
#[inline]
fn is_confirmed(book: BookView<'_>, policy: &Policy, now_ms: u64) -> bool {
    match (&book.hot.open, policy.mode) {
        (Some(open), Mode::Live) => now_ms.saturating_sub(open.confirmed_ms) <= policy.max_position_age_ms,
        (Some(_), Mode::Shadow) | (None, _) => true,
    }
}
