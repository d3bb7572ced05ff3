//! Control entries: policy, kill switch, gaps, and acceptances by operators.

use super::Engine;
use super::globals::Gap;
use crate::domain::book::counters::Count;
use crate::domain::book::position::Position;
use crate::domain::book::rung::DecisionOutcome;
use crate::domain::book::state::book_of_position;
use crate::domain::event::ids::{AccountId, BookId, EntryId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Control, PriceSource};
use crate::domain::exit;
use crate::domain::exit::policy::{Mode, OnLive, Policy};
use crate::domain::units::Qty;

impl Engine {
    pub(super) fn control(&mut self, control: &Control, symbol: Option<SymbolId>, account: AccountId, id: EntryId) {
        match control {
            Control::PolicyAdopted(policy) => self.adopt_policy(account, policy.as_deref().cloned()),
            Control::KillChanged { kill } if account.is_named() => {
                self.accounts.get_mut(account).killed = *kill;
                self.invalidate_all();
            }
            Control::KillChanged { kill } => self.set_killed(*kill),
            Control::HistoryGap { stream, after, before } => {
                self.counters.count(Count::GapRecorded);
                self.globals.gaps.push(Gap { stream: stream.clone(), after: *after, before: *before, reported: id });
                // An unknown stream may have carried results. A hold is safer than a trade.
                if self.streams.id_of(stream).is_none_or(|s| self.streams.kind(s) == StreamKind::Result) {
                    self.flag_gap_everywhere();
                }
            }
            Control::GapAccepted => self.accept_gap(account, symbol),
            Control::RiskAccepted { position_id } => {
                let known = self.with_position(position_id, |position| position.risk_accepted = true).is_some();
                if !known {
                    self.counters.count(Count::UnknownPosition);
                }
            }
            Control::RungRearmed { position_id, r } => {
                let armed = self.with_position(position_id, |position| position.rearm(*r, id));
                if armed != Some(true) {
                    self.counters.count(Count::UnknownPosition);
                }
            }
            Control::DecisionExpired { decision_id } => match self.expire(decision_id, id) {
                Some(book) => {
                    self.invalidate(book);
                    self.changes.touch_cold(book);
                    self.after_positions(book);
                }
                None => self.counters.count(Count::UnknownDecision),
            },
            Control::EntrySkipped { stream, id } => self.skip(stream, *id),
        }
    }

    /// Accepts a gap: of one symbol or of all, in one account or in all.
    fn accept_gap(&mut self, account: AccountId, symbol: Option<SymbolId>) {
        let account = Some(account).filter(|account| account.is_named());
        match (account, symbol) {
            (None, None) => {
                self.globals.gap_everywhere = false;
                self.accounts.gaps_accepted.clear();
            }
            // Books that are named later have no gap, either.
            _ if self.globals.gap_everywhere => {
                self.accounts.gaps_accepted.insert((account, symbol));
            }
            _ => {}
        }
        let symbols: Vec<SymbolId> = match symbol {
            Some(symbol) => vec![symbol],
            None => self.slots.ids().collect(),
        };
        for symbol in symbols {
            for book in self.books_where(symbol, |book| account.is_none_or(|account| account == book.account)) {
                self.slots.book_mut(book).hot.history_gap = false;
                self.invalidate(book);
            }
        }
    }

    /// Arms the rungs of a decision again. Returns its book, if it is known.
    fn expire(&mut self, decision_id: &str, id: EntryId) -> Option<BookId> {
        let Self { slots, accounts, globals, .. } = self;
        slots.book_ids().into_iter().find(|book| {
            let book = slots.book_mut(*book);
            let policy = accounts.policy_of(book.account, globals);
            let expires = |position: &mut Position| {
                position.apply_outcome(decision_id, DecisionOutcome::Expired, id, Qty::ZERO, policy)
            };
            book.positions_mut().any(expires)
        })
    }

    fn with_position<T>(&mut self, position_id: &str, change: impl FnOnce(&mut Position) -> T) -> Option<T> {
        let name = book_of_position(position_id)?;
        let id = self.find_book(name)?;
        let answer = {
            let book = self.slots.book_mut(id);
            let name = book.name.clone();
            let position = book.positions_mut().find(|position| position.id.with_book(&name) == position_id)?;
            position.dirty.0 = true;
            change(position)
        };
        self.invalidate(id);
        self.changes.touch_cold(id);
        self.after_positions(id);
        Some(answer)
    }

    /// Puts a policy in force: the general one, or that of an account. Without a policy the account follows the general
    /// one again.
    fn adopt_policy(&mut self, account: AccountId, policy: Option<Policy>) {
        let modes: Vec<Mode> = self.accounts.ids().map(|account| self.policy_of(account).mode).collect();
        match policy {
            policy if account.is_named() => {
                let of_account = self.accounts.get_mut(account);
                (of_account.policy, of_account.policy_adopted) = (policy, true);
            }
            Some(policy) => {
                self.globals.policy = policy;
                self.globals.policy_adopted = true;
                self.accounts.drop_configured();
            }
            None => return,
        }
        self.accounts.combine(&self.globals.policy);
        self.invalidate_all();
        self.accept_sources();
        for book in self.slots.book_ids() {
            let account = self.slots.book(book).account;
            let becomes_live = modes[account.0 as usize] == Mode::Shadow && self.policy_of(account).mode == Mode::Live;
            if becomes_live {
                self.become_live(book);
            }
        }
    }

    fn become_live(&mut self, id: BookId) {
        let Self { slots, accounts, globals, .. } = self;
        let account = slots.book(id).account;
        let policy = accounts.policy_of(account, globals);
        let on_live = policy.on_live.unwrap_or(OnLive::Skip);
        let gain = exit::gain(slots.view(id), policy).ok().flatten();
        let Some(open) = &mut slots.book_mut(id).hot.open else { return };
        open.release_shadowed(on_live);
        if on_live == OnLive::Skip {
            // Without a gain now, the first price that gives one determines the reached rungs.
            match gain.and_then(|gain| exit::reached(policy, &gain).ok()) {
                Some(reached) => open.skip(reached),
                None => open.skips_reached = true,
            }
        }
        self.invalidate(id);
    }

    /// Sets the kill switch.
    pub(super) fn set_killed(&mut self, is_killed: bool) {
        self.globals.killed = is_killed;
        self.invalidate_all();
    }

    pub(super) fn accept_sources(&mut self) {
        let sources = &self.globals.policy.price_sources;
        let accepts = |name: &str| sources.is_empty() || sources.iter().any(|s| **s == *name);
        self.accepted_streams = self.streams.iter().map(|(_, stream)| accepts(stream.short_name())).collect();
    }

    #[inline(always)]
    pub(super) fn accepts(&self, source: PriceSource) -> bool {
        match source {
            PriceSource::Stream(stream) => self.accepted_streams[usize::from(stream.0)],
            PriceSource::RedisTicker | PriceSource::RedisMarket | PriceSource::Api => {
                let sources = &self.globals.policy.price_sources;
                sources.is_empty() || sources.iter().any(|s| &**s == self.source_name(source))
            }
        }
    }

    /// Returns the name of a price source in policies and outputs.
    pub fn source_name(&self, source: PriceSource) -> &str {
        match source {
            PriceSource::Stream(stream) => self.streams.get(stream).short_name(),
            PriceSource::RedisTicker => PriceSource::REDIS_TICKER,
            PriceSource::RedisMarket => PriceSource::REDIS_MARKET,
            PriceSource::Api => PriceSource::API,
        }
    }
}
