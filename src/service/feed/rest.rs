//! Requests to REST in addition to the socket: trades of a gap, and positions for the comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::Side;
use super::gaps::missed;
use super::symbols;
use super::user::{End, UserFeed};
use crate::codec::exchange::PositionRow;
use crate::service::said::Until;
use crate::shell::exchange::{CallError, Positions, wall_ms};

/// Looks at REST in a row until positions are written that did not change meanwhile. [1]
const LOOKS_MAX: u32 = 5;
/// The exchange's clock is read again after this time.
const CLOCK_AGE_MAX: Duration = Duration::from_secs(600);
/// How much later than REST shows a change its event may come.
const GRACE: Duration = Duration::from_secs(5);

impl UserFeed {
    /// Requests everything that may have been missed: positions, and the trades of all known symbols. The gap is closed
    /// only if all requests were answered.
    pub(super) async fn fill_gaps(&mut self) -> Result<(), End> {
        let asked_ms = wall_ms();
        let mut is_open = false;
        match self.look().await {
            Ok(_) => {}
            Err(End::Call(error)) => {
                tracing::warn!(%error, "positions are not compared yet: symbols may be missing from what is asked for");
                is_open = true;
            }
            Err(end) => return Err(end),
        }
        // The gap request covers changes from before the connection. They are not a fault of this connection.
        self.delivery.excuse();
        let filled = self.unwritten();
        for symbol in self.symbols_to_ask().await {
            is_open |= !self.fill(&symbol).await;
        }
        is_open |= !self.write_looked(filled).await?;
        self.is_whole = !is_open;
        self.state.facts().gap_open = is_open;
        if self.is_whole {
            self.written.received(asked_ms);
        }
        Ok(())
    }

    /// Requests the positions that could not be written in time, and writes them.
    pub(super) async fn restore(&mut self) -> Result<(), End> {
        if self.sink.answers(&self.stream).await {
            self.write_looked(BTreeMap::new()).await?;
        }
        Ok(())
    }

    /// Writes the positions that REST shows and that the stream lacks. Returns true if the stream lacks none.
    ///
    /// The trades that caused them are written before them. Reading these takes time, so each position is looked up
    /// again after it; `filled` are those whose trades were read. A row that is late is looked up again as well.
    async fn write_looked(&mut self, mut filled: BTreeMap<Side, PositionRow>) -> Result<bool, End> {
        for _ in 0..LOOKS_MAX {
            if self.unwritten().is_empty() && !self.delivery.has_doubts() {
                return Ok(true);
            }
            let until = match self.look().await {
                Ok(until) => until,
                Err(End::Call(error)) => {
                    tracing::warn!(%error, "positions are not looked up yet");
                    return Ok(false);
                }
                Err(end) => return Err(end),
            };
            let rows = self.unwritten();
            let is_filled = |(side, row): &(&Side, &PositionRow)| {
                filled.get(*side).is_some_and(|filled| filled.position_amt == row.position_amt)
            };
            let changed: BTreeSet<&String> =
                rows.iter().filter(|one| !is_filled(one)).map(|((symbol, _), _)| symbol).collect();
            if changed.is_empty() {
                if self.append_positions(&rows, until).await {
                    rows.into_iter().for_each(|(side, row)| self.delivery.wrote(side, row.position_amt));
                }
                continue;
            }
            for symbol in
                changed.into_iter().filter(|symbol| !self.delisted.contains(*symbol)).cloned().collect::<Vec<_>>()
            {
                self.is_whole &= self.fill(&symbol).await;
            }
            filled = rows;
        }
        Ok(self.unwritten().is_empty() && !self.delivery.has_doubts())
    }

    /// Returns the positions to be written, without those that wait for their trades: these are newer than the last look.
    fn unwritten(&self) -> BTreeMap<Side, PositionRow> {
        let mut rows = self.delivery.unwritten();
        rows.retain(|side, _| !self.waiting.contains_key(side));
        rows
    }

    /// Compares with REST while the socket is open: positions, and the trades of one symbol after the other.
    pub(super) async fn look_again(&mut self) -> Result<(), End> {
        let asked_ms = wall_ms();
        match self.look().await {
            Ok(_) => {}
            Err(End::Call(error)) => {
                tracing::warn!(%error, "what the account's socket tells is not compared");
                return Ok(());
            }
            Err(end) => return Err(end),
        }
        self.compare_trades().await;
        if self.delivery.is_consistent() {
            self.written.received(asked_ms);
        }
        Ok(())
    }

    /// Looks at the positions. Returns until when they may be written.
    async fn look(&mut self) -> Result<Until, End> {
        self.exchange.refresh_clock(CLOCK_AGE_MAX).await?;
        let (began, until) = (Instant::now(), Until::of_call());
        let positions = self.exchange.positions().await?;
        // A socket that was found silent gets no more time.
        let is_silent = self.state.facts().undelivered.is_some();
        let grace = if is_silent { Duration::ZERO } else { GRACE.min(self.compare) };
        self.delivery.look(began, rows(&positions), grace);
        self.state.facts().compared = Some(std::time::Instant::now());
        Ok(until)
    }

    /// Compares the trades of the next symbol. Only trades show a position that was opened and closed between two
    /// looks.
    async fn compare_trades(&mut self) {
        let symbols: BTreeSet<String> = self.delivery.symbols().chain(self.written.symbols()).cloned().collect();
        let listed = |symbol: &&String| !self.delisted.contains(*symbol);
        let behind = |symbol: &&String| self.compared.as_ref().is_none_or(|last| *symbol > last);
        let next = symbols.iter().filter(listed).find(behind).or_else(|| symbols.iter().find(listed)).cloned();
        self.compared.clone_from(&next);
        let Some(symbol) = next else { return };
        match missed(&self.exchange, &self.written, &symbol, wall_ms()).await {
            Ok(missed) if missed.trades.is_empty() => {}
            Ok(_) => self.delivery.expect_event(&symbol, Instant::now() + GRACE.min(self.compare)),
            Err(error) => self.not_read(&symbol, &error),
        }
    }

    /// Writes the trades of a symbol that may have been missed. Returns true if all of them were read.
    async fn fill(&mut self, symbol: &str) -> bool {
        match missed(&self.exchange, &self.written, symbol, wall_ms()).await {
            Ok(missed) => {
                if !missed.trades.is_empty() {
                    tracing::info!(symbol, trades = missed.trades.len(), "trades that were missed");
                }
                self.write_trades(missed.trades.into_iter().map(|trade| (trade, None)).collect()).await;
                if missed.is_all {
                    self.written.fill_to_last(symbol);
                } else if let Some(id) = missed.read_to {
                    self.written.fill_through(symbol, id);
                }
                missed.is_all
            }
            Err(error) => {
                self.not_read(symbol, &error);
                error.is_no_symbol()
            }
        }
    }

    fn not_read(&mut self, symbol: &str, error: &CallError) {
        if error.is_no_symbol() {
            tracing::warn!(symbol, %error, "the exchange knows the symbol no more; its trades are not asked for again");
            self.delisted.insert(symbol.to_owned());
            self.written.forget(symbol);
        } else {
            tracing::warn!(symbol, %error, "trades that may have been missed are not read yet");
        }
    }

    /// Returns all symbols that may have trades: those that we have written, those that events and REST name, and those
    /// of the service's open positions.
    async fn symbols_to_ask(&self) -> BTreeSet<String> {
        let of_events = self.waiting.keys().map(|(symbol, _)| symbol);
        let mut symbols: BTreeSet<String> =
            self.written.symbols().chain(self.delivery.symbols()).chain(of_events).cloned().collect();
        if let Some(service) = &self.service {
            match symbols::ask_of(service, &self.account).await {
                Ok(Some(open)) => symbols.extend(open),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the service does not say which positions are open"),
            }
        }
        symbols.retain(|symbol| !self.delisted.contains(symbol));
        symbols
    }
}

fn rows(positions: &Positions) -> BTreeMap<Side, PositionRow> {
    positions.open().map(|row| ((row.symbol.clone(), row.position_side), row.clone())).collect()
}
