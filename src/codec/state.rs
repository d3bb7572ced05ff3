//! The engine's state as rows of a store, and back.
//!
//! Every value is bincode after a version byte. Numbers in keys are big-endian, so that rows sort by number.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bounded;
use crate::domain::book::order::ORDER_MEMORY_MS;
use crate::domain::book::plans::{KnownPlan, sha256_hex};
use crate::domain::book::position::Position;
use crate::domain::book::symbol::{Cold, Hot, Symbol};
use crate::domain::engine::{Changes, Engine, Globals, RULES_VERSION};
use crate::domain::event::PriceSource;
use crate::domain::event::ids::{EntryId, PositionId, StreamId, SymbolId};
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::domain::exit::policy::Policy;

/// Format of the rows. A store of another format is not read, but folded again. It is also raised where a mended
/// difference from the contract changes what existing histories give.
pub const FORMAT_VERSION: u32 = 4;

/// A longer name is replaced by its hash in a key. [bytes]
const NAME_BYTES_MAX: usize = 256;

/// Version byte in front of every value.
const VALUE_VERSION: u8 = 1;

/// One row: key, and value or `None` to remove it.
pub type Row = (Vec<u8>, Option<Vec<u8>>);
/// One row as read.
pub type StoredRow = (Vec<u8>, Vec<u8>);

pub(super) const META: &[u8] = b"m/";
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
}

impl Meta {
    /// Returns the record of a store that is made now.
    pub fn of(streams: &Streams, configured: &Policy) -> Self {
        Self {
            rules_version: RULES_VERSION.to_owned(),
            policy_hash: configured.hash.to_string(),
            streams: streams.iter().map(|(_, s)| (s.kind, s.name.clone())).collect(),
        }
    }

    /// Returns the streams with which the store was folded.
    pub fn streams(&self) -> Option<Streams> {
        let streams = self.streams.iter().map(|(kind, name)| Stream { kind: *kind, name: name.clone() });
        Streams::new(streams.collect()).ok()
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
    let is_new = |id: &&SymbolId| id.0 as usize >= *names_written;
    let all: Vec<SymbolId> = (0..engine.symbols().len() as u32).map(SymbolId).collect();
    let fresh: Vec<SymbolId> = all.iter().filter(is_new).copied().collect();
    for &id in changes.hot().iter().chain(&fresh) {
        let symbol = engine.symbol(id);
        rows.push((name_key(HOT, &symbol.name), Some(encode(&symbol.hot))));
    }
    for &id in changes.cold() {
        let symbol = engine.symbol(id);
        rows.push((name_key(COLD, &symbol.name), Some(encode(&symbol.cold))));
    }
    let in_memory = changes.closed.iter().map(|&(id, row_key)| (engine.symbol(id), &engine.symbol(id).closed[row_key]));
    let forgotten = changes.closed_forgotten.iter().map(|(id, position)| (engine.symbol(*id), position));
    for (symbol, position) in in_memory.chain(forgotten) {
        rows.push((closed_key(&symbol.name, position.id), Some(encode(position))));
    }
    for plan_id in &changes.plans {
        if let Some(known) = engine.plan(plan_id) {
            rows.push((name_key(PLAN, plan_id), Some(encode(known))));
        }
    }
    for plan_id in changes.plans_forgotten.iter().filter(|plan_id| engine.plan(plan_id).is_none()) {
        rows.push((name_key(PLAN, plan_id), None));
    }
    *names_written = engine.symbols().len();
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
        rows.push((name_key(HOT, &symbol.name), encode(&symbol.hot)));
        rows.push((name_key(COLD, &symbol.name), encode(&symbol.cold)));
        for position in &symbol.closed {
            rows.push((closed_key(&symbol.name, position.id), encode(position)));
        }
    }
    rows.extend(engine.plans().map(|known| (name_key(PLAN, &known.plan.plan_id), encode(known))));
    rows
}

/// Access to the rows of a store: all rows whose key starts with a prefix, in order.
pub trait Rows {
    type Error: From<BadRow>;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, Self::Error>;
}

/// Returns how the store was made, or `None` for an empty one.
pub fn meta<R: Rows>(rows: &R) -> Result<Option<Meta>, R::Error> {
    match rows.scan(META)?.first() {
        Some((key, value)) => Ok(Some(decode(key, value)?)),
        None => Ok(None),
    }
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
    let moved = |stream: StreamId| engine.streams().id_of(&made_with.get(stream).name);
    let mut symbols = Vec::new();
    for (row_key, value) in rows.scan(NAME)? {
        let name: Box<str> = decode(&row_key, &value)?;
        let mut hot: Hot = one(rows, HOT, &name)?.unwrap_or_default();
        if let Some(mark) = hot.mark
            && let PriceSource::Stream(stream) = mark.source
        {
            // The last price of a stream that is no longer read has no source and is not used.
            hot.mark = moved(stream)
                .map(|stream| crate::domain::book::symbol::Mark { source: PriceSource::Stream(stream), ..mark });
        }
        let cold: Cold = one(rows, COLD, &name)?.unwrap_or_default();
        let mut closed = Vec::new();
        for position in closed_positions(rows, &name)? {
            if position.closed.is_none_or(|entry| entry.id.ms >= closed_from) {
                closed.push(position);
            }
        }
        closed.sort_by_key(|position| position.closed.map(|entry| (entry.id, position.id)));
        symbols.push(Symbol { name, hot, cold, closed, tidied_ms: 0 });
    }
    let mut plans: Vec<KnownPlan> = Vec::new();
    for (row_key, value) in rows.scan(PLAN)? {
        plans.push(decode(&row_key, &value)?);
    }
    plans.sort_by_key(|known| known.plan.id);
    engine.restore(globals, symbols, plans);
    for (row_key, value) in rows.scan(CURSOR)? {
        let name = String::from_utf8_lossy(&row_key[CURSOR.len()..]).into_owned();
        let id: EntryId = decode(&row_key, &value)?;
        if let Some(stream) = engine.streams().id_of(&name) {
            engine.set_cursor(stream, id);
        }
    }
    Ok(())
}

fn one<R: Rows, T: DeserializeOwned>(rows: &R, prefix: &[u8], name: &str) -> Result<Option<T>, R::Error> {
    let wanted = name_key(prefix, name);
    match rows.scan(&wanted)?.into_iter().find(|(found, _)| *found == wanted) {
        Some((found, value)) => Ok(Some(decode(&found, &value)?)),
        None => Ok(None),
    }
}

/// Returns all closed positions of a symbol in the store, by their opening.
pub fn closed_positions<R: Rows>(rows: &R, symbol: &str) -> Result<Vec<Position>, R::Error> {
    let mut positions = Vec::new();
    for (row_key, value) in rows.scan(&closed_prefix(symbol))? {
        positions.push(decode(&row_key, &value)?);
    }
    Ok(positions)
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
    use std::collections::BTreeMap;
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
            decoder.symbols.take_new().iter().for_each(|name| {
                engine.intern(name);
            });
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
            engine.symbols().map(|s| (s.name.clone(), encode(&s.hot), encode(&s.cold))).collect()
        };
        assert_eq!(bytes(&loaded), bytes(&engine));
        assert_eq!(loaded.globals(), engine.globals());
        let of = |engine: &Engine| {
            let symbol = engine.find("ADAUSDT").unwrap();
            PositionView::of(engine, symbol, symbol.hot.open.as_ref().unwrap())
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
