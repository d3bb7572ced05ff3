//! The needs: facts that the projection lacks and that a look-up could bring, by book, with their age, in the order
//! in which they are worth asking for.
//!
//! Promises: computed from the projection alone. This module fetches nothing, and no decision depends on it.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::Engine;
use crate::domain::book::change::{Cause, PositionChange};
use crate::domain::book::order::OrderKey;
use crate::domain::book::position::{Position, RiskFields};
use crate::domain::book::rung::RungState;
use crate::domain::book::state::book_name;
use crate::domain::book::view::BookView;
use crate::domain::event::PositionSide;
use crate::domain::exit;
use crate::domain::exit::policy::{EntrySource, Mode, Policy, RiskSource};
use crate::domain::named;
use crate::domain::units::{OutOfRange, Price, Qty, Ratio};

/// A position this near to its next rung is asked for first. 1 % of its mark [basis points].
const NEAR_RUNG_BPS: i64 = 100;
/// Head start of a position near a rung, added to its waiting time. It goes first, and no position starves. [ms]
const NEAR_RUNG_HEAD_START_MS: u64 = 30_000;

named! {
    /// A fact that can be looked up. The order of the variants is the order of their use to an evaluation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Want {
        /// A fresh mark.
        Price => "mark_price",
        EntryPrice => "entry_price",
        /// Confirmation that the exchange has our quantity: after a gap, a divergence, a request without a result.
        Confirmation => "confirmation",
        /// Step size and minimum of the instrument.
        Instrument => "instrument",
        /// The trades of an opening by a stated quantity, or of orders without a price.
        Fills => "fills",
    }
}

named! {
    /// The reason for a need.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Why {
        /// It was never seen.
        Missing => "missing",
        /// The last one is too old to be used.
        Stale => "stale",
        /// The last one has reached half of its maximum age and is renewed in time.
        Due => "due",
        HistoryGap => "history_gap",
        Diverged => "diverged",
        /// A snapshot has shown a position once.
        Unconfirmed => "unconfirmed",
        /// A request of ours has no result.
        ResultUnknown => "result_unknown",
        /// A price that is not near the used one waits for another one, or a confirmed one could come from a rescaled
        /// contract.
        PriceJump => "price_jump",
        /// The history begins after the position was opened.
        StartsTooLate => "starts_too_late",
    }
}

/// The book that lacks a fact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeedyBook {
    pub symbol: Box<str>,
    /// Empty for the account without a name.
    pub account: Box<str>,
    pub side: PositionSide,
}

impl NeedyBook {
    fn of(book: BookView<'_>) -> Self {
        Self { symbol: book.symbol.name.clone(), account: book.account_name.clone(), side: book.side }
    }

    /// Returns the name of the book.
    pub fn name(&self) -> Box<str> {
        book_name(&self.account, &self.symbol, self.side)
    }
}

impl Want {
    /// Returns true if the fact is for all books of a symbol.
    pub const fn is_general(self) -> bool {
        matches!(self, Self::Price | Self::Instrument)
    }
}

/// A fact that a book lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub book: NeedyBook,
    pub want: Want,
    pub why: Why,
    /// Time since which it is lacking. [ms since 1970]
    pub since_ms: u64,
    /// The mark is near the next rung, or beyond it.
    pub near_rung: bool,
}

impl Need {
    /// Returns the name of the subject of the fact: the symbol, or the book.
    pub fn subject(&self) -> Box<str> {
        if self.want.is_general() { self.book.symbol.clone() } else { self.book.name() }
    }
}

/// A price that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPrice {
    /// [quote per base]
    pub price: Price,
    /// [ms since 1970]
    pub at_ms: u64,
}

/// An opening by a stated quantity that no trades explain yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// Signed quantity of the opening. [base]
    pub qty: Qty,
    /// Time of the opening. [ms since 1970]
    pub opened_ms: u64,
    /// [base]
    pub step_size: Option<Qty>,
}

/// An open position, as far as a look-up needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPosition {
    pub book: NeedyBook,
    pub position_id: String,
    /// Signed. [base]
    pub qty: Qty,
    /// [ms since 1970]
    pub opened_ms: u64,
    pub mark: Option<KnownPrice>,
    pub unexplained: Option<Unexplained>,
    /// Orders in the history with parts that have no price.
    pub unpriced_orders: Vec<Box<str>>,
}

/// The part of the projection that a fetcher needs. It is a copy, so the fetcher never reads the projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Time for which the needs were computed. [ms since 1970]
    pub now_ms: u64,
    /// In the order in which they are worth asking for, as if none had been asked for yet.
    pub list: Vec<Need>,
    pub open: Vec<OpenPosition>,
    /// Books without a position whose flat state needs a confirmation.
    pub flat_in_doubt: Vec<NeedyBook>,
    /// Accounts that are hedged according to the entries.
    pub hedged: BTreeSet<Box<str>>,
    /// A position, or a flat state, was seen from any source.
    pub positions_known: bool,
    /// Accepted price sources; empty = all.
    pub price_sources: Vec<Box<str>>,
    pub max_price_age_ms: u64,
    pub price_confirm_ms: u64,
}

impl Needs {
    /// Returns the needs of the projection at a time, which is never before its last entry.
    pub fn of(engine: &Engine, now_ms: u64) -> Self {
        let globals = engine.globals();
        let policy = engine.policy();
        let now_ms = now_ms.max(globals.last.ms);
        let gap_ms = globals.gaps.last().map(|gap| gap.reported.ms);
        let mut books: Vec<BookView<'_>> = engine.books().collect();
        books.sort_by(|a, b| a.symbol.name.cmp(&b.symbol.name));
        let mut needs = Self {
            now_ms,
            hedged: engine.accounts().iter().filter(|account| account.hedged).map(|a| a.name.clone()).collect(),
            positions_known: globals.positions_known,
            price_sources: policy.price_sources.clone(),
            max_price_age_ms: policy.max_price_age_ms,
            price_confirm_ms: policy.price_confirm_ms,
            ..Self::default()
        };
        for book in books {
            match &book.book.hot.open {
                Some(open) => {
                    needs.open.push(open_position(book, open));
                    let policy = engine.policy_of(book.account);
                    needs.list.extend(of_position(book, open, policy, now_ms, gap_ms));
                }
                None => needs.of_flat(book, gap_ms.unwrap_or(now_ms)),
            }
        }
        sort_by_wait(&mut needs.list, &BTreeMap::new());
        needs
    }

    fn of_flat(&mut self, book: BookView<'_>, gap_ms: u64) {
        let unconfirmed = book.hot.disagreement.map(|disagreement| (Why::Unconfirmed, disagreement.since_ms));
        let gap = book.hot.history_gap.then_some((Why::HistoryGap, gap_ms));
        let Some((why, since_ms)) = unconfirmed.or(gap) else { return };
        self.flat_in_doubt.push(NeedyBook::of(book));
        self.list.push(Need { book: NeedyBook::of(book), want: Want::Confirmation, why, since_ms, near_rung: false });
    }

    /// Returns true if the policy accepts prices of this source.
    pub fn accepts(&self, source: &str) -> bool {
        self.price_sources.is_empty() || self.price_sources.iter().any(|accepted| **accepted == *source)
    }

    /// Returns the books with this need, in their order.
    pub fn books(&self, want: Want) -> impl Iterator<Item = &NeedyBook> {
        self.list.iter().filter(move |need| need.want == want).map(|need| &need.book)
    }

    /// Returns true if a held price of the symbol waits for another one.
    pub fn awaits_price(&self, symbol: &str) -> bool {
        let is_it =
            |need: &Need| need.want == Want::Price && need.why == Why::PriceJump && *need.book.symbol == *symbol;
        self.list.iter().any(is_it)
    }

    /// Returns the open position of a book.
    pub fn open_of(&self, book: &NeedyBook) -> Option<&OpenPosition> {
        self.open.iter().find(|open| open.book == *book)
    }
}

/// Time of the last request for each fact, by its [subject](Need::subject). [ms since 1970]
pub type Asked = BTreeMap<(Box<str>, Want), u64>;

/// Sorts needs by how long they have waited: since they arose, or since the last request for them.
///
/// A position near a rung has a head start. A need that was asked for goes to the end, so that each has its turn.
pub fn sort_by_wait(list: &mut [Need], asked: &Asked) {
    list.sort_by_cached_key(|need| {
        let asked_ms = asked.get(&(need.subject(), need.want)).copied();
        let waits_from = asked_ms.map_or(need.since_ms, |asked_ms| asked_ms.max(need.since_ms));
        let head_start = if need.near_rung { NEAR_RUNG_HEAD_START_MS } else { 0 };
        (waits_from.saturating_sub(head_start), !need.near_rung, need.want, need.book.clone())
    });
}

fn open_position(book: BookView<'_>, open: &Position) -> OpenPosition {
    OpenPosition {
        book: NeedyBook::of(book),
        position_id: book.position_id(open),
        qty: open.totals.qty,
        opened_ms: open.opened.id.ms,
        mark: book.symbol.mark.map(|mark| KnownPrice { price: mark.price, at_ms: mark.entry.ms }),
        unexplained: unexplained(book, open),
        unpriced_orders: unpriced_orders(book, open),
    }
}

/// Returns the orders with parts that have no price. Only an order with an exchange id has trades at the exchange.
fn unpriced_orders(book: BookView<'_>, open: &Position) -> Vec<Box<str>> {
    let unpriced = |key: &OrderKey| match key {
        OrderKey::Id(id) => open.changes.iter().any(|m| is_unpriced(m, key)).then(|| id.clone()),
        OrderKey::Shared { .. } | OrderKey::Plan(_) | OrderKey::Entry(_) => None,
    };
    book.orders.keys().filter_map(unpriced).collect()
}

fn is_unpriced(change: &PositionChange, key: &OrderKey) -> bool {
    let of_order = matches!(&change.cause, Cause::Fill { order, .. } if order == key);
    of_order && change.price.is_none_or(|price| price.source != EntrySource::Fill)
}

fn unexplained(book: BookView<'_>, open: &Position) -> Option<Unexplained> {
    let by_snapshot = open.changes.iter().any(|change| change.cause == Cause::StatedOpening);
    let qty = open.snapshot_qty.filter(|_| by_snapshot)?;
    Some(Unexplained { qty, opened_ms: open.opened.id.ms, step_size: book.step_size() })
}

fn of_position(book: BookView<'_>, open: &Position, policy: &Policy, now_ms: u64, gap_ms: Option<u64>) -> Vec<Need> {
    let near_rung = is_near_rung(book, open, policy, now_ms).unwrap_or(false);
    let need = |want, why, since_ms| Need { book: NeedyBook::of(book), want, why, since_ms, near_rung };
    let opened_ms = open.opened.id.ms;
    let mut list = Vec::new();
    if let Some((why, since_ms)) = of_price(book, policy, now_ms, opened_ms) {
        list.push(need(Want::Price, why, since_ms));
    }
    if open.totals.entry.is_none() {
        list.push(need(Want::EntryPrice, Why::Missing, opened_ms));
    }
    if let Some((why, since_ms)) = of_confirmation(book, open, policy, now_ms, gap_ms) {
        list.push(need(Want::Confirmation, why, since_ms));
    }
    if book.step_size().is_none() {
        list.push(need(Want::Instrument, Why::Missing, opened_ms));
    }
    if unexplained(book, open).is_some() && rests_on_a_guess(open) {
        list.push(need(Want::Fills, Why::StartsTooLate, opened_ms));
    } else if !unpriced_orders(book, open).is_empty() {
        list.push(need(Want::Fills, Why::Missing, opened_ms));
    }
    list
}

/// Returns true if the trades of the position would add something: a better entry price, or the intent that opened it.
fn rests_on_a_guess(open: &Position) -> bool {
    let is_guess = |risk: &RiskFields| matches!(risk.source, RiskSource::IntentNearest | RiskSource::Legacy);
    open.totals.entry.is_none_or(|entry| entry.source < EntrySource::Exchange)
        || open.risk.as_ref().is_none_or(is_guess)
}

fn of_price(book: BookView<'_>, policy: &Policy, now_ms: u64, opened_ms: u64) -> Option<(Why, u64)> {
    if let Some(held) = book.symbol.held_price {
        return Some((Why::PriceJump, held.entry.ms));
    }
    let Some(mark) = book.symbol.mark else { return Some((Why::Missing, opened_ms)) };
    let age_ms = now_ms.saturating_sub(mark.entry.ms);
    match age_ms {
        _ if age_ms > policy.max_price_age_ms => Some((Why::Stale, mark.entry.ms)),
        _ if age_ms > policy.max_price_age_ms / 2 => Some((Why::Due, mark.entry.ms)),
        _ => None,
    }
}

fn of_confirmation(
    book: BookView<'_>,
    open: &Position,
    policy: &Policy,
    now_ms: u64,
    gap_ms: Option<u64>,
) -> Option<(Why, u64)> {
    if book.hot.history_gap {
        return Some((Why::HistoryGap, gap_ms.unwrap_or(open.confirmed_ms)));
    }
    if book.hot.diverged {
        return Some((Why::Diverged, book.hot.disagreement.map_or(open.confirmed_ms, |first| first.since_ms)));
    }
    if open.rungs.iter().any(|rung| rung.state == RungState::Unknown) {
        return Some((Why::ResultUnknown, open.confirmed_ms));
    }
    if let Some(doubted) = open.price_doubted {
        return Some((Why::PriceJump, doubted.ms));
    }
    let age_ms = now_ms.saturating_sub(open.confirmed_ms);
    (policy.mode == Mode::Live && age_ms > policy.max_position_age_ms).then_some((Why::Stale, open.confirmed_ms))
}

fn is_near_rung(book: BookView<'_>, open: &Position, policy: &Policy, now_ms: u64) -> Result<bool, OutOfRange> {
    let armed = policy.ladder.iter().map(|step| step.r).find(|&r| open.rung_state(r, now_ms) == RungState::Armed);
    let (Some(r), Some(mark)) = (armed, book.symbol.mark) else { return Ok(false) };
    let Some(target) = exit::price_at(open, policy, r.max(policy.min_r))? else { return Ok(false) };
    let away = if open.totals.qty.is_negative() { mark.price.minus(target)? } else { target.minus(mark.price)? };
    Ok(away <= mark.price.times(Ratio::from_bps(Ratio::new(Decimal::from(NEAR_RUNG_BPS)))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(symbol: &str, since_ms: u64, near_rung: bool) -> Need {
        let (account, side) = Default::default();
        Need {
            book: NeedyBook { symbol: symbol.into(), account, side },
            want: Want::Price,
            why: Why::Missing,
            since_ms,
            near_rung,
        }
    }

    fn ordered(list: &[Need], asked: &Asked) -> Vec<String> {
        let mut list = list.to_vec();
        sort_by_wait(&mut list, asked);
        list.iter().map(|need| need.book.symbol.to_string()).collect()
    }

    #[test]
    fn near_a_rung_goes_first_then_who_has_waited_longest() {
        let list = [need("NEW", 50_000, false), need("OLD", 30_000, false), need("NEAR", 55_000, true)];
        assert_eq!(ordered(&list, &Asked::new()), ["NEAR", "OLD", "NEW"]);
    }

    #[test]
    fn nobody_starves_however_many_are_near_a_rung() {
        let list: Vec<Need> =
            (0..12).map(|i| need(&format!("NEAR{i:02}"), 100_000, true)).chain([need("FAR", 100_000, false)]).collect();
        let mut asked = Asked::new();
        for tick in 0..20u64 {
            let now_ms = 100_000 + tick * 5_000;
            let turn: Vec<String> = ordered(&list, &asked).into_iter().take(2).collect();
            for symbol in &turn {
                asked.insert((symbol.as_str().into(), Want::Price), now_ms);
            }
            if turn.iter().any(|symbol| symbol == "FAR") {
                return;
            }
        }
        panic!("FAR never had its turn");
    }
}
