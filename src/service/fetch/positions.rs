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
use crate::shell::exchange::{CallError, Positions};

/// The result of a request for the positions of an account.
enum Asked {
    /// Answered or failed: the needs of positions that were unknown.
    Done(Vec<Need>),
    /// No call is sent now, for any account.
    NotSent(CallError),
}

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
        for (nth, &at) in order.iter().enumerate() {
            let account = &self.accounts[at];
            let is_due = account.poll.is_due(&account.name, needs, self.settings.position_poll_ms, turn.now_ms);
            if !account.has_credentials() || !is_due {
                continue;
            }
            if !self.may_call(turn, true) || (self.calls(turn) > 0 && self.calls(turn) >= most) {
                turn.report.is_unfinished = self.calls(turn) > 0;
                break;
            }
            match self.positions_of(at, needs, turn).await? {
                Asked::Done(unknown) => found.extend(unknown),
                Asked::NotSent(error) => {
                    self.held_back(&order[nth..], &error, needs, turn);
                    return Ok(found);
                }
            }
        }
        self.are_positions_held = false;
        Ok(found)
    }

    /// Notes that no call is sent now, for none of these accounts. That is no failure of theirs: they are asked first as
    /// soon as calls are sent again.
    fn held_back(&mut self, accounts: &[usize], error: &CallError, needs: &Needs, turn: &mut Turn) {
        for at in accounts {
            let name = &self.accounts[*at].name;
            for need in needs.list.iter().filter(|need| need.book.account == *name && is_of_positions(need)) {
                turn.report.miss(&need.subject(), need.want, format!("exchange: {error}"));
            }
        }
        match error {
            // The budget of weight states when to continue.
            CallError::WeightSpent { wait_ms, .. } => {
                turn.report.is_unfinished = true;
                turn.report.wait_ms = Some(*wait_ms);
            }
            // It may last for hours.
            _ if !std::mem::replace(&mut self.are_positions_held, true) => turn.note(error.to_string()),
            _ => {}
        }
    }

    async fn positions_of(&mut self, at: usize, needs: &Needs, turn: &mut Turn) -> Result<Asked, FetchError> {
        let account = &mut self.accounts[at];
        let is_ours = |need: &&Need| need.book.account == account.name && is_of_positions(need);
        let ours: Vec<&Need> = needs.list.iter().filter(is_ours).collect();
        let until = Until::of_call();
        let answered = account.exchange.positions().await;
        if let Err(error) = &answered
            && error.holds_all()
        {
            return Ok(Asked::NotSent(error.clone()));
        }
        account.poll.asked_ms = Some(turn.now_ms);
        let positions = match answered {
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
                return Ok(Asked::Done(Vec::new()));
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
        let observations = observations(positions.rows(), mode, &name, needs, listed);
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
            return Ok(Asked::Done(Vec::new()));
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
        Ok(Asked::Done(unknown(&positions, &name, needs, turn.now_ms)))
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
        let answered = account.exchange.account_mode().await;
        // A call that was not sent is made at the next request for positions.
        if !answered.as_ref().is_err_and(CallError::holds_all) {
            account.mode.asked_ms = Some(turn.now_ms);
        }
        match answered {
            Ok(mode) => Some(mode),
            Err(CallError::WeightSpent { .. }) => mode.known,
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
/// account that has no row but has a position or is in doubt. That includes books of the other position mode: an account
/// that changed its mode has no position left in them. `listed` is a symbol that the exchange always has.
fn observations(
    rows: &[PositionRow],
    mode: Option<AccountMode>,
    account: &str,
    needs: &Needs,
    listed: &str,
) -> Vec<Observation> {
    let is_hedged = needs.hedged.contains(account);
    // In a hedged account, a position without a side belongs to no book.
    let names_both = is_hedged || mode == Some(AccountMode::Hedge);
    let observed = |row: &PositionRow| observe::position_in(row, names_both);
    let open = || rows.iter().filter(|row| !row.position_amt.is_zero());
    let mut list: Vec<Observation> = open().map(observed).collect();
    let books = needs.open.iter().map(|open| &open.book).chain(&needs.flat_in_doubt);
    let is_flat = |book: &&NeedyBook| *book.account == *account && open().all(|row| !is_of(row, book));
    let flat: BTreeSet<&NeedyBook> = books.filter(is_flat).collect();
    let zero = |symbol: &str, side: PositionSide| observed(&PositionRow::flat(symbol, side));
    list.extend(flat.into_iter().map(|book| zero(&book.symbol, book.side)));
    if list.is_empty() && !needs.positions_known {
        // All symbols are flat, and nothing was known. One symbol reports that, on a side that the account has.
        let symbol = rows.first().map_or(listed, |row| &row.symbol);
        let has_both = mode.map_or(!is_hedged, |mode| mode == AccountMode::OneWay);
        list.push(zero(symbol, if has_both { PositionSide::Both } else { PositionSide::Long }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::engine::needs::OpenPosition;
    use crate::domain::units::Qty;

    fn needs(hedged: bool, side: PositionSide) -> Needs {
        let book = NeedyBook { symbol: "ADAUSDT".into(), account: "main".into(), side };
        let open = OpenPosition {
            book,
            position_id: "main/ADAUSDT@1-0".to_owned(),
            qty: Qty::ZERO,
            opened_ms: 1,
            mark: None,
            unexplained: None,
            unpriced_orders: Vec::new(),
        };
        let hedged = hedged.then(|| Box::from("main")).into_iter().collect();
        Needs { open: vec![open], hedged, positions_known: true, ..Needs::default() }
    }

    fn payloads(rows: &[PositionRow], mode: Option<AccountMode>, needs: &Needs) -> Vec<String> {
        observations(rows, mode, "main", needs, "BTCUSDT").into_iter().map(|one| one.payload).collect()
    }

    #[test]
    fn a_book_of_the_other_mode_is_flat_if_the_answer_lacks_it() {
        let (one_way, hedge) = (Some(AccountMode::OneWay), Some(AccountMode::Hedge));
        let (both, long) = (needs(false, PositionSide::Both), needs(true, PositionSide::Long));
        let zero = || vec![r#"{"positionAmt":"0","symbol":"ADAUSDT"}"#.to_owned()];
        let sided = |side: &str| vec![format!(r#"{{"positionAmt":"0","positionSide":"{side}","symbol":"ADAUSDT"}}"#)];
        assert_eq!(payloads(&[], one_way, &both), zero(), "an account that keeps its mode keeps its bytes");
        assert_eq!(payloads(&[], None, &both), zero());
        assert_eq!(payloads(&[], hedge, &both), sided("BOTH"), "one-way before, hedge mode now");
        assert_eq!(payloads(&[], hedge, &long), sided("LONG"));
        assert_eq!(payloads(&[], one_way, &long), sided("LONG"), "hedge mode before, one-way now");
    }

    #[test]
    fn a_position_of_a_hedged_account_names_its_side_even_if_it_is_both() {
        let held = PositionRow { position_amt: Qty::new(7.into()), ..PositionRow::flat("ADAUSDT", PositionSide::Both) };
        let rows = [held];
        let row = |side: &str| format!(r#"{{"positionAmt":"7",{side}"symbol":"ADAUSDT"}}"#);
        let both = needs(false, PositionSide::Both);
        assert_eq!(payloads(&rows, Some(AccountMode::OneWay), &both), [row("")]);
        let long = needs(true, PositionSide::Long);
        let zero = r#"{"positionAmt":"0","positionSide":"LONG","symbol":"ADAUSDT"}"#.to_owned();
        assert_eq!(payloads(&rows, Some(AccountMode::OneWay), &long), [row(r#""positionSide":"BOTH","#), zero]);
    }
}
