//! The origin of each number: the stream, the shape and, on request, the entry itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ExplainError;
use super::document::{Explanation, Origin, Origins, name_of_fill};
use crate::codec::line;
use crate::codec::view::PositionView;
use crate::config::Config;
use crate::domain::book::state::parts_of_name;
use crate::domain::engine::Decisions;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::{Stream, StreamKind};
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
    let named = Named::all(position);
    let mut found: BTreeMap<EntryId, Vec<Origin>> = named.iter().map(|named| (named.id, Vec::new())).collect();
    let (Some(first), Some(last)) = (found.keys().next().copied(), found.keys().next_back().copied()) else {
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
        let stream = config.streams.get(at.stream);
        let of_entry = named.iter().filter(|named| named.id == at.id && named.is_of(stream));
        let supplied: Vec<String> = of_entry.map(|named| named.field.clone()).collect();
        let Some(origins) = found.get_mut(&at.id).filter(|_| !supplied.is_empty()) else { continue };
        let Ok(fields) = line::fields(at.bytes) else { continue };
        let entry = driver.decode(at.stream, at.id, &fields);
        if entry.symbol != Some(of_symbol) {
            continue;
        }
        origins.push(Origin {
            stream: stream.name.clone(),
            shape: entry.shape,
            fields: supplied,
            raw: raw.then(|| String::from_utf8_lossy(at.bytes).into_owned()),
        });
    }
    Ok(Some(Origins(found.into_iter().map(|(id, origins)| (id.to_string(), origins)).collect())))
}

/// A field of a position, and the entry that supplied it.
struct Named<'a> {
    field: String,
    id: EntryId,
    kind: Option<StreamKind>,
    /// The short name of its stream; `None` if it is not known.
    stream: Option<&'a str>,
}

impl<'a> Named<'a> {
    fn all(position: &'a PositionView) -> Vec<Self> {
        let inputs = position.inputs().into_iter().filter_map(|(name, field)| {
            let field = field?;
            // The source of a price is the name of its stream.
            let is_price = name == "mark_price" && field.kind != Some(StreamKind::Observation);
            let stream = is_price.then_some(&*field.source);
            Some(Self { field: name.to_owned(), id: field.entry.parse().ok()?, kind: field.kind, stream })
        });
        let fills = position.fills.iter().enumerate().filter_map(|(at, fill)| {
            let id = fill.entry.parse().ok()?;
            Some(Self { field: name_of_fill(at), id, kind: fill.kind, stream: None })
        });
        inputs.chain(fills).collect()
    }

    /// Returns true if the entry can be of a stream.
    fn is_of(&self, stream: &Stream) -> bool {
        self.kind.is_none_or(|kind| kind == stream.kind) && self.stream.is_none_or(|name| name == stream.short_name())
    }
}
