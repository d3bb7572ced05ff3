//! An engine from the rows of its state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::de::DeserializeOwned;

use super::row::{
    ACCEPTED_GAPS, ACCOUNT, BOOK, BadRow, CLOSED, COLD, CURSOR, GLOBALS, HOT, INTENTS, NAME, NOTE, PLAN, PLAN_OF_BOOK,
    Rows, StoredRow, closed_prefix, decode, name_key,
};
use super::value::{HotValue, StoredGaps, hot_of, note_of_key};
use crate::domain::book::intents::Intents;
use crate::domain::book::order::{ORDER_MEMORY_MS, Order, OrderKey};
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::position::Position;
use crate::domain::book::rescale::Rescale;
use crate::domain::book::state::Book;
use crate::domain::book::symbol::{Mark, Symbol};
use crate::domain::engine::accounts::Account;
use crate::domain::engine::persisted::StoredState;
use crate::domain::engine::{Engine, Globals};
use crate::domain::event::ids::{AccountId, EntryId, StreamId, SymbolId};
use crate::domain::event::streams::Streams;
use crate::domain::event::{ExitIntent, Instrument, Intent, PositionSide, PriceSource};

/// Restores the stored state into a new engine. `made_with` are the streams with which it was folded.
pub fn load<R: Rows>(rows: &R, made_with: &Streams, engine: &mut Engine) -> Result<(), R::Error> {
    let Some((globals_key, globals)) = rows.scan(GLOBALS)?.into_iter().next() else { return Ok(()) };
    let globals: Globals = decode(&globals_key, &globals)?;
    let closed_from = globals.last.ms.saturating_sub(ORDER_MEMORY_MS);
    let mut accounts: Vec<Account> = Vec::new();
    for (row_key, value) in rows.scan(ACCOUNT)? {
        accounts.push(decode(&row_key, &value)?);
    }
    let mut symbols = load_symbols(rows, made_with, closed_from, engine)?;
    let by_name: BTreeMap<Box<str>, SymbolId> =
        symbols.iter().zip(0..).map(|((symbol, _), index)| (symbol.name.clone(), SymbolId(index))).collect();
    for (row_key, value) in rows.scan(INTENTS)? {
        let (account, symbol, intents): (String, String, Intents) = decode(&row_key, &value)?;
        if let Some(symbol) = by_name.get(&*symbol) {
            symbols[symbol.0 as usize].0.of_accounts.insert(engine.intern_account(&account), intents);
        }
    }
    let books = load_books(rows, closed_from, &by_name, engine)?;
    let plans = load_plans(rows, engine)?;
    let named_gaps: StoredGaps = match rows.scan(ACCEPTED_GAPS)?.first() {
        Some((row_key, value)) => decode(row_key, value)?,
        None => BTreeSet::new(),
    };
    let gaps_accepted = named_gaps
        .into_iter()
        .map(|(account, symbol)| (account.map(|name| engine.intern_account(&name)), symbol))
        .collect();
    let mut notes = Vec::new();
    for (row_key, value) in rows.scan(NOTE)? {
        let bad = || BadRow { key: String::from_utf8_lossy(&row_key).into_owned(), why: "no key of a note".to_owned() };
        let (noted, hash, account) = note_of_key(&row_key).ok_or_else(bad)?;
        notes.push((noted, hash, account, decode(&row_key, &value)?));
    }
    engine.restore(StoredState { globals, accounts, gaps_accepted, symbols, books, plans, notes });
    for (name, id) in cursors(rows)? {
        if let Some(stream) = engine.streams().id_of(&name) {
            engine.set_cursor(stream, id);
        }
    }
    Ok(())
}

/// Returns the last entry of each stream, by name, also of streams that are no longer configured.
pub fn cursors<R: Rows>(rows: &R) -> Result<BTreeMap<String, EntryId>, R::Error> {
    let mut cursors = BTreeMap::new();
    for (row_key, value) in rows.scan(CURSOR)? {
        let name = String::from_utf8_lossy(&row_key[CURSOR.len()..]).into_owned();
        cursors.insert(name, decode(&row_key, &value)?);
    }
    Ok(cursors)
}

/// Returns the symbols in the order of their numbers, each with its one-way book of the account without a name.
fn load_symbols<R: Rows>(
    rows: &R,
    made_with: &Streams,
    closed_from: u64,
    engine: &Engine,
) -> Result<Vec<(Symbol, Book)>, R::Error> {
    let moved = |stream: StreamId| engine.streams().id_of(&made_with.get(stream).name);
    let mut symbols = Vec::new();
    for (row_key, value) in rows.scan(NAME)? {
        let name: Box<str> = decode(&row_key, &value)?;
        let (mut symbol, mut book) = plain_book(rows, &name)?;
        if let Some(mark) = symbol.mark
            && let PriceSource::Stream(stream) = mark.source
        {
            // The last price of a stream that is no longer read has no source and is not used.
            symbol.mark = moved(stream).map(|stream| Mark { source: PriceSource::Stream(stream), ..mark });
        }
        book.closed = recently_closed(rows, &name, closed_from)?;
        symbols.push((symbol, book));
    }
    Ok(symbols)
}

/// Returns all other books.
fn load_books<R: Rows>(
    rows: &R,
    closed_from: u64,
    by_name: &BTreeMap<Box<str>, SymbolId>,
    engine: &mut Engine,
) -> Result<Vec<(SymbolId, Book)>, R::Error> {
    let mut books = Vec::new();
    for (row_key, value) in rows.scan(BOOK)? {
        let (account, symbol, side): (String, String, PositionSide) = decode(&row_key, &value)?;
        let Some(&id) = by_name.get(&*symbol) else { continue };
        let mut book = Book::new(engine.intern_account(&account), &account, &symbol, side);
        let hot: Option<HotValue> = one(rows, HOT, &book.name)?;
        book.hot = hot.map(hot_of).unwrap_or_default();
        book.orders = one(rows, COLD, &book.name)?.unwrap_or_default();
        book.closed = recently_closed(rows, &book.name, closed_from)?;
        books.push((id, book));
    }
    Ok(books)
}

/// Returns all plans, by the entry that made them.
fn load_plans<R: Rows>(rows: &R, engine: &mut Engine) -> Result<Vec<KnownPlan>, R::Error> {
    let mut plans: Vec<KnownPlan> = Vec::new();
    for (row_key, value) in rows.scan(PLAN)? {
        plans.push(decode(&row_key, &value)?);
    }
    for (row_key, value) in rows.scan(PLAN_OF_BOOK)? {
        let (account, side, mut known): (String, Option<PositionSide>, KnownPlan) = decode(&row_key, &value)?;
        (known.plan.account, known.plan.position_side) = (engine.intern_account(&account), side);
        plans.push(known);
    }
    plans.sort_by_key(|known| known.plan.id);
    Ok(plans)
}

/// Returns the positions of a book that were closed at or after a time [ms], in the order in which they were closed.
fn recently_closed<R: Rows>(rows: &R, book: &str, from_ms: u64) -> Result<Vec<Position>, R::Error> {
    let is_recent = |position: &Position| position.closed.is_none_or(|entry| entry.id.ms >= from_ms);
    let mut closed: Vec<Position> = closed_positions(rows, book)?.into_iter().filter(is_recent).collect();
    closed.sort_by_key(|position| position.closed.map(|entry| (entry.id, position.id)));
    Ok(closed)
}

/// Returns a symbol with its one-way book of the account without a name.
fn plain_book<R: Rows>(rows: &R, name: &str) -> Result<(Symbol, Book), R::Error> {
    type PlainHot = (Option<Mark>, Option<Mark>, HotValue, Option<Instrument>, bool, Vec<Rescale>);
    type PlainCold =
        (BTreeMap<OrderKey, Box<Order>>, VecDeque<Intent>, VecDeque<ExitIntent>, Option<Intent>, Option<Intent>);
    let mut symbol = Symbol { name: name.into(), ..Symbol::default() };
    let mut book = Book::new(AccountId::NONE, "", name, PositionSide::Both);
    if let Some((mark, held_price, hot, instrument, named, rescales)) = one::<R, PlainHot>(rows, HOT, name)? {
        symbol = Symbol { mark, held_price, instrument, named, rescales, ..symbol };
        book.hot = hot_of(hot);
    }
    if let Some((orders, entries, exits, latest_long, latest_short)) = one::<R, PlainCold>(rows, COLD, name)? {
        book.orders = orders;
        symbol.intents = Intents { entries, exits, latest_long, latest_short };
    }
    Ok((symbol, book))
}

/// Returns all closed positions of a book in the store, by their opening.
pub fn closed_positions<R: Rows>(rows: &R, book: &str) -> Result<Vec<Position>, R::Error> {
    let mut positions = Vec::new();
    for (row_key, value) in rows.scan(&closed_prefix(book))? {
        positions.push(decode(&row_key, &value)?);
    }
    Ok(positions)
}

/// Returns the rows of all closed positions, for [`closed_positions`].
pub fn closed_rows<R: Rows>(rows: &R) -> Result<Vec<StoredRow>, R::Error> {
    rows.scan(CLOSED)
}

fn one<R: Rows, T: DeserializeOwned>(rows: &R, prefix: &[u8], name: &str) -> Result<Option<T>, R::Error> {
    let wanted = name_key(prefix, name);
    match rows.scan(&wanted)?.into_iter().find(|(found, _)| *found == wanted) {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}
