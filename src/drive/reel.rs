//! A history that is being read: the fold, and the index of events. It continues with a journal that grows.
//!
//! ```text
//!  history ──▶ read ──▶ reel ──▶ film
//!                        ▲ │
//!  journal, new lines ───┘ └───▶ film …
//! ```
//!
//! In reading order: this file, `index` (what a film is made of), `density` (entries over time).
//!
//! Promises: reads only. Each line of a journal is read once. A film costs one copy of the state and shares the rest.
//! Memory is bounded in the same way as that of a film.

mod density;
mod index;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use self::index::ReelIndex;
use super::driver::{Driver, Stepped};
use super::film::{DecisionSource, Film, FilmError, KeptRows, Origin, files_from};
use super::keys;
use super::scope;
use super::snapshots;
use super::stop::Stop;
use crate::codec::chain::{self, Chain, Found, Link};
use crate::codec::line;
use crate::codec::plural::plural;
use crate::codec::signing::SigningKey;
use crate::codec::snapshot;
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::Event;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::shell::history::{History, Input, Options};
use crate::shell::journal::{self, JournalError, Tail};
use crate::shell::snapshots as files_of_snapshots;

/// Maximum number of states that are kept along the way. [1]
pub const FRAMES_MAX: usize = 32;

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
        let (mut driver, position, mut history) = opened(&inputs, begun, &config)?;
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
        self.verify_chain();
        let index = &self.index;
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
            source: if self.has_recorded() { DecisionSource::Recorded } else { DecisionSource::MadeHere },
            beside: Arc::clone(&self.beside),
            entries: index.entries,
            first,
            last,
            notices: index.notices.clone(),
        }
    }

    /// Returns true if the history contains decision entries.
    fn has_recorded(&self) -> bool {
        !self.index.recorded.is_empty()
    }

    /// Makes the chain from the decisions up to now, and the list of those that it lacks. Does nothing if there is no new
    /// decision.
    fn verify_chain(&mut self) {
        let index = &self.index;
        let of = (index.recorded.len(), index.made.len());
        if self.chained == of {
            return;
        }
        let lines = (1..).zip(&index.made);
        let made: Vec<Found<'_>> = lines.map(|(number, made)| found(made.id, made.line.as_bytes(), number)).collect();
        let made = chain::verify(&made, None, &[]);
        if self.has_recorded() {
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
}

/// The state from which the reading of a journal begins.
struct Begin {
    engine: Engine,
    position: u64,
    inputs: Vec<Input>,
}

/// Opens a history from its beginning, or from the state of a snapshot. Returns also the position of its first entry that
/// is folded.
fn opened(inputs: &[Input], begun: Option<Begin>, config: &Config) -> Result<(Driver, u64, History), FilmError> {
    let Some(Begin { engine, position, inputs }) = begun else {
        let history = History::open(inputs, &config.streams, Options::default())?;
        return Ok((Driver::over(&history, config, Decisions::Recorded, None)?, 0, history));
    };
    let history = History::open(&inputs, &config.streams, Options::default())?;
    let mut driver = Driver::going_on(engine, config, Decisions::Recorded)?;
    driver.engine.ignore_changes();
    driver.look_ahead(&history, None);
    Ok((driver, position, history))
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
