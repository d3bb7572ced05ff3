//! The positions at the exchange, of all symbols at once: at the start, at every poll, and when a position is in doubt.

use std::collections::BTreeSet;

use super::fetcher::{Fetcher, Turn, again_after};
use super::report::FetchError;
use crate::codec::exchange::{AccountMode, PositionRow, is_hedge_side};
use crate::codec::observe::{self, Observation};
use crate::config::Source;
use crate::domain::engine::needs::{Need, Needs, NeedyBook, Want, Why};
use crate::domain::event::PositionSide;
use crate::shell::exchange::Positions;

/// Time between two requests for the mode of an account without open positions. [ms]
const MODE_INTERVAL_MS: u64 = 600_000;
/// The position side of a one-way account.
const BOTH: &str = "BOTH";

impl Fetcher {
    /// Requests all positions if it is time. Returns the needs of those that were unknown.
    pub(super) async fn positions(&mut self, needs: &Needs, turn: &mut Turn) -> Result<Vec<Need>, FetchError> {
        if !self.uses(Source::Api) {
            return Ok(Vec::new());
        }
        if !self.has_credentials() {
            let reason = self.no_credentials.clone().unwrap_or_default();
            for need in needs.list.iter().filter(|need| matches!(need.want, Want::EntryPrice | Want::Confirmation)) {
                turn.report.miss(&need.book.symbol, need.want, format!("exchange: no credentials ({reason})"));
            }
            return Ok(Vec::new());
        }
        let of_positions = |need: &&Need| matches!(need.want, Want::EntryPrice | Want::Confirmation);
        if let Some(failure) = self.poll.failure() {
            for need in needs.list.iter().filter(of_positions) {
                turn.report.miss(&need.book.symbol, need.want, format!("exchange: {failure}"));
            }
        }
        let is_due = self.poll.is_due(needs, self.settings.position_poll_ms, turn.now_ms);
        if !is_due || !self.may_call(turn, true) {
            return Ok(Vec::new());
        }
        self.poll.asked_ms = Some(turn.now_ms);
        let positions = match self.exchange.positions().await {
            Ok(positions) => positions,
            // A call that failed is no information about any position.
            Err(error) => {
                for need in needs.list.iter().filter(of_positions) {
                    turn.report.miss(&need.book.symbol, need.want, format!("exchange: {error}"));
                }
                let again_ms = again_after(&error).or(error.wait_ms()).unwrap_or(0);
                self.poll.failed = Some((error.to_string(), turn.now_ms.saturating_add(again_ms)));
                self.poll.is_refused = error.is_about_credentials();
                turn.failed(&error);
                return Ok(Vec::new());
            }
        };
        self.poll.failed = None;
        self.poll.is_refused = false;
        self.poll.answered_ms = Some(turn.now_ms);
        turn.report.positions_answered = true;
        self.account.mode = match positions.mode() {
            Some(mode) => Some(mode),
            None => self.mode_of_empty(turn).await,
        };
        if self.account.mode == Some(AccountMode::Hedge) {
            let note = "the account is in hedge mode (dual-side), which is not supported: its positions are refused";
            turn.report.notes.push(note.to_owned());
        }
        let listed = self.exchange.terms().symbol;
        self.append(observations(&positions, self.account.mode, needs, listed), turn).await?;
        for symbol in needs.symbols(Want::EntryPrice) {
            let answered =
                positions.open().find(|row| row.symbol == symbol).is_some_and(|row| row.entry_price.is_some());
            if !answered {
                turn.report.miss(symbol, Want::EntryPrice, "exchange: no such position there".to_owned());
            }
        }
        Ok(unknown(&positions, needs, turn.now_ms))
    }

    /// Returns the mode of an account whose rows do not show it, requested if a service needs it; else the last known
    /// mode.
    async fn mode_of_empty(&mut self, turn: &mut Turn) -> Option<AccountMode> {
        let known = self.account.mode;
        let is_new = self.account.asked_ms.is_none_or(|ms| turn.now_ms.saturating_sub(ms) >= MODE_INTERVAL_MS);
        if !self.account.is_wanted || !is_new || !self.may_call(turn, true) {
            return known;
        }
        self.account.asked_ms = Some(turn.now_ms);
        match self.exchange.account_mode().await {
            Ok(mode) => Some(mode),
            Err(error) => {
                turn.failed(&error);
                known
            }
        }
    }
}

/// Returns an observation of each row that is not zero, with its side, and an explicit zero for every symbol without a
/// row that we hold or doubt. An account in hedge mode has no row BOTH, so none is invented for it. `listed` is a symbol
/// that the exchange always has.
fn observations(positions: &Positions, mode: Option<AccountMode>, needs: &Needs, listed: &str) -> Vec<Observation> {
    let mut list: Vec<Observation> = positions.open().map(observe::position).collect();
    if mode == Some(AccountMode::Hedge) {
        return list;
    }
    let books = needs.held.iter().map(|held| &held.book).chain(&needs.flat_in_doubt);
    let ours = books.filter(|book| book.account.is_empty()).map(|book| &*book.symbol);
    let flat: BTreeSet<&str> = positions.flat_among(ours).into_iter().collect();
    list.extend(flat.into_iter().map(|symbol| observe::position(&PositionRow::flat(symbol, BOTH))));
    if list.is_empty() && !needs.positions_known {
        // All symbols are flat, and nothing was known. One of them reports it.
        let symbol = positions.rows().first().map_or(listed, |row| &row.symbol);
        list.push(observe::position(&PositionRow::flat(symbol, BOTH)));
    }
    list
}

/// Returns the needs of positions that were unknown. They can be requested in the same tick.
fn unknown(positions: &Positions, needs: &Needs, now_ms: u64) -> Vec<Need> {
    let is_new = |row: &&PositionRow| needs.held(&row.symbol).is_none() && !is_hedge_side(&row.position_side);
    let new = positions.open().filter(is_new);
    let need = |symbol: &str, want| Need {
        book: NeedyBook { symbol: symbol.into(), account: Box::default(), side: PositionSide::Both },
        want,
        why: Why::Missing,
        since_ms: now_ms,
        near_rung: false,
    };
    new.flat_map(|row| [need(&row.symbol, Want::Price), need(&row.symbol, Want::Instrument)]).collect()
}
