//! A whole history, read once, of which every past state can be shown: states of the engine along the way (frames), and
//! an index of what happened.
//!
//! ```text
//!  history ──▶ ▪────────▪────────▪────────▪──────▶ the last state
//!            frame    frame    frame    frame
//!                        └─ fold ─▶ the state at a time
//! ```
//!
//! Promises: reads only. The state at a time is that of a fold from the start (the look-ahead may know the names of later
//! accounts already), and costs at most the entries between two frames. Memory is bounded: at most `FRAMES_MAX` states, `EVENTS_MAX` events and `QUARANTINED_MAX` quarantined
//! entries are kept; [`Film::notices`] says what was left out.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::commits::decision_line;
use super::driver::{Driver, Folded};
use super::keys;
use super::life::Life;
use super::projection;
use super::scope;
use super::stop::Stop;
use crate::codec::chain::{self, Chain, Found};
use crate::codec::moment::{Moment, NotAMoment};
use crate::codec::state::{self, BadRow, Quarantined, Rows, StoredRow};
use crate::config::Config;
use crate::domain::engine::{Decisions, Disposition, Engine};
use crate::domain::event::ids::{EntryId, SymbolId};
use crate::domain::event::{Control, Event};
use crate::shell::history::{History, Input, Options};

/// Maximum number of states that are kept along the way. [1]
const FRAMES_MAX: usize = 32;
/// Entries between the first frames. The distance doubles whenever there are too many frames. [1]
const FRAME_ENTRIES_MIN: u64 = 256;
/// Maximum number of events in the index. [1]
const EVENTS_MAX: usize = 200_000;
/// Maximum number of quarantined entries in the index. [1]
const QUARANTINED_MAX: usize = 10_000;
/// States at a time, and lives, that are kept for the next page. [1]
pub(super) const STATES_KEPT: usize = 8;
/// Parts of the time that the index counts entries in. [1]
pub const PARTS: usize = 160;

/// A state along the way.
struct Frame {
    /// Entries that were folded. [1]
    entries: u64,
    engine: Engine,
}

/// An entry at which something other than a price changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub at: EntryId,
    /// The index of its symbol; `None` if it concerns all.
    symbol: Option<u32>,
}

/// The entries of one stream.
#[derive(Clone, Debug)]
pub struct StreamCount {
    pub name: String,
    pub kind: &'static str,
    /// [1]
    pub entries: u64,
    pub first: Option<EntryId>,
    pub last: Option<EntryId>,
}

/// The source of a film, for titles and commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Histories(Vec<PathBuf>),
    Journal(PathBuf),
    Store(PathBuf),
}

impl Origin {
    /// Returns the source as arguments of a command.
    pub fn arguments(&self) -> String {
        match self {
            Self::Histories(paths) => paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" "),
            Self::Journal(dir) => format!("--journal {}", dir.display()),
            Self::Store(dir) => format!("--store {}", dir.display()),
        }
    }

    /// Returns the files and folders of a history, none for a store.
    pub fn sources(&self) -> Vec<PathBuf> {
        match self {
            Self::Histories(paths) => paths.clone(),
            Self::Journal(dir) => vec![dir.clone()],
            Self::Store(_) => Vec::new(),
        }
    }
}

/// Rows of a store that are kept in memory.
#[derive(Clone, Debug, Default)]
pub struct KeptRows(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows for KeptRows {
    type Error = BadRow;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
        let from = self.0.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(from.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// A life with its position and its end.
pub(super) type LifeKept = ((String, EntryId), Arc<Life>);

/// A history or store in memory.
pub struct Film {
    pub origin: Origin,
    pub config: Arc<Config>,
    inputs: Vec<Input>,
    frames: Vec<Frame>,
    /// The state at the end.
    latest: Arc<Engine>,
    /// Recently asked states.
    states: Mutex<VecDeque<(EntryId, Arc<Engine>)>>,
    /// Recently asked lives, by position and end.
    pub(super) lives: Mutex<VecDeque<LifeKept>>,
    /// Closed positions that the engine has forgotten.
    pub rows: KeptRows,
    turns: Vec<Turn>,
    pub streams: Vec<StreamCount>,
    /// Entries in each part of the time. [1]
    pub parts: Vec<u32>,
    adopted: Vec<EntryId>,
    pub quarantined: Vec<Quarantined>,
    pub decisions: Chain,
    /// True if the history contains these decisions; false if they were made while it was read.
    pub is_recorded: bool,
    /// Decisions that were made beside the recorded ones, as history lines. [1]
    pub made_beside: usize,
    /// [1]
    pub entries: u64,
    pub first: EntryId,
    pub last: EntryId,
    pub notices: Vec<String>,
}

impl Film {
    /// Reads a history once.
    pub fn read(origin: Origin, config: Arc<Config>, stop: &Stop) -> anyhow::Result<Self> {
        if let Origin::Store(dir) = &origin {
            return Self::of_store(dir, Arc::clone(&config), origin.clone());
        }
        let inputs: Vec<Input> = origin.sources().into_iter().map(Input::from).collect();
        let config = match scope::over(&config, &inputs)? {
            Cow::Borrowed(_) => Arc::clone(&config),
            Cow::Owned(stated) => Arc::new(stated),
        };
        let mut history = History::open(&inputs, &config.streams, Options::default())?;
        let mut driver = Driver::over(&history, &config, Decisions::Recorded, None)?;
        let mut reading = Reading::new(&driver, &history);
        driver.pipeline(&mut history, false, |engine, batch| {
            for (entry, range) in &batch.entries {
                stop.check()?;
                let folded = Folded::by(engine, entry);
                reading.note(engine, entry, &batch.bytes[range.clone()], &folded);
            }
            Ok(())
        })?;
        let key = keys::configured(&config)?;
        let recorded: Vec<Found<'_>> = history
            .decision_lines()
            .map(|at| Found { id: at.id, line: at.bytes, file: at.file, number: at.number })
            .collect();
        let is_recorded = !recorded.is_empty();
        let made: Vec<Found<'_>> =
            (1..).zip(&reading.made).map(|(number, (id, line))| found(*id, line, number)).collect();
        let decisions =
            if is_recorded { chain::verify(&recorded, key.as_ref(), &[]) } else { chain::verify(&made, None, &[]) };
        let made_beside = if is_recorded { made.len() } else { 0 };
        let Reading { entries, frames, turns, streams, parts, adopted, quarantined, mut notices, first, last, .. } =
            reading;
        notices.extend(history.notices());
        Ok(Self {
            origin,
            config,
            inputs,
            frames,
            latest: Arc::new(driver.engine),
            states: Mutex::default(),
            lives: Mutex::default(),
            rows: KeptRows::default(),
            turns,
            streams,
            parts,
            adopted,
            quarantined,
            decisions,
            is_recorded,
            made_beside,
            entries,
            first: first.unwrap_or_default(),
            last: last.unwrap_or_default(),
            notices,
        })
    }

    /// Reads a store: its present state, without a past.
    fn of_store(dir: &Path, config: Arc<Config>, origin: Origin) -> anyhow::Result<Self> {
        let (engine, store) = projection::read(dir)?;
        let rows = KeptRows(state::closed_rows(&store)?.into_iter().collect());
        let quarantined = state::quarantined(&store)?;
        let lines = state::decisions(&store)?;
        drop(store);
        let made: Vec<(EntryId, String)> = lines.into_iter().filter_map(|line| Some((id_of(&line)?, line))).collect();
        let made: Vec<Found<'_>> = (1..).zip(&made).map(|(number, (id, line))| found(*id, line, number)).collect();
        let decisions = chain::verify(&made, None, &[]);
        let last = engine.globals().last;
        let streams = engine.streams().iter().map(|(id, stream)| StreamCount {
            name: stream.name.clone(),
            kind: stream.kind.name(),
            entries: 0,
            first: None,
            last: engine.cursor(id),
        });
        Ok(Self {
            streams: streams.collect(),
            origin,
            config,
            inputs: Vec::new(),
            frames: Vec::new(),
            latest: Arc::new(engine),
            states: Mutex::default(),
            lives: Mutex::default(),
            rows,
            turns: Vec::new(),
            parts: Vec::new(),
            adopted: Vec::new(),
            quarantined,
            decisions,
            is_recorded: false,
            made_beside: 0,
            entries: 0,
            first: last,
            last,
            notices: vec![
                "A store has its present state only: no past, no prices over time, no raw entries.".to_owned(),
            ],
        })
    }

    /// Returns true if it has a past.
    pub fn has_past(&self) -> bool {
        !self.inputs.is_empty()
    }

    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Returns the last entry up to a time as it was typed, in any spelling of the command line.
    pub fn until(&self, text: &str) -> Result<EntryId, NotAMoment> {
        Ok(text.parse::<Moment>()?.until(self.last.ms))
    }

    /// Returns the state after the last entry up to `at`; without a bound, the last state.
    pub fn state(&self, at: Option<EntryId>, stop: &Stop) -> anyhow::Result<Arc<Engine>> {
        let Some(at) = at.filter(|at| *at < self.last && self.has_past()) else { return Ok(Arc::clone(&self.latest)) };
        let known = |states: &mut VecDeque<(EntryId, Arc<Engine>)>| {
            states.iter().find(|(of, _)| *of == at).map(|(_, engine)| Arc::clone(engine))
        };
        if let Some(engine) = known(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(engine);
        }
        let mut driver = self.fold(None, Some(at), stop, |_, _, _, _| Ok(()))?;
        driver.engine.ignore_changes();
        let engine = Arc::new(driver.engine);
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.push_back((at, Arc::clone(&engine)));
        while states.len() > STATES_KEPT {
            states.pop_front();
        }
        Ok(engine)
    }

    /// Folds on from the nearest frame, at the latest that before `from`, up to `until`. `each` gets each entry after it
    /// was folded, with its line.
    pub(super) fn fold(
        &self,
        from: Option<EntryId>,
        until: Option<EntryId>,
        stop: &Stop,
        mut each: impl FnMut(&Engine, &crate::domain::event::Entry, &[u8], &Folded) -> anyhow::Result<()>,
    ) -> anyhow::Result<Driver> {
        let mut history = History::open(&self.inputs, &self.config.streams, Options { until, ..Options::default() })?;
        let total = history.total_entries().unwrap_or(0);
        let fits =
            |frame: &&Frame| frame.entries <= total && from.is_none_or(|from| frame.engine.globals().last < from);
        let frame = self.frames.iter().rev().find(fits);
        let mut driver = match frame {
            Some(frame) => Driver::going_on(frame.engine.clone(), &self.config, Decisions::Recorded)?,
            None => {
                let mut driver = Driver::new(&self.config, Decisions::Recorded)?;
                let whole = History::open(&self.inputs, &self.config.streams, Options::default())?;
                driver.look_ahead(&whole, None);
                driver
            }
        };
        driver.engine.ignore_changes();
        for _ in 0..frame.map_or(0, |frame| frame.entries) {
            stop.check()?;
            history.next_line()?;
        }
        driver.pipeline(&mut history, false, |engine, batch| {
            for (entry, range) in &batch.entries {
                stop.check()?;
                let folded = Folded::by(engine, entry);
                each(engine, entry, &batch.bytes[range.clone()], &folded)?;
            }
            Ok(())
        })?;
        Ok(driver)
    }

    /// Returns the entry that adopted the policy in force at a time; `None` for the configured policy.
    pub fn policy_since(&self, at: EntryId) -> Option<EntryId> {
        self.adopted.iter().rev().find(|id| **id <= at).copied()
    }

    /// Returns the last change before an entry and the first one after it: of a symbol, or of anything.
    pub fn around(&self, at: EntryId, symbol: Option<&str>) -> (Option<EntryId>, Option<EntryId>) {
        let index = symbol.and_then(|name| self.latest.symbols().position(|symbol| *symbol.name == *name));
        let index = index.and_then(|index| u32::try_from(index).ok());
        let counts = |turn: &&Turn| symbol.is_none() || turn.symbol.is_none() || turn.symbol == index;
        let before = self.turns.iter().rev().filter(counts).find(|turn| turn.at < at).map(|turn| turn.at);
        let after = self.turns.iter().filter(counts).find(|turn| turn.at > at).map(|turn| turn.at);
        (before, after)
    }

    /// Returns the lines of all entries with an id.
    pub fn lines(&self, id: EntryId, stop: &Stop) -> anyhow::Result<Vec<EntryLine>> {
        let mut lines = Vec::new();
        if !self.has_past() {
            return Ok(lines);
        }
        let options = Options { until: Some(id), ..Options::default() };
        let mut history = History::open(&self.inputs, &self.config.streams, options)?;
        let mut driver = Driver::new(&self.config, Decisions::Recorded)?;
        while let Some(at) = history.next_line()? {
            stop.check()?;
            if at.id != id || at.duplicate {
                continue;
            }
            let line = String::from_utf8_lossy(at.bytes).into_owned();
            let (stream, bytes) = (at.stream, at.bytes.to_vec());
            let location = (at.file, at.number);
            let (shape, reason) = match driver.decode_line(stream, id, &bytes) {
                Ok(entry) => (entry.shape, entry.content.err().map(|unreadable| unreadable.reason.name())),
                Err(_) => ("none", Some("bad_json")),
            };
            let location = history.location(location.0, location.1);
            let of = self.config.streams.get(stream);
            lines.push(EntryLine { stream: of.name.clone(), kind: of.kind.name(), shape, reason, location, line });
        }
        Ok(lines)
    }
}

/// An entry as it is written in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryLine {
    pub stream: String,
    pub kind: &'static str,
    pub shape: &'static str,
    /// Why the decoder cannot read it.
    pub reason: Option<&'static str>,
    /// `FILE:LINE`.
    pub location: String,
    pub line: String,
}

fn found(id: EntryId, line: &str, number: u64) -> Found<'_> {
    Found { id, line: line.as_bytes(), file: 0, number }
}

fn id_of(line: &str) -> Option<EntryId> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["id"].as_str()?.parse().ok()
}

/// Returns what of the books of a symbol is a change that a reader steps to, in one number.
fn signature(engine: &Engine, symbol: SymbolId) -> u64 {
    let mut hasher = DefaultHasher::new();
    for book in engine.books_of(symbol) {
        let open = book.hot.open.as_ref();
        let hold = open.and_then(|open| open.holds.last());
        hold.map(|change| (change.since, change.hold.map(|hold| hold.name()))).hash(&mut hasher);
        open.map_or(0, |open| open.changes.len()).hash(&mut hasher);
        for record in open.into_iter().flat_map(|open| &open.decisions) {
            record.outcomes.len().hash(&mut hasher);
        }
        (book.closed.len(), book.hot.history_gap, book.hot.diverged).hash(&mut hasher);
    }
    hasher.finish()
}

/// A film while it is read.
struct Reading {
    frames: Vec<Frame>,
    distance: u64,
    entries: u64,
    signatures: Vec<u64>,
    globals: (bool, Box<str>, usize),
    turns: Vec<Turn>,
    streams: Vec<StreamCount>,
    parts: Vec<u32>,
    range_ms: (u64, u64),
    adopted: Vec<EntryId>,
    quarantined: Vec<Quarantined>,
    made: Vec<(EntryId, String)>,
    notices: Vec<String>,
    first: Option<EntryId>,
    last: Option<EntryId>,
}

impl Reading {
    fn new(driver: &Driver, history: &History) -> Self {
        let streams = driver.streams().iter().map(|(_, stream)| StreamCount {
            name: stream.name.clone(),
            kind: stream.kind.name(),
            entries: 0,
            first: None,
            last: None,
        });
        let ms = |key: Option<crate::domain::event::ids::SortKey>| key.map_or(0, |key| key.ms);
        Self {
            frames: vec![Frame { entries: 0, engine: driver.engine.clone() }],
            distance: FRAME_ENTRIES_MIN,
            entries: 0,
            signatures: Vec::new(),
            globals: globals_of(&driver.engine),
            turns: Vec::new(),
            streams: streams.collect(),
            parts: vec![0; PARTS],
            range_ms: (ms(history.first()), ms(history.last())),
            adopted: Vec::new(),
            quarantined: Vec::new(),
            made: Vec::new(),
            notices: Vec::new(),
            first: None,
            last: None,
        }
    }

    fn note(&mut self, engine: &Engine, entry: &crate::domain::event::Entry, line: &[u8], folded: &Folded) {
        self.entries += 1;
        self.first = Some(self.first.map_or(entry.id, |first| first.min(entry.id)));
        self.last = self.last.max(Some(entry.id));
        let count = &mut self.streams[usize::from(entry.stream.0)];
        count.entries += 1;
        count.first.get_or_insert(entry.id);
        count.last = count.last.max(Some(entry.id));
        self.count_part(entry.id.ms);
        let symbol = entry.symbol.map(|id| (id.0, signature(engine, id)));
        self.turn(entry.id, symbol, globals_of(engine));
        if let Ok(Event::Control(fact)) = &entry.content
            && matches!(fact.control, Control::PolicyAdopted(_))
        {
            self.adopted.push(entry.id);
        }
        for (_, sealed) in &folded.decided {
            let line = decision_line(engine, sealed, entry);
            self.made.extend(id_of(&line).map(|id| (id, line)));
        }
        if let Disposition::Quarantined(reason) = folded.disposition {
            let stream = engine.streams().get(entry.stream).name.clone();
            let line = String::from_utf8_lossy(line).into_owned();
            if self.quarantined.len() < QUARANTINED_MAX {
                self.quarantined.push(Quarantined { stream, id: entry.id, reason: reason.name().to_owned(), line });
            } else if self.quarantined.len() == QUARANTINED_MAX && self.notices.is_empty() {
                self.notices.push(format!("Only the first {QUARANTINED_MAX} quarantined entries are listed."));
            }
        }
        if self.entries.is_multiple_of(self.distance) {
            self.frames.push(Frame { entries: self.entries, engine: engine.clone() });
            if self.frames.len() > FRAMES_MAX {
                self.distance *= 2;
                let distance = self.distance;
                self.frames.retain(|frame| frame.entries.is_multiple_of(distance));
            }
        }
    }

    fn count_part(&mut self, ms: u64) {
        let (from, to) = self.range_ms;
        let span = to.saturating_sub(from).max(1);
        let part = u128::from(ms.saturating_sub(from)) * PARTS as u128 / u128::from(span);
        self.parts[usize::try_from(part).unwrap_or(PARTS).min(PARTS - 1)] += 1;
    }

    fn turn(&mut self, at: EntryId, symbol: Option<(u32, u64)>, globals: (bool, Box<str>, usize)) {
        let mut turned = None;
        if let Some((index, signature)) = symbol {
            let place = index as usize;
            if self.signatures.len() <= place {
                self.signatures.resize(place + 1, 0);
            }
            if std::mem::replace(&mut self.signatures[place], signature) != signature {
                turned = Some(Turn { at, symbol: Some(index) });
            }
        }
        if self.globals != globals {
            self.globals = globals;
            turned = Some(Turn { at, symbol: None });
        }
        if self.turns.len() < EVENTS_MAX {
            self.turns.extend(turned);
        }
    }
}

/// Kill switch, policy, number of gaps.
fn globals_of(engine: &Engine) -> (bool, Box<str>, usize) {
    let globals = engine.globals();
    (globals.killed, globals.policy.hash.as_ref().into(), globals.gaps.len())
}

/// Returns since which entry each open position has its hold, by position id.
pub fn held_since(engine: &Engine) -> BTreeMap<String, EntryId> {
    let open = engine.books().filter_map(|book| Some((book, book.book.hot.open.as_ref()?)));
    open.filter_map(|(book, open)| Some((open.id.with_book(&book.name), open.holds.last()?.since))).collect()
}
