//! The state of an engine as rows: the changed ones, or all of them.

use super::row::{
    ACCEPTED_GAPS, COLD, CURSOR, GLOBALS, HOT, NAME, PLAN_OF_BOOK, Row, StoredRow, closed_key, encode, key, name_key,
};
use super::value::{
    accepted_gaps_row, account_row, book_row, cold_value, hot_value, intents_row, note_key, plan_key, plan_row,
};
use crate::domain::engine::accounts::Account;
use crate::domain::engine::{Changes, Engine};
use crate::domain::event::ids::{BookId, SymbolId};
use crate::domain::event::streams::Stream;

/// Returns the rows of everything that changed. `names_written` counts the symbols whose names the store has already.
pub fn changed_rows(engine: &Engine, changes: &Changes, names_written: &mut usize) -> Vec<Row> {
    let mut rows = vec![(GLOBALS.to_vec(), Some(encode(engine.globals())))];
    for (stream, Stream { name, .. }) in engine.streams().iter() {
        if let Some(id) = engine.cursor(stream) {
            rows.push((key(CURSOR, name.as_bytes()), Some(encode(&id))));
        }
    }
    for (index, symbol) in engine.symbols().enumerate().skip(*names_written) {
        rows.push((key(NAME, &(index as u32).to_be_bytes()), Some(encode(&symbol.name))));
    }
    let mut put = |(row_key, value): StoredRow| rows.push((row_key, Some(value)));
    let symbols = engine.symbols().len();
    let fresh = (*names_written..symbols).map(|index| BookId::one_way(SymbolId(index as u32)));
    for id in changes.hot().chain(fresh) {
        let book = engine.book(id);
        put((name_key(HOT, &book.name), hot_value(book, book.symbol.mark)));
        if let Some(row) = book_row(book) {
            put(row);
        }
    }
    for id in changes.cold() {
        let book = engine.book(id);
        put((name_key(COLD, &book.name), cold_value(book)));
    }
    let in_memory = changes.closed.iter().map(|&(id, place)| (engine.book(id), &engine.book(id).book.closed[place]));
    let forgotten = changes.closed_forgotten.iter().map(|(id, position)| (engine.book(*id), position));
    for (book, position) in in_memory.chain(forgotten) {
        put((closed_key(&book.name, position.id), encode(position)));
    }
    for &(symbol, account) in &changes.intents {
        let symbol = engine.symbol(symbol);
        if let Some(intents) = symbol.of_accounts.get(&account) {
            put(intents_row(symbol, &engine.accounts().get(account).name, intents));
        }
    }
    for &account in &changes.accounts {
        put(account_row(engine.accounts().get(account)));
    }
    for plan in &changes.plans {
        if let Some(known) = engine.plan(plan) {
            put(plan_row(engine, known));
        }
    }
    rows.push((ACCEPTED_GAPS.to_vec(), accepted_gaps_row(engine).map(|(_, value)| value)));
    for (plan_id, account) in changes.plans_forgotten.iter().filter(|plan| engine.plan(plan).is_none()) {
        rows.push((plan_key(engine, plan_id, *account), None));
        if !account.is_named() && !engine.accounts().is_plain() {
            rows.push((name_key(PLAN_OF_BOOK, &format!("\0{plan_id}")), None));
        }
    }
    for &note in &changes.notes {
        rows.push((note_key(engine, note), engine.routes().get(note).map(|ms| encode(&ms))));
    }
    *names_written = symbols;
    rows
}

/// Returns the rows of all state in memory. It includes closed positions while their orders are remembered.
pub fn all_rows(engine: &Engine) -> Vec<StoredRow> {
    let mut rows = vec![(GLOBALS.to_vec(), encode(engine.globals()))];
    for (stream, Stream { name, .. }) in engine.streams().iter() {
        rows.extend(engine.cursor(stream).map(|id| (key(CURSOR, name.as_bytes()), encode(&id))));
    }
    for (index, symbol) in engine.symbols().enumerate() {
        rows.push((key(NAME, &(index as u32).to_be_bytes()), encode(&symbol.name)));
        for (account, intents) in &symbol.of_accounts {
            rows.push(intents_row(symbol, &engine.accounts().get(*account).name, intents));
        }
    }
    for book in engine.books() {
        rows.push((name_key(HOT, &book.name), hot_value(book, book.symbol.mark)));
        rows.push((name_key(COLD, &book.name), cold_value(book)));
        rows.extend(book_row(book));
        for position in &book.closed {
            rows.push((closed_key(&book.name, position.id), encode(position)));
        }
    }
    let accounts = engine.accounts().iter().filter(|account| **account != Account::default());
    rows.extend(accounts.map(account_row));
    rows.extend(accepted_gaps_row(engine));
    rows.extend(engine.plans().map(|known| plan_row(engine, known)));
    let notes = engine.routes().notes(engine.globals().last.ms);
    rows.extend(notes.map(|(note, ms)| (note_key(engine, note), encode(&ms))));
    rows
}
