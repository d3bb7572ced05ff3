//! The engine's state as rows of a store, and back.
//!
//! Every value is bincode after a version byte. Numbers in keys are big-endian, so that rows sort by number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{bounded, scope};
use crate::domain::book::intents::Intents;
use crate::domain::book::order::ORDER_MEMORY_MS;
use crate::domain::book::order::{Order, OrderKey};
use crate::domain::book::plans::{KnownPlan, sha256_hex};
use crate::domain::book::position::Position;
use crate::domain::book::rescale::Rescale;
use crate::domain::book::state::{Book, Disagreement, Hot};
use crate::domain::book::symbol::{Mark, Symbol};
use crate::domain::book::view::BookView;
use crate::domain::engine::accounts::Account;
use crate::domain::engine::persisted::StoredState;
use crate::domain::engine::routes::{NoteKey, Noted};
use crate::domain::engine::{Changes, Engine, Globals, RULES_VERSION};
use crate::domain::event::ids::{AccountId, BookId, EntryId, PositionId, StreamId, SymbolId};
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::domain::event::{ExitIntent, Instrument, Intent, PositionSide, PriceSource};
use crate::domain::exit::policy::Policy;

/// Format of the rows. A store of another format is not read, but folded again. It is also raised where a mended
/// difference from the contract changes what existing histories give.
///
/// Format 5 has rows for books and accounts. Stores of format 4 netted all accounts, refused LONG and SHORT, and do not tell
/// whether entries named them. Format 6 keeps the rescales of a symbol, ATR as they were stated, and the orders that only
/// refusals have named. Format 7 keeps the account that was named for an order of the account without a name.
pub const FORMAT_VERSION: u32 = 7;

/// A longer name is replaced by its hash in a key. [bytes]
const NAME_BYTES_MAX: usize = 256;

/// Version byte in front of every value.
const VALUE_VERSION: u8 = 1;

/// One row: key, and value or `None` to remove it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);
/// One row as read.
pub type StoredRow = (Vec<u8>, Vec<u8>);

const META: &[u8] = b"m/";
const GLOBALS: &[u8] = b"g/";
const CURSOR: &[u8] = b"c/";
const NAME: &[u8] = b"y/";
const HOT: &[u8] = b"h/";
const COLD: &[u8] = b"k/";
const CLOSED: &[u8] = b"i/";
const PLAN: &[u8] = b"l/";
const PROVISIONAL: &[u8] = b"u/";
const DECISION: &[u8] = b"d/";
const QUARANTINE: &[u8] = b"q/";
const ACCOUNT: &[u8] = b"n/";
const ACCEPTED_GAPS: &[u8] = b"e/";
const BOOK: &[u8] = b"b/";
const INTENTS: &[u8] = b"j/";
const PLAN_OF_BOOK: &[u8] = b"v/";
const SELECTION: &[u8] = b"z/";
const NOTE: &[u8] = b"x/";

/// The gaps that were accepted in part, by name of the account.
type StoredGaps = BTreeSet<(Option<Box<str>>, Option<SymbolId>)>;

/// A row that cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {key:?} does not read: {why}")]
pub struct BadRow {
    pub key: String,
    pub why: String,
}

/// A store's record of how it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Meta {
    pub rules_version: String,
    /// Hash of the configured policy.
    pub policy_hash: String,
    pub streams: Vec<(StreamKind, String)>,
    /// The accounts that the configuration gave to streams, by name of the stream.
    pub accounts: Vec<(String, String)>,
    /// The accounts whose entries are read. It has a row of its own, which a store of all accounts lacks.
    #[serde(skip)]
    pub selection: Selection,
}

impl Meta {
    /// Returns the record of a store that is made now.
    pub fn of(streams: &Streams, configured: &Policy) -> Self {
        Self {
            rules_version: RULES_VERSION.to_owned(),
            policy_hash: configured.hash.to_string(),
            streams: streams.iter().map(|(_, s)| (s.kind, s.name.clone())).collect(),
            accounts: streams
                .iter()
                .filter_map(|(_, s)| Some((s.name.clone(), s.account.as_deref()?.to_owned())))
                .collect(),
            selection: streams.selection().clone(),
        }
    }

    /// Returns the streams with which the store was folded.
    pub fn streams(&self) -> Option<Streams> {
        let account = |name: &str| self.accounts.iter().find(|(of, _)| of == name).map(|(_, a)| a.as_str().into());
        let streams =
            self.streams.iter().map(|(kind, name)| Stream { kind: *kind, name: name.clone(), account: account(name) });
        Some(Streams::new(streams.collect()).ok()?.with_selection(self.selection.clone()))
    }
}

/// A quarantined entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Quarantined {
    pub stream: String,
    pub id: EntryId,
    pub reason: String,
    /// The entry as a history line.
    pub line: String,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VALUE_VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .expect("writing to memory does not fail, and all types of the state are plain data");
    bytes
}

pub(super) fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, BadRow> {
    let bad = |why: String| BadRow { key: String::from_utf8_lossy(key).into_owned(), why };
    match value.split_first() {
        Some((&VALUE_VERSION, bytes)) => {
            let (decoded, read) = bounded::decode(bytes).map_err(|error| bad(error.to_string()))?;
            if read == bytes.len() { Ok(decoded) } else { Err(bad(format!("{} bytes too many", bytes.len() - read))) }
        }
        Some((version, _)) => Err(bad(format!("value version {version}, want {VALUE_VERSION}"))),
        None => Err(bad("empty value".to_owned())),
    }
}

pub(super) fn key(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
    [prefix, rest].concat()
}

/// Returns a key that ends in a name from outside. Keys are limited, so a long name is replaced by its hash.
pub(super) fn name_key(prefix: &[u8], name: &str) -> Vec<u8> {
    if name.len() <= NAME_BYTES_MAX {
        return key(prefix, name.as_bytes());
    }
    key(prefix, format!("#{}", sha256_hex(name.as_bytes())).as_bytes())
}

fn closed_prefix(symbol: &str) -> Vec<u8> {
    let mut prefix = name_key(CLOSED, symbol);
    prefix.push(0);
    prefix
}

fn closed_key(symbol: &str, id: PositionId) -> Vec<u8> {
    let mut key = closed_prefix(symbol);
    key.extend(id.opened.ms.to_be_bytes());
    key.extend(id.opened.seq.to_be_bytes());
    key.extend(id.nth.to_be_bytes());
    key
}

pub fn meta_row(meta: &Meta) -> Row {
    (META.to_vec(), Some(encode(meta)))
}

/// Returns the rows that state how a store is made: those of its accounts only if it does not have all.
pub fn meta_rows(meta: &Meta) -> impl Iterator<Item = StoredRow> + use<> {
    let selection = (!meta.selection.is_all()).then(|| scope::selection_text(&meta.selection));
    let selection = selection.map(|text| (SELECTION.to_vec(), encode(&text)));
    std::iter::once((META.to_vec(), encode(meta))).chain(selection)
}

/// Returns the row that marks state as provisional: from this entry on it was folded without the look-ahead. `None`:
/// the look-ahead was complete.
pub fn provisional_row(from: Option<EntryId>) -> Row {
    (PROVISIONAL.to_vec(), from.map(|from| encode(&from)))
}

/// Returns the row of a decision, as its history line.
pub fn decision_row(seq: u64, line: &str) -> Row {
    (key(DECISION, &seq.to_be_bytes()), Some(encode(&line)))
}

pub fn quarantine_row(quarantined: &Quarantined) -> Row {
    (key(QUARANTINE, &entry_key(&quarantined.stream, quarantined.id)), Some(encode(quarantined)))
}

/// Returns the end of the key of a stream entry.
pub(super) fn entry_key(stream: &str, id: EntryId) -> Vec<u8> {
    let mut row_key = stream.as_bytes().to_vec();
    row_key.push(0);
    row_key.extend(id.ms.to_be_bytes());
    row_key.extend(id.seq.to_be_bytes());
    row_key
}

/// The position, the flags and the times of a book, in the order in which they are written.
type HotValue = (
    Option<Position>,
    bool,
    bool,
    Option<Disagreement>,
    Option<u64>,
    Option<EntryId>,
    Option<EntryId>,
    Option<(EntryId, u32)>,
);

fn hot_of(value: HotValue) -> Hot {
    let (open, history_gap, diverged, disagreement, filled_ms, agreed, looked_up, last_opening) = value;
    Hot { open, history_gap, diverged, disagreement, filled_ms, agreed, looked_up, last_opening }
}

/// Returns the bytes of a book that change with positions. The one-way book of the account without a name includes the
/// prices and the instrument of its symbol; `mark` is the price in use.
pub(super) fn hot_value(view: BookView<'_>, mark: Option<Mark>) -> Vec<u8> {
    let BookView { symbol, book } = view;
    let Hot { open, history_gap, diverged, disagreement, filled_ms, agreed, looked_up, last_opening } = &book.hot;
    let of_book = (open, history_gap, diverged, disagreement, filled_ms, agreed, looked_up, last_opening);
    if book.is_plain() {
        encode(&(mark, symbol.held_price, of_book, symbol.instrument, symbol.named, &symbol.rescales))
    } else {
        encode(&of_book)
    }
}

/// Returns the bytes of a book that change with orders. The one-way book of the account without a name includes the
/// intents of its symbol that name no account.
pub(super) fn cold_value(view: BookView<'_>) -> Vec<u8> {
    let BookView { symbol, book } = view;
    let Intents { entries, exits, latest_long, latest_short } = &symbol.intents;
    if book.is_plain() {
        encode(&(&book.orders, entries, exits, latest_long, latest_short))
    } else {
        encode(&book.orders)
    }
}

fn intents_row(symbol: &Symbol, account: &str, intents: &Intents) -> StoredRow {
    let row_key = key(INTENTS, format!("{account}\0{}", symbol.name).as_bytes());
    (row_key, encode(&(account, &symbol.name, intents)))
}

fn plan_key(engine: &Engine, plan_id: &str, account: AccountId) -> Vec<u8> {
    if account.is_named() {
        return name_key(PLAN_OF_BOOK, &format!("{}\0{plan_id}", engine.accounts().get(account).name));
    }
    name_key(PLAN, plan_id)
}

/// Returns the row of a plan. Account and side are beside the plan, so that the rows of others do not change.
fn plan_row(engine: &Engine, known: &KnownPlan) -> StoredRow {
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
fn account_row(account: &Account) -> StoredRow {
    (key(ACCOUNT, account.name.as_bytes()), encode(account))
}

/// Returns the row of the gaps that were accepted in part: the names of their accounts, and their symbols.
fn accepted_gaps_row(engine: &Engine) -> Option<StoredRow> {
    let accounts = engine.accounts();
    let named: StoredGaps = accounts
        .gaps_accepted
        .iter()
        .map(|(account, symbol)| (account.map(|account| accounts.get(account).name.clone()), *symbol))
        .collect();
    (!named.is_empty()).then(|| (ACCEPTED_GAPS.to_vec(), encode(&named)))
}

/// Returns the row that names a book, unless its symbol names it.
fn book_row(view: BookView<'_>) -> Option<StoredRow> {
    let BookView { symbol, book } = view;
    (!book.is_plain())
        .then(|| (key(BOOK, book.name.as_bytes()), encode(&(&book.account_name, &symbol.name, book.side))))
}

/// Returns the key of a note about the account of an order or a plan.
fn note_key(engine: &Engine, (noted, hash, account): NoteKey) -> Vec<u8> {
    let kind: &[u8] = match noted {
        Noted::Order => b"o",
        Noted::PlanOfOrder => b"a",
        Noted::Plan => b"p",
    };
    [NOTE, kind, &hash.to_be_bytes(), engine.accounts().get(account).name.as_bytes()].concat()
}

/// Reads the key of a note: its kind, its hash and the name of its account.
fn note_of_key(row_key: &[u8]) -> Option<(Noted, u64, Box<str>)> {
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

/// Access to the rows of a store: all rows whose key starts with a prefix, in order.
pub trait Rows {
    type Error: From<BadRow>;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, Self::Error>;
}

/// Returns how the store was made, or `None` for an empty one.
pub fn meta<R: Rows>(rows: &R) -> Result<Option<Meta>, R::Error> {
    let Some((key, value)) = rows.scan(META)?.into_iter().next() else { return Ok(None) };
    let mut meta: Meta = decode(&key, &value)?;
    if let Some((key, value)) = rows.scan(SELECTION)?.into_iter().next() {
        let text: String = decode(&key, &value)?;
        let bad = |why| BadRow { key: String::from_utf8_lossy(&key).into_owned(), why };
        meta.selection = scope::read_selection(&text).map_err(bad)?;
    }
    Ok(Some(meta))
}

/// Returns from which entry on the state is provisional: see [`provisional_row`].
pub fn provisional_from<R: Rows>(rows: &R) -> Result<Option<EntryId>, R::Error> {
    match rows.scan(PROVISIONAL)?.first() {
        Some((key, value)) => Ok(Some(decode(key, value)?)),
        None => Ok(None),
    }
}

/// Restores the stored state into a new engine. `made_with` are the streams with which it was folded.
pub fn load<R: Rows>(rows: &R, made_with: &Streams, engine: &mut Engine) -> Result<(), R::Error> {
    let Some((globals_key, globals)) = rows.scan(GLOBALS)?.into_iter().next() else { return Ok(()) };
    let globals: Globals = decode(&globals_key, &globals)?;
    let closed_from = globals.last.ms.saturating_sub(ORDER_MEMORY_MS);
    let mut accounts: Vec<Account> = Vec::new();
    for (row_key, value) in rows.scan(ACCOUNT)? {
        accounts.push(decode(&row_key, &value)?);
    }
    let streams = engine.streams().clone();
    let moved = |stream: StreamId| streams.id_of(&made_with.get(stream).name);
    let recent_closed = |name: &str| -> Result<Vec<Position>, R::Error> {
        let is_recent = |position: &Position| position.closed.is_none_or(|entry| entry.id.ms >= closed_from);
        let mut closed: Vec<Position> = closed_positions(rows, name)?.into_iter().filter(is_recent).collect();
        closed.sort_by_key(|position| position.closed.map(|entry| (entry.id, position.id)));
        Ok(closed)
    };
    let mut symbols: Vec<(Symbol, Book)> = Vec::new();
    let mut by_name: BTreeMap<Box<str>, SymbolId> = BTreeMap::new();
    for (row_key, value) in rows.scan(NAME)? {
        let name: Box<str> = decode(&row_key, &value)?;
        let (mut symbol, mut book) = plain_book(rows, &name)?;
        if let Some(mark) = symbol.mark
            && let PriceSource::Stream(stream) = mark.source
        {
            // The last price of a stream that is no longer read has no source and is not used.
            symbol.mark = moved(stream).map(|stream| Mark { source: PriceSource::Stream(stream), ..mark });
        }
        book.closed = recent_closed(&name)?;
        by_name.insert(name, SymbolId(symbols.len() as u32));
        symbols.push((symbol, book));
    }
    for (row_key, value) in rows.scan(INTENTS)? {
        let (account, symbol, intents): (String, String, Intents) = decode(&row_key, &value)?;
        if let Some(symbol) = by_name.get(&*symbol) {
            symbols[symbol.0 as usize].0.of_accounts.insert(engine.intern_account(&account), intents);
        }
    }
    let mut books: Vec<(SymbolId, Book)> = Vec::new();
    for (row_key, value) in rows.scan(BOOK)? {
        let (account, symbol, side): (String, String, PositionSide) = decode(&row_key, &value)?;
        let Some(&id) = by_name.get(&*symbol) else { continue };
        let mut book = Book::new(engine.intern_account(&account), &account, &symbol, side);
        let hot: Option<HotValue> = one(rows, HOT, &book.name)?;
        book.hot = hot.map(hot_of).unwrap_or_default();
        book.orders = one(rows, COLD, &book.name)?.unwrap_or_default();
        book.closed = recent_closed(&book.name)?;
        books.push((id, book));
    }
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
    for (row_key, value) in rows.scan(CURSOR)? {
        let name = String::from_utf8_lossy(&row_key[CURSOR.len()..]).into_owned();
        let id: EntryId = decode(&row_key, &value)?;
        if let Some(stream) = engine.streams().id_of(&name) {
            engine.set_cursor(stream, id);
        }
    }
    Ok(())
}

/// Returns a symbol with its one-way book of the account without a name.
fn plain_book<R: Rows>(rows: &R, name: &str) -> Result<(Symbol, Book), R::Error> {
    type PlainHot = (Option<Mark>, Option<Mark>, HotValue, Option<Instrument>, bool, Vec<Rescale>);
    type PlainCold =
        (BTreeMap<OrderKey, Order>, VecDeque<Intent>, VecDeque<ExitIntent>, Option<Intent>, Option<Intent>);
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

fn one<R: Rows, T: DeserializeOwned>(rows: &R, prefix: &[u8], name: &str) -> Result<Option<T>, R::Error> {
    let wanted = name_key(prefix, name);
    match rows.scan(&wanted)?.into_iter().find(|(found, _)| *found == wanted) {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
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

/// Returns all quarantined entries, by stream and id.
pub fn quarantined<R: Rows>(rows: &R) -> Result<Vec<Quarantined>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(QUARANTINE)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

/// Returns one quarantined entry, if it exists.
pub fn quarantined_one<R: Rows>(rows: &R, stream: &str, id: EntryId) -> Result<Option<Quarantined>, R::Error> {
    let wanted = key(QUARANTINE, &entry_key(stream, id));
    match rows.scan(&wanted)?.into_iter().next() {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}

/// Returns the history line of a decision, by its number.
pub fn decision_one<R: Rows>(rows: &R, seq: u64) -> Result<Option<String>, R::Error> {
    let wanted = decision_row(seq, "").0;
    match rows.scan(&wanted)?.into_iter().next() {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}

/// Returns all decisions as history lines, by sequence.
pub fn decisions<R: Rows>(rows: &R) -> Result<Vec<String>, R::Error> {
    let mut all = Vec::new();
    for (row_key, value) in rows.scan(DECISION)? {
        all.push(decode(&row_key, &value)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::decode::{Decoder, Symbols};
    use super::super::view::PositionView;
    use super::*;

    struct Kept(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Rows for Kept {
        type Error = BadRow;

        fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
            let rows = self.0.iter().filter(|(key, _)| key.starts_with(prefix));
            Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
    }

    /// An intent, a plan, a priced and an unpriced fill, a price, a snapshot.
    const LINES: [&str; 6] = [
        r#"{"stream":"quantum:stream:trade.intent","id":"1770163201000-0","fields":{"data":"{\"symbol\":\"ADAUSDT\",\"side\":\"BUY\",\"atr_value\":0.02,\"volatility_factor\":1.5}"}}"#,
        r#"{"stream":"quantum:stream:apply.plan","id":"1770163202000-0","fields":{"plan_id":"p","decision":"EXECUTE","symbol":"ADAUSDT","side":"BUY","qty":"10","entry_price":"0.4"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163203000-0","fields":{"plan_id":"p","symbol":"ADAUSDT","executed":"True","filled_qty":"10","order_id":"7","avgPrice":"0.41"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163203500-0","fields":{"symbol":"ADAUSDT","executed":"True","filled_qty":"2.5","order_id":"8","side":"SELL","reduceOnly":"True"}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1770163204000-0","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"price\":0.42}"}}"#,
        r#"{"stream":"quantum:stream:position.snapshot","id":"1770163240000-0","fields":{"symbol":"ADAUSDT","position_amt":"7.5"}}"#,
    ];

    fn folded() -> Engine {
        let streams = Streams::default();
        let mut engine = Engine::new(streams.clone(), Policy::default());
        let mut decoder = Decoder::new(streams.clone(), Symbols::default());
        for line in LINES {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let stream = streams.id_of(json["stream"].as_str().unwrap()).unwrap();
            let id = json["id"].as_str().unwrap().parse().unwrap();
            let entry = decoder.decode_line(stream, id, line.as_bytes()).unwrap();
            decoder.symbols.take_new().tell(&mut engine);
            engine.step(&entry);
        }
        engine
    }

    fn kept(engine: &mut Engine) -> Kept {
        let changes = engine.take_changes();
        let rows = changed_rows(engine, &changes, &mut 0);
        Kept(rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    #[test]
    fn what_is_loaded_is_what_was_kept() {
        let mut engine = folded();
        let rows = kept(&mut engine);
        let mut loaded = Engine::new(Streams::default(), Policy::default());
        load(&rows, &Streams::default(), &mut loaded).unwrap();
        let bytes = |engine: &Engine| -> Vec<_> {
            engine.books().map(|b| (b.name.clone(), hot_value(b, b.symbol.mark), cold_value(b))).collect()
        };
        assert_eq!(bytes(&loaded), bytes(&engine));
        assert_eq!(loaded.globals(), engine.globals());
        let of = |engine: &Engine| {
            let book = engine.book(BookId::one_way(engine.find("ADAUSDT").unwrap()));
            PositionView::of(engine, book, book.book.hot.open.as_ref().unwrap())
        };
        assert_eq!(of(&loaded), of(&engine));
        assert!(engine.streams().iter().all(|(stream, _)| loaded.cursor(stream) == engine.cursor(stream)));
    }

    /// The bytes of stored state. A change here needs another [`FORMAT_VERSION`] or [`RULES_VERSION`], because the
    /// former bytes would be read wrongly.
    #[test]
    fn stored_bytes_are_golden() {
        let rows = kept(&mut folded());
        let mut text = String::new();
        for (key, value) in &rows.0 {
            let hex = value.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            let _ = writeln!(text, "{} {hex}", String::from_utf8_lossy(key).escape_default());
        }
        if std::env::var_os("HARVESTER_BLESS").is_some() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/codec/state.golden");
            std::fs::write(file, &text).unwrap();
            return;
        }
        let golden = include_str!("state.golden");
        assert_eq!(text, golden, "stored bytes changed");
    }

    #[test]
    fn a_row_that_does_not_read_is_an_error_that_names_it() {
        for (value, why) in [(&b""[..], "empty value"), (&[9, 1], "value version 9"), (&[VALUE_VERSION], "")] {
            let error = decode::<EntryId>(b"c/results", value).unwrap_err();
            assert!(error.to_string().contains("c/results") && error.why.contains(why), "{error}");
        }
        let mut long = encode(&EntryId::new(1, 2));
        long.push(0);
        assert!(decode::<EntryId>(b"c/", &long).unwrap_err().why.contains("1 bytes too many"));
    }
}
