//! `step`: fold one entry, then decide. It is the only entrance to the rules, for replay and live alike.
//!
//! In reading order:
//!
//! - this file: `step`;
//! - the fold: `fold` (facts other than results), `result` (results), `books` and
//!   `of_fill` (which book an entry belongs to), `rollback`
//!   (what an entry that does not fit restores), `control`, `gaps`, `published` (decision entries), `skips`;
//! - the decision: `evaluation` (a decision or a hold for each book), `decision`, `settling` (which decision takes
//!   effect: ours or a `recorded` one), `chain`;
//! - cells: `elsewhere` (entries of other cells), `routes`;
//! - the state: `slots`, `globals`, `accounts`, `nonces`, `changes`, `persisted`;
//! - views of the state: `needs` (the facts that the projection lacks);
//! - `shortcut`, which only saves time.

use std::collections::{BTreeMap, BTreeSet};

use super::book::counters::{Count, Counters};
use super::book::plans::Plans;
use super::event::ids::{AccountId, BookId, EntryId, SortKey, StreamId, SymbolId};
use super::event::streams::{StreamKind, Streams};
use super::event::{Entry, Event, PositionSide, PriceFact, Reason, Unreadable};
use super::exit::policy::Policy;
use accounts::Accounts;
use recorded::RecordedDecisions;
use rollback::{PriceRollback, Rollbacks};
use routes::FoldedBy;
use slots::{Slot, Slots};

pub mod accounts;
mod books;
pub mod chain;
mod changes;
mod control;
mod decision;
mod elsewhere;
mod evaluation;
mod fold;
mod gaps;
mod globals;
pub mod needs;
pub mod nonces;
mod of_fill;
pub mod persisted;
mod published;
pub mod recorded;
mod result;
mod rollback;
pub mod routes;
mod settling;
pub mod shortcut;
pub mod skips;
mod slots;

pub use chain::ChainHead;
pub use changes::Changes;
pub use decision::{Decision, decision_id};
pub use globals::{Gap, Globals};

/// Version of the rules. A store of another version is folded again.
pub const RULES_VERSION: &str = "2";

/// Earlier ids are not times: 2010-01-01, before the first Redis stream. [ms since 1970]
pub const FIRST_TIME_MS: u64 = 1_262_304_000_000;
/// Ids further ahead of the server's clock than this are named as ahead, and wait (docs/spec/canonical-order.md, "Ids
/// ahead"). [ms]
pub const IDS_AHEAD_MAX_MS: u64 = 2_000;

/// How the decisions count that the history contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decisions {
    /// They are facts: adopted, and not made again.
    #[default]
    Recorded,
    /// They are ignored, and everything is derived again.
    Derived,
    /// Ours are returned beside them, and the audit compares the two. The state follows the recorded ones
    /// and, where one is missing, ours. So each later decision is judged by itself.
    Audited,
}

/// The effect of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Applied,
    /// At or before the cursor of its stream. It has no effect.
    Duplicate,
    Quarantined(Reason),
}

/// The result of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub disposition: Disposition,
    /// The decisions of ours that take effect: at most one for each book, in the order in which books are evaluated.
    pub decisions: Vec<Decision>,
}

impl Step {
    /// The entry was applied, and no decision takes effect.
    const APPLIED: Self = Self { disposition: Disposition::Applied, decisions: Vec::new() };
}

/// The fold over all entries, and the decisions that follow from it.
#[derive(Clone, Debug)]
pub struct Engine {
    streams: Streams,
    globals: Globals,
    slots: Slots,
    accounts: Accounts,
    by_name: BTreeMap<Box<str>, SymbolId>,
    /// Plans by id, remembered for 24 h.
    plans: Plans,
    /// By the plan id of a decision of ours: its book and its id.
    decision_plans: BTreeMap<Box<str>, (BookId, Box<str>)>,
    /// By stream: its last applied entry.
    cursors: Vec<Option<EntryId>>,
    /// The books with a decision that time alone can change.
    in_flight: BTreeSet<BookId>,
    /// The accounts of orders and plans, of this cell and of others.
    routes: routes::Routes,
    recorded: RecordedDecisions,
    decisions: Decisions,
    /// The sort key that the order of application has reached.
    last_key: Option<SortKey>,
    /// By stream: true if the policy accepts prices from it.
    accepted_streams: Vec<bool>,
    changes: Changes,
    pub counters: Counters,
}

impl Engine {
    /// Creates an engine before the first entry, under the configured policy.
    pub fn new(streams: Streams, policy: Policy) -> Self {
        let cursors = vec![None; streams.len()];
        let accounts = Accounts::read_by(streams.selection().clone());
        let mut engine = Self {
            streams,
            globals: Globals::new(policy),
            slots: Slots::default(),
            accounts,
            by_name: BTreeMap::new(),
            plans: Plans::default(),
            decision_plans: BTreeMap::new(),
            cursors,
            in_flight: BTreeSet::new(),
            routes: routes::Routes::default(),
            recorded: RecordedDecisions::default(),
            decisions: Decisions::default(),
            last_key: None,
            accepted_streams: Vec::new(),
            changes: Changes::default(),
            counters: Counters::default(),
        };
        engine.accept_sources();
        engine
    }

    /// Sets the recorded decisions of the history.
    pub fn set_recorded_decisions(&mut self, recorded: RecordedDecisions) {
        self.recorded = recorded;
    }

    /// Lets only the recorded decisions take effect. Ours are compared, however late their causes are.
    pub fn follow_recorded_decisions_only(&mut self) {
        self.recorded.cover_everything();
    }

    /// Chooses how the decisions of the history count. Without this they are recorded.
    #[must_use]
    pub fn with_decisions(self, decisions: Decisions) -> Self {
        Self { decisions, ..self }
    }

    /// Returns how the decisions of the history count.
    pub fn decisions(&self) -> Decisions {
        self.decisions
    }

    /// Notes that the history skips an entry. It has no effect on an entry that was folded, or on a stream that is not
    /// read.
    pub fn skip(&mut self, stream: &str, id: EntryId) {
        let is_ahead = |of: StreamId| self.cursors[usize::from(of.0)].is_none_or(|cursor| cursor < id);
        if self.streams.id_of(stream).is_some_and(is_ahead) {
            self.globals.skipped.insert((stream.into(), id));
        }
    }

    /// Returns true if an entry is known to be skipped.
    pub fn is_skipped(&self, stream: &str, id: EntryId) -> bool {
        !self.globals.skipped.is_empty() && self.globals.skipped.contains(&(stream.into(), id))
    }

    /// Links a decision that was just made into the chain. The next decision follows its hash; the decisions of one
    /// entry are linked in their order.
    ///
    /// The hash covers the text of the decision, which only the codec knows. So the driver brings it here, and nothing
    /// else does.
    pub(crate) fn link(&mut self, made: &Decision, hash: &str) {
        let is_just_made = made.seq <= self.globals.chain.seq && !self.globals.chain_tail.contains_key(&made.seq);
        assert!(is_just_made, "only a decision that was just made is linked");
        self.globals.chain.hash = hash.into();
        self.note_link(made.seq, hash);
    }

    /// Makes the next decision the first of a chain.
    pub fn begin_chain(&mut self) {
        self.globals.chain = ChainHead::default();
        self.globals.chain_tail.clear();
    }

    /// Resets all counters, so that a report begins here.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// Folds one entry, then decides for the books that it names.
    pub fn step(&mut self, entry: &Entry) -> Step {
        if self.try_price(entry) {
            return Step::APPLIED;
        }
        self.count_entry(entry);
        if self.cursors[usize::from(entry.stream.0)].is_some_and(|cursor| entry.id <= cursor) {
            self.counters.duplicates += 1;
            return Step { disposition: Disposition::Duplicate, decisions: Vec::new() };
        }
        let key = SortKey::new(entry.stream, entry.id);
        if self.last_key.is_some_and(|last| key < last) {
            self.counters.count(Count::LateOrder);
        }
        // A late entry gets the sort key that the order of application has reached.
        let key = self.last_key.map_or(key, |last| last.max(key));
        self.advance(entry, key);
        if self.recorded.reach_back_to(entry.id.ms) {
            self.adopt_orphaned(entry);
        }
        self.expire_timeouts(entry.id.ms);
        let of_account;
        let entry = match self.folded_by(entry) {
            FoldedBy::Us => entry,
            FoldedBy::UsFor(account) => {
                of_account = Entry { account, ..entry.clone() };
                &of_account
            }
            FoldedBy::Others => {
                self.forget_skip(entry);
                self.counters.applied += 1;
                return Step::APPLIED;
            }
        };
        if let Some(symbol) = entry.symbol.filter(|_| entry.kind != StreamKind::Price) {
            self.name(symbol);
        }
        if self.try_skip(entry) {
            self.counters.count(Count::Skipped);
            self.counters.applied += 1;
            return Step::APPLIED;
        }
        match self.fold_and_decide(entry, key) {
            Ok(decisions) => {
                self.counters.applied += 1;
                Step { disposition: Disposition::Applied, decisions }
            }
            Err(unreadable) => {
                self.quarantine(entry, &unreadable);
                *self.counters.quarantined.entry(unreadable.reason).or_default() += 1;
                Step { disposition: Disposition::Quarantined(unreadable.reason), decisions: Vec::new() }
            }
        }
    }

    /// Counts an entry, also if it is a duplicate.
    #[inline(always)]
    fn count_entry(&mut self, entry: &Entry) {
        self.counters.first.get_or_insert(entry.id);
        self.counters.last = Some(entry.id);
        self.counters.shape(entry.kind, entry.shape, 1);
    }

    /// Notes how far the entries have come: the cursor of the stream, the sort key, the last id.
    #[inline(always)]
    fn advance(&mut self, entry: &Entry, key: SortKey) {
        self.cursors[usize::from(entry.stream.0)] = Some(entry.id);
        self.last_key = Some(key);
        self.globals.last = self.globals.last.max(entry.id);
    }

    fn fold_and_decide(&mut self, entry: &Entry, key: SortKey) -> Result<Vec<Decision>, Unreadable> {
        let event = entry.content.as_ref().map_err(Unreadable::clone)?;
        if self.refuses_account(entry) {
            return Err(Unreadable { is_unlisted: true, ..Unreadable::new(Reason::UnknownAccount) });
        }
        let is_time = entry.id.ms >= FIRST_TIME_MS;
        if !is_time {
            self.counters.count(Count::IdsNotTime);
        }
        match (event, entry.symbol) {
            (Event::Control(fact), symbol) => {
                self.globals.nonces.take(fact, entry.id).map_err(|_| Unreadable::new(Reason::BadSignature))?;
                self.control(&fact.control, symbol, entry.account, entry.id);
                Ok(Vec::new())
            }
            (Event::Decision(fact), _) => {
                if self.decisions != Decisions::Derived {
                    self.decision_entry(fact, entry.id);
                }
                Ok(Vec::new())
            }
            (_, None) => Ok(Vec::new()),
            (Event::Price(_), Some(_)) if !is_time => {
                self.settle_unevaluated(entry, key);
                Ok(Vec::new())
            }
            (Event::Price(fact), Some(symbol)) => self.fold_price_and_decide(entry, *fact, symbol, key),
            (event, Some(symbol)) => {
                let named = self.fold_fact_or_restore(event, entry, symbol)?;
                if !is_time {
                    self.settle_unevaluated(entry, key);
                    return Ok(Vec::new());
                }
                // If an evaluation does not fit exact arithmetic here, the state is the cause and not the entry: the
                // entry stays applied, and its books get a hold.
                Ok(self.decide(entry, named, key, Misfit::Holds).unwrap_or_default())
            }
        }
    }

    /// Applies the entries of all accounts from now on, as in shadow mode, whatever the policy knows.
    pub fn accept_all_accounts(&mut self) {
        self.accounts.accepts_all = true;
    }

    /// Returns true if the policy refuses entries of this account: it is live, and the account is not configured.
    fn refuses_account(&self, entry: &Entry) -> bool {
        let is_of_account = match entry.kind {
            StreamKind::Intent
            | StreamKind::Plan
            | StreamKind::Result
            | StreamKind::Snapshot
            | StreamKind::Observation => entry.account.is_named(),
            StreamKind::Control | StreamKind::Price | StreamKind::Decision => false,
        };
        is_of_account && self.refuses(entry.account)
    }

    /// Returns true if the policy refuses entries of a named account.
    fn refuses(&self, account: AccountId) -> bool {
        let account = self.accounts.get(account);
        !self.accounts.accepts_all && account.policy.is_none() && self.globals.policy.refuses_account(&account.name)
    }

    /// Folds a price, then decides for all books of its symbol. If the numbers fit none of them, it leaves the symbol
    /// as it was.
    fn fold_price_and_decide(
        &mut self,
        entry: &Entry,
        fact: PriceFact,
        symbol: SymbolId,
        key: SortKey,
    ) -> Result<Vec<Decision>, Unreadable> {
        if let Some(left) = self.books_left(entry, &fact, symbol) {
            // The numbers of another open book fit, so the entry is not refused.
            return Ok(self.decide(entry, BooksNamed::Books(left), key, Misfit::Holds).unwrap_or_default());
        }
        let before = PriceRollback::before(&self.slots[symbol]);
        let folded = self.fold_price(fact, entry, symbol);
        let decided = folded
            .and_then(|()| self.decide(entry, BooksNamed::all_of(symbol), key, Misfit::Refuses).map_err(Reason::from));
        decided.map_err(|reason| {
            before.restore(&mut self.slots[symbol]);
            Unreadable::new(reason)
        })
    }

    /// Folds a fact other than a price. If its numbers do not fit, it leaves the books as they were. Returns the books
    /// that it names.
    fn fold_fact_or_restore(
        &mut self,
        event: &Event,
        entry: &Entry,
        symbol: SymbolId,
    ) -> Result<BooksNamed, Unreadable> {
        let mut rollbacks = Rollbacks::default();
        let prices_of = |slot: &Slot| (slot.symbol.mark, slot.symbol.held_price, slot.symbol.rescales.last().copied());
        let prices = (!self.slots[symbol].others.is_empty()).then(|| prices_of(&self.slots[symbol]));
        let folded = self.fold_fact(event, entry, symbol, &mut rollbacks);
        if folded.is_err() {
            rollbacks.restore(&mut self.slots);
        }
        // A rescaled contract, or an opening away from the price, concerns the other books of the symbol, too.
        if prices.is_some_and(|prices| prices != prices_of(&self.slots[symbol])) {
            self.invalidate_symbol(symbol);
        }
        folded
    }

    /// Notes that an entry other than a price named a symbol: it no longer counts against the limit of symbols.
    fn name(&mut self, id: SymbolId) {
        if !std::mem::replace(&mut self.slots[id].symbol.named, true) {
            self.changes.touch_hot(BookId::one_way(id));
        }
    }

    /// Forgets that an entry is skipped which is not folded anyway.
    fn forget_skip(&mut self, entry: &Entry) {
        if !self.globals.skipped.is_empty() {
            self.globals.skipped.remove(&(self.streams.get(entry.stream).name.as_str().into(), entry.id));
        }
    }

    /// Returns true if the entry is skipped, after flagging the symbols that it could concern.
    fn try_skip(&mut self, entry: &Entry) -> bool {
        if self.globals.skipped.is_empty()
            || !self.globals.skipped.remove(&(self.streams.get(entry.stream).name.as_str().into(), entry.id))
        {
            return false;
        }
        match entry.symbol {
            Some(symbol) => self.flag_named(entry, symbol, false),
            None if entry.kind == StreamKind::Result => self.flag_gap_everywhere(),
            None => {}
        }
        true
    }
}

/// The books that an entry names, to evaluate them after it.
#[derive(Clone, Debug)]
enum BooksNamed {
    Book(BookId),
    Books(Vec<BookId>),
    /// The books of a symbol: of one account or of all, of one side or of all.
    Of {
        symbol: SymbolId,
        account: Option<AccountId>,
        side: Option<PositionSide>,
    },
}

impl BooksNamed {
    const fn all_of(symbol: SymbolId) -> Self {
        Self::Of { symbol, account: None, side: None }
    }
}

/// How to treat an entry whose evaluation does not fit exact arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Misfit {
    /// The books get a hold.
    Holds,
    /// The entry is refused if its numbers fit no book. If they fit some books, the others get a hold.
    Refuses,
}
