//! The engine together with its store: folds entries, and writes the results.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::codec::line;
use crate::codec::seal::{self, Sealed};
use crate::codec::state::{self, BadRow, FORMAT_VERSION, Meta, Quarantined, Row, Rows, StoredRow};
use crate::config::Config;
use crate::domain::engine::{Decision, Disposition, Engine, RULES_VERSION};
use crate::domain::event::Entry;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::{StreamKind, Streams};
use crate::shell::process;
use crate::shell::store::{OpenError, Rebuild, Store, StoreError};

/// Maximum number of entries between two commits of a replay. [1]
const COMMIT_ENTRIES: u64 = 100_000;
/// Maximum time between two commits of a replay.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of the rows that wait for a commit. [bytes]
const COMMIT_BYTES: usize = 8 << 20;

/// The reason why stored rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Row(#[from] BadRow),
}

impl Rows for Store {
    type Error = ReadError;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, ReadError> {
        Ok(self.scan_prefix(prefix).collect::<Result<_, _>>()?)
    }
}

/// The place where the projection is kept.
enum Backing {
    /// In memory only, without a store.
    Memory,
    Store(Store),
    /// A new store beside the one in use, which it replaces at the end.
    Rebuild(Rebuild),
}

/// The effect of one entry.
pub struct Folded {
    pub disposition: Disposition,
    /// The decision that it caused, with its sealed form.
    pub decided: Option<(Box<Decision>, Sealed)>,
}

impl Folded {
    /// Steps an engine by one entry, and seals the decision that it caused.
    pub fn by(engine: &mut Engine, entry: &Entry) -> Self {
        let step = engine.step(entry);
        let decided = step.decision.map(|decision| {
            let sealed = seal::seal(engine, &decision);
            (decision, sealed)
        });
        Self { disposition: step.disposition, decided }
    }
}

/// The engine and its store.
pub struct Projection {
    pub engine: Engine,
    backing: Backing,
    /// The streams of the existing store, as of its last fold.
    folded_with: Option<Streams>,
    names_written: usize,
    waiting: Vec<Row>,
    waiting_bytes: usize,
    entries_waiting: u64,
    committed: Instant,
}

impl Projection {
    /// Creates a projection without a store.
    pub fn in_memory(config: &Config) -> Self {
        let mut engine = Engine::new(config.streams.clone(), config.policy.clone());
        engine.ignore_changes();
        Self::with(engine, Backing::Memory)
    }

    fn with(engine: Engine, backing: Backing) -> Self {
        Self {
            names_written: engine.symbols().len(),
            engine,
            backing,
            folded_with: None,
            waiting: Vec::new(),
            waiting_bytes: 0,
            entries_waiting: 0,
            committed: Instant::now(),
        }
    }

    /// Opens the projection of a store folder, or creates a new one.
    ///
    /// A damaged store is moved aside, and a store of other rules is rebuilt, both from the history that follows. The
    /// notices report it.
    pub fn open(dir: &Path, config: &Config, notices: &mut Vec<String>) -> anyhow::Result<Self> {
        let fresh = || Engine::new(config.streams.clone(), config.policy.clone());
        close_to_others(dir);
        let store = match Store::open(dir, FORMAT_VERSION) {
            Ok(store) => store,
            Err(error @ OpenError::Damaged { .. }) => {
                return Self::after_damage(dir, config, &error.to_string(), notices);
            }
            Err(error @ OpenError::OtherFormat { .. }) => {
                notices.push(format!("{error}: rebuilding from the history given"));
                return Ok(Self::with(fresh(), Backing::Rebuild(Rebuild::start(dir, FORMAT_VERSION)?)).begun(config));
            }
            Err(error) => return Err(error.into()),
        };
        let meta = match state::meta(&store) {
            Ok(meta) => meta,
            Err(error) => {
                drop(store);
                return Self::after_damage(dir, config, &error.to_string(), notices);
            }
        };
        let Some(meta) = meta else { return Ok(Self::with(fresh(), Backing::Store(store)).begun(config)) };
        if meta.rules_version != RULES_VERSION {
            notices.push(format!(
                "the store {} was folded by rules {}, these are rules {RULES_VERSION}: rebuilding from the history given",
                dir.display(),
                meta.rules_version
            ));
            drop(store);
            let rebuild = Backing::Rebuild(Rebuild::start(dir, FORMAT_VERSION)?);
            return Ok(Self { folded_with: meta.streams(), ..Self::with(fresh(), rebuild) }.begun(config));
        }
        let mut engine = fresh();
        let made_with = meta.streams().context("the streams of the store do not read")?;
        if let Err(error) = state::load(&store, &made_with, &mut engine) {
            drop(store);
            return Self::after_damage(dir, config, &error.to_string(), notices);
        }
        if !engine.globals().policy_adopted && engine.globals().policy.hash != config.policy.hash {
            bail!(
                "the store {} was folded under the configured policy {}, the configuration now says {}: \
                 give it the former, append `policy.adopted` to the history, or replay into a new store",
                dir.display(),
                &engine.globals().policy.hash[..12],
                &config.policy.hash[..12]
            );
        }
        Ok(Self { folded_with: Some(made_with), ..Self::with(engine, Backing::Store(store)) }.begun(config))
    }

    /// Returns the streams of the existing store as of its last fold, if there was a store.
    pub fn folded_with(&self) -> Option<&Streams> {
        self.folded_with.as_ref()
    }

    /// Returns true if it is empty.
    pub fn is_new(&self) -> bool {
        self.engine.globals().last == EntryId::default()
    }

    /// Returns the first entry of a provisional fold, which a single pass began and did not finish.
    pub fn provisional_from(&self) -> anyhow::Result<Option<EntryId>> {
        match &self.backing {
            Backing::Store(store) => Ok(state::provisional_from(store)?),
            Backing::Memory | Backing::Rebuild(_) => Ok(None),
        }
    }

    /// Discards the projection and the content of its store.
    pub fn discard(self) -> anyhow::Result<()> {
        match self.backing {
            Backing::Store(store) => {
                let dir = store.dir().to_owned();
                store.empty().with_context(|| format!("emptying the unfinished store {}", dir.display()))
            }
            // A rebuild removes its own folder when it is dropped.
            Backing::Memory | Backing::Rebuild(_) => Ok(()),
        }
    }

    /// Creates a projection beside the store in use. It replaces that store at the end.
    pub fn rebuild(dir: &Path, config: &Config) -> anyhow::Result<Self> {
        let engine = Engine::new(config.streams.clone(), config.policy.clone());
        Ok(Self::with(engine, Backing::Rebuild(Rebuild::start(dir, FORMAT_VERSION)?)).begun(config))
    }

    fn after_damage(dir: &Path, config: &Config, why: &str, notices: &mut Vec<String>) -> anyhow::Result<Self> {
        let aside =
            Store::move_aside(dir).with_context(|| format!("moving the damaged store {} aside", dir.display()))?;
        notices.push(format!("{why}: moved to {}, rebuilding from the history given", aside.display()));
        let engine = Engine::new(config.streams.clone(), config.policy.clone());
        Ok(Self::with(engine, Backing::Store(Store::open(dir, FORMAT_VERSION)?)).begun(config))
    }

    /// Adds the metadata of the store to the first commit.
    fn begun(mut self, config: &Config) -> Self {
        let meta = Meta::of(&config.streams, &config.policy);
        self.waiting.push(state::meta_row(&meta));
        self
    }

    /// Folds one entry, and commits if enough has accumulated. `raw` returns its history line, if the quarantine needs
    /// it.
    ///
    /// Returns the sealed decision if the entry caused one.
    pub fn step(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> anyhow::Result<Option<Sealed>> {
        let folded = self.fold(entry, raw);
        if matches!(self.backing, Backing::Memory) {
            return Ok(folded.decided.map(|(_, sealed)| sealed));
        }
        if self.entries_waiting >= COMMIT_ENTRIES
            || self.waiting_bytes >= COMMIT_BYTES
            || (self.entries_waiting.is_multiple_of(1024) && self.committed.elapsed() >= COMMIT_INTERVAL)
        {
            self.commit()?;
        }
        Ok(folded.decided.map(|(_, sealed)| sealed))
    }

    /// Folds one entry. The next commit writes it.
    pub fn fold(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> Folded {
        let Folded { disposition, decided } = Folded::by(&mut self.engine, entry);
        if matches!(self.backing, Backing::Memory) {
            return Folded { disposition, decided };
        }
        if let Some((_, sealed)) = &decided {
            let line = decision_line(&self.engine, sealed, entry);
            self.wait(state::decision_row(sealed.seq, &line));
        }
        if let Disposition::Quarantined(reason) = disposition {
            let stream = self.engine.streams().get(entry.stream).name.clone();
            let quarantined = Quarantined { stream, id: entry.id, reason: reason.name().to_owned(), line: raw() };
            self.wait(state::quarantine_row(&quarantined));
        }
        self.entries_waiting += 1;
        Folded { disposition, decided }
    }

    /// Adds a row to the next commit.
    pub fn wait(&mut self, row: Row) {
        self.waiting_bytes += row.0.len() + row.1.as_ref().map_or(0, Vec::len);
        self.waiting.push(row);
    }

    /// Writes every change in one batch: state, cursors and decisions.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        let store = match &mut self.backing {
            Backing::Memory => return Ok(()),
            Backing::Store(store) => store,
            Backing::Rebuild(rebuild) => rebuild.store(),
        };
        let changes = self.engine.take_changes();
        let mut rows = std::mem::take(&mut self.waiting);
        rows.extend(state::changed_rows(&self.engine, &changes, &mut self.names_written));
        store.commit(rows.into_iter())?;
        (self.waiting_bytes, self.entries_waiting) = (0, 0);
        self.committed = Instant::now();
        Ok(())
    }

    /// Returns the store, if there is one and it is not being rebuilt.
    pub fn store(&self) -> Option<&Store> {
        match &self.backing {
            Backing::Store(store) => Some(store),
            Backing::Memory | Backing::Rebuild(_) => None,
        }
    }

    /// Returns true if this is a rebuild beside the store in use.
    pub fn is_rebuild(&self) -> bool {
        matches!(self.backing, Backing::Rebuild(_))
    }

    /// Writes the remaining changes and, after a rebuild, replaces the old store with the new one.
    ///
    /// Returns the new path of the old store.
    pub fn finish(mut self) -> anyhow::Result<(Engine, Option<PathBuf>)> {
        self.commit()?;
        let aside = match self.backing {
            Backing::Rebuild(rebuild) => rebuild.swap()?,
            Backing::Memory | Backing::Store(_) => None,
        };
        Ok((self.engine, aside))
    }
}

/// Closes a folder of account data to other users. A failure is logged, and the work continues.
pub fn close_to_others(dir: &Path) {
    if let Err(error) = process::keep_private(dir) {
        tracing::warn!(folder = %dir.display(), %error, "other users can read this folder, and it cannot be closed");
    }
}

/// Returns a decision as a history line, with the time of its cause and after the decisions of the same millisecond.
pub fn decision_line(engine: &Engine, sealed: &Sealed, cause: &Entry) -> String {
    let stream = engine
        .streams()
        .iter()
        .find(|(_, stream)| stream.kind == StreamKind::Decision)
        .map_or(StreamKind::Decision.default_stream(), |(_, stream)| stream.name.as_str());
    line::write(stream, &format!("{}-{}", cause.id.ms, sealed.seq), &sealed.fields())
}

/// Returns the quarantined entries of a store, with its streams. A store of any rules version can be read.
pub fn quarantined(dir: &Path) -> anyhow::Result<(Streams, Vec<Quarantined>)> {
    let store = Store::open_existing(dir, FORMAT_VERSION)?;
    let meta = state::meta(&store)?.with_context(|| format!("the store {} is empty", dir.display()))?;
    let streams = meta.streams().context("the streams of the store do not read")?;
    Ok((streams, state::quarantined(&store)?))
}

/// Reads the projection of a store without changing it.
pub fn read(dir: &Path) -> anyhow::Result<(Engine, Store)> {
    let store = Store::open_existing(dir, FORMAT_VERSION)?;
    let meta = state::meta(&store)?.with_context(|| format!("the store {} is empty", dir.display()))?;
    if meta.rules_version != RULES_VERSION {
        bail!(
            "the store {} was folded by rules {}, these are rules {RULES_VERSION}: rebuild it with `replay`",
            dir.display(),
            meta.rules_version
        );
    }
    let streams = meta.streams().context("the streams of the store do not read")?;
    let mut engine = Engine::new(streams.clone(), crate::domain::exit::policy::Policy::default());
    state::load(&store, &streams, &mut engine)?;
    Ok((engine, store))
}
