//! The driver together with its store: opens both, and folds entries into them.

use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use super::commits::{Backing, Commits, Folding, PendingRows};
use super::driver::{Driver, Stepped, is_under_configured};
use super::keys::KeyError;
use super::pipeline::{EntryBatch, PassError};
use crate::codec::state::{self, BadRow, FORMAT_VERSION, Meta, Quarantined, Row, Rows, StoredRow};
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine, RULES_VERSION};
use crate::domain::event::Entry;
use crate::domain::event::ids::EntryId;
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::Streams;
use crate::shell::history::History;
use crate::shell::process;
use crate::shell::store::{OpenError, Rebuild, Store, StoreError};

/// The reason why stored rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Row(#[from] BadRow),
}

/// A projection that cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rows(#[from] ReadError),
    #[error("moving the damaged store {} aside", dir.display())]
    MovingAside { dir: PathBuf, source: io::Error },
    #[error("emptying the unfinished store {}", dir.display())]
    Emptying { dir: PathBuf, source: io::Error },
    #[error("the store {} is empty", dir.display())]
    Empty { dir: PathBuf },
    #[error("the streams of the store do not read")]
    NoStreams,
    #[error(
        "the store {} was folded from {folded_from}, and {wanted} are to be read now: which accounts a store has is \
         fixed. Give back run.accounts or run.shard as it was, or give the new cell a store and a journal of its own",
        dir.display()
    )]
    OtherAccounts { dir: PathBuf, folded_from: Selection, wanted: Selection },
    /// `under` names the policy of the store.
    #[error(
        "the store {} was folded under {under}: give it the former, append `policy.adopted` to the history, or replay \
         into a new store",
        dir.display()
    )]
    OtherPolicy { dir: PathBuf, under: String },
    #[error(
        "the store {} was folded by rules {folded_by}, these are rules {RULES_VERSION}: a service makes its own again \
         at its start; make any other with harvester replay HISTORY --store {0}",
        dir.display()
    )]
    OtherRules { dir: PathBuf, folded_by: String },
}

impl Rows for Store {
    type Error = ReadError;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, ReadError> {
        Ok(self.scan_prefix(prefix).collect::<Result<_, _>>()?)
    }
}

/// A driver and its store. It can be used like a driver, but its own `fold` and `pipeline` also write to the store.
pub struct Projection {
    driver: Driver,
    commits: Commits,
    /// The streams of the existing store, as of its last fold.
    folded_with: Option<Streams>,
}

impl Deref for Projection {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Projection {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl Projection {
    /// Creates a projection without a store.
    pub fn in_memory(config: &Config, decisions: Decisions) -> Result<Self, KeyError> {
        let mut driver = Driver::new(config, decisions)?;
        driver.engine.ignore_changes();
        Ok(Self::with(driver, Backing::Memory))
    }

    fn with(driver: Driver, backing: Backing) -> Self {
        let commits = Commits::to(backing, driver.engine.symbols().len());
        Self { driver, commits, folded_with: None }
    }

    /// Opens the projection of a store folder, or creates a new one.
    ///
    /// A damaged store is moved aside, and a store of other rules is rebuilt, both from the history that follows. The
    /// notices report it.
    pub fn open(
        dir: &Path,
        config: &Config,
        decisions: Decisions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ProjectionError> {
        close_to_others(dir);
        let damaged = |why: String, notices: &mut Vec<String>| {
            let failed = |source| ProjectionError::MovingAside { dir: dir.to_owned(), source };
            let aside = Store::move_aside(dir).map_err(failed)?;
            notices.push(format!("{why}: moved to {}, rebuilding from the history given", aside.display()));
            let driver = Driver::new(config, decisions)?;
            Ok(Self::begun(driver, Backing::Store(Store::open(dir, FORMAT_VERSION)?), config))
        };
        let store = match Store::open(dir, FORMAT_VERSION) {
            Ok(store) => store,
            Err(error @ OpenError::Damaged { .. }) => return damaged(error.to_string(), notices),
            Err(error @ OpenError::OtherFormat { .. }) => {
                notices.push(format!("{error}: rebuilding from the history given"));
                return Self::rebuild(dir, config, decisions);
            }
            Err(error) => return Err(error.into()),
        };
        let meta = match state::meta(&store) {
            Ok(meta) => meta,
            Err(error) => {
                drop(store);
                return damaged(error.to_string(), notices);
            }
        };
        let Some(meta) = meta else {
            return Ok(Self::begun(Driver::new(config, decisions)?, Backing::Store(store), config));
        };
        check_selection(dir, &meta, config)?;
        if meta.rules_version != RULES_VERSION {
            notices.push(format!(
                "the store {} was folded by rules {}, these are rules {RULES_VERSION}: rebuilding from the history given",
                dir.display(),
                meta.rules_version
            ));
            drop(store);
            return Ok(Self { folded_with: meta.streams(), ..Self::rebuild(dir, config, decisions)? });
        }
        let mut engine = Engine::new(config.streams.clone(), config.policy.clone());
        let made_with = meta.streams().ok_or(ProjectionError::NoStreams)?;
        if let Err(error) = state::load(&store, &made_with, &mut engine) {
            drop(store);
            return damaged(error.to_string(), notices);
        }
        check_policy(dir, &engine, config)?;
        let driver = Driver::going_on(engine, config, decisions)?;
        Ok(Self { folded_with: Some(made_with), ..Self::begun(driver, Backing::Store(store), config) })
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
    pub fn provisional_from(&self) -> Result<Option<EntryId>, ReadError> {
        match &self.commits.backing {
            Backing::Store(store) => Ok(state::provisional_from(store)?),
            Backing::Memory | Backing::Rebuild(_) => Ok(None),
        }
    }

    /// Discards the projection, and empties its store.
    pub fn discard(self) -> Result<(), ProjectionError> {
        match self.commits.backing {
            Backing::Store(store) => {
                let dir = store.dir().to_owned();
                store.empty().map_err(|source| ProjectionError::Emptying { dir, source })
            }
            // A rebuild removes its own folder when it is dropped.
            Backing::Memory | Backing::Rebuild(_) => Ok(()),
        }
    }

    /// Creates a projection next to the store in use. It replaces that store at the end.
    pub fn rebuild(dir: &Path, config: &Config, decisions: Decisions) -> Result<Self, ProjectionError> {
        let backing = Backing::Rebuild(Rebuild::start(dir, FORMAT_VERSION)?);
        Ok(Self::begun(Driver::new(config, decisions)?, backing, config))
    }

    /// Creates a projection whose first commit writes the metadata of the store.
    fn begun(driver: Driver, backing: Backing, config: &Config) -> Self {
        let mut projection = Self::with(driver, backing);
        for (key, value) in state::meta_rows(&Meta::of(&config.streams, &config.policy)) {
            projection.commits.pending.stage((key, Some(value)));
        }
        projection
    }

    /// Folds a history like [`Driver::pipeline`]. `fold` gets the half that folds, and each batch.
    pub fn pipeline<E: From<PassError>>(
        &mut self,
        history: &mut History,
        skip_bad_lines: bool,
        mut fold: impl FnMut(&mut Folding<'_>, &EntryBatch) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Self { driver, commits, .. } = self;
        driver.pipeline(history, skip_bad_lines, |engine, batch| fold(&mut Folding { engine, commits }, batch))
    }

    /// Folds one entry. The next commit writes it. `raw` returns its history line, if the quarantine needs it.
    pub fn fold(&mut self, entry: &Entry, raw: impl FnOnce() -> String) -> Stepped {
        self.folding().fold(entry, raw)
    }

    /// Makes a row part of the next commit.
    pub fn stage(&mut self, row: Row) {
        self.commits.pending.stage(row);
    }

    /// Writes every change in one batch: state, cursors and decisions.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.folding().commit()
    }

    pub fn folding(&mut self) -> Folding<'_> {
        Folding { engine: &mut self.driver.engine, commits: &mut self.commits }
    }

    /// Returns the store, if there is one and it is not being rebuilt.
    pub fn store(&self) -> Option<&Store> {
        match &self.commits.backing {
            Backing::Store(store) => Some(store),
            Backing::Memory | Backing::Rebuild(_) => None,
        }
    }

    /// Returns true if this is a rebuild beside the store in use.
    pub fn is_rebuild(&self) -> bool {
        self.commits.backing.is_rebuild()
    }

    /// Returns the driver, the rows of the next commit, and their destination.
    pub fn into_parts(self) -> (Driver, PendingRows, Backing) {
        let Commits { backing, pending, .. } = self.commits;
        (self.driver, pending, backing)
    }

    /// Writes the remaining changes and, after a rebuild, replaces the old store with the new one.
    ///
    /// Returns the new path of the old store.
    pub fn finish(mut self) -> Result<(Engine, Option<PathBuf>), ProjectionError> {
        self.commit()?;
        Ok((self.driver.engine, self.commits.backing.finish()?))
    }
}

/// Checks that the accounts that are read now are those from which the store was folded.
fn check_selection(dir: &Path, meta: &Meta, config: &Config) -> Result<(), ProjectionError> {
    if meta.selection != *config.streams.selection() {
        return Err(ProjectionError::OtherAccounts {
            dir: dir.to_owned(),
            folded_from: meta.selection.clone(),
            wanted: config.streams.selection().clone(),
        });
    }
    Ok(())
}

/// Checks that the store was folded under the policies of the configuration.
fn check_policy(dir: &Path, engine: &Engine, config: &Config) -> Result<(), ProjectionError> {
    if is_under_configured(engine, config) {
        return Ok(());
    }
    let (folded, configured) = (&engine.globals().policy.hash[..12], &config.policy.hash[..12]);
    let under = match folded == configured {
        true => "the policy of an account that the configuration no longer has so".to_owned(),
        false => format!("the configured policy {folded}, the configuration now says {configured}"),
    };
    Err(ProjectionError::OtherPolicy { dir: dir.to_owned(), under })
}

/// Closes a folder of account data to other users. A failure is logged, and the work continues.
pub fn close_to_others(dir: &Path) {
    if let Err(error) = process::keep_private(dir) {
        tracing::warn!(folder = %dir.display(), %error, "other users can read this folder, and it cannot be closed");
    }
}

/// Returns the quarantined entries of a store, with its streams. A store of any rules version can be read.
pub fn quarantined(dir: &Path) -> Result<(Streams, Vec<Quarantined>), ProjectionError> {
    let store = Store::open_existing(dir, FORMAT_VERSION)?;
    let meta = state::meta(&store)?.ok_or_else(|| ProjectionError::Empty { dir: dir.to_owned() })?;
    let streams = meta.streams().ok_or(ProjectionError::NoStreams)?;
    Ok((streams, state::quarantined(&store)?))
}

/// Reads the projection of a store without changing it.
pub fn read(dir: &Path) -> Result<(Engine, Store), ProjectionError> {
    let store = Store::open_existing(dir, FORMAT_VERSION)?;
    let meta = state::meta(&store)?.ok_or_else(|| ProjectionError::Empty { dir: dir.to_owned() })?;
    if meta.rules_version != RULES_VERSION {
        return Err(ProjectionError::OtherRules { dir: dir.to_owned(), folded_by: meta.rules_version });
    }
    let streams = meta.streams().ok_or(ProjectionError::NoStreams)?;
    let mut engine = Engine::new(streams.clone(), crate::domain::exit::policy::Policy::default());
    state::load(&store, &streams, &mut engine)?;
    Ok((engine, store))
}
