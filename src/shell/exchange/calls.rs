//! Each call, with what its answer covers.

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

use super::call::Call;
use super::client::Exchange;
use super::error::CallError;
use super::settings::PositionRiskVersion;
use crate::codec::exchange::{
    self, AccountMode, InstrumentRow, MarkPrice, OrderRow, PositionRow, Unreadable, UserTrade, is_hedge_side,
};

/// Most trades in one answer. [1]
pub const TRADES_MAX: usize = 1_000;
/// Longest window of trades. [ms]
pub const TRADES_WINDOW_MS: u64 = 7 * 24 * 3_600_000;

/// All positions of the account, out of an answer that was read whole. There is no other way to one of these: a call
/// that failed has no positions, not none.
#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    rows: Vec<PositionRow>,
}

impl Positions {
    /// Every row that the exchange lists, also those with quantity 0.
    pub fn rows(&self) -> &[PositionRow] {
        &self.rows
    }

    /// Rows with a quantity.
    pub fn open(&self) -> impl Iterator<Item = &PositionRow> {
        self.rows.iter().filter(|row| !row.position_amt.is_zero())
    }

    /// How the account holds positions, as far as the rows show it: a side LONG or SHORT, even with nothing in it, is
    /// that of a hedge account, and a quantity without one that of a one-way account. `None` where neither is there.
    pub fn mode(&self) -> Option<AccountMode> {
        match () {
            () if self.rows.iter().any(|row| is_hedge_side(&row.position_side)) => Some(AccountMode::Hedge),
            () if self.open().next().is_some() => Some(AccountMode::OneWay),
            () => None,
        }
    }

    /// Of these symbols, those for which the exchange lists no quantity: they are flat there.
    pub fn flat_among<'a>(&self, symbols: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let open: BTreeSet<&str> = self.open().map(|row| row.symbol.as_str()).collect();
        symbols.into_iter().filter(|symbol| !open.contains(symbol)).collect()
    }
}

/// Which trades of a symbol are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradesFrom {
    /// From this trade id on, oldest first.
    Id(u64),
    /// In a window of at most seven days, the oldest first. [ms since 1970]
    Window { from_ms: u64, to_ms: u64 },
}

impl Exchange {
    /// The server's clock, which is taken over for signatures. [ms since 1970]
    pub async fn server_time(&self) -> Result<u64, CallError> {
        self.ask_time().await
    }

    /// Mark prices: of one symbol, or of all in one call.
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

    /// The positions of all symbols, signed.
    pub async fn position_risk(&self) -> Result<Positions, CallError> {
        let rows = match self.settings().position_risk {
            // It lists every symbol, so an empty list is not what was asked for.
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

    /// How the account holds positions, signed.
    pub async fn position_mode(&self) -> Result<AccountMode, CallError> {
        self.call(Call::PositionMode, &[], exchange::account_mode).await
    }

    /// Trades of the account in a symbol, signed, oldest first, at most [`TRADES_MAX`].
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
            // Who asks page by page would never come to an end.
            match (from, trades.first()) {
                (TradesFrom::Id(id), Some(first)) if first.id < id => {
                    Err(Unreadable::new(format!("trade {} of {symbol} among those from {id} on", first.id)))
                }
                _ => Ok(trades),
            }
        };
        self.call(Call::UserTrades, &parameters, read).await
    }

    /// Filters of every instrument.
    pub async fn exchange_info(&self) -> Result<Vec<InstrumentRow>, CallError> {
        self.call(Call::ExchangeInfo, &[], exchange::instruments).await
    }

    /// One order, signed.
    pub async fn order(&self, symbol: &str, order_id: u64) -> Result<OrderRow, CallError> {
        let parameters = [("symbol", symbol.to_owned()), ("orderId", order_id.to_string())];
        self.call(Call::Order, &parameters, exchange::order).await
    }

    /// A key to listen to the account with; it has to be kept alive.
    pub async fn open_listen_key(&self) -> Result<SecretString, CallError> {
        self.call(Call::OpenListenKey, &[], |body| exchange::listen_key(body).map(SecretString::from)).await
    }

    /// Keeps a listen key alive for another hour.
    pub async fn keep_listen_key(&self, key: &SecretString) -> Result<(), CallError> {
        let parameters = [("listenKey", key.expose_secret().to_owned())];
        self.call(Call::KeepListenKey, &parameters, |_| Ok(())).await
    }

    pub async fn close_listen_key(&self, key: &SecretString) -> Result<(), CallError> {
        let parameters = [("listenKey", key.expose_secret().to_owned())];
        self.call(Call::CloseListenKey, &parameters, |_| Ok(())).await
    }
}
