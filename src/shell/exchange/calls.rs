//! The calls, each with a typed answer.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

use super::call::Call;
use super::client::Exchange;
use super::error::CallError;
use super::settings::PositionRiskVersion;
use crate::codec::exchange::{
    self, AccountMode, InstrumentRow, MarkPrice, OrderRow, PositionRow, Unreadable, UserTrade, is_hedge_side,
};

/// Maximum number of trades in one answer. [1]
pub const TRADES_MAX: usize = 1_000;
/// Maximum length of a window of trades. [ms]
pub const TRADES_WINDOW_MS: u64 = 7 * 24 * 3_600_000;

/// All positions of the account, from an answer that was read completely. No other code creates this type: a failed
/// call has no positions, which is different from an empty list.
#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    rows: Vec<PositionRow>,
}

impl Positions {
    /// Returns every row that the exchange lists, including those with quantity 0.
    pub fn rows(&self) -> &[PositionRow] {
        &self.rows
    }

    /// Returns the rows with a quantity.
    pub fn open(&self) -> impl Iterator<Item = &PositionRow> {
        self.rows.iter().filter(|row| !row.position_amt.is_zero())
    }

    /// Returns the account mode as far as the rows show it. A side LONG or SHORT, even with quantity 0, means hedge
    /// mode; a quantity without such a side means one-way mode. Returns `None` if neither is present.
    pub fn mode(&self) -> Option<AccountMode> {
        match () {
            () if self.rows.iter().any(|row| is_hedge_side(&row.position_side)) => Some(AccountMode::Hedge),
            () if self.open().next().is_some() => Some(AccountMode::OneWay),
            () => None,
        }
    }

    /// Returns those of the given symbols that are flat, which means that the exchange lists no quantity for them.
    pub fn flat_among<'a>(&self, symbols: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let open: BTreeSet<&str> = self.open().map(|row| row.symbol.as_str()).collect();
        symbols.into_iter().filter(|symbol| !open.contains(symbol)).collect()
    }
}

/// The selection of a symbol's trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradesFrom {
    /// Trades from this id on, oldest first.
    Id(u64),
    /// Trades in a window of at most seven days, oldest first. [ms since 1970]
    Window { from_ms: u64, to_ms: u64 },
}

impl Exchange {
    /// Returns the server's clock and adopts it for signatures. [ms since 1970]
    pub async fn server_time(&self) -> Result<u64, CallError> {
        self.ask_time().await
    }

    /// Returns the mark price of one symbol, or those of all symbols in one call.
    pub async fn premium_index(&self, symbol: Option<&str>) -> Result<Vec<MarkPrice>, CallError> {
        let (call, parameters) = match symbol {
            Some(symbol) => (Call::PremiumIndexOfOne, vec![("symbol", symbol.to_owned())]),
            None => (Call::PremiumIndexOfAll, Vec::new()),
        };
        let (prices, bad) = self.call(call, &parameters, exchange::mark_prices).await?;
        if let Some(first) = bad.first() {
            tracing::warn!(%call, rows = bad.len(), %first, "mark prices that cannot be read are left out");
        }
        Ok(prices)
    }

    /// Returns the positions of all symbols. A signed call.
    pub async fn position_risk(&self) -> Result<Positions, CallError> {
        let rows = match self.settings().position_risk {
            // This version lists every symbol, so an empty list is not a valid answer.
            PositionRiskVersion::V2 => {
                let read = |body: &[u8]| match exchange::positions(body) {
                    Ok(rows) if rows.is_empty() => {
                        Err(Unreadable::new("v2 lists every symbol, this is none".to_owned()))
                    }
                    other => other,
                };
                self.call(Call::PositionRiskV2, &[], read).await?
            }
            PositionRiskVersion::V3 => self.call(Call::PositionRiskV3, &[], exchange::positions).await?,
        };
        Ok(Positions { rows })
    }

    /// Returns the account mode. A signed call.
    pub async fn position_mode(&self) -> Result<AccountMode, CallError> {
        self.call(Call::PositionMode, &[], exchange::account_mode).await
    }

    /// Returns the account's trades in a symbol, oldest first, at most [`TRADES_MAX`]. A signed call.
    pub async fn user_trades(&self, symbol: &str, from: TradesFrom) -> Result<Vec<UserTrade>, CallError> {
        let mut parameters = vec![("symbol", symbol.to_owned())];
        match from {
            TradesFrom::Id(id) => parameters.push(("fromId", id.to_string())),
            TradesFrom::Window { from_ms, to_ms } => {
                let to_ms = to_ms.min(from_ms.saturating_add(TRADES_WINDOW_MS));
                parameters.extend([("startTime", from_ms.to_string()), ("endTime", to_ms.to_string())]);
            }
        }
        parameters.push(("limit", TRADES_MAX.to_string()));
        let read = |body: &[u8]| {
            let trades = exchange::user_trades(body)?;
            if let Some(other) = trades.iter().find(|trade| trade.symbol != symbol) {
                return Err(Unreadable::new(format!("a trade of {} among those of {symbol}", other.symbol)));
            }
            // With such an answer, a caller that reads page by page would never finish.
            match (from, trades.first()) {
                (TradesFrom::Id(id), Some(first)) if first.id < id => {
                    Err(Unreadable::new(format!("trade {} of {symbol} among those from {id} on", first.id)))
                }
                _ => Ok(trades),
            }
        };
        self.call(Call::UserTrades, &parameters, read).await
    }

    /// Returns the filters of every instrument.
    pub async fn exchange_info(&self) -> Result<Vec<InstrumentRow>, CallError> {
        self.call(Call::ExchangeInfo, &[], exchange::instruments).await
    }

    /// Returns one order. A signed call.
    pub async fn order(&self, symbol: &str, order_id: u64) -> Result<OrderRow, CallError> {
        let parameters = [("symbol", symbol.to_owned()), ("orderId", order_id.to_string())];
        self.call(Call::Order, &parameters, exchange::order).await
    }

    /// Creates a listen key for the account's socket. It must be renewed.
    pub async fn open_listen_key(&self) -> Result<SecretString, CallError> {
        self.call(Call::OpenListenKey, &[], |body| exchange::listen_key(body).map(SecretString::from)).await
    }

    /// Renews a listen key for another hour.
    pub async fn keep_listen_key(&self, key: &SecretString) -> Result<(), CallError> {
        let parameters = [("listenKey", key.expose_secret().to_owned())];
        self.call(Call::KeepListenKey, &parameters, |_| Ok(())).await
    }

    pub async fn close_listen_key(&self, key: &SecretString) -> Result<(), CallError> {
        let parameters = [("listenKey", key.expose_secret().to_owned())];
        self.call(Call::CloseListenKey, &parameters, |_| Ok(())).await
    }
}
