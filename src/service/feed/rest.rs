//! Requests to REST in addition to the socket: trades of a gap, and positions for the comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::delivery::Side;
use super::gaps::missed;
use super::symbols;
use super::user::{End, UserFeed};
use crate::codec::exchange::PositionRow;
use crate::codec::observe;
use crate::shell::exchange::{CallError, Positions, wall_ms};

/// How much later than REST shows a change its event may come.
const GRACE: Duration = Duration::from_secs(5);

impl UserFeed {
    /// Requests everything that may have been missed: positions, and the trades of all known symbols. The gap is closed
    /// only if all requests were answered.
    pub(super) async fn fill_gaps(&mut self) -> Result<(), End> {
        let asked_ms = wall_ms();
        let mut is_open = false;
        match self.look().await {
            Ok(()) => {}
            Err(End::Call(error)) => {
                tracing::warn!(%error, "positions are not compared yet: symbols may be missing from what is asked for");
                is_open = true;
            }
            Err(end) => return Err(end),
        }
        // The gap request covers changes from before the connection. They are not a fault of this connection.
        self.delivery.excuse();
        for symbol in self.symbols_to_ask().await {
            is_open |= !self.fill(&symbol).await;
        }
        // REST also supplies changes without an event. The trades that caused them are written before them.
        let rows = self.delivery.take_unwritten();
        self.append("positions", rows.values().map(|row| observe::position(row).of_account(&self.account)).collect())
            .await;
        self.is_whole = !is_open;
        self.state.facts().gap_open = is_open;
        if self.is_whole {
            self.written.received(asked_ms);
        }
        Ok(())
    }

    /// Compares with REST while the socket is open: positions, and the trades of one symbol after the other.
    pub(super) async fn look_again(&mut self) -> Result<(), End> {
        let asked_ms = wall_ms();
        match self.look().await {
            Ok(()) => {}
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

    async fn look(&mut self) -> Result<(), End> {
        let began = Instant::now();
        let positions = self.exchange.positions().await?;
        // A socket that was found silent gets no more time.
        let is_silent = self.state.facts().undelivered.is_some();
        let grace = if is_silent { Duration::ZERO } else { GRACE.min(self.compare) };
        self.delivery.look(began, rows(&positions), grace);
        self.state.facts().compared = Some(std::time::Instant::now());
        Ok(())
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
