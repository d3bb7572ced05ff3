//! Which decision takes effect for a book: ours, or the one that the history has recorded (docs/spec/fold.md, "Recorded
//! decisions").

use super::chain::ChainHead;
use super::decision::{Decision, NewDecision};
use super::{Decisions, Engine};
use crate::domain::book::counters::Count;
use crate::domain::book::position::Position;
use crate::domain::book::rung::{DecisionOutcome, DecisionRecord, RungState};
use crate::domain::book::state::Book;
use crate::domain::book::state::book_of_position;
use crate::domain::event::ids::{BookId, EntryId, SortKey, StreamId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{DecisionFact, Entry};
use crate::domain::exit::RATE_WINDOW_MS;
use crate::domain::exit::policy::Mode;
use crate::domain::units::{Qty, RMultiple, Ratio};

/// The recorded decisions of an entry, while its books are evaluated.
pub(super) struct Settling {
    /// Not adopted yet.
    recorded: Vec<DecisionFact>,
    ours: OursAre,
}

/// How our own decisions about an entry are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OursAre {
    /// They are made: they take effect, and get the next numbers of the chain. In an audit that is so for books without
    /// a recorded decision; ours about other books are returned beside it, and the audit compares them outside of the
    /// engine.
    Made,
    /// They are compared up to the last book with a recorded decision, and made for the books after it: the process
    /// that recorded them ended in the middle of this entry.
    ComparedUpToLastRecorded,
    /// They are compared, and only the recorded ones take effect.
    Compared,
}

impl Engine {
    /// Begins to settle our decisions about an entry against those that the history contains.
    pub(super) fn begin_settling(&mut self, entry: &Entry, key: SortKey) -> Settling {
        let recorded = self.recorded.caused_by(entry.stream, entry.id);
        let is_last_cause = || self.recorded.ends_at(SortKey::new(entry.stream, entry.id));
        let ours = match self.decisions {
            Decisions::Audited => OursAre::Made,
            Decisions::Recorded | Decisions::Derived => match (recorded.is_empty(), self.recorded.cover(key)) {
                (true, false) => OursAre::Made,
                (false, _) if is_last_cause() => OursAre::ComparedUpToLastRecorded,
                (true, true) | (false, _) => OursAre::Compared,
            },
        };
        Settling { recorded, ours }
    }

    /// Settles our decision about a book, or none, against the decisions that the history contains. Returns the
    /// decision that takes effect, if there is one.
    pub(super) fn settle(
        &mut self,
        settling: &mut Settling,
        entry: &Entry,
        book: BookId,
        ours: Option<NewDecision>,
    ) -> Option<Decision> {
        let recorded = self.take_recorded(settling, book);
        let is_audited = self.decisions == Decisions::Audited;
        if is_audited && !recorded.is_empty() {
            for fact in &recorded {
                self.adopt(fact);
            }
            return ours.map(|(decision, _)| decision);
        }
        let is_compared = match settling.ours {
            OursAre::Made => false,
            OursAre::ComparedUpToLastRecorded => !recorded.is_empty() || !settling.recorded.is_empty(),
            OursAre::Compared => true,
        };
        if is_compared {
            self.compare_and_adopt(ours.as_ref().map(|(decision, _)| decision), &recorded);
            return None;
        }
        let (mut decision, record) = ours?;
        self.globals.chain.seq += 1;
        decision.seq = self.globals.chain.seq;
        self.counters.decisions += 1;
        self.record_decision(book, DecisionRecord { seq: decision.seq, ..*record }, entry.id.ms, None);
        Some(decision)
    }

    /// Adopts the recorded decisions of an entry about books that were not evaluated.
    pub(super) fn end_settling(&mut self, settling: Settling) {
        let is_audited = self.decisions == Decisions::Audited;
        if !is_audited && !settling.recorded.is_empty() {
            self.compare_and_adopt(None, &settling.recorded);
            return;
        }
        for fact in &settling.recorded {
            self.adopt(fact);
        }
    }

    /// Gives back the recorded decisions of an entry that decided nothing, because no numbers fit. They are adopted as
    /// those whose cause does not come.
    pub(super) fn give_up_settling(&mut self, settling: Settling, entry: &Entry) {
        self.recorded.put_back(entry.stream, entry.id, settling.recorded);
    }

    /// Takes the recorded decisions about a book.
    fn take_recorded(&self, settling: &mut Settling, book: BookId) -> Vec<DecisionFact> {
        if settling.recorded.is_empty() {
            return Vec::new();
        }
        let (of_book, rest) = std::mem::take(&mut settling.recorded)
            .into_iter()
            .partition(|fact| self.book_of_fact(fact).is_none_or(|(of, _)| of == book));
        settling.recorded = rest;
        of_book
    }

    /// Settles an entry after which no book is evaluated.
    pub(super) fn settle_unevaluated(&mut self, entry: &Entry, key: SortKey) {
        let settling = self.begin_settling(entry, key);
        self.end_settling(settling);
    }

    /// Compares our decision with the recorded ones, and adopts those. One of a position that does not exist is about
    /// no decision of ours.
    fn compare_and_adopt(&mut self, ours: Option<&Decision>, recorded: &[DecisionFact]) {
        let has_home = |fact: &DecisionFact| self.knows_decision(fact) || self.book_of_fact(fact).is_some();
        let (known, orphaned): (Vec<_>, Vec<_>) = recorded.iter().cloned().partition(has_home);
        self.counters.comparison.orphaned += orphaned.len() as u64;
        self.compare(ours, &known);
        for fact in recorded {
            self.adopt(fact);
        }
    }

    fn compare(&mut self, ours: Option<&Decision>, recorded: &[DecisionFact]) {
        let comparison = &mut self.counters.comparison;
        if recorded.is_empty() {
            if let Some(ours) = ours {
                comparison.missing.insert(ours.decision_id.as_str().into());
            }
            return;
        }
        for fact in recorded {
            match ours {
                Some(ours) if is_same(ours, fact) => comparison.agree += 1,
                Some(_) => comparison.differ += 1,
                None => comparison.unexpected += 1,
            }
        }
    }

    /// Adopts the decisions that were made before an entry and whose cause will not come. Adopting them at the place of
    /// their cause is better than at their own entry, because our decisions in between then take them into account.
    #[cold]
    pub(super) fn adopt_orphaned(&mut self, entry: &Entry) {
        let read_to = |stream: StreamId| self.cursors[usize::from(stream.0)];
        for fact in self.recorded.orphaned_by(entry.stream, entry.id, read_to) {
            if self.decisions == Decisions::Derived {
                continue;
            }
            let was_known = self.knows_decision(&fact);
            if !self.adopt(&fact) {
                self.counters.comparison.orphaned += 1;
            } else if !was_known && self.knows_decision(&fact) {
                self.counters.count(Count::DecisionWithoutCause);
            }
        }
    }

    /// Returns true if a position of its symbol has a recorded decision.
    pub(super) fn knows_decision(&self, fact: &DecisionFact) -> bool {
        let mut books = self.slots[fact.symbol].books();
        books.any(|(_, book)| book.positions().any(|position| position.has_decision(&fact.decision_id)))
    }

    /// Returns the book of a recorded decision, and whether it has the position that the decision names. Without that
    /// position it is the book of its account and side, if that is open; a decision without an account counts for the
    /// one open book of its symbol and side. The position must have been open at the decision's cause.
    fn book_of_fact(&self, fact: &DecisionFact) -> Option<(BookId, bool)> {
        let has_position = |book: &BookId| {
            let book = self.slots.book(*book);
            book.positions().any(|position| book.position_id(position) == *fact.position_id)
        };
        let name = book_of_position(&fact.position_id).unwrap_or_default();
        if let Some(named) = self.find_book(name).filter(|book| book.symbol == fact.symbol).filter(has_position) {
            return Some((named, true));
        }
        let fits = |book: &Book| {
            let is_side = fact.position_side.is_none_or(|side| side == book.side);
            is_side && book.hot.open.as_ref().is_some_and(|open| open.direction.closing_side() == fact.side)
        };
        let own_side = fact.position_side.unwrap_or_default();
        let own = self.known_book(fact.symbol, fact.account, own_side).filter(|book| fits(self.slots.book(*book)));
        let book = match own {
            Some(own) => own,
            None if fact.account.is_named() => return None,
            None => match self.books_where(fact.symbol, fits).as_slice() {
                [one] => *one,
                _ => return None,
            },
        };
        let cause = self.streams.id_of(&fact.cause_stream).map(|stream| self.streams.kind(stream));
        let open = self.slots.book(book).hot.open.as_ref()?;
        was_open_at(open, cause, fact.cause_id).then_some((book, false))
    }

    /// Adopts a recorded decision, unless it is known already. Returns true if it found its position.
    pub(super) fn adopt(&mut self, fact: &DecisionFact) -> bool {
        // A decision without a number, or of a former stream, takes its rungs, and no place in the chain.
        if fact.seq > 0 && !fact.is_former {
            if fact.seq > self.globals.chain.seq {
                self.globals.chain = ChainHead { seq: fact.seq, hash: fact.hash.clone() };
            }
            self.note_link(fact.seq, &fact.hash);
        }
        if self.knows_decision(fact) {
            return true;
        }
        let found = self.book_of_fact(fact);
        // Only a live decision has requested an order for a live position.
        let account = found.map_or(fact.account, |(book, _)| self.slots.book(book).account);
        if !fact.live && self.policy_of(account).mode == Mode::Live {
            return true;
        }
        let Some((book, has_position)) = found else { return false };
        let record = DecisionRecord {
            decision_id: fact.decision_id.clone(),
            plan_id: fact.plan_id.clone(),
            rungs: fact.rungs.clone(),
            share: fact.share,
            shares: Vec::new(),
            qty: fact.qty,
            attempt: fact.attempt,
            seq: fact.seq,
            cause: format!("{}/{}", fact.cause_stream, fact.cause_id).into(),
            state: if fact.live { RungState::Requested } else { RungState::Shadowed },
            last_outcome_ms: fact.cause_id.ms,
            expired: false,
            outcomes: Vec::new(),
        };
        let position_id = fact.position_id.clone();
        self.record_decision(book, record, fact.cause_id.ms, has_position.then_some(&*position_id))
    }

    /// Records a decision that takes effect: its position, the named one or the open one, takes its rungs. Returns
    /// false if there is no position.
    fn record_decision(
        &mut self,
        id: BookId,
        mut record: DecisionRecord,
        decided_ms: u64,
        position_id: Option<&str>,
    ) -> bool {
        // In the form in which it is read back from its entry, without trailing zeros. So the state is equal for the
        // instance that decided and for one that adopted the decision.
        record.qty = Qty::new(record.qty.get());
        record.share = Ratio::new(record.share.get());
        record.rungs.iter_mut().for_each(|r| *r = RMultiple::new(r.get()));
        let now_ms = self.globals.last.ms.max(decided_ms);
        let account = self.slots.book(id).account;
        let decided = if account.is_named() {
            &mut self.accounts.get_mut(account).decided_ms
        } else {
            &mut self.globals.decided_ms
        };
        while decided.front().is_some_and(|&ms| now_ms.saturating_sub(ms) >= RATE_WINDOW_MS) {
            decided.pop_front();
        }
        if now_ms.saturating_sub(decided_ms) < RATE_WINDOW_MS {
            decided.push_back(decided_ms);
        }
        let ladder = self.policy_of(account).ladder.clone();
        let book = self.slots.book_mut(id);
        let named =
            position_id.and_then(|wanted| book.positions().position(|position| book.position_id(position) == wanted));
        let position = match named {
            Some(key) => book.positions_mut().nth(key),
            None => book.hot.open.as_mut(),
        };
        let Some(position) = position else { return false };
        self.decision_plans.insert(record.plan_id.clone(), (id, record.decision_id.clone()));
        position.take_rungs(record, &ladder);
        self.invalidate(id);
        self.changes.touch_cold(id);
        self.after_positions(id);
        true
    }

    /// Counts a decision of ours as filled although no executor acts on it: what-if. Quantities stay those of the
    /// history.
    pub fn suppose_filled(&mut self, id: BookId, decision_id: &str, at: EntryId) {
        let policy = self.policy_of(self.slots.book(id).account).clone();
        let outcome = DecisionOutcome::Filled { is_final: true };
        for position in self.slots.book_mut(id).positions_mut() {
            if position.apply_outcome(decision_id, outcome, at, Qty::ZERO, &policy) {
                break;
            }
        }
        self.invalidate(id);
        self.after_positions(id);
    }
}

fn is_same(ours: &Decision, fact: &DecisionFact) -> bool {
    *ours.decision_id == *fact.decision_id && ours.qty == fact.qty && ours.attempt == fact.attempt
}

/// Returns true if an open position had begun when an entry of a kind came. If the kind is unknown, the millisecond
/// decides.
///
/// The position of a decision may be closed and forgotten by the time its entry is read. The next position of the
/// symbol is then a different one.
fn was_open_at(open: &Position, kind: Option<StreamKind>, at: EntryId) -> bool {
    let opened = (open.opened.id.ms, open.opened.kind, open.opened.id.seq);
    kind.map_or(opened.0 <= at.ms, |kind| opened <= (at.ms, kind, at.seq))
}
