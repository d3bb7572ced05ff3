//! The origin of each number: the stream, the shape and, on request, the entry itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Args;
use crate::codec::line;
use crate::config::Config;
use crate::domain::engine::Decisions;
use crate::domain::event::ids::EntryId;
use crate::drive::driver::Driver;
use crate::shell::history::{History, Input, Options};

/// Fields of a position that come from an entry.
const FIELDS: [&str; 4] = ["entry_price", "atr_value", "volatility_factor", "mark_price"];

/// Adds, for each entry that a document names, the streams and shapes that it was read from.
pub fn with_origins(mut document: Value, args: &Args, config: &Config) -> anyhow::Result<Value> {
    let mut wanted: BTreeMap<EntryId, Vec<Value>> = BTreeMap::new();
    let position = &document["position"];
    let fills = position["fills"].as_array().into_iter().flatten();
    let named = FIELDS.iter().map(|field| &position[*field]["entry"]).chain(fills.map(|fill| &fill["entry"]));
    for id in named.filter_map(|entry| entry.as_str()?.parse().ok()) {
        wanted.entry(id).or_default();
    }
    let sources = args.sources();
    let (Some(first), Some(last)) = (wanted.keys().next().copied(), wanted.keys().next_back().copied()) else {
        return Ok(document);
    };
    let inputs: Vec<Input> = sources.into_iter().map(Input::from).collect();
    if inputs.contains(&Input::Stdin) {
        return Ok(document);
    }
    let symbol = document["symbol"].as_str().unwrap_or_default().to_owned();
    let options = Options { until: Some(EntryId::new(last.ms, u64::MAX)), ..Options::default() };
    let mut history = History::open(&inputs, &config.streams, options)?;
    let mut driver = Driver::new(config, Decisions::Recorded)?;
    let of_symbol = driver.intern(&symbol);
    while let Some(at) = history.next_line()? {
        if at.id < first || at.duplicate {
            continue;
        }
        let Some(origins) = wanted.get_mut(&at.id) else { continue };
        let Ok(fields) = line::fields(at.bytes) else { continue };
        let entry = driver.decode(at.stream, at.id, &fields);
        if entry.symbol != Some(of_symbol) {
            continue;
        }
        let mut origin = json!({"stream": config.streams.get(at.stream).name, "shape": entry.shape});
        if args.raw {
            origin["raw"] = String::from_utf8_lossy(at.bytes).into_owned().into();
        }
        origins.push(origin);
    }
    document["origins"] = wanted
        .into_iter()
        .map(|(id, origins)| (id.to_string(), Value::from(origins)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    Ok(document)
}
