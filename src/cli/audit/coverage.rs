//! The part of each stream that the history covers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::engine::Engine;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{Stream, StreamKind, Streams};

/// The covered part of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    first: Option<EntryId>,
    last: Option<EntryId>,
    entries: u64,
}

/// The covered part of one stream, and its gaps.
#[derive(Debug, Default, Serialize)]
pub struct Covered {
    pub first: Option<String>,
    pub last: Option<String>,
    pub gaps: Vec<CoveredGap>,
    pub entries: u64,
    /// `None` if the stream is not configured.
    kind: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct CoveredGap {
    after: Option<String>,
    before: Option<String>,
    /// The entry that reports it.
    told: String,
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
    pub fn contains(&self, streams: &Streams, stream: &str, id: EntryId) -> bool {
        let Some(stream) = streams.id_of(stream) else { return false };
        let seen = &self.seen[usize::from(stream.0)];
        seen.first.is_some_and(|first| first <= id) && seen.last.is_some_and(|last| id <= last)
    }

    /// Returns each stream with its first and last entry and the gaps that the history names.
    pub fn report(&self, engine: &Engine) -> BTreeMap<String, Covered> {
        let text = |id: Option<EntryId>| id.map(|id| id.to_string());
        let of_stream = |(index, stream): (StreamId, &Stream)| {
            let Seen { first, last, entries } = self.seen[usize::from(index.0)];
            let kind = Some(stream.kind.name());
            (stream.name.clone(), Covered { first: text(first), last: text(last), gaps: Vec::new(), entries, kind })
        };
        let mut coverage: BTreeMap<String, Covered> = engine.streams().iter().map(of_stream).collect();
        for gap in &engine.globals().gaps {
            let (after, before) = (text(gap.after), text(gap.before));
            let covered = CoveredGap { after, before, told: gap.reported.to_string() };
            coverage.entry(gap.stream.to_string()).or_default().gaps.push(covered);
        }
        coverage
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
