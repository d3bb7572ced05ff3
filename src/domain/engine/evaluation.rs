//! The evaluation of books after an entry: for each a decision, or the hold that applies.

use super::decision::{Decision, NewDecision, decision_id};
use super::settling::Settling;
use super::{BooksNamed, Engine, Misfit};
use crate::domain::book::rung::{DecisionRecord, RungState};
use crate::domain::book::view::BookView;
use crate::domain::event::ids::{AccountId, BookId, EntryId, SortKey};
use crate::domain::event::{Entry, PositionSide};
use crate::domain::exit::policy::{Mode, Policy};
use crate::domain::exit::{self, Choice, EntryTerms, Flag, Hindrance, Hold, Valuation};
use crate::domain::units::OutOfRange;

impl Engine {
    /// Returns the policy in force of an account.
    #[inline]
    pub fn policy_of(&self, account: AccountId) -> &Policy {
        self.accounts.policy_of(account, &self.globals)
    }

    /// Returns true if an account is killed: all are, or it alone is.
    pub fn is_killed(&self, account: AccountId) -> bool {
        self.globals.killed || self.accounts.get(account).killed
    }

    /// Returns the hold of a book's open position at a time, if there is one. It changes and counts nothing.
    pub fn hold_at(&self, book: BookView<'_>, now_ms: u64) -> Option<Hold> {
        let at = self.accounts.context_of(book.account, &self.globals, now_ms);
        let policy = self.policy_of(book.account);
        let terms = EntryTerms::of(book.book.hot.open.as_ref()?, policy);
        let chosen =
            exit::check_guards(book, policy, &terms, at).and_then(|gain| exit::select_rungs(book, policy, &gain, at));
        match chosen {
            Ok(_) => None,
            Err(Hindrance::Hold(hold)) => Some(hold),
            Err(Hindrance::OutOfRange) => Some(Hold::OutOfRange),
        }
    }

    /// Evaluates the books that an entry names, in the order of the contract, and settles their decisions.
    ///
    /// A book whose numbers do not fit gets a hold. Errors if they fit no book of an entry that is then refused.
    pub(super) fn decide(
        &mut self,
        entry: &Entry,
        named: BooksNamed,
        key: SortKey,
        misfit: Misfit,
    ) -> Result<Vec<Decision>, OutOfRange> {
        let mut settling = self.begin_settling(entry, key);
        let mut decided = Decided::default();
        match named {
            BooksNamed::Book(book) => self.decide_one(entry, book, &mut settling, &mut decided),
            BooksNamed::Books(books) => {
                books.into_iter().for_each(|book| self.decide_one(entry, book, &mut settling, &mut decided));
            }
            BooksNamed::Of { symbol, account, side } => {
                let is_named = |account_of: AccountId, side_of: PositionSide| {
                    account.is_none_or(|account| account == account_of) && side.is_none_or(|side| side == side_of)
                };
                let slot = &self.slots[symbol];
                if is_named(slot.book.account, slot.book.side) {
                    self.decide_one(entry, BookId::one_way(symbol), &mut settling, &mut decided);
                }
                for place in 0..self.slots[symbol].evaluation_order.len() {
                    let slot = &self.slots[symbol];
                    let book = BookId { symbol, nth: slot.evaluation_order[place] };
                    let other = self.slots.book(book);
                    if other.hot.open.is_some() && is_named(other.account, other.side) {
                        self.decide_one(entry, book, &mut settling, &mut decided);
                    }
                }
            }
        }
        if !decided.any_fits && !decided.misfits.is_empty() {
            self.give_up_settling(settling, entry);
            if misfit == Misfit::Refuses {
                return Err(OutOfRange);
            }
        } else {
            self.end_settling(settling);
        }
        for book in decided.misfits {
            self.hold(book, Hold::OutOfRange, entry.id);
        }
        Ok(decided.decisions)
    }

    fn decide_one(&mut self, entry: &Entry, book: BookId, settling: &mut Settling, decided: &mut Decided) {
        match self.evaluate(entry, book) {
            Ok(ours) => {
                decided.any_fits |= self.slots.book(book).hot.open.is_some();
                decided.decisions.extend(self.settle(settling, entry, book, ours));
            }
            Err(OutOfRange) => decided.misfits.push(book),
        }
    }

    /// Evaluates the open position, if there is one. Returns a decision of ours, if no hold applies.
    fn evaluate(&mut self, entry: &Entry, id: BookId) -> Result<Option<NewDecision>, OutOfRange> {
        if let Some(hold) = self.recall(id, entry.id.ms) {
            self.hold(id, hold, entry.id);
            return Ok(None);
        }
        let book = self.slots.book(id);
        let Some(open) = &book.hot.open else { return Ok(None) };
        let terms = EntryTerms::of(open, self.policy_of(book.account));
        let chosen = self.choose(entry, id, &terms);
        let hold = match chosen {
            Err(Hindrance::Hold(hold)) => Some(hold),
            Ok(_) | Err(Hindrance::OutOfRange) => None,
        };
        self.remember(id, hold.map(|hold| (hold, terms)));
        match chosen {
            Ok(choice) => {
                let view = self.slots.view(id);
                let valuation = Valuation::of(view, self.policy_of(view.account))?;
                let valuation = valuation.expect("a choice is made by numbers that are there");
                self.counters.evaluations += 1;
                self.note(id, None, entry.id);
                Ok(Some(self.decision(entry, id, valuation, choice)))
            }
            Err(Hindrance::Hold(hold)) => {
                self.hold(id, hold, entry.id);
                Ok(None)
            }
            Err(Hindrance::OutOfRange) => Err(OutOfRange),
        }
    }

    /// Chooses rungs. Errors with the hold that applies. The first evaluation of a position that became live skips the
    /// rungs that it has reached by then, if its policy has `on_live = "skip"`.
    fn choose(&mut self, entry: &Entry, id: BookId, terms: &EntryTerms) -> Result<Choice, Hindrance> {
        let Self { accounts, globals, slots, .. } = self;
        let account = slots.book(id).account;
        let policy = accounts.policy_of(account, globals);
        let at = accounts.context_of(account, globals, entry.id.ms);
        let gain = exit::check_guards(slots.view(id), policy, terms, at)?;
        if let Some(open) = &mut slots.book_mut(id).hot.open
            && open.skips_reached
        {
            open.skip(exit::reached(policy, &gain)?);
            open.skips_reached = false;
        }
        exit::select_rungs(slots.view(id), policy, &gain, at)
    }

    /// Counts a hold, and notes it with the position if it differs from the last one.
    #[inline(always)]
    pub(super) fn hold(&mut self, id: BookId, hold: Hold, at: EntryId) {
        self.counters.hold(hold, 1);
        self.note(id, Some(hold), at);
    }

    #[inline(always)]
    pub(super) fn note(&mut self, id: BookId, hold: Option<Hold>, at: EntryId) {
        let open = &mut self.slots.book_mut(id).hot.open;
        if open.as_mut().is_some_and(|open| open.holds.note(hold, at)) {
            self.changes.touch_hot(id);
        }
    }

    fn decision(&self, entry: &Entry, id: BookId, valuation: Valuation, choice: Choice) -> NewDecision {
        let book = self.slots.view(id);
        let policy = self.policy_of(book.account);
        let open = book.book.hot.open.as_ref().expect("a choice is made for an open position only");
        let risk_fields = open.risk.clone().expect("a choice rests on risk fields");
        let position_id = book.position_id(open);
        let decision_id = decision_id(&position_id, &choice.rungs, choice.attempt);
        let plan_id = decision_id[..16].to_owned();
        let state = match policy.mode {
            Mode::Shadow => RungState::Shadowed,
            Mode::Live => RungState::Requested,
        };
        let record = DecisionRecord {
            decision_id: decision_id.as_str().into(),
            plan_id: plan_id.as_str().into(),
            rungs: choice.rungs.clone(),
            share: choice.share,
            shares: Vec::new(),
            qty: choice.qty,
            attempt: choice.attempt,
            seq: 0,
            cause: format!("{}/{}", self.streams.get(entry.stream).name, entry.id).into(),
            state,
            last_outcome_ms: entry.id.ms,
            expired: false,
            outcomes: Vec::new(),
        };
        let decision = Decision {
            decision_id,
            plan_id,
            position_id,
            book: id,
            side: open.direction.closing_side(),
            qty: choice.qty,
            share: choice.share,
            base: policy.base,
            rungs: choice.rungs,
            attempt: choice.attempt,
            valuation,
            risk_fields,
            mode: policy.mode,
            policy_hash: policy.hash.clone(),
            flags: exit::flags(book, open, policy)
                .into_iter()
                .chain(choice.is_capped.then_some(Flag::Capped))
                .collect(),
            cause_stream: entry.stream,
            cause: entry.id,
            seq: 0,
        };
        (decision, Box::new(record))
    }
}

/// The outcome of the evaluations after one entry.
#[derive(Default)]
struct Decided {
    decisions: Vec<Decision>,
    /// Books whose numbers do not fit.
    misfits: Vec<BookId>,
    /// The numbers of an open book fit.
    any_fits: bool,
}
