//! The part of each stream that the history covers.

use serde_json::{Map, Value, json};

use crate::domain::engine::Engine;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};

/// The covered part of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    first: Option<EntryId>,
    last: Option<EntryId>,
    entries: u64,
}

/// First and last entry of each stream.
pub struct Coverage {
    seen: Vec<Seen>,
}

impl Coverage {
    pub fn new(streams: &Streams) -> Self {
        Self { seen: vec![Seen::default(); streams.len()] }
    }

    #[inline]
    pub fn see(&mut self, stream: StreamId, id: EntryId) {
        let seen = &mut self.seen[usize::from(stream.0)];
        seen.first = Some(seen.first.map_or(id, |first| first.min(id)));
        seen.last = seen.last.max(Some(id));
        seen.entries += 1;
    }

    /// Returns true if the covered part of a stream includes an entry.
    pub fn holds(&self, streams: &Streams, stream: &str, id: EntryId) -> bool {
        let Some(stream) = streams.id_of(stream) else { return false };
        let seen = &self.seen[usize::from(stream.0)];
        seen.first.is_some_and(|first| first <= id) && seen.last.is_some_and(|last| id <= last)
    }

    /// Returns each stream with its first and last entry and the gaps that the history names, and true if there are any
    /// gaps.
    pub fn json(&self, engine: &Engine) -> (Map<String, Value>, bool) {
        let mut coverage = Map::new();
        for (index, stream) in engine.streams().iter() {
            let seen = &self.seen[usize::from(index.0)];
            let id = |id: Option<EntryId>| id.map(|id| id.to_string());
            let kind = stream.kind.name();
            let item = json!({"first": id(seen.first), "last": id(seen.last), "gaps": [], "entries": seen.entries, "kind": kind});
            coverage.insert(stream.name.clone(), item);
        }
        for gap in &engine.globals().gaps {
            let id = |id: Option<EntryId>| id.map(|id| id.to_string());
            let told = json!({"after": id(gap.after), "before": id(gap.before), "told": gap.reported.to_string()});
            let stream = coverage
                .entry(&*gap.stream)
                .or_insert_with(|| json!({"first": null, "last": null, "gaps": [], "entries": 0, "kind": null}));
            if let Some(gaps) = stream["gaps"].as_array_mut() {
                gaps.push(told);
            }
        }
        (coverage, !engine.globals().gaps.is_empty())
    }

    /// Returns the streams without a single entry, except those that are allowed to be silent.
    pub fn silent(&self, streams: &Streams) -> Vec<String> {
        let is_silent = |index: StreamId| self.seen[usize::from(index.0)].entries == 0;
        streams
            .iter()
            .filter(|(index, stream)| is_silent(*index) && stream.kind != StreamKind::Decision)
            .map(|(_, stream)| stream.name.clone())
            .collect()
    }
}
