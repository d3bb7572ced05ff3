//! The oracle: a fold of the same entries without any disturbance.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use harvester::codec::line::{self, Fields};
use harvester::config::Config;
use harvester::domain::engine::accounts::Account;
use harvester::domain::engine::{Decisions, Engine, Globals};
use harvester::domain::event::ids::{EntryId, SortKey, StreamId};
use harvester::domain::event::streams::StreamKind;
use harvester::domain::exit::RATE_WINDOW_MS;
use harvester::drive::driver::Driver;
use harvester::drive::look_ahead::{LookAhead, is_read_ahead};

use super::redis::Data;

fn driver(config: &Config, decisions: Decisions) -> Driver {
    let mut driver = Driver::new(config, decisions).expect("the key reads");
    driver.engine.ignore_changes();
    driver
}

/// Returns the state after a journal that is replayed.
pub fn replayed(config: &Config, lines: &[String]) -> Engine {
    let mut driver = driver(config, Decisions::Recorded);
    let heads: Vec<(StreamId, EntryId)> = lines
        .iter()
        .map(|text| {
            let (name, id) = line::head(text.as_bytes()).expect("a line of the journal");
            (config.streams.id_of(&name).expect("it is read"), id.parse().expect("an id"))
        })
        .collect();
    let mut ahead = LookAhead::default();
    for ((stream, id), text) in heads.iter().zip(lines) {
        if is_read_ahead(config.streams.kind(*stream)) {
            let entry = driver.decode(*stream, *id, &line::fields(text.as_bytes()).expect("fields"));
            ahead.see(&config.streams, entry);
        }
    }
    driver.preload(ahead);
    for ((stream, id), text) in heads.iter().zip(lines) {
        let entry = driver.decode_line(*stream, *id, text.as_bytes()).expect("a line of the journal");
        driver.fold(&entry);
    }
    driver.engine
}

/// Returns the first values that differ in two states with different checksums, each with its place.
pub fn difference(one: &Engine, other: &Engine) -> String {
    let (one, other) = (text(one), text(other));
    let mut around: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for (one, other) in one.lines().zip(other.lines()) {
        let depth = one.len() - one.trim_start().len();
        around.retain(|line| line.len() - line.trim_start().len() < depth);
        // Rows to be committed are not part of the state.
        let is_state = around.last().is_none_or(|line| !line.contains("Dirty("));
        if one != other && is_state {
            let place: Vec<&str> =
                around.iter().map(|line| line.trim().trim_end_matches([' ', '{', '[', '('])).collect();
            found.push(format!("{}: {} / {}", place.join(" "), one.trim(), other.trim()));
        }
        around.push(one);
    }
    found.truncate(3);
    found.join("; ")
}

fn text(engine: &Engine) -> String {
    // Decisions that are too old to count wait to be forgotten.
    let now_ms = engine.globals().last.ms;
    let recent = |decided: &VecDeque<u64>| -> VecDeque<u64> {
        decided.iter().copied().filter(|ms| now_ms.saturating_sub(*ms) < RATE_WINDOW_MS).collect()
    };
    let globals = engine.globals();
    let globals = Globals { decided_ms: recent(&globals.decided_ms), skipped: BTreeSet::new(), ..globals.clone() };
    let mut text = format!("{globals:#?}\n");
    let symbols: BTreeMap<&str, _> = engine.symbols().map(|symbol| (&*symbol.name, symbol)).collect();
    for (name, symbol) in symbols {
        text += &format!("{name} {symbol:#?}\n");
    }
    let books: BTreeMap<_, _> = engine.books().map(|view| ((&view.symbol.name, &view.book.name), view.book)).collect();
    for ((_, name), book) in books {
        text += &format!("{name} {book:#?}\n");
    }
    for account in engine.accounts().iter() {
        let account = Account { decided_ms: recent(&account.decided_ms), ..account.clone() };
        text += &format!("{account:#?}\n");
    }
    for (stream, named) in engine.streams().iter() {
        text += &format!("{} {:?}\n", named.name, engine.cursor(stream));
    }
    text
}

/// Returns the hashes of the decisions that result from all entries of the server in canonical order.
pub fn undisturbed(config: &Config, data: &Data) -> Vec<String> {
    let mut driver = driver(config, Decisions::Derived);
    let mut all = Vec::new();
    for (stream, named) in config.streams.iter().filter(|(_, named)| named.kind != StreamKind::Decision) {
        let entries = data.streams.get(&named.name).map_or(&[][..], |stream| &stream.entries);
        all.extend(entries.iter().map(|entry| (SortKey::new(stream, entry.id), entry)));
    }
    all.sort_by_key(|(key, _)| *key);
    let mut hashes = Vec::new();
    for (key, entry) in all {
        let pairs = entry.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let entry = driver.decode(key.stream, entry.id, &Fields::of(pairs));
        hashes.extend(driver.fold(&entry).decided.into_iter().map(|(_, sealed)| sealed.hash));
    }
    hashes
}
