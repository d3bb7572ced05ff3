//! The calls, each with a typed answer.

use std::collections::BTreeSet;

use secrecy::SecretString;

use super::client::Exchange;
use super::error::CallError;
use crate::codec::exchange::{
    AccountMode, InstrumentRow, MarkPrice, PositionRow, Question, TradesFrom, Unreadable, UserTrade,
};

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
            () if self.rows.iter().any(|row| row.position_side.is_hedge()) => Some(AccountMode::Hedge),
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

impl Exchange {
    /// Returns the server's clock and adopts it for signatures. [ms since 1970]
    pub async fn server_time(&self) -> Result<u64, CallError> {
        self.ask_time().await
    }

    /// Returns the mark price of one symbol, or those of all symbols in one call.
    pub async fn marks(&self, symbol: Option<&str>) -> Result<Vec<MarkPrice>, CallError> {
        let question = self.venue().marks(symbol);
        let call = question.call;
        let (prices, bad) = self.ask(question).await?;
        if let Some(first) = bad.first() {
            tracing::warn!(%call, rows = bad.len(), %first, "mark prices that cannot be read are left out");
        }
        Ok(prices)
    }

    /// Returns the positions of all symbols. A signed call.
    pub async fn positions(&self) -> Result<Positions, CallError> {
        let rows = self.ask(self.venue().positions(self.settings().position_version)).await?;
        Ok(Positions { rows })
    }

    /// Returns the account mode. A signed call.
    pub async fn account_mode(&self) -> Result<AccountMode, CallError> {
        self.ask(self.venue().account_mode()).await
    }

    /// Returns the account's trades in a symbol, oldest first, at most as many as the venue's terms allow. A signed
    /// call.
    pub async fn trades(&self, symbol: &str, from: TradesFrom) -> Result<Vec<UserTrade>, CallError> {
        let Question { call, parameters, read } = self.venue().trades(symbol, from);
        let read = |body: &[u8]| {
            let trades = read(body)?;
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
        self.call(call, &parameters, read).await
    }

    /// Returns the filters of every instrument.
    pub async fn instruments(&self) -> Result<Vec<InstrumentRow>, CallError> {
        self.ask(self.venue().instruments()).await
    }

    /// Creates a key for the account's socket. It must be renewed.
    pub async fn open_key(&self) -> Result<SecretString, CallError> {
        self.ask(self.venue().open_key()).await
    }

    /// Renews the key of the account's socket.
    pub async fn keep_key(&self, key: &SecretString) -> Result<(), CallError> {
        self.ask(self.venue().keep_key(key)).await
    }
}
