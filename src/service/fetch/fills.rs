//! The trades of a position whose history begins too late: back to the time when its quantity was last zero.
//!
//! Only trades that the fold can use are appended: a complete chain from flat to the quantity that was found, and
//! trades of orders that the history contains. Any other trade would be added to a quantity that already includes it.

use super::asked::{Followed, Progress};
use super::fetcher::{Fetcher, Turn};
use super::prices::{DELISTED, REFUSED};
use super::report::FetchError;
use crate::codec::exchange::{TradesFrom, UserTrade};
use crate::codec::{observe, time};
use crate::config::Source;
use crate::domain::engine::needs::{Need, Needs, OpenPosition, Unexplained, Want};
use crate::service::exchange::{EXCHANGE_CLOCK_APART_MAX_MS, of_account};
use crate::shell::exchange::CallError;

impl Fetcher {
    /// Follows trades with the remaining calls, at most with half of a tick's calls: prices have priority.
    pub(super) async fn fills(&mut self, needs: &Needs, list: &[Need], turn: &mut Turn) -> Result<(), FetchError> {
        if !self.uses(Source::Api) {
            return Ok(());
        }
        let mut calls_left = self.settings.max_api_calls.div_ceil(2);
        for need in list.iter().filter(|need| need.want == Want::Fills) {
            let Some(open) = needs.open_of(&need.book) else { continue };
            let Some(account) = self.account(&need.book.account).filter(|at| self.accounts[*at].has_credentials())
            else {
                continue;
            };
            let subject = need.subject();
            if self.delisted.contains(&need.book.symbol) {
                turn.report.miss(&subject, Want::Fills, format!("exchange: {DELISTED}"));
                continue;
            }
            if self.is_refused(Want::Fills, &subject, turn.now_ms) {
                turn.report.miss(&subject, Want::Fills, format!("exchange: {REFUSED}"));
                continue;
            }
            loop {
                if calls_left == 0 || !self.may_call(turn, true) {
                    turn.report.is_unfinished |= self.has_fills_to_ask(open);
                    break;
                }
                let asked = match &open.unexplained {
                    Some(unexplained) => self.follow(account, open, unexplained, turn).await?,
                    None => self.price_orders(account, open, turn).await?,
                };
                if !asked {
                    break;
                }
                calls_left -= 1;
            }
        }
        Ok(())
    }

    /// Returns true if there is a request that was not made yet.
    fn has_fills_to_ask(&self, open: &OpenPosition) -> bool {
        match open.unexplained {
            Some(_) => self.fills.chains.get(&open.position_id).is_none_or(|progress| !progress.done),
            None => {
                open.unpriced_orders.iter().any(|o| !self.fills.orders.contains(&(open.position_id.clone(), o.clone())))
            }
        }
    }

    /// Reads one more page of trades. Returns true if there is more to request.
    async fn follow(
        &mut self,
        account: usize,
        open: &OpenPosition,
        unexplained: &Unexplained,
        turn: &mut Turn,
    ) -> Result<bool, FetchError> {
        let (opened_ms, terms) = (unexplained.opened_ms, self.exchange.terms());
        let progress = self.fills.chains.entry(open.position_id.clone()).or_insert_with(|| Progress {
            trades: Vec::new(),
            from_ms: opened_ms.saturating_sub(terms.trades_window_ms),
            to_ms: opened_ms,
            page: Vec::new(),
            read_to: None,
            done: false,
        });
        if progress.done {
            return Ok(false);
        }
        let from = match progress.read_to {
            Some(id) => TradesFrom::Id(id + 1),
            None => TradesFrom::Window { from_ms: progress.from_ms, to_ms: progress.to_ms },
        };
        self.asked.insert((open.book.name(), Want::Fills), turn.now_ms);
        let answered = self.accounts[account].exchange.trades(&open.book.symbol, from).await;
        let Some(trades) = self.answered(open, answered, turn) else { return Ok(false) };
        let Some(progress) = self.fills.chains.get_mut(&open.position_id) else { return Ok(false) };
        if !open.book.side.is_hedge() && trades.iter().any(|trade| trade.position_side.is_hedge()) {
            progress.done = true;
            let name = open.book.name();
            let note = format!("{name}: its trades are those of a hedge account, LONG and SHORT; none is taken");
            turn.report.miss(&name, Want::Fills, note.clone());
            turn.report.notes.push(note);
            return Ok(false);
        }
        match progress.take(trades, open.book.side, unexplained, terms) {
            Followed::More => Ok(true),
            Followed::Whole(first) => {
                let trades = progress.trades.drain(first..);
                let chain: Vec<_> = trades.map(|trade| observe::trade(&trade).of_account(&open.book.account)).collect();
                progress.done = true;
                self.append(chain, turn).await?;
                Ok(false)
            }
            Followed::Reached => {
                let note = format!(
                    "{}: its trades were followed back to {} without finding it flat; none is taken",
                    open.book.name(),
                    time::iso(progress.from_ms)
                );
                progress.done = true;
                turn.report.miss(&open.book.name(), Want::Fills, note.clone());
                turn.report.notes.push(note);
                Ok(false)
            }
        }
    }

    /// Requests the trades of orders whose parts have no price of their own.
    async fn price_orders(&mut self, account: usize, open: &OpenPosition, turn: &mut Turn) -> Result<bool, FetchError> {
        if !self.has_fills_to_ask(open) {
            return Ok(false);
        }
        self.fills.orders.extend(open.unpriced_orders.iter().map(|order| (open.position_id.clone(), order.clone())));
        self.asked.insert((open.book.name(), Want::Fills), turn.now_ms);
        let to_ms = turn.now_ms.saturating_add(EXCHANGE_CLOCK_APART_MAX_MS);
        let opened_ms = open.opened_ms.saturating_sub(EXCHANGE_CLOCK_APART_MAX_MS);
        let window = TradesFrom::Window {
            from_ms: opened_ms.max(to_ms.saturating_sub(self.exchange.terms().trades_window_ms)),
            to_ms,
        };
        let answered = self.accounts[account].exchange.trades(&open.book.symbol, window).await;
        let Some(trades) = self.answered(open, answered, turn) else { return Ok(false) };
        let of_known = |trade: &&UserTrade| open.unpriced_orders.iter().any(|id| **id == *trade.order_id.to_string());
        let observed = |trade: &UserTrade| observe::trade(trade).of_account(&open.book.account);
        let news = trades.iter().filter(of_known).map(observed).collect();
        self.append(news, turn).await?;
        Ok(false)
    }

    fn answered(
        &mut self,
        open: &OpenPosition,
        answered: Result<Vec<UserTrade>, CallError>,
        turn: &mut Turn,
    ) -> Option<Vec<UserTrade>> {
        match answered {
            Ok(trades) => Some(trades),
            // This is not a failure: the budget of weight states when to continue.
            Err(CallError::WeightSpent { wait_ms, .. }) => {
                turn.report.is_unfinished = true;
                turn.report.wait_ms = Some(wait_ms);
                None
            }
            Err(error) => {
                let subject = open.book.name();
                self.note_delisted(&open.book.symbol, &error);
                self.note_refusal(Want::Fills, &subject, &error, turn.now_ms);
                turn.report.miss(&subject, Want::Fills, format!("exchange: {error}"));
                turn.note(format!("{}{error}", of_account(&open.book.account)));
                None
            }
        }
    }
}
