//! The index of a history that is being read: frames, points of change, decisions, and what a film lists.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::density::Density;
use super::id_of;
use crate::codec::state::Quarantined;
use crate::domain::book::change::Cause;
use crate::domain::engine::{Disposition, Engine};
use crate::domain::event::ids::{EntryId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Control, Entry, Event};
use crate::drive::commits::decision_line;
use crate::drive::driver::{Driver, Stepped};
use crate::drive::film::{Adopted, ChangePoint, Frame, StreamCount};
use crate::shell::history::History;

/// Entries between the first frames. The distance doubles whenever there are too many frames. [1]
const FRAME_ENTRIES_MIN: u64 = 256;
/// Maximum number of events in the index. [1]
const EVENTS_MAX: usize = 200_000;
/// Maximum number of quarantined entries in the index. [1]
const QUARANTINED_MAX: usize = 10_000;

/// A decision that was made here and is not recorded yet.
pub(super) struct Made {
    pub id: EntryId,
    pub line: String,
    pub decision_id: String,
}

/// The index of a history that is being read.
pub(super) struct ReelIndex {
    pub frames: Vec<Arc<Frame>>,
    frames_max: usize,
    distance: u64,
    /// Entries that were folded. [1]
    pub entries: u64,
    /// Position of the next entry in the journal. [1]
    pub position: u64,
    signatures: Vec<u64>,
    globals: GlobalsSeen,
    #[expect(clippy::rc_buffer, reason = "it grows in place while no film shares it")]
    pub change_points: Arc<Vec<ChangePoint>>,
    pub streams: Vec<StreamCount>,
    pub density: Density,
    pub adopted: Adopted,
    #[expect(clippy::rc_buffer, reason = "it grows in place while no film shares it")]
    pub quarantined: Arc<Vec<Quarantined>>,
    pub recorded: Vec<(EntryId, Vec<u8>)>,
    pub made: Vec<Made>,
    pub notices: Vec<String>,
    pub first: Option<EntryId>,
    pub last: Option<EntryId>,
}

impl ReelIndex {
    pub(super) fn new(driver: &Driver, history: &History, position: u64, frames_max: usize) -> Self {
        let streams = driver.streams().iter().map(|(_, stream)| StreamCount {
            name: stream.name.clone(),
            kind: stream.kind.name(),
            entries: 0,
            first: None,
            last: None,
        });
        let ms = |key: Option<crate::domain::event::ids::SortKey>| key.map_or(0, |key| key.ms);
        Self {
            frames: vec![Arc::new(Frame { entries: 0, counts: Vec::new(), position, engine: driver.engine.clone() })],
            frames_max,
            distance: FRAME_ENTRIES_MIN,
            entries: 0,
            position,
            signatures: Vec::new(),
            globals: globals_of(&driver.engine),
            change_points: Arc::default(),
            streams: streams.collect(),
            density: Density::over(ms(history.first()), ms(history.last())),
            adopted: Vec::new(),
            quarantined: Arc::default(),
            recorded: Vec::new(),
            made: Vec::new(),
            notices: Vec::new(),
            first: None,
            last: None,
        }
    }

    /// Adds an entry that was folded.
    pub(super) fn note(&mut self, engine: &Engine, entry: &Entry, line: &[u8], folded: &Stepped) {
        self.entries += 1;
        self.first = Some(self.first.map_or(entry.id, |first| first.min(entry.id)));
        self.last = self.last.max(Some(entry.id));
        let count = &mut self.streams[usize::from(entry.stream.0)];
        count.entries += 1;
        count.first.get_or_insert(entry.id);
        count.last = count.last.max(Some(entry.id));
        self.density.count(entry.id.ms);
        let symbol = entry.symbol.map(|id| (id.0, signature(engine, id)));
        // Only control entries change the kill switches, the policies and the gaps.
        let globals = (entry.kind == StreamKind::Control).then(|| globals_of(engine));
        self.turn(entry.id, symbol, globals);
        if let Ok(Event::Control(fact)) = &entry.content
            && matches!(fact.control, Control::PolicyAdopted(_))
        {
            self.adopted.push((entry.id, engine.accounts().get(entry.account).name.clone()));
        }
        for (decision, sealed) in &folded.decided {
            let line = decision_line(engine, sealed, entry);
            let decision_id = decision.decision_id.clone();
            self.made.extend(id_of(&line).map(|id| Made { id, line, decision_id }));
        }
        if let Disposition::Quarantined(reason) = folded.disposition {
            let stream = engine.streams().get(entry.stream).name.clone();
            let line = String::from_utf8_lossy(line).into_owned();
            if self.quarantined.len() < QUARANTINED_MAX {
                let kept = Quarantined { stream, id: entry.id, reason: reason.name().to_owned(), line };
                Arc::make_mut(&mut self.quarantined).push(kept);
            } else if !self.notices.iter().any(|notice| *notice == only_first()) {
                self.notices.push(only_first());
            }
        }
        if self.entries.is_multiple_of(self.distance) {
            let counts = self.streams.iter().map(|stream| stream.entries).collect();
            let frame = Frame { entries: self.entries, counts, position: self.position, engine: engine.clone() };
            self.frames.push(Arc::new(frame));
            if self.frames.len() > self.frames_max {
                self.distance *= 2;
                let distance = self.distance;
                self.frames.retain(|frame| frame.entries.is_multiple_of(distance));
            }
        }
    }

    fn turn(&mut self, at: EntryId, symbol: Option<(u32, u64)>, globals: Option<GlobalsSeen>) {
        let mut turned = None;
        if let Some((index, signature)) = symbol {
            let place = index as usize;
            if self.signatures.len() <= place {
                self.signatures.resize(place + 1, 0);
            }
            if std::mem::replace(&mut self.signatures[place], signature) != signature {
                turned = Some(ChangePoint { at, symbol: Some(index) });
            }
        }
        if let Some(globals) = globals.filter(|globals| *globals != self.globals) {
            self.globals = globals;
            turned = Some(ChangePoint { at, symbol: None });
        }
        if let Some(turn) = turned.filter(|_| self.change_points.len() < EVENTS_MAX) {
            Arc::make_mut(&mut self.change_points).push(turn);
        }
    }
}

fn only_first() -> String {
    format!("Only the first {QUARANTINED_MAX} quarantined entries are listed.")
}

/// Returns a digest of those values of a symbol's books whose change the reader of the console can step to.
fn signature(engine: &Engine, symbol: SymbolId) -> u64 {
    let mut hasher = DefaultHasher::new();
    for book in engine.books_of(symbol) {
        let open = book.hot.open.as_ref();
        let hold = open.and_then(|open| open.holds.last());
        hold.map(|change| (change.since, change.hold.map(|hold| hold.name()))).hash(&mut hasher);
        if let Some(open) = open {
            // A newer entry with the same entry price is no change.
            let is_set = open.changes.last().is_some_and(|change| change.cause == Cause::EntrySet);
            (open.changes.len() - usize::from(is_set)).hash(&mut hasher);
            open.totals.entry.map(|entry| (entry.price.get(), entry.source.name())).hash(&mut hasher);
            open.risk.as_ref().map(|risk| (risk.factor.get(), risk.source.name())).hash(&mut hasher);
        }
        for record in open.into_iter().flat_map(|open| &open.decisions) {
            record.outcomes.len().hash(&mut hasher);
        }
        (book.closed.len(), book.hot.history_gap, book.hot.diverged).hash(&mut hasher);
    }
    hasher.finish()
}

/// Number of gaps, and of each account its kill switch and the hash of its policy. The account without a name has the
/// general ones.
type GlobalsSeen = (usize, Vec<(bool, Option<Box<str>>)>);

fn globals_of(engine: &Engine) -> GlobalsSeen {
    let globals = engine.globals();
    let general = (globals.killed, Some(globals.policy.hash.clone()));
    let of = engine.accounts().iter().map(|account| (account.killed, account.policy.as_ref().map(|p| p.hash.clone())));
    (globals.gaps.len(), std::iter::once(general).chain(of.filter(|(killed, own)| *killed || own.is_some())).collect())
}
