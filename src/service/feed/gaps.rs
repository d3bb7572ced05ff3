//! The trades that were written, and those that were missed while no connection was open.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::exchange::{TradesFrom, UserTrade, VenueTerms, observed_position, written_trade};
use crate::service::exchange::EXCHANGE_CLOCK_APART_MAX_MS;
use crate::shell::exchange::{CallError, Exchange};
use crate::shell::redis::RawEntry;

/// Pages of trades that are requested in one go. Further pages are requested later. [1]
const PAGES_MAX: usize = 100;

/// The trades that this feed has written for an account, as far as later steps need them.
#[derive(Debug)]
pub(super) struct Written {
    account: Box<str>,
    terms: &'static VenueTerms,
    symbols: BTreeMap<String, Ids>,
    /// Symbols for which the streams show a position at the exchange.
    open: BTreeSet<String>,
    /// Up to this time nothing is missing: the last moment at which the events agreed with REST. [ms since 1970]
    whole_to_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Ids {
    ids: BTreeSet<u64>,
    /// No trade up to this id is missing.
    whole_to: u64,
}

impl Written {
    pub(super) fn new(account: &str, terms: &'static VenueTerms) -> Self {
        Self { account: account.into(), terms, symbols: BTreeMap::new(), open: BTreeSet::new(), whole_to_ms: None }
    }

    /// Finds the feed's own trades in the newest entries of the observation stream, and when the last was written.
    pub(super) fn learn(&mut self, newest: &[RawEntry]) {
        for entry in newest.iter().rev() {
            match observed_position(&self.account, entry.pairs()) {
                Some((symbol, true)) => drop(self.open.insert(symbol)),
                Some((symbol, false)) => drop(self.open.remove(&symbol)),
                None => {}
            }
            if let Some(trade) = written_trade(&self.account, entry.pairs()) {
                self.whole_to_ms = Some(entry.id.ms);
                self.remember(&trade.symbol, trade.id);
                self.fill_to_last(&trade.symbol);
            }
        }
    }

    /// Returns true if a trade is new.
    pub(super) fn is_new(&self, trade: &UserTrade) -> bool {
        self.symbols.get(&trade.symbol).is_none_or(|known| !known.ids.contains(&trade.id))
    }

    pub(super) fn remember(&mut self, symbol: &str, id: u64) {
        let known = self.symbols.entry(symbol.to_owned()).or_default();
        known.ids.insert(id);
        // This is more than one answer of the exchange contains.
        if known.ids.len() > 2 * self.terms.trades_max {
            known.ids.pop_first();
        }
    }

    /// Notes that the events agreed with REST at a time, by the clock of this machine. [ms since 1970]
    pub(super) fn received(&mut self, at_ms: u64) {
        self.whole_to_ms = Some(at_ms);
    }

    /// Returns the symbols of which we have trades, and those with a position.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &String> {
        self.symbols.keys().chain(&self.open)
    }

    /// Forgets a symbol that the exchange no longer knows.
    pub(super) fn forget(&mut self, symbol: &str) {
        self.symbols.remove(symbol);
        self.open.remove(symbol);
    }

    /// Notes that no trade of a symbol up to its last one is missing.
    pub(super) fn fill_to_last(&mut self, symbol: &str) {
        if let Some(known) = self.symbols.get_mut(symbol) {
            known.whole_to = known.ids.last().copied().unwrap_or(known.whole_to);
        }
    }

    /// Notes that no trade of a symbol up to this one is missing.
    pub(super) fn fill_through(&mut self, symbol: &str, id: u64) {
        let known = self.symbols.entry(symbol.to_owned()).or_default();
        known.whole_to = known.whole_to.max(id);
    }

    /// Returns the point after which trades of a symbol may be missing: its last trade, or else the time at which the
    /// events last agreed with REST. Returns `None` if the feed never ran before, because the backfill fetches earlier
    /// trades.
    fn gap(&self, symbol: &str, to_ms: u64) -> Option<TradesFrom> {
        match self.symbols.get(symbol).filter(|known| known.whole_to > 0) {
            Some(known) => Some(TradesFrom::Id(known.whole_to + 1)),
            None => {
                let from_ms = self
                    .whole_to_ms?
                    .saturating_sub(EXCHANGE_CLOCK_APART_MAX_MS)
                    .max(to_ms.saturating_sub(self.terms.trades_kept_ms));
                Some(TradesFrom::Window { from_ms, to_ms })
            }
        }
    }
}

/// Trades that may have been missed, and whether they are complete.
#[derive(Debug, Default)]
pub(super) struct Missed {
    pub trades: Vec<UserTrade>,
    /// All trades up to this id were read.
    pub read_to: Option<u64>,
    pub is_all: bool,
}

/// Requests, page by page, the trades of a symbol that may be missing up to now. [ms since 1970]
pub(super) async fn missed(
    exchange: &Exchange,
    written: &Written,
    symbol: &str,
    to_ms: u64,
) -> Result<Missed, CallError> {
    let to_ms = to_ms.saturating_add(EXCHANGE_CLOCK_APART_MAX_MS);
    let mut missed = Missed::default();
    let window_ms = written.terms.trades_window_ms;
    let mut next = written.gap(symbol, to_ms);
    for _ in 0..PAGES_MAX {
        let Some(from) = next else {
            missed.is_all = true;
            return Ok(missed);
        };
        let page = exchange.trades(symbol, from).await?;
        missed.read_to = page.last().map(|last| last.id).or(missed.read_to);
        next = match (page.last(), from) {
            (Some(last), _) if page.len() >= written.terms.trades_max => Some(TradesFrom::Id(last.id + 1)),
            (_, TradesFrom::Window { from_ms, .. }) if to_ms.saturating_sub(from_ms) > window_ms => {
                Some(TradesFrom::Window { from_ms: from_ms + window_ms, to_ms })
            }
            _ => None,
        };
        missed.trades.extend(page.into_iter().filter(|trade| written.is_new(trade)));
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::exchange::VENUES;

    #[test]
    fn a_gap_begins_after_what_is_whole_and_not_after_what_was_received_last() {
        let terms = VENUES[0].terms();
        let mut written = Written::new("", terms);
        assert_eq!(written.gap("ADAUSDT", 9), None, "never ran before");
        written.received(100_000);
        assert_eq!(written.gap("ADAUSDT", 900_000), Some(TradesFrom::Window { from_ms: 40_000, to_ms: 900_000 }));
        let late_ms = 100 * 24 * 3_600_000;
        let from_ms = late_ms - terms.trades_kept_ms;
        assert_eq!(written.gap("ADAUSDT", late_ms), Some(TradesFrom::Window { from_ms, to_ms: late_ms }));
        written.remember("ADAUSDT", 7);
        written.fill_to_last("ADAUSDT");
        written.remember("ADAUSDT", 9);
        assert_eq!(written.gap("ADAUSDT", 900_000), Some(TradesFrom::Id(8)), "8 may be missing");
        written.fill_to_last("ADAUSDT");
        assert_eq!(written.gap("ADAUSDT", 9), Some(TradesFrom::Id(10)));
        written.forget("ADAUSDT");
        assert_eq!(written.symbols().count(), 0);
    }
}
