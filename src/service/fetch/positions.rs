//! The positions at the exchange, of all symbols of an account at once. They are requested at the start, at every poll,
//! and when a position is in doubt.

use std::collections::BTreeSet;

use super::fetcher::{Fetcher, Turn, again_after};
use super::report::FetchError;
use crate::codec::exchange::{AccountMode, PositionRow};
use crate::codec::observe::{self, Observation};
use crate::config::Source;
use crate::domain::engine::needs::{Need, Needs, NeedyBook, Want, Why};
use crate::domain::event::PositionSide;
use crate::service::report::PositionMode;
use crate::service::said::Until;
use crate::shell::exchange::Positions;

/// The failure of an answer that was not appended.
const LATE: &str = "the answer came too late to be appended; it is asked for again";
/// A command asks again at once after so many late answers in a row. [1]
const LATE_MAX: u32 = 3;
/// Time between two requests for the mode of an account without open positions. [ms]
const MODE_INTERVAL_MS: u64 = 600_000;

impl Fetcher {
    /// Requests all positions of each account for which it is time. Returns the needs of those that were unknown.
    pub(super) async fn positions(&mut self, needs: &Needs, turn: &mut Turn) -> Result<Vec<Need>, FetchError> {
        if !self.uses(Source::Api) {
            return Ok(Vec::new());
        }
        for need in needs.list.iter().filter(|need| is_of_positions(need)) {
            let why = self.why_not_asked(&need.book.account).or_else(|| {
                let account = &self.accounts[self.account(&need.book.account)?];
                Some(format!("exchange: {}", account.poll.failure()?))
            });
            if let Some(why) = why {
                turn.report.miss(&need.subject(), need.want, why);
            }
        }
        // Accounts whose last request is the oldest go first, so that each one has its turn.
        let mut order: Vec<usize> = (0..self.accounts.len()).collect();
        order.sort_by_key(|at| self.accounts[*at].poll.asked_ms);
        // The other half of the calls is for prices.
        let most = self.settings.max_api_calls.div_ceil(2);
        let mut found = Vec::new();
        for at in order {
            let account = &self.accounts[at];
            let is_due = account.poll.is_due(&account.name, needs, self.settings.position_poll_ms, turn.now_ms);
            if !account.has_credentials() || !is_due {
                continue;
            }
            if !self.may_call(turn, true) || (self.calls(turn) > 0 && self.calls(turn) >= most) {
                turn.report.is_unfinished = self.calls(turn) > 0;
                break;
            }
            found.extend(self.positions_of(at, needs, turn).await?);
        }
        Ok(found)
    }

    async fn positions_of(&mut self, at: usize, needs: &Needs, turn: &mut Turn) -> Result<Vec<Need>, FetchError> {
        let account = &mut self.accounts[at];
        account.poll.asked_ms = Some(turn.now_ms);
        let is_ours = |need: &&Need| need.book.account == account.name && is_of_positions(need);
        let ours: Vec<&Need> = needs.list.iter().filter(is_ours).collect();
        let until = Until::of_call();
        let positions = match account.exchange.positions().await {
            Ok(positions) => positions,
            // A failed call gives no information about any position.
            Err(error) => {
                for need in ours {
                    turn.report.miss(&need.subject(), need.want, format!("exchange: {error}"));
                }
                let again_ms = again_after(&error).or(error.wait_ms()).unwrap_or(0);
                account.poll.failed = Some((error.to_string(), turn.now_ms.saturating_add(again_ms)));
                account.poll.is_refused = error.is_about_credentials() || again_after(&error).is_some();
                account.poll.failures = account.poll.failures.saturating_add(1);
                turn.note(account.says(&error));
                return Ok(Vec::new());
            }
        };
        let mode = match positions.mode() {
            Some(mode) => Some(mode),
            None => self.mode_of_empty(at, turn).await,
        };
        let account = &mut self.accounts[at];
        account.mode.known = mode;
        if let Some(differs) = account.mode_differs(needs) {
            let PositionMode { exchange, entries, .. } = differs;
            turn.note(account.says(format!("position_mode: {exchange} at the exchange, {entries} in the entries")));
        }
        let name = account.name.clone();
        let listed = self.exchange.terms().symbol;
        let observations = observations(&positions, mode, &name, needs, listed);
        let observations = observations.into_iter().map(|one| one.of_account(&name)).collect();
        let is_in_time = self.append_in_time(observations, until, turn).await?;
        let poll = &mut self.accounts[at].poll;
        if !is_in_time {
            poll.failures = poll.failures.saturating_add(1);
            (poll.failed, poll.is_refused) = (Some((LATE.to_owned(), turn.now_ms)), false);
            turn.report.is_unfinished |= poll.failures <= LATE_MAX;
            for need in ours {
                turn.report.miss(&need.subject(), need.want, format!("exchange: {LATE}"));
            }
            let note = self.accounts[at].says(LATE);
            turn.note(note);
            return Ok(Vec::new());
        }
        (poll.failed, poll.is_refused, poll.failures) = (None, false, 0);
        poll.answered_ms = Some(turn.now_ms);
        turn.report.positions_answered = true;
        for need in ours.into_iter().filter(|need| need.want == Want::EntryPrice) {
            let row = positions.open().find(|row| is_of(row, &need.book));
            if row.is_none_or(|row| row.entry_price.is_none()) {
                turn.report.miss(&need.subject(), need.want, "exchange: no such position there".to_owned());
            }
        }
        Ok(unknown(&positions, &name, needs, turn.now_ms))
    }

    /// Returns the mode of an account whose rows do not show it, requested if a service needs it; else the last known
    /// mode.
    async fn mode_of_empty(&mut self, at: usize, turn: &mut Turn) -> Option<AccountMode> {
        let mode = self.accounts[at].mode;
        let is_new = mode.asked_ms.is_none_or(|ms| turn.now_ms.saturating_sub(ms) >= MODE_INTERVAL_MS);
        if !self.wants_mode || !is_new || !self.may_call(turn, true) {
            return mode.known;
        }
        let account = &mut self.accounts[at];
        account.mode.asked_ms = Some(turn.now_ms);
        match account.exchange.account_mode().await {
            Ok(mode) => Some(mode),
            Err(error) => {
                turn.note(account.says(&error));
                mode.known
            }
        }
    }
}

/// Returns true if the answer about positions could meet a need.
fn is_of_positions(need: &Need) -> bool {
    matches!(need.want, Want::EntryPrice | Want::Confirmation)
}

fn is_of(row: &PositionRow, book: &NeedyBook) -> bool {
    row.symbol == *book.symbol && row.position_side == book.side
}

/// Returns an observation of each row that is not zero, with its side, and an explicit zero for every book of the
/// account that has no row but has a position or is in doubt. No row is invented for a side that the account does not
/// have: an account in hedge mode has no BOTH, one in one-way mode no LONG and SHORT. `listed` is a symbol that the
/// exchange always has.
fn observations(
    positions: &Positions,
    mode: Option<AccountMode>,
    account: &str,
    needs: &Needs,
    listed: &str,
) -> Vec<Observation> {
    let mut list: Vec<Observation> = positions.open().map(observe::position).collect();
    let has_side = |side: PositionSide| match mode {
        Some(AccountMode::Hedge) => side.is_hedge(),
        Some(AccountMode::OneWay) => !side.is_hedge(),
        None => side.is_hedge() == needs.hedged.contains(account),
    };
    let books = needs.open.iter().map(|open| &open.book).chain(&needs.flat_in_doubt);
    let is_flat = |book: &&NeedyBook| {
        *book.account == *account && has_side(book.side) && positions.open().all(|row| !is_of(row, book))
    };
    let flat: BTreeSet<&NeedyBook> = books.filter(is_flat).collect();
    let zero = |symbol: &str, side: PositionSide| observe::position(&PositionRow::flat(symbol, side));
    list.extend(flat.into_iter().map(|book| zero(&book.symbol, book.side)));
    if list.is_empty() && !needs.positions_known {
        // All symbols are flat, and nothing was known. One symbol reports that.
        let symbol = positions.rows().first().map_or(listed, |row| &row.symbol);
        let side = if has_side(PositionSide::Both) { PositionSide::Both } else { PositionSide::Long };
        list.push(zero(symbol, side));
    }
    list
}

/// Returns the needs of positions that were unknown. They can be requested in the same tick.
fn unknown(positions: &Positions, account: &str, needs: &Needs, now_ms: u64) -> Vec<Need> {
    let book = |row: &PositionRow| NeedyBook {
        symbol: row.symbol.as_str().into(),
        account: account.into(),
        side: row.position_side,
    };
    let new = positions.open().map(book).filter(|book| needs.open_of(book).is_none());
    let need = |book: &NeedyBook, want| Need {
        book: book.clone(),
        want,
        why: Why::Missing,
        since_ms: now_ms,
        near_rung: false,
    };
    new.flat_map(|book| [need(&book, Want::Price), need(&book, Want::Instrument)]).collect()
}
