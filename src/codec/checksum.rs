//! The checksum of all state that the fold depends on. It allows comparing two instances from outside.

use sha2::{Digest as _, Sha256};

use super::state::{cold_value, encode, hot_value};
use crate::domain::book::intents::{INTENT_MEMORY_MS, Intents};
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::state::Book;
use crate::domain::book::symbol::Symbol;
use crate::domain::book::view::BookView;
use crate::domain::engine::accounts::Account;
use crate::domain::engine::{Engine, Globals, RULES_VERSION};
use crate::domain::event::ids::SymbolId;

/// How long a decision counts for the rate limit. [ms]
const RATE_WINDOW_MS: u64 = 60_000;

/// Returns SHA-256 of the state. It is equal for any two engines that applied the same entries under the same rules and
/// policy, wherever they started.
///
/// It omits everything that does not belong to the state: the order in which symbols were first named, symbols of which
/// only the name is known, values that are too old and wait to be forgotten, counters, and skipped entries (a replay
/// knows them in advance; a skip is visible in the symbol's flag).
pub fn state_checksum(engine: &Engine) -> [u8; 32] {
    let mut hashed = Sha256::new().chain_update(b"harvester state\0").chain_update(RULES_VERSION);
    let mut part = |bytes: Vec<u8>| {
        hashed.update((bytes.len() as u64).to_le_bytes());
        hashed.update(bytes);
    };
    let globals = engine.globals();
    let now_ms = globals.last.ms;
    let recent = |ms: &u64| now_ms.saturating_sub(*ms) < RATE_WINDOW_MS;
    part(encode(&Globals {
        decided_ms: globals.decided_ms.iter().copied().filter(recent).collect(),
        skipped: std::collections::BTreeSet::new(),
        ..globals.clone()
    }));
    for (stream, named) in engine.streams().iter() {
        if let Some(cursor) = engine.cursor(stream) {
            part(encode(&(&named.name, cursor)));
        }
    }
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
            part(encode(&(&symbol.name, mark)));
        } else {
            part(encode(&book.name));
        }
        part(hot_value(tidied, None));
        part(cold_value(tidied));
        part(encode(&book.closed));
    }
    let accounts = engine.accounts();
    let mut with_intents: Vec<&Symbol> = engine.symbols().filter(|symbol| !symbol.of_accounts.is_empty()).collect();
    with_intents.sort_by_key(|symbol| &symbol.name);
    for symbol in with_intents {
        let symbol = tidied(symbol, now_ms);
        let known = symbol.of_accounts.iter().filter(|(_, intents)| **intents != Intents::default());
        let mut of_accounts: Vec<_> = known.map(|(account, intents)| (&accounts.get(*account).name, intents)).collect();
        of_accounts.sort_by_key(|(name, _)| *name);
        if !of_accounts.is_empty() {
            part(encode(&(&symbol.name, of_accounts)));
        }
    }
    let tidied_account = |account: &Account| {
        let decided_ms = account.decided_ms.iter().copied().filter(recent).collect();
        Account { decided_ms, ..account.clone() }
    };
    let mut all: Vec<Account> = accounts.iter().map(tidied_account).filter(|account| !account.is_blank()).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    for account in all {
        part(encode(&account));
    }
    let mut accepted: Vec<_> = accounts
        .gaps_accepted
        .iter()
        .map(|(account, symbol)| {
            (account.map(|a| accounts.get(a).name.clone()), symbol.map(|s| engine.symbol(s).name.clone()))
        })
        .collect();
    accepted.sort();
    if !accepted.is_empty() {
        part(encode(&accepted));
    }
    let plans_from = now_ms.saturating_sub(INTENT_MEMORY_MS);
    let mut plans: Vec<&KnownPlan> = engine.plans().filter(|known| known.plan.id.ms >= plans_from).collect();
    plans.sort_by_key(|known| (&known.plan.plan_id, &accounts.get(known.plan.account).name));
    for known in plans {
        let mut known: KnownPlan = known.clone();
        part(encode(&engine.symbol(known.plan.symbol).name));
        known.plan.symbol = SymbolId(0);
        part(encode(&known));
        if known.plan.account.is_named() || known.plan.position_side.is_some() {
            part(encode(&(&accounts.get(known.plan.account).name, known.plan.position_side)));
        }
    }
    // Only a cell that does not read all accounts has any.
    let notes = engine.routes().notes(now_ms);
    let mut notes: Vec<_> =
        notes.map(|((noted, hash, account), ms)| (noted as u8, hash, &accounts.get(account).name, ms)).collect();
    notes.sort();
    for note in notes {
        part(encode(&note));
    }
    hashed.finalize().into()
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
