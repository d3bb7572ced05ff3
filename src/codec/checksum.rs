//! The checksum of all state that the fold depends on. It allows comparing two instances from outside.

use std::collections::VecDeque;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::state::{cold_value, encode, hot_value};
use crate::domain::book::intents::{INTENT_MEMORY_MS, Intents};
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::state::Book;
use crate::domain::book::symbol::Symbol;
use crate::domain::book::view::BookView;
use crate::domain::engine::accounts::Account;
use crate::domain::engine::{Engine, Globals, RULES_VERSION};
use crate::domain::event::ids::{AccountId, SymbolId};

/// How long a decision counts for the rate limit. [ms]
const RATE_WINDOW_MS: u64 = 60_000;

/// Returns SHA-256 of the state. It is equal for any two engines that applied the same entries under the same rules and
/// policy, wherever they started.
///
/// It omits everything that is no part of the state: the order in which symbols were first named, symbols of which only
/// the name is known, values that are too old and wait to be forgotten, counters, and skipped entries (a replay knows
/// them in advance; a skip is visible in the symbol's flag).
pub fn state_checksum(engine: &Engine) -> [u8; 32] {
    let mut parts = Parts::new();
    globals(engine, &mut parts);
    cursors(engine, &mut parts);
    books(engine, &mut parts);
    intents_of_accounts(engine, &mut parts);
    accounts(engine, &mut parts);
    accepted_gaps(engine, &mut parts);
    plans(engine, &mut parts);
    notes(engine, &mut parts);
    parts.hashed.finalize().into()
}

/// Returns the checksum as 64 hex digits.
pub fn state_checksum_hex(engine: &Engine) -> String {
    hex(&state_checksum(engine))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The parts of the state, hashed one after the other, each with its length before it.
struct Parts {
    hashed: Sha256,
}

impl Parts {
    fn new() -> Self {
        Self { hashed: Sha256::new().chain_update(b"harvester state\0").chain_update(RULES_VERSION) }
    }

    fn add(&mut self, part: &impl Serialize) {
        self.add_bytes(&encode(part));
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.hashed.update((bytes.len() as u64).to_le_bytes());
        self.hashed.update(bytes);
    }
}

fn globals(engine: &Engine, parts: &mut Parts) {
    let globals = engine.globals();
    parts.add(&Globals {
        decided_ms: recent(&globals.decided_ms, globals.last.ms),
        skipped: std::collections::BTreeSet::new(),
        ..globals.clone()
    });
}

/// Returns the decisions that still count for the rate limit. [ms since 1970]
fn recent(decided_ms: &VecDeque<u64>, now_ms: u64) -> VecDeque<u64> {
    decided_ms.iter().copied().filter(|ms| now_ms.saturating_sub(*ms) < RATE_WINDOW_MS).collect()
}

fn cursors(engine: &Engine, parts: &mut Parts) {
    for (stream, named) in engine.streams().iter() {
        if let Some(cursor) = engine.cursor(stream) {
            parts.add(&(&named.name, cursor));
        }
    }
}

fn books(engine: &Engine, parts: &mut Parts) {
    let globals = engine.globals();
    let now_ms = globals.last.ms;
    let mut books: Vec<BookView<'_>> = engine.books().collect();
    books.sort_by(|a, b| (&a.symbol.name, &a.name).cmp(&(&b.symbol.name, &b.name)));
    for view in books {
        let (symbol, book) = (tidied(view.symbol, now_ms), view.book.tidied(now_ms));
        if is_blank(&symbol, &book, globals.gap_everywhere) {
            continue;
        }
        let tidied = BookView { symbol: &symbol, book: &book };
        if book.is_plain() {
            // Sources of prices are stream indices, which depend on the number of configured streams.
            let mark = symbol.mark.map(|mark| (mark.price, engine.source_name(mark.source).to_owned(), mark.entry));
            parts.add(&(&symbol.name, mark));
        } else {
            parts.add(&book.name);
        }
        parts.add_bytes(&hot_value(tidied, None));
        parts.add_bytes(&cold_value(tidied));
        parts.add(&book.closed);
    }
}

/// Returns a symbol without the intents that are too old.
fn tidied(symbol: &Symbol, now_ms: u64) -> Symbol {
    let mut symbol = symbol.clone();
    symbol.forget_intents(now_ms);
    symbol
}

/// Returns true if only the name of a book is known and, of a one-way book without an account, only that of its symbol.
fn is_blank(symbol: &Symbol, book: &Book, gap_everywhere: bool) -> bool {
    let Symbol { mark, held_price, instrument, named, intents, .. } = symbol;
    let is_priced = mark.is_some() || held_price.is_some() || instrument.is_some() || *named;
    let is_blank_symbol = !is_priced && *intents == Intents::default();
    book.is_blank(gap_everywhere) && (is_blank_symbol || !book.is_plain())
}

fn intents_of_accounts(engine: &Engine, parts: &mut Parts) {
    let (accounts, now_ms) = (engine.accounts(), engine.globals().last.ms);
    let mut with_intents: Vec<&Symbol> = engine.symbols().filter(|symbol| !symbol.of_accounts.is_empty()).collect();
    with_intents.sort_by_key(|symbol| &symbol.name);
    for symbol in with_intents {
        let symbol = tidied(symbol, now_ms);
        let known = symbol.of_accounts.iter().filter(|(_, intents)| **intents != Intents::default());
        let mut of_accounts: Vec<_> = known.map(|(account, intents)| (&accounts.get(*account).name, intents)).collect();
        of_accounts.sort_by_key(|(name, _)| *name);
        if !of_accounts.is_empty() {
            parts.add(&(&symbol.name, of_accounts));
        }
    }
}

fn accounts(engine: &Engine, parts: &mut Parts) {
    let now_ms = engine.globals().last.ms;
    let tidied = |account: &Account| Account { decided_ms: recent(&account.decided_ms, now_ms), ..account.clone() };
    let accounts = engine.accounts().iter().map(tidied);
    let mut accounts: Vec<Account> = accounts.filter(|account| !account.is_blank()).collect();
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    for account in accounts {
        parts.add(&account);
    }
}

fn accepted_gaps(engine: &Engine, parts: &mut Parts) {
    let accounts = engine.accounts();
    let names = |(account, symbol): &(Option<AccountId>, Option<SymbolId>)| {
        (account.map(|a| accounts.get(a).name.clone()), symbol.map(|s| engine.symbol(s).name.clone()))
    };
    let mut accepted: Vec<_> = accounts.gaps_accepted.iter().map(names).collect();
    accepted.sort();
    if !accepted.is_empty() {
        parts.add(&accepted);
    }
}

fn plans(engine: &Engine, parts: &mut Parts) {
    let accounts = engine.accounts();
    let from_ms = engine.globals().last.ms.saturating_sub(INTENT_MEMORY_MS);
    let mut plans: Vec<&KnownPlan> = engine.plans().filter(|known| known.plan.id.ms >= from_ms).collect();
    plans.sort_by_key(|known| (&known.plan.plan_id, &accounts.get(known.plan.account).name));
    for known in plans {
        let mut known: KnownPlan = known.clone();
        parts.add(&engine.symbol(known.plan.symbol).name);
        known.plan.symbol = SymbolId(0);
        parts.add(&known);
        if known.plan.account.is_named() || known.plan.position_side.is_some() {
            parts.add(&(&accounts.get(known.plan.account).name, known.plan.position_side));
        }
    }
}

/// Adds the accounts of orders and plans. Only a cell that does not read all accounts has any.
fn notes(engine: &Engine, parts: &mut Parts) {
    let accounts = engine.accounts();
    let notes = engine.routes().notes(engine.globals().last.ms);
    let mut notes: Vec<_> =
        notes.map(|((noted, hash, account), ms)| (noted as u8, hash, &accounts.get(account).name, ms)).collect();
    notes.sort();
    for note in notes {
        parts.add(&note);
    }
}
