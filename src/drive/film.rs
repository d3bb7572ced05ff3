//! A whole history that is read once and can show every past state: states of the engine along the way (frames), and an
//! index of events.
//!
//! ```text
//!  history ──▶ ▪────────▪────────▪────────▪──────▶ the last state
//!            frame    frame    frame    frame
//!                        └─ fold ─▶ the state at a time
//! ```
//!
//! Promises: reads only. The state at a time equals that of a fold from the start, except that the look-ahead may
//! already know the names of later accounts. It costs at most the entries between two frames. Memory is bounded: at
//! most `FRAMES_MAX` states, `EVENTS_MAX` events and `QUARANTINED_MAX` quarantined entries are kept. [`Film::notices`]
//! names the parts that were left out.
//!
//! A film does not change. [`super::reel`] reads a history and continues with a journal that grows. It makes a new film
//! each time, which shares with the last one whatever is equal.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::driver::{Driver, Stepped};
use super::keys::KeyError;
use super::life::Life;
use super::pipeline::PassError;
use super::projection::{self, ProjectionError, ReadError};
use super::reel::{self, Bounds, Reel};
use super::scope::ScopesDiffer;
use super::stop::{Stop, Stopped};
use crate::codec::chain::{self, Chain, Fault, Found, Link};
use crate::codec::moment::{Moment, NotAMoment};
use crate::codec::state::{self, BadRow, Quarantined, Rows, StoredRow};
use crate::codec::time;
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::Entry;
use crate::domain::event::ids::EntryId;
use crate::shell::history::{History, HistoryError, Input, Options};
use crate::shell::journal::{Journal, JournalError};
use crate::shell::snapshots::SnapshotsError;

/// States at a time, and lives, that are kept for the next page. [1]
pub(super) const STATES_KEPT: usize = 8;
/// Parts of the time for which the index counts entries. [1]
pub const PARTS: usize = 160;

/// A state along the way.
pub(super) struct Frame {
    /// Entries that were folded. [1]
    pub entries: u64,
    /// Entries of each stream; empty before the first entry. [1]
    pub counts: Vec<u64>,
    /// Position of the next entry in the journal; 0 in other histories. [1]
    pub position: u64,
    pub engine: Engine,
}

/// An entry at which something other than a price changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangePoint {
    pub at: EntryId,
    /// The index of its symbol; `None` if it concerns all.
    pub(super) symbol: Option<u32>,
}

/// The moment is before the first entry of the film.
#[derive(Clone, Debug, thiserror::Error)]
#[error("these pages begin with {}: earlier moments are in `harvester console {arguments}`", time::iso(first.ms))]
pub struct TooEarly {
    first: EntryId,
    arguments: String,
}

/// A film that cannot be made, or a past state of it that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    #[error(transparent)]
    TooEarly(#[from] TooEarly),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Scope(#[from] ScopesDiffer),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Snapshots(#[from] SnapshotsError),
    #[error(transparent)]
    Store(#[from] ProjectionError),
    #[error(transparent)]
    Rows(#[from] ReadError),
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

    /// Returns the files and folders of a history; none for a store.
    pub fn sources(&self) -> Vec<PathBuf> {
        match self {
            Self::Histories(paths) => paths.clone(),
            Self::Journal(dir) => vec![dir.clone()],
            Self::Store(_) => Vec::new(),
        }
    }
}

/// The source of the decisions of a film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionSource {
    /// The history contains decision entries.
    Recorded,
    /// The history has none: the rules made the decisions while it was read.
    MadeHere,
    /// A store keeps the decisions that its service made. It does not know which of them were sent.
    Store,
}

/// The entries that adopted policies, each with its account; an empty name is the general policy.
pub(super) type Adopted = Vec<(EntryId, Box<str>)>;

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

/// A past state, and the entries of each stream up to it. [1]
type Past = (Arc<Engine>, Arc<[u64]>);

/// A life, with its position and its end as the key.
pub(super) type LifeKept = ((String, EntryId), Arc<Life>);

/// A history or store in memory.
pub struct Film {
    pub origin: Origin,
    pub config: Arc<Config>,
    pub(super) inputs: Vec<Input>,
    pub(super) frames: Vec<Arc<Frame>>,
    /// The state at the end.
    pub(super) latest: Arc<Engine>,
    /// States that were asked for recently.
    pub(super) states: Mutex<VecDeque<(EntryId, Past)>>,
    /// Lives that were asked for recently, by position and end.
    pub(super) lives: Mutex<VecDeque<LifeKept>>,
    /// Closed positions that the engine has forgotten.
    pub rows: KeptRows,
    #[expect(clippy::rc_buffer, reason = "it grows in place while no film shares it")]
    pub(super) change_points: Arc<Vec<ChangePoint>>,
    pub streams: Vec<StreamCount>,
    /// Entries in each part of the time. [1]
    pub parts: Vec<u32>,
    pub(super) adopted: Adopted,
    pub quarantined: Arc<Vec<Quarantined>>,
    pub decisions: Arc<Chain>,
    pub source: DecisionSource,
    /// Decisions that the rules made while the history was read, and that are not among the recorded ones.
    pub beside: Arc<[Link]>,
    /// [1]
    pub entries: u64,
    pub first: EntryId,
    pub last: EntryId,
    pub notices: Vec<String>,
}

impl Film {
    /// Reads a history once.
    pub fn read(origin: Origin, config: Arc<Config>, stop: &Stop) -> Result<Self, FilmError> {
        if let Origin::Store(dir) = &origin {
            return Self::of_store(dir, Arc::clone(&config), origin.clone());
        }
        Ok(Reel::read(origin, config, &Bounds::default(), stop)?.film())
    }

    /// Reads a store: its present state, without a past.
    fn of_store(dir: &Path, config: Arc<Config>, origin: Origin) -> Result<Self, FilmError> {
        let (engine, store) = projection::read(dir)?;
        let rows = KeptRows(state::closed_rows(&store)?.into_iter().collect());
        let quarantined = state::quarantined(&store)?;
        let lines = state::decisions(&store)?;
        drop(store);
        let made: Vec<(EntryId, String)> =
            lines.into_iter().filter_map(|line| Some((reel::id_of(&line)?, line))).collect();
        let made: Vec<Found<'_>> =
            (1..).zip(&made).map(|(number, (id, line))| reel::found(*id, line.as_bytes(), number)).collect();
        let mut decisions = chain::verify(&made, None, &[]);
        // A store does not keep the decisions that it adopted from the stream: their numbers are no gap.
        decisions.tampered.retain(|fault| fault.what != Fault::Gap);
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
            change_points: Arc::default(),
            parts: Vec::new(),
            adopted: Vec::new(),
            quarantined: Arc::new(quarantined),
            decisions: Arc::new(decisions),
            source: DecisionSource::Store,
            beside: Arc::from([]),
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

    /// Returns the last entry up to a time that was typed in any form of the command line.
    pub fn until(&self, text: &str) -> Result<EntryId, NotAMoment> {
        Ok(text.parse::<Moment>()?.until(self.last.ms))
    }

    /// Returns the state after the last entry up to `at`; without a bound, the last state.
    pub fn state(&self, at: Option<EntryId>, stop: &Stop) -> Result<Arc<Engine>, FilmError> {
        Ok(self.past(at, stop)?.0)
    }

    /// Returns the entries of each stream up to `at`, in the order of [`Self::streams`]; without a bound, all. [1]
    pub fn counts(&self, at: Option<EntryId>, stop: &Stop) -> Result<Arc<[u64]>, FilmError> {
        Ok(self.past(at, stop)?.1)
    }

    fn past(&self, at: Option<EntryId>, stop: &Stop) -> Result<Past, FilmError> {
        let Some(at) = at.filter(|at| *at < self.last && self.has_past()) else {
            let counts = self.streams.iter().map(|stream| stream.entries).collect();
            return Ok((Arc::clone(&self.latest), counts));
        };
        let known = |states: &mut VecDeque<(EntryId, Past)>| {
            states.iter().find(|(of, _)| *of == at).map(|(_, past)| past.clone())
        };
        if let Some(past) = known(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(past);
        }
        let (mut driver, counts) = self.fold(None, Some(at), stop, |_, _, _, _| {})?;
        driver.engine.ignore_changes();
        let past: Past = (Arc::new(driver.engine), counts.into());
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.push_back((at, past.clone()));
        while states.len() > STATES_KEPT {
            states.pop_front();
        }
        Ok(past)
    }

    /// Folds from the nearest frame up to `until`. If `from` is given, the frame is one before it. Calls `each` with
    /// each entry and its line after it was folded. Returns the driver, and the entries of each stream. [1]
    pub(super) fn fold(
        &self,
        from: Option<EntryId>,
        until: Option<EntryId>,
        stop: &Stop,
        mut each: impl FnMut(&Engine, &Entry, &[u8], &Stepped),
    ) -> Result<(Driver, Vec<u64>), FilmError> {
        let is_before = |frame: &&Arc<Frame>| from.is_none_or(|from| frame.engine.globals().last < from);
        let options = Options { until, ..Options::default() };
        let (frame, mut history, position) = if let Origin::Journal(dir) = &self.origin {
            // The frames of a journal are found by position, because its first files may be deleted.
            let has = |frame: &&Arc<Frame>| until.is_none_or(|until| frame.engine.globals().last <= until);
            let first = self.frames.first().filter(|frame| has(frame)).ok_or_else(|| self.too_early())?;
            let frame = self.frames.iter().rev().filter(has).find(is_before).unwrap_or(first);
            let history = History::open(&files_from(dir, frame.position)?, &self.config.streams, options)?;
            (Some(frame), history, frame.position)
        } else {
            let mut history = History::open(&self.inputs, &self.config.streams, options)?;
            let total = history.total_entries().unwrap_or(0);
            let frame = self.frames.iter().rev().filter(|frame| frame.entries <= total).find(is_before);
            for _ in 0..frame.map_or(0, |frame| frame.entries) {
                stop.check()?;
                history.next_line()?;
            }
            (frame, history, 0)
        };
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
        let mut counts = frame.map_or_else(Vec::new, |frame| frame.counts.clone());
        counts.resize(self.streams.len(), 0);
        let firsts = history.journal_firsts();
        driver.pipeline(&mut history, false, |engine, batch| {
            for ((entry, range), place) in batch.entries.iter().zip(&batch.places) {
                stop.check()?;
                if reel::position_of(&firsts, *place).is_none_or(|of| of >= position) {
                    counts[usize::from(entry.stream.0)] += 1;
                    let folded = Stepped::by(engine, entry);
                    each(engine, entry, &batch.bytes[range.clone()], &folded);
                }
            }
            Ok::<_, FilmError>(())
        })?;
        Ok((driver, counts))
    }

    fn too_early(&self) -> TooEarly {
        TooEarly { first: self.first, arguments: self.origin.arguments() }
    }

    /// Opens the lines up to an entry; those of a journal from the last frame before it on.
    fn lines_until(&self, id: EntryId) -> Result<History, FilmError> {
        let options = Options { until: Some(id), ..Options::default() };
        let inputs = match &self.origin {
            Origin::Journal(dir) => {
                let frame = self.frames.iter().rev().find(|frame| frame.engine.globals().last < id);
                let frame = frame.or(self.frames.first()).map_or(0, |frame| frame.position);
                &files_from(dir, frame)?
            }
            Origin::Histories(_) | Origin::Store(_) => &self.inputs,
        };
        Ok(History::open(inputs, &self.config.streams, options)?)
    }

    /// Returns the decisions: those of the chain, then those that are not recorded.
    pub fn all_decisions(&self) -> impl Iterator<Item = &Link> {
        self.decisions.links.iter().chain(&*self.beside)
    }

    /// Returns the entry that adopted the policy of an account at a time; `None` for a configured policy. An empty name
    /// is the general policy.
    pub fn policy_since(&self, at: EntryId, account: &str) -> Option<EntryId> {
        self.adopted.iter().rev().find(|(id, of)| *id <= at && **of == *account).map(|(id, _)| *id)
    }

    /// Returns the last change before an entry and the first one after it, of one symbol or of anything.
    pub fn around(&self, at: EntryId, symbol: Option<&str>) -> (Option<EntryId>, Option<EntryId>) {
        let index = symbol.and_then(|name| self.latest.symbols().position(|symbol| *symbol.name == *name));
        let index = index.and_then(|index| u32::try_from(index).ok());
        let counts = |turn: &&ChangePoint| symbol.is_none() || turn.symbol.is_none() || turn.symbol == index;
        let before = self.change_points.iter().rev().filter(counts).find(|turn| turn.at < at).map(|turn| turn.at);
        let after = self.change_points.iter().filter(counts).find(|turn| turn.at > at).map(|turn| turn.at);
        (before, after)
    }

    /// Returns the lines of all entries with an id.
    pub fn lines(&self, id: EntryId, stop: &Stop) -> Result<Vec<EntryLine>, FilmError> {
        let mut lines = Vec::new();
        if !self.has_past() {
            return Ok(lines);
        }
        let mut history = self.lines_until(id)?;
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

/// Returns the files of a journal, beginning with the one that contains a position.
pub(super) fn files_from(dir: &Path, position: u64) -> Result<Vec<Input>, JournalError> {
    Ok(Journal::files_from(dir, position)?.into_iter().map(Input::Path).collect())
}

/// The entry since which each open position has its hold, by position id.
pub type HeldSince = BTreeMap<String, EntryId>;

/// Returns since when each open position has the hold that it has at a time: the entry that caused it, or the
/// millisecond from which the passage of time alone causes it. A position for which neither is known is left out. [ms
/// since 1970]
pub fn held_since(engine: &Engine, now_ms: u64) -> HeldSince {
    let open = engine.books().filter_map(|book| Some((book, book.book.hot.open.as_ref()?)));
    open.filter_map(|(book, open)| {
        let last = open.holds.last()?;
        let hold = engine.hold_at(book, now_ms);
        let since = if last.hold == hold {
            last.since
        } else {
            let seen_ms = book.symbol.mark.map_or(0, |mark| mark.entry.ms).max(last.since.ms);
            EntryId::new(brought_by_time(seen_ms, now_ms, |ms| engine.hold_at(book, ms) == hold)?, 0)
        };
        Some((open.id.with_book(&book.name), since))
    })
    .collect()
}

/// Returns the first millisecond from which `is_so` is true up to the end of the range; `None` if it is true at the
/// beginning.
fn brought_by_time(from_ms: u64, to_ms: u64, is_so: impl Fn(u64) -> bool) -> Option<u64> {
    if from_ms >= to_ms || is_so(from_ms) {
        return None;
    }
    let (mut not_yet, mut so) = (from_ms, to_ms);
    while so - not_yet > 1 {
        let middle = not_yet + (so - not_yet) / 2;
        if is_so(middle) {
            so = middle;
        } else {
            not_yet = middle;
        }
    }
    Some(so)
}
