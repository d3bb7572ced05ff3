//! The origin of each number: the stream, the shape and, on request, the entry itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ExplainError;
use super::document::{Explanation, Origin, Origins};
use crate::codec::line;
use crate::config::Config;
use crate::domain::book::state::parts_of_name;
use crate::domain::engine::Decisions;
use crate::domain::event::ids::EntryId;
use crate::drive::driver::Driver;
use crate::drive::scope;
use crate::drive::stop::Stop;
use crate::shell::history::{History, Input, Options};

/// Returns the origins of each entry that the position of an explanation names. Returns `None` if there is no position,
/// or if the history cannot be read again.
pub fn origins(
    explanation: &Explanation,
    sources: Vec<PathBuf>,
    raw: bool,
    config: &Config,
    stop: &Stop,
) -> Result<Option<Origins>, ExplainError> {
    let Some(position) = explanation.at_time.as_ref().and_then(|at_time| at_time.position.as_ref()) else {
        return Ok(None);
    };
    let fields = position.inputs().into_iter().filter_map(|(_, field)| Some(&field?.entry));
    let named = fields.chain(position.fills.iter().map(|fill| &fill.entry));
    let mut wanted: BTreeMap<EntryId, Vec<Origin>> =
        named.filter_map(|entry| Some((entry.parse().ok()?, Vec::new()))).collect();
    let (Some(first), Some(last)) = (wanted.keys().next().copied(), wanted.keys().next_back().copied()) else {
        return Ok(None);
    };
    let inputs: Vec<Input> = sources.into_iter().map(Input::from).collect();
    if inputs.contains(&Input::Stdin) {
        return Ok(None);
    }
    let config = &*scope::over(config, &inputs)?;
    let options = Options { until: Some(EntryId::new(last.ms, u64::MAX)), ..Options::default() };
    let mut history = History::open(&inputs, &config.streams, options)?;
    let mut driver = Driver::new(config, Decisions::Recorded)?;
    let of_symbol = driver.intern(parts_of_name(&explanation.symbol).1);
    while let Some(at) = history.next_line()? {
        stop.check()?;
        if at.id < first || at.duplicate {
            continue;
        }
        let Some(origins) = wanted.get_mut(&at.id) else { continue };
        let Ok(fields) = line::fields(at.bytes) else { continue };
        let entry = driver.decode(at.stream, at.id, &fields);
        if entry.symbol != Some(of_symbol) {
            continue;
        }
        origins.push(Origin {
            stream: config.streams.get(at.stream).name.clone(),
            shape: entry.shape,
            raw: raw.then(|| String::from_utf8_lossy(at.bytes).into_owned()),
        });
    }
    Ok(Some(wanted.into_iter().map(|(id, origins)| (id.to_string(), origins)).collect()))
}
