//! The values of the rows that are more than one type, as they are written and read.

use std::collections::BTreeSet;

use super::row::{ACCEPTED_GAPS, ACCOUNT, BOOK, INTENTS, NOTE, PLAN, PLAN_OF_BOOK, StoredRow, encode, key, name_key};
use crate::domain::book::intents::Intents;
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::position::Position;
use crate::domain::book::state::{Disagreement, Hot};
use crate::domain::book::symbol::{Mark, Symbol};
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::engine::accounts::Account;
use crate::domain::engine::routes::{NoteKey, Noted};
use crate::domain::event::ids::{AccountId, EntryId, SymbolId};

/// The gaps that were accepted in part, by name of the account.
pub(super) type StoredGaps = BTreeSet<(Option<Box<str>>, Option<SymbolId>)>;

/// The position, the flags and the times of a book, in the order in which they are written.
pub(super) type HotValue = (
    Option<Position>,
    bool,
    bool,
    Option<Disagreement>,
    Option<u64>,
    Option<EntryId>,
    Option<EntryId>,
    Option<(EntryId, u32)>,
);

pub(super) fn hot_of(value: HotValue) -> Hot {
    let (open, history_gap, diverged, disagreement, filled_ms, agreed, agreed_or_adopted, last_opening) = value;
    Hot { open, history_gap, diverged, disagreement, filled_ms, agreed, agreed_or_adopted, last_opening }
}

/// Returns the bytes of a book that change with positions. The one-way book of the account without a name includes the
/// prices and the instrument of its symbol; `mark` is the price in use.
pub(in crate::codec) fn hot_value(view: BookView<'_>, mark: Option<Mark>) -> Vec<u8> {
    let BookView { symbol, book } = view;
    let Hot { open, history_gap, diverged, disagreement, filled_ms, agreed, agreed_or_adopted, last_opening } =
        &book.hot;
    let of_book = (open, history_gap, diverged, disagreement, filled_ms, agreed, agreed_or_adopted, last_opening);
    if book.is_plain() {
        encode(&(mark, symbol.held_price, of_book, symbol.instrument, symbol.named, &symbol.rescales))
    } else {
        encode(&of_book)
    }
}

/// Returns the bytes of a book that change with orders. The one-way book of the account without a name includes the
/// intents of its symbol that name no account.
pub(in crate::codec) fn cold_value(view: BookView<'_>) -> Vec<u8> {
    let BookView { symbol, book } = view;
    let Intents { entries, exits, latest_long, latest_short } = &symbol.intents;
    if book.is_plain() {
        encode(&(&book.orders, entries, exits, latest_long, latest_short))
    } else {
        encode(&book.orders)
    }
}

pub(super) fn intents_row(symbol: &Symbol, account: &str, intents: &Intents) -> StoredRow {
    let row_key = key(INTENTS, format!("{account}\0{}", symbol.name).as_bytes());
    (row_key, encode(&(account, &symbol.name, intents)))
}

pub(super) fn plan_key(engine: &Engine, plan_id: &str, account: AccountId) -> Vec<u8> {
    if account.is_named() {
        return name_key(PLAN_OF_BOOK, &format!("{}\0{plan_id}", engine.accounts().get(account).name));
    }
    name_key(PLAN, plan_id)
}

/// Returns the row of a plan. Account and side are beside the plan, so that the rows of others do not change.
pub(super) fn plan_row(engine: &Engine, known: &KnownPlan) -> StoredRow {
    let plan = &known.plan;
    let row_key = plan_key(engine, &plan.plan_id, plan.account);
    if !plan.account.is_named() && plan.position_side.is_none() {
        return (row_key, encode(known));
    }
    let row_key =
        if plan.account.is_named() { row_key } else { name_key(PLAN_OF_BOOK, &format!("\0{}", plan.plan_id)) };
    (row_key, encode(&(&engine.accounts().get(plan.account).name, plan.position_side, known)))
}

/// Returns the row of an account. Its key is the name: another process may name accounts in another order.
pub(super) fn account_row(account: &Account) -> StoredRow {
    (key(ACCOUNT, account.name.as_bytes()), encode(account))
}

/// Returns the row of the gaps that were accepted in part: the names of their accounts, and their symbols.
pub(super) fn accepted_gaps_row(engine: &Engine) -> Option<StoredRow> {
    let accounts = engine.accounts();
    let named: StoredGaps = accounts
        .gaps_accepted
        .iter()
        .map(|(account, symbol)| (account.map(|account| accounts.get(account).name.clone()), *symbol))
        .collect();
    (!named.is_empty()).then(|| (ACCEPTED_GAPS.to_vec(), encode(&named)))
}

/// Returns the row that names a book, unless its symbol names it.
pub(super) fn book_row(view: BookView<'_>) -> Option<StoredRow> {
    let BookView { symbol, book } = view;
    (!book.is_plain())
        .then(|| (key(BOOK, book.name.as_bytes()), encode(&(&book.account_name, &symbol.name, book.side))))
}

/// Returns the key of a note about the account of an order or a plan.
pub(super) fn note_key(engine: &Engine, (noted, hash, account): NoteKey) -> Vec<u8> {
    let kind: &[u8] = match noted {
        Noted::Order => b"o",
        Noted::PlanOfOrder => b"a",
        Noted::Plan => b"p",
    };
    [NOTE, kind, &hash.to_be_bytes(), engine.accounts().get(account).name.as_bytes()].concat()
}

/// Reads the key of a note: its kind, its hash and the name of its account.
pub(super) fn note_of_key(row_key: &[u8]) -> Option<(Noted, u64, Box<str>)> {
    let (kind, rest) = row_key.strip_prefix(NOTE)?.split_first()?;
    let (hash, name) = rest.split_first_chunk()?;
    let noted = match kind {
        b'o' => Noted::Order,
        b'a' => Noted::PlanOfOrder,
        b'p' => Noted::Plan,
        _ => return None,
    };
    Some((noted, u64::from_be_bytes(*hash), std::str::from_utf8(name).ok()?.into()))
}
