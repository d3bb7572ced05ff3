//! The memory of the fetcher: requests and their answers, by account and source.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::exchange::{AccountMode, InstrumentRow, UserTrade, VenueTerms};
use crate::domain::engine::needs::{Need, Needs, OpenPosition, Unexplained, Want};
use crate::domain::event::PositionSide;
use crate::domain::units::{Price, Qty};
use crate::service::exchange::{Client, of_account};
use crate::service::report::PositionMode;
use crate::shell::exchange::Exchange;

/// Minimum time between two requests about a position in doubt. [ms]
const DOUBT_INTERVAL_MS: u64 = 10_000;

/// An account: its client, and its requests.
pub(super) struct Account {
    /// Empty for the account without a name.
    pub name: Box<str>,
    pub exchange: Exchange,
    pub no_credentials: Option<String>,
    pub poll: Poll,
    pub mode: Mode,
}

impl Account {
    pub fn of(client: Client) -> Self {
        let Client { account, exchange, no_credentials } = client;
        Self { name: account, exchange, no_credentials, poll: Poll::default(), mode: Mode::default() }
    }

    pub fn has_credentials(&self) -> bool {
        self.no_credentials.is_none() && self.exchange.has_credentials()
    }

    /// Returns a text that begins with the name of the account, if it has one.
    pub fn says(&self, text: impl std::fmt::Display) -> String {
        format!("{}{text}", of_account(&self.name))
    }

    /// Returns the mode at the exchange if the entries contradict it: they name LONG and SHORT, or have an open
    /// position without a side.
    pub fn mode_differs(&self, needs: &Needs) -> Option<PositionMode> {
        let is_hedged = || needs.hedged.contains(&self.name);
        let has_one_way =
            || needs.open.iter().any(|open| open.book.account == self.name && open.book.side == PositionSide::Both);
        let exchange = self.mode.known?;
        let entries = match exchange {
            AccountMode::Hedge if has_one_way() => AccountMode::OneWay,
            AccountMode::OneWay if is_hedged() => AccountMode::Hedge,
            AccountMode::Hedge | AccountMode::OneWay => return None,
        };
        Some(PositionMode::of(&self.name, exchange, entries))
    }
}

/// The requests for positions.
#[derive(Clone, Debug, Default)]
pub(super) struct Poll {
    pub asked_ms: Option<u64>,
    pub answered_ms: Option<u64>,
    /// The last failure, and until when the request is not repeated. [ms since 1970]
    pub failed: Option<(String, u64)>,
    /// True if that failure is not expected to pass soon: key, address, permission or place are refused.
    pub is_refused: bool,
    /// Failures since the last successful request. [1]
    pub failures: u32,
}

impl Poll {
    /// Returns why the exchange returns no positions: it refuses to, or the request failed more than once in a row.
    pub fn refusal(&self) -> Option<&str> {
        self.failure().filter(|_| self.is_refused || self.failures > 1)
    }

    /// Returns the failure of the last request; `None` after a successful one.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_ref().map(|(failure, _)| failure.as_str())
    }

    /// Returns true if the positions of an account are to be requested.
    pub fn is_due(&self, account: &str, needs: &Needs, poll_ms: u64, now_ms: u64) -> bool {
        if self.failed.as_ref().is_some_and(|(_, until_ms)| now_ms < *until_ms) {
            return false;
        }
        let since = |ms: Option<u64>| ms.map(|ms| now_ms.saturating_sub(ms));
        let (Some(asked), Some(answered)) = (since(self.asked_ms), since(self.answered_ms)) else { return true };
        let in_doubt = || {
            let wants = |need: &Need| matches!(need.want, Want::Confirmation | Want::EntryPrice);
            let is_ours = |need: &Need| *need.book.account == *account && wants(need);
            needs.list.iter().any(|need| is_ours(need) && Some(need.since_ms) >= self.answered_ms)
        };
        (poll_ms > 0 && answered >= poll_ms) || (asked >= DOUBT_INTERVAL_MS && in_doubt())
    }
}

/// The time in which accounts could be asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Begin of the ticks without a pause. [ms since 1970]
    began_ms: u64,
    ticked_ms: u64,
}

/// Ticks that are further apart than this were not continuous: another service had the lease. [ms]
const PAUSE_MS: u64 = 60_000;
/// An account is late if its positions were not answered for this many intervals … [1]
const LATE_INTERVALS: u64 = 3;
/// … and this time. [ms]
const LATE_MS: u64 = 60_000;

impl Pace {
    pub fn tick(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.ticked_ms) > PAUSE_MS {
            self.began_ms = now_ms;
        }
        self.ticked_ms = now_ms;
    }

    /// Returns true if an account waits too long for its turn. `poll_ms` is the configured interval. [ms]
    pub fn is_late(&self, poll: &Poll, poll_ms: u64) -> bool {
        let since_ms = self.ticked_ms.saturating_sub(self.began_ms.max(poll.answered_ms.unwrap_or(0)));
        since_ms > poll_ms.saturating_mul(LATE_INTERVALS).saturating_add(LATE_MS)
    }
}

/// The account mode, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mode {
    pub known: Option<AccountMode>,
    /// When it was last requested. [ms since 1970]
    pub asked_ms: Option<u64>,
}

/// The last price of each symbol that we appended, with its time. [ms since 1970]
#[derive(Clone, Debug, Default)]
pub(super) struct Sent(pub BTreeMap<Box<str>, (Price, u64)>);

impl Sent {
    /// Returns true if the last price waits for a second one that confirms it, and a price that is sent now would come
    /// too early for that.
    pub fn is_early(&self, symbol: &str, now_ms: u64, needs: &Needs) -> bool {
        let since_ms = self.0.get(symbol).map(|(_, at_ms)| now_ms.saturating_sub(*at_ms));
        since_ms.is_some_and(|since_ms| since_ms < needs.price_confirm_ms) && needs.awaits_price(symbol)
    }

    /// Returns true if a price is worth appending: it changed, the last one has used up half of its allowed age, or it
    /// can confirm the last one, which waits for confirmation.
    pub fn is_news(&self, symbol: &str, price: Price, now_ms: u64, needs: &Needs) -> bool {
        let Some((last, at_ms)) = self.0.get(symbol) else { return true };
        let since_ms = now_ms.saturating_sub(*at_ms);
        let confirms = since_ms >= needs.price_confirm_ms && needs.awaits_price(symbol);
        *last != price || since_ms > needs.max_price_age_ms / 2 || confirms
    }
}

/// The last answer of the exchange about all instruments.
#[derive(Clone, Debug, Default)]
pub(super) struct Instruments {
    pub rows: BTreeMap<String, InstrumentRow>,
    /// Time of that answer. [ms since 1970]
    pub answered_ms: Option<u64>,
    /// Time of the first tick: the day begins then if the history has all instruments. [ms since 1970]
    pub began_ms: Option<u64>,
}

impl Instruments {
    /// Creates a state in which the instruments are due at once.
    pub fn due() -> Self {
        Self { began_ms: Some(0), ..Self::default() }
    }
}

/// How far the trades of each position were followed, by its id.
#[derive(Clone, Debug, Default)]
pub(super) struct Fills {
    pub chains: BTreeMap<String, Progress>,
    /// Orders whose trades were requested, by position.
    pub orders: BTreeSet<(String, Box<str>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Trades of the windows that were read completely, oldest first.
    pub trades: Vec<UserTrade>,
    /// The window that is being read. [ms since 1970]
    pub from_ms: u64,
    pub to_ms: u64,
    /// The trades of that window that were read so far.
    pub page: Vec<UserTrade>,
    /// The last trade that was read of that window, of any side.
    pub read_to: Option<u64>,
    /// True if no more requests are to be made.
    pub done: bool,
}

/// The result of one more page.
pub(super) enum Followed {
    /// There is more to read.
    More,
    /// From this trade on, the trades add up to the quantity that was found.
    Whole(usize),
    /// The exchange has no older trades.
    Reached,
}

impl Fills {
    /// Forgets positions that are no longer open.
    pub fn keep_open(&mut self, open: &[OpenPosition]) {
        let is_open = |id: &String| open.iter().any(|open| open.position_id == *id);
        self.chains.retain(|id, _| is_open(id));
        self.orders.retain(|(id, _)| is_open(id));
    }
}

impl Progress {
    /// Adds one more page, and checks whether the chain is complete. Only trades of the book's side count.
    pub fn take(
        &mut self,
        trades: Vec<UserTrade>,
        side: PositionSide,
        unexplained: &Unexplained,
        terms: &VenueTerms,
    ) -> Followed {
        let is_full = trades.len() >= terms.trades_max;
        let before = |trade: &UserTrade| trade.time_ms < self.to_ms.min(unexplained.opened_ms);
        let within: Vec<UserTrade> = trades.into_iter().filter(before).collect();
        let has_more = is_full && !within.is_empty();
        self.read_to = within.last().filter(|_| has_more).map(|last| last.id);
        self.page.extend(within.into_iter().filter(|trade| trade.position_side == side));
        if has_more {
            return Followed::More;
        }
        // Windows are read newest first, so this one comes before the others.
        let later = std::mem::take(&mut self.trades);
        self.trades = std::mem::take(&mut self.page).into_iter().chain(later).collect();
        if let Some(first) = self.flat_before(unexplained) {
            return Followed::Whole(first);
        }
        if unexplained.opened_ms.saturating_sub(self.from_ms) >= terms.trades_kept_ms {
            return Followed::Reached;
        }
        self.to_ms = self.from_ms;
        self.from_ms = self.from_ms.saturating_sub(terms.trades_window_ms);
        Followed::More
    }

    /// Returns the trade before which the position was flat, going back from the quantity found; `None` if there is
    /// none.
    pub fn flat_before(&self, unexplained: &Unexplained) -> Option<usize> {
        let mut qty = unexplained.qty;
        for (place, trade) in self.trades.iter().enumerate().rev() {
            qty = qty.minus(trade.side.opens().signed(trade.qty)).ok()?;
            if qty.same(Qty::ZERO, unexplained.step_size) {
                return Some(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::exchange::VENUES;
    use crate::domain::engine::needs::NeedyBook;
    use crate::shell::exchange::Settings;

    fn account(known: Option<AccountMode>) -> Account {
        let exchange = Exchange::new(Settings::new(VENUES[0], "http://127.0.0.1:9")).unwrap();
        let account = Account::of(Client { account: "main".into(), exchange, no_credentials: None });
        Account { mode: Mode { known, ..Mode::default() }, ..account }
    }

    #[test]
    fn a_mode_differs_only_where_entries_say_another() {
        let open = |account: &str, side| OpenPosition {
            book: NeedyBook { symbol: "ADAUSDT".into(), account: account.into(), side },
            position_id: "ADAUSDT@1-0".to_owned(),
            qty: Qty::ZERO,
            opened_ms: 1,
            mark: None,
            unexplained: None,
            unpriced_orders: Vec::new(),
        };
        let entries = |hedged: &[&str], open: Vec<OpenPosition>| Needs {
            hedged: hedged.iter().map(|name| (*name).into()).collect(),
            open,
            ..Needs::default()
        };
        let nothing = entries(&[], Vec::new());
        let one_way = entries(&[], vec![open("main", PositionSide::Both)]);
        let hedged = entries(&["main"], vec![open("main", PositionSide::Long)]);
        let of_another = entries(&["other"], vec![open("", PositionSide::Both)]);
        let (at_one_way, at_hedge) = (account(Some(AccountMode::OneWay)), account(Some(AccountMode::Hedge)));
        for fits in [&nothing, &one_way, &of_another] {
            assert_eq!(at_one_way.mode_differs(fits), None);
        }
        for fits in [&nothing, &hedged, &of_another] {
            assert_eq!(at_hedge.mode_differs(fits), None);
        }
        let differs = |exchange, entries| Some(PositionMode::of("main", exchange, entries));
        assert_eq!(at_one_way.mode_differs(&hedged), differs(AccountMode::OneWay, AccountMode::Hedge));
        assert_eq!(at_hedge.mode_differs(&one_way), differs(AccountMode::Hedge, AccountMode::OneWay));
        assert_eq!(account(None).mode_differs(&hedged), None, "what is not known differs from nothing");
    }

    fn poll(failed: Option<(&str, u64)>) -> Poll {
        let failed = failed.map(|(failure, until_ms)| (failure.to_owned(), until_ms));
        Poll { asked_ms: Some(0), failed, ..Poll::default() }
    }

    #[test]
    fn an_account_that_waits_too_long_for_its_turn_is_late() {
        let mut pace = Pace::default();
        let answered = |answered_ms| Poll { answered_ms, ..Poll::default() };
        for now_ms in (1_000_000..=1_240_000).step_by(5_000) {
            pace.tick(now_ms);
        }
        assert!(!pace.is_late(&answered(None), 60_000), "240 s: three intervals of 60 s, and 60 s");
        pace.tick(1_245_000);
        assert!(pace.is_late(&answered(None), 60_000) && pace.is_late(&answered(Some(1_004_000)), 60_000));
        assert!(!pace.is_late(&answered(Some(1_005_000)), 60_000));
        pace.tick(1_400_000);
        assert!(!pace.is_late(&answered(None), 60_000), "another service had the lease meanwhile");
    }

    #[test]
    fn i46_a_refusal_is_asked_again_after_its_time_and_not_at_each_tick() {
        let needs = Needs::default();
        assert!(poll(None).is_due("", &needs, 60_000, 5_000), "never answered");
        let refused = poll(Some(("refused", 60_000)));
        assert!(!refused.is_due("", &needs, 60_000, 5_000) && !refused.is_due("", &needs, 60_000, 59_999));
        assert!(refused.is_due("", &needs, 60_000, 60_000));
        assert_eq!(refused.failure(), Some("refused"), "it is not forgotten meanwhile");
    }
}
