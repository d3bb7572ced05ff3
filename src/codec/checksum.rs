//! The checksum of all state that the fold depends on. It allows comparing two instances from outside.

use sha2::{Digest as _, Sha256};

use super::state::encode;
use crate::domain::book::plans::KnownPlan;
use crate::domain::book::symbol::{Hot, INTENT_MEMORY_MS, Symbol};
use crate::domain::engine::{Engine, Globals, RULES_VERSION};
use crate::domain::event::ids::SymbolId;

/// How long a decision counts for the rate limit. [ms]
const RATE_WINDOW_MS: u64 = 60_000;

/// Returns SHA-256 of the state. It is equal for any two engines that applied the same entries under the same rules and
/// policy, wherever they started.
///
/// It omits everything that is no part of the state: the order in which symbols were first named, symbols of which only
/// the name is known, values that are too old and wait to be forgotten, counters, and skipped entries (a replay knows
/// them in advance; a skip is visible in the symbol's flag).
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
    let mut symbols: Vec<&Symbol> = engine.symbols().collect();
    symbols.sort_by(|a, b| a.name.cmp(&b.name));
    for symbol in symbols {
        let symbol = symbol.tidied(now_ms);
        if is_blank(&symbol, globals.gap_everywhere) {
            continue;
        }
        // Sources of prices are stream indices, which depend on the number of configured streams.
        let mark = symbol.hot.mark.map(|mark| (mark.price, engine.source_name(mark.source).to_owned(), mark.entry));
        part(encode(&(&symbol.name, mark)));
        part(encode(&Hot { mark: None, ..symbol.hot }));
        part(encode(&symbol.cold));
        part(encode(&symbol.closed));
    }
    let plans_from = now_ms.saturating_sub(INTENT_MEMORY_MS);
    for known in engine.plans().filter(|known| known.plan.id.ms >= plans_from) {
        let mut known: KnownPlan = known.clone();
        part(encode(&engine.symbol(known.plan.symbol).name));
        known.plan.symbol = SymbolId(0);
        part(encode(&known));
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

/// Returns true if only the name of a symbol is known.
fn is_blank(symbol: &Symbol, gap_everywhere: bool) -> bool {
    symbol.hot == Hot { history_gap: gap_everywhere, ..Hot::default() }
        && symbol.cold == crate::domain::book::symbol::Cold::default()
        && symbol.closed.is_empty()
}
