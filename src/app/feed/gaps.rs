//! Trades that were written, and trades that were missed while nobody listened.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::exchange::{UserTrade, written_trade};
use crate::shell::exchange::{CallError, Exchange, TRADES_MAX, TRADES_WINDOW_MS, TradesFrom};
use crate::shell::redis::RawEntry;

/// Trade ids kept of a symbol: more than one answer of the exchange holds. [1]
const IDS_MAX: usize = 2 * TRADES_MAX;
/// How far the clocks of the exchange and of this machine may be apart. [ms]
const CLOCKS_APART_MS: u64 = 60_000;

/// What this feed has written, as far as it matters for what comes.
#[derive(Debug, Default)]
pub(super) struct Written {
    symbols: BTreeMap<String, Ids>,
    /// Until when nothing is missing: the last moment at which the account was heard. [ms since 1970]
    heard_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Ids {
    ids: BTreeSet<u64>,
    /// Up to this id nothing is missing.
    whole_to: u64,
}

impl Written {
    /// Finds the feed's own trades in the newest entries of the observation stream, and when the last was written.
    pub(super) fn learn(&mut self, newest: &[RawEntry]) {
        for entry in newest.iter().rev() {
            if let Some(trade) = written_trade(entry.pairs()) {
                self.heard_ms = Some(entry.id.ms);
                self.remember(&trade.symbol, trade.id);
                self.fill_to_last(&trade.symbol);
            }
        }
    }

    /// Is a trade new.
    pub(super) fn is_new(&self, trade: &UserTrade) -> bool {
        self.symbols.get(&trade.symbol).is_none_or(|known| !known.ids.contains(&trade.id))
    }

    pub(super) fn remember(&mut self, symbol: &str, id: u64) {
        let known = self.symbols.entry(symbol.to_owned()).or_default();
        known.ids.insert(id);
        if known.ids.len() > IDS_MAX {
            known.ids.pop_first();
        }
    }

    /// The account is heard now, and so nothing is missing of what happens.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = Some(now_ms);
    }

    /// When the account was last heard, by the clock of this machine. [ms since 1970]
    pub(super) fn heard_ms(&self) -> Option<u64> {
        self.heard_ms
    }

    /// Symbols with trades of ours.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &String> {
        self.symbols.keys()
    }

    /// Nothing is missing of a symbol up to its last trade.
    pub(super) fn fill_to_last(&mut self, symbol: &str) {
        if let Some(known) = self.symbols.get_mut(symbol) {
            known.whole_to = known.ids.last().copied().unwrap_or(known.whole_to);
        }
    }

    /// From where on trades of a symbol may be missing: behind its last one, else since the account was last heard;
    /// `None` where the feed never ran before, and what was before is not its business.
    fn gap(&self, symbol: &str, heard_ms: Option<u64>, to_ms: u64) -> Option<TradesFrom> {
        match self.symbols.get(symbol).filter(|known| known.whole_to > 0) {
            Some(known) => Some(TradesFrom::Id(known.whole_to + 1)),
            None => Some(TradesFrom::Window { from_ms: heard_ms?.saturating_sub(CLOCKS_APART_MS), to_ms }),
        }
    }
}

/// Asks for the trades of a symbol that may be missing, page by page, and gives each page on.
///
/// `heard_ms` is when the account was last heard before the gap, `to_ms` now. [ms since 1970]
pub(super) async fn missed(
    exchange: &Exchange,
    written: &Written,
    symbol: &str,
    heard_ms: Option<u64>,
    to_ms: u64,
) -> Result<Vec<UserTrade>, CallError> {
    let to_ms = to_ms.saturating_add(CLOCKS_APART_MS);
    let mut missed = Vec::new();
    let mut next = written.gap(symbol, heard_ms, to_ms);
    while let Some(from) = next {
        let page = exchange.user_trades(symbol, from).await?;
        next = match (page.last(), from) {
            (Some(last), _) if page.len() >= TRADES_MAX => Some(TradesFrom::Id(last.id + 1)),
            (_, TradesFrom::Window { from_ms, .. }) if to_ms.saturating_sub(from_ms) > TRADES_WINDOW_MS => {
                Some(TradesFrom::Window { from_ms: from_ms + TRADES_WINDOW_MS, to_ms })
            }
            _ => None,
        };
        missed.extend(page.into_iter().filter(|trade| written.is_new(trade)));
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_begins_behind_what_is_whole_and_not_behind_what_was_heard_last() {
        let mut written = Written::default();
        assert_eq!(written.gap("ADAUSDT", None, 9), None, "never ran before");
        assert_eq!(
            written.gap("ADAUSDT", Some(100_000), 900_000),
            Some(TradesFrom::Window { from_ms: 40_000, to_ms: 900_000 })
        );
        written.remember("ADAUSDT", 7);
        written.fill_to_last("ADAUSDT");
        written.remember("ADAUSDT", 9);
        assert_eq!(written.gap("ADAUSDT", Some(100_000), 900_000), Some(TradesFrom::Id(8)), "8 may be missing");
        written.fill_to_last("ADAUSDT");
        assert_eq!(written.gap("ADAUSDT", None, 9), Some(TradesFrom::Id(10)));
    }
}
