//! A history that is being read: the fold, and the index of events. It continues with a journal that grows.
//!
//! ```text
//!  history ──▶ read ──▶ reel ──▶ film
//!                        ▲ │
//!  journal, new lines ───┘ └───▶ film …
//! ```
//!
//! Promises: reads only. Each line of a journal is read once. A film costs one copy of the state and shares the rest.
//! Memory is bounded in the same way as that of a film.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::commits::decision_line;
use super::driver::{Driver, Stepped};
use super::film::{
    Adopted, ChangePoint, DecisionSource, Film, FilmError, Frame, KeptRows, Origin, PARTS, StreamCount, files_from,
};
use super::keys;
use super::scope;
use super::snapshots;
use super::stop::Stop;
use crate::codec::chain::{self, Chain, Found, Link};
use crate::codec::line;
use crate::codec::plural::plural;
use crate::codec::signing::SigningKey;
use crate::codec::snapshot;
use crate::codec::state::Quarantined;
use crate::config::Config;
use crate::domain::book::change::Cause;
use crate::domain::engine::{Decisions, Disposition, Engine};
use crate::domain::event::ids::{EntryId, SymbolId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Control, Entry, Event};
use crate::shell::history::{History, Input, Options};
use crate::shell::journal::{self, JournalError, Tail};
use crate::shell::snapshots as files_of_snapshots;

/// Maximum number of states that are kept along the way. [1]
pub const FRAMES_MAX: usize = 32;
/// Entries between the first frames. The distance doubles whenever there are too many frames. [1]
const FRAME_ENTRIES_MIN: u64 = 256;
/// Maximum number of events in the index. [1]
const EVENTS_MAX: usize = 200_000;
/// Maximum number of quarantined entries in the index. [1]
const QUARANTINED_MAX: usize = 10_000;
/// Pieces of time in which entries are counted while the end is not known. [1]
const BINS_MAX: usize = 16 * PARTS;

/// Limits for reading a history, and for the states that are kept.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The folder of the snapshots. A journal with more entries than `entries` is read from one of them on.
    pub snapshots: Option<PathBuf>,
    /// The number of entries that are read from a journal with snapshots, at least. [1]
    pub entries: u64,
    /// States that are kept along the way. [1]
    pub frames_max: usize,
}

impl Default for Bounds {
    /// The whole history.
    fn default() -> Self {
        Self { snapshots: None, entries: u64::MAX, frames_max: FRAMES_MAX }
    }
}

/// A history that was read.
pub struct Reel {
    origin: Origin,
    config: Arc<Config>,
    inputs: Vec<Input>,
    driver: Driver,
    key: Option<SigningKey>,
    index: ReelIndex,
    /// What follows in a journal.
    tail: Option<Tail>,
    chain: Arc<Chain>,
    /// Decisions that were made here and that the chain lacks.
    beside: Arc<[Link]>,
    /// Decisions from which the chain was made: recorded ones, and ones made here. [1]
    chained: (usize, usize),
}

impl Reel {
    /// Reads a history once.
    pub fn read(origin: Origin, config: Arc<Config>, bounds: &Bounds, stop: &Stop) -> Result<Self, FilmError> {
        let inputs: Vec<Input> = origin.sources().into_iter().map(Input::from).collect();
        let config = match scope::over(&config, &inputs)? {
            Cow::Borrowed(_) => Arc::clone(&config),
            Cow::Owned(stated) => Arc::new(stated),
        };
        let mut notices = Vec::new();
        let begun = match &origin {
            Origin::Journal(dir) => begin(dir, bounds, &config, &mut notices)?,
            Origin::Histories(_) | Origin::Store(_) => None,
        };
        let (mut driver, position, mut history) = match begun {
            None => {
                let history = History::open(&inputs, &config.streams, Options::default())?;
                (Driver::over(&history, &config, Decisions::Recorded, None)?, 0, history)
            }
            Some(Begin { engine, position, inputs }) => {
                let history = History::open(&inputs, &config.streams, Options::default())?;
                let mut driver = Driver::going_on(engine, &config, Decisions::Recorded)?;
                driver.engine.ignore_changes();
                driver.look_ahead(&history, None);
                (driver, position, history)
            }
        };
        let mut index = ReelIndex::new(&driver, &history, position, bounds.frames_max);
        index.notices = notices;
        let recorded = history.decision_lines().map(|at| (at.id, at.bytes.to_vec()));
        index.recorded = recorded.collect();
        let firsts = history.journal_firsts();
        driver.pipeline(&mut history, false, |engine, batch| {
            for ((entry, range), place) in batch.entries.iter().zip(&batch.places) {
                stop.check()?;
                let at = position_of(&firsts, *place);
                if at.is_none_or(|at| at >= position) {
                    let folded = Stepped::by(engine, entry);
                    index.position = at.map_or(0, |at| at + 1);
                    index.note(engine, entry, &batch.bytes[range.clone()], &folded);
                }
            }
            Ok::<_, FilmError>(())
        })?;
        index.notices.extend(history.notices());
        let tail = match &origin {
            Origin::Journal(dir) => Some(Tail::at(dir, index.position)),
            Origin::Histories(_) | Origin::Store(_) => None,
        };
        let key = keys::configured(&config)?;
        Ok(Self {
            origin,
            config,
            inputs,
            driver,
            key,
            index,
            tail,
            chain: Arc::default(),
            beside: Arc::from([]),
            chained: (usize::MAX, usize::MAX),
        })
    }

    /// Reads the entries that the journal has received since the last call. Returns true if there were any. If `stop`
    /// ends the pass, the next call continues where it stopped.
    pub fn read_on(&mut self, stop: &Stop) -> Result<bool, JournalError> {
        let Some(tail) = &mut self.tail else { return Ok(false) };
        let before = self.index.position;
        while stop.check_now().is_ok()
            && let Some(text) = tail.next_lines()?
        {
            for text in text.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
                self.index.position += 1;
                let Ok((name, id)) = line::head(text) else { continue };
                let (Some(stream), Ok(id)) = (self.driver.streams().id_of(&name), id.parse()) else { continue };
                let Ok(entry) = self.driver.decode_line(stream, id, text) else { continue };
                let folded = self.driver.fold(&entry);
                let index = &mut self.index;
                if entry.kind == StreamKind::Decision {
                    index.recorded.push((id, text.to_vec()));
                    if let Ok(Event::Decision(fact)) = &entry.content {
                        index.made.retain(|made| *made.decision_id != *fact.decision_id);
                    }
                }
                index.note(&self.driver.engine, &entry, text, &folded);
            }
        }
        Ok(self.index.position > before)
    }

    /// Returns the history up to now as a film.
    pub fn film(&mut self) -> Film {
        let index = &self.index;
        let is_recorded = !index.recorded.is_empty();
        let of = (index.recorded.len(), index.made.len());
        if self.chained != of {
            let lines = (1..).zip(&index.made);
            let made: Vec<Found<'_>> =
                lines.map(|(number, made)| found(made.id, made.line.as_bytes(), number)).collect();
            let made = chain::verify(&made, None, &[]);
            if is_recorded {
                let lines = (1..).zip(&index.recorded);
                let recorded: Vec<Found<'_>> = lines.map(|(number, (id, line))| found(*id, line, number)).collect();
                let chain = chain::verify(&recorded, self.key.as_ref(), &[]);
                // An altered entry is a fault of the chain, and not a decision that is missing.
                let known: BTreeSet<&str> = chain.links.iter().map(Link::decision_id).collect();
                let beside = made.links.into_iter().filter(|link| !known.contains(link.decision_id()));
                self.beside = beside.collect();
                self.chain = Arc::new(chain);
            } else {
                self.beside = Arc::from([]);
                self.chain = Arc::new(made);
            }
            self.chained = of;
        }
        let (first, last) = (index.first.unwrap_or_default(), index.last.unwrap_or_default());
        Film {
            origin: self.origin.clone(),
            config: Arc::clone(&self.config),
            inputs: self.inputs.clone(),
            frames: index.frames.clone(),
            latest: Arc::new(self.driver.engine.clone()),
            states: Mutex::default(),
            lives: Mutex::default(),
            rows: KeptRows::default(),
            change_points: Arc::clone(&index.change_points),
            streams: index.streams.clone(),
            parts: index.density.parts((first.ms, last.ms)),
            adopted: index.adopted.clone(),
            quarantined: Arc::clone(&index.quarantined),
            decisions: Arc::clone(&self.chain),
            source: if is_recorded { DecisionSource::Recorded } else { DecisionSource::MadeHere },
            beside: Arc::clone(&self.beside),
            entries: index.entries,
            first,
            last,
            notices: index.notices.clone(),
        }
    }
}

/// The state from which the reading of a journal begins.
struct Begin {
    engine: Engine,
    position: u64,
    inputs: Vec<Input>,
}

/// Returns the newest snapshot after which a journal has as many entries as `bounds` asks for, or else the oldest
/// snapshot. Returns `None` if the journal is read from its beginning.
fn begin(dir: &Path, bounds: &Bounds, config: &Config, notices: &mut Vec<String>) -> Result<Option<Begin>, FilmError> {
    let (Some(folder), Some((first, end))) = (&bounds.snapshots, journal::extent(dir)?) else { return Ok(None) };
    if first == 0 && end <= bounds.entries {
        return Ok(None);
    }
    let mut begin = None;
    for (_, path) in files_of_snapshots::list(folder, snapshot::last_of_name)?.into_iter().rev() {
        let Ok((engine, snapshot)) = snapshots::restored(&path, config) else { continue };
        let Some(position) = snapshot.head.journal.filter(|at| (first..=end).contains(at)) else { continue };
        begin = Some((engine, position));
        if end - position >= bounds.entries {
            break;
        }
    }
    match begin {
        Some((engine, position)) => {
            notices.push(format!(
                "These pages begin after {} of the journal, with a snapshot. For all of it: harvester console --journal {}",
                plural(position, "entry"),
                dir.display()
            ));
            Ok(Some(Begin { engine, position, inputs: files_from(dir, position)? }))
        }
        None => {
            if first > 0 {
                notices.push(format!(
                    "The journal begins with entry {first}, and no snapshot has the state before it: what is shown is incomplete."
                ));
            }
            Ok(None)
        }
    }
}

/// Returns the position of a line in its journal; `None` in other histories. `firsts` are the first positions of the
/// files; the pair is file and line.
pub(super) fn position_of(firsts: &[Option<u64>], (file, number): (u32, u64)) -> Option<u64> {
    firsts.get(file as usize).copied().flatten().map(|first| first + number - 1)
}

pub(super) fn found(id: EntryId, line: &[u8], number: u64) -> Found<'_> {
    Found { id, line, file: 0, number }
}

pub(super) fn id_of(line: &str) -> Option<EntryId> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["id"].as_str()?.parse().ok()
}

/// A decision that was made here and is not recorded yet.
struct Made {
    id: EntryId,
    line: String,
    decision_id: String,
}

/// The index of a history that is being read.
struct ReelIndex {
    frames: Vec<Arc<Frame>>,
    frames_max: usize,
    distance: u64,
    /// Entries that were folded. [1]
    entries: u64,
    /// Position of the next entry in the journal. [1]
    position: u64,
    signatures: Vec<u64>,
    globals: GlobalsSeen,
    #[expect(clippy::rc_buffer, reason = "it grows in place while no film shares it")]
    change_points: Arc<Vec<ChangePoint>>,
    streams: Vec<StreamCount>,
    density: Density,
    adopted: Adopted,
    #[expect(clippy::rc_buffer, reason = "it grows in place while no film shares it")]
    quarantined: Arc<Vec<Quarantined>>,
    recorded: Vec<(EntryId, Vec<u8>)>,
    made: Vec<Made>,
    notices: Vec<String>,
    first: Option<EntryId>,
    last: Option<EntryId>,
}

impl ReelIndex {
    fn new(driver: &Driver, history: &History, position: u64, frames_max: usize) -> Self {
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

    fn note(&mut self, engine: &Engine, entry: &Entry, line: &[u8], folded: &Stepped) {
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

/// Counts entries in pieces of time. The pieces grow with the range of time.
#[derive(Clone, Debug)]
struct Density {
    from_ms: u64,
    width_ms: u64,
    bins: Vec<u32>,
}

impl Density {
    fn over(from_ms: u64, to_ms: u64) -> Self {
        let span = to_ms.saturating_sub(from_ms);
        Self { from_ms, width_ms: span / BINS_MAX as u64 + 1, bins: Vec::new() }
    }

    fn count(&mut self, ms: u64) {
        let mut bin = ms.saturating_sub(self.from_ms) / self.width_ms;
        while bin >= BINS_MAX as u64 {
            // Two pieces become one.
            self.bins = self.bins.chunks(2).map(|pair| pair.iter().fold(0, |sum, n| n.saturating_add(sum))).collect();
            self.width_ms = self.width_ms.saturating_mul(2);
            bin = ms.saturating_sub(self.from_ms) / self.width_ms;
        }
        let bin = usize::try_from(bin).unwrap_or(0);
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] = self.bins[bin].saturating_add(1);
    }

    /// Returns the entries in each part of a time.
    fn parts(&self, (from_ms, to_ms): (u64, u64)) -> Vec<u32> {
        let span = u128::from(to_ms.saturating_sub(from_ms).max(1));
        let mut parts = vec![0_u32; PARTS];
        for (bin, entries) in (0_u64..).zip(&self.bins) {
            let middle =
                self.from_ms.saturating_add(bin.saturating_mul(self.width_ms)).saturating_add(self.width_ms / 2);
            let part = u128::from(middle.saturating_sub(from_ms)) * PARTS as u128 / span;
            let part = &mut parts[usize::try_from(part).unwrap_or(PARTS).min(PARTS - 1)];
            *part = part.saturating_add(*entries);
        }
        parts
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_density_keeps_every_entry_while_the_time_grows() {
        let mut density = Density::over(1_000, 2_000);
        for ms in (1_000..2_000).chain((0..500).map(|n| 2_000 + n * 60_000)) {
            density.count(ms);
        }
        let parts = density.parts((1_000, 2_000 + 499 * 60_000));
        assert_eq!(parts.iter().sum::<u32>(), 1_500);
        assert!(parts[0] >= 1_000, "{parts:?}");
        assert!(parts[1..].iter().all(|n| (1..=6).contains(n)), "{parts:?}");
        assert!(density.bins.len() <= BINS_MAX);
    }
}
