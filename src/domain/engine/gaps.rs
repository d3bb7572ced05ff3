//! History gaps: which books an entry puts in doubt that cannot be read, or is skipped.

use std::collections::BTreeSet;

use super::{Decisions, Engine};
use crate::domain::book::counters::{Count, Unreadables};
use crate::domain::event::ids::{AccountId, BookId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Entry, Event, PositionSide, Reason, Unreadable};

impl Engine {
    pub(super) fn quarantine(&mut self, entry: &Entry, unreadable: &Unreadable) {
        if unreadable.kills {
            self.set_killed(true);
        }
        if unreadable.is_unlisted {
            self.counters.unreadable(Unreadables::Accounts, entry.id.ms);
            // It may have been configured before. No book is made for an account that was not.
            if let Some(symbol) = entry.symbol {
                for book in self.books_where(symbol, |book| book.account == entry.account) {
                    self.flag_gap(book);
                }
            }
            return;
        }
        // A contract that is settled in coins is never a position of ours.
        let is_ours = unreadable.reason != Reason::InverseContract;
        let is_trade = matches!(entry.content, Ok(Event::Trade(_)));
        let flags = match entry.kind {
            StreamKind::Result => is_ours && !unreadable.refusal && unreadable.reason != Reason::TooLate,
            StreamKind::Snapshot => is_ours,
            StreamKind::Decision => self.decisions == Decisions::Recorded || self.recorded.is_refused(entry.id),
            // Treated as skipped, as a replay without the key treats it.
            StreamKind::Control => unreadable.reason == Reason::BadSignature,
            StreamKind::Observation => is_ours && entry.is_of_exchange() && unreadable.reason != Reason::TooLate,
            StreamKind::Intent | StreamKind::Plan | StreamKind::Price => false,
        };
        match entry.kind {
            StreamKind::Result if flags => self.counters.unreadable(Unreadables::Results, entry.id.ms),
            StreamKind::Snapshot if flags => self.counters.unreadable(Unreadables::Snapshots, entry.id.ms),
            StreamKind::Observation if flags => self.counters.unreadable(Unreadables::Observations, entry.id.ms),
            // It takes no rung and no place in the chain. It is a finding, as a decision is that does not verify.
            StreamKind::Decision if flags => self.counters.count(Count::DecisionForeign),
            StreamKind::Result
            | StreamKind::Snapshot
            | StreamKind::Observation
            | StreamKind::Decision
            | StreamKind::Control
            | StreamKind::Intent
            | StreamKind::Plan
            | StreamKind::Price => {}
        }
        if let (Some(symbol), Some(account)) = (entry.symbol.filter(|_| flags), unreadable.sideless_in) {
            self.flag_account(symbol, account, None);
            return;
        }
        match entry.symbol {
            _ if unreadable.gap => self.flag_gap_everywhere(),
            // The order of a trade that names no account could be of any.
            Some(symbol) if flags && is_trade => self.flag_named(entry, symbol, !entry.account.is_named()),
            Some(symbol) if flags => self.flag_named(entry, symbol, unreadable.any_account),
            None if flags && entry.kind != StreamKind::Control => self.flag_named_or_open(&unreadable.named),
            Some(_) | None => {}
        }
    }

    /// Flags one book.
    pub(super) fn flag_gap(&mut self, book: BookId) {
        self.slots.book_mut(book).hot.history_gap = true;
        self.invalidate(book);
    }

    /// Flags the books of a symbol, in all accounts.
    fn flag_gap_of(&mut self, symbol: SymbolId) {
        for book in self.books_where(symbol, |_| true) {
            self.flag_gap(book);
        }
    }

    /// Flags the books that an entry names which cannot be read, or is skipped.
    ///
    /// A result or a decision that names no account may be of any, because its order or its position could tell. So may
    /// every entry whose account cannot be read.
    pub(super) fn flag_named(&mut self, entry: &Entry, symbol: SymbolId, any_account: bool) {
        let may_be_of_any = match entry.kind {
            StreamKind::Result | StreamKind::Decision | StreamKind::Control => !entry.account.is_named(),
            StreamKind::Observation
            | StreamKind::Intent
            | StreamKind::Plan
            | StreamKind::Snapshot
            | StreamKind::Price => false,
        };
        if any_account || may_be_of_any {
            self.flag_gap_of(symbol);
            let of_symbol = self.books_where(symbol, |_| true);
            let accounts: BTreeSet<AccountId> = of_symbol.iter().map(|book| self.slots.book(*book).account).collect();
            for account in accounts.into_iter().filter(|account| account.is_named()) {
                if self.accounts.get(account).hedged {
                    self.flag_account(symbol, account, entry.position_side.filter(|side| side.is_hedge()));
                }
            }
            // An account without a name that is hedged has no one-way book that could get a hold.
            if !self.accounts.get(AccountId::NONE).hedged {
                return;
            }
        }
        self.flag_account(symbol, entry.account, entry.position_side);
    }

    /// Flags the books of a symbol in an account that an entry may concern: that of its side, else all of them. The two
    /// sides of a hedged account are flagged although they may never have been named.
    pub(super) fn flag_account(&mut self, symbol: SymbolId, account: AccountId, side: Option<PositionSide>) {
        let sides: &[PositionSide] = match side {
            Some(PositionSide::Both) => &[PositionSide::Both],
            Some(PositionSide::Long) => &[PositionSide::Long],
            Some(PositionSide::Short) => &[PositionSide::Short],
            None => self.sides_of(account),
        };
        for side in sides {
            let book = self.intern_book(symbol, account, *side);
            self.flag_gap(book);
        }
        if side.is_none() {
            for book in self.books_where(symbol, |book| book.account == account) {
                self.flag_gap(book);
            }
        }
    }

    /// Flags the symbols that an unreadable text names. If it names none, flags all books with a position, in all
    /// accounts.
    fn flag_named_or_open(&mut self, named: &[SymbolId]) {
        match named {
            [] => {
                for book in self.slots.book_ids() {
                    if self.slots.book(book).hot.open.is_some() {
                        self.flag_gap(book);
                    }
                }
            }
            named => named.iter().for_each(|symbol| self.flag_gap_of(*symbol)),
        }
    }

    pub(super) fn flag_gap_everywhere(&mut self) {
        self.globals.gap_everywhere = true;
        self.accounts.gaps_accepted.clear();
        for book in self.slots.book_ids() {
            self.flag_gap(book);
        }
    }
}
