//! Applies a whole price run at once, if none of its prices changes anything. For callers that fold a batch and read
//! nothing until its end.

use super::price_run::{Ahead, Place, PriceRun};
use crate::domain::book::symbol::Mark;
use crate::domain::engine::{Engine, Step};
use crate::domain::event::ids::{EntryId, SortKey, StreamId, SymbolId};
use crate::domain::event::{Entry, Event};

/// Prices of a batch that were applied early.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    /// Number of early prices that are still to come, by symbol. [1]
    left: Vec<u32>,
    /// The last early price of each stream that has any.
    lasts: Vec<(StreamId, EntryId)>,
}

impl Taken {
    pub(crate) fn add_symbol(&mut self) {
        self.left.push(0);
    }

    fn add(&mut self, symbol: SymbolId, run: &PriceRun) {
        self.left[symbol.0 as usize] = run.prices - 1;
        match self.lasts.iter_mut().find(|(of, _)| *of == run.stream) {
            Some((_, last)) => *last = run.last_entry.max(*last),
            None => self.lasts.push((run.stream, run.last_entry)),
        }
    }

    #[inline]
    fn pass(&mut self, symbol: SymbolId) -> bool {
        let left = &mut self.left[symbol.0 as usize];
        let is_taken = *left > 0;
        *left -= u32::from(is_taken);
        is_taken
    }
}

impl Engine {
    /// Folds one entry of a batch, as [`Self::step`] does. Prices that change nothing are applied early, together with
    /// the first of their run: the result is `None` for each. Until [`Self::end_batch`] a symbol may show a later
    /// price, and cursors may be too low.
    ///
    /// The caller passes all entries of the batch in their order, except control and decision entries.
    #[inline]
    pub fn step_ahead(&mut self, entry: &Entry, ahead: &Ahead, at: usize) -> Option<Step> {
        let Place { ms, symbol } = ahead.place(at);
        if let Some(symbol) = symbol
            && self.taken.pass(symbol)
        {
            debug_assert!(self.is_quiet(entry, symbol), "a price that was taken before its turn was not quiet");
            // Since then a decision on another symbol may have begun to wait for its result.
            if !self.in_flight.is_empty() {
                self.expire_timeouts(ms);
            }
            return None;
        }
        let is_taken = ahead.of(at).zip(symbol).is_some_and(|(run, symbol)| self.take(entry, symbol, run));
        if is_taken { None } else { Some(self.step(entry)) }
    }

    /// Moves the cursors to the end of a batch.
    pub fn end_batch(&mut self) {
        for (stream, last) in std::mem::take(&mut self.taken.lasts) {
            let cursor = &mut self.cursors[usize::from(stream.0)];
            *cursor = (*cursor).max(Some(last));
            self.last_key = self.last_key.max(Some(SortKey::new(stream, last)));
            self.counters.last = self.last_key.map(|place| EntryId::new(place.ms, place.seq));
            self.globals.last = self.globals.last.max(last);
        }
    }

    /// Applies a price run, if none of its prices changes anything. Returns true if it did.
    fn take(&mut self, entry: &Entry, symbol: SymbolId, run: &PriceRun) -> bool {
        let index = symbol.0 as usize;
        let Some(band) = self.band[index].now() else { return false };
        let Some(hold) = band.hold_over(run, self.globals.killed) else { return false };
        let is_recent = run.lag_ms <= self.globals.policy.max_price_age_ms;
        let is_alone = self.in_flight.is_empty() && self.globals.skipped.is_empty();
        let place = SortKey::new(entry.stream, entry.id);
        let is_next = self.last_key.is_some_and(|last| last < place);
        let is_no_cause = !self.facts.reach_back_to(run.last_entry.ms);
        if !(is_recent && is_alone && is_next && is_no_cause && self.accepts(run.source)) {
            return false;
        }
        debug_assert!(self.is_quiet(entry, symbol), "a price that is taken with those ahead of it was not quiet");
        self.taken.add(symbol, run);
        self.counters.first.get_or_insert(entry.id);
        self.counters.shape(entry.kind, run.shape, run.prices);
        self.counters.applied += u64::from(run.prices);
        self.changes.touch_hot(symbol);
        self.symbols[index].hot.mark = Some(Mark { price: run.last, source: run.source, entry: run.last_entry });
        if let Some(hold) = hold {
            self.counters.hold(hold, run.prices);
            self.note(symbol, Some(hold), entry.id);
        }
        true
    }

    /// Returns true if an evaluation of the price has the outcome that the band gives.
    fn is_quiet(&self, entry: &Entry, symbol: SymbolId) -> bool {
        let index = symbol.0 as usize;
        let (Ok(Event::Price(fact)), Some(band)) = (&entry.content, self.band[index].now()) else { return false };
        let mut symbol = self.symbols[index].clone();
        symbol.hot.mark = Some(Mark { price: fact.price, source: fact.source, entry: entry.id });
        let hold = band.hold_at(fact.price, entry.id.ms, self.globals.killed);
        hold == Some(self.hold_at(&symbol, entry.id.ms))
    }
}
