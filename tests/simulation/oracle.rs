//! The oracle: the same entries, folded by nobody who is ever disturbed.

use harvester::codec::checksum::state_checksum_hex;
use harvester::codec::line::{self, Fields};
use harvester::config::Config;
use harvester::domain::engine::{Decisions, Engine};
use harvester::domain::event::ids::{EntryId, SortKey, StreamId};
use harvester::domain::event::streams::StreamKind;
use harvester::drive::driver::Driver;
use harvester::drive::look_ahead::{LookAhead, is_read_ahead};

use super::redis::Data;

fn driver(config: &Config, decisions: Decisions) -> Driver {
    let engine = Engine::new(config.streams.clone(), config.policy.clone());
    let mut driver = Driver::going_on(engine, config, decisions).expect("the key reads");
    driver.engine.ignore_changes();
    driver
}

/// Returns the checksum of a journal that is replayed.
pub fn replayed(config: &Config, lines: &[String]) -> String {
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
    state_checksum_hex(&driver.engine)
}

/// Returns the hashes of the decisions that all entries of the server lead to, in canonical order.
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
