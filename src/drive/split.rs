//! `cells split`: the journals of cells, dealt to another number of cells (docs/more-than-one-machine.md, "Another
//! number of cells").
//!
//! ```text
//!  journals of the old cells ─┐
//!                             ├─▶ one history ─▶ deal ─▶ a journal for each new cell ─▶ fold ─┐
//!  ends of their own streams ─┘        │                                                      ├─▶ compare
//!                                      └──────────────▶ fold, as each old cell ───────────────┘
//! ```
//!
//! Promises: a new journal has every entry of the streams that its cell reads, and those entries of the old cells' own
//! streams that concern its accounts. Each decision of an old cell is in exactly one new journal, with its payload
//! unchanged. The folds of the new journals have the positions, rungs, decisions and holds of the old ones; otherwise
//! the differences are returned.
//!
//! In reading order: this file, `deal` (where an entry goes), `facts` (what is compared).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::driver::{Driver, Stepped};
use super::keys;
use super::look_ahead;
use crate::codec::line;
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::ids::EntryId;
use crate::domain::event::selection::Selection;
use crate::domain::event::streams::{Stream, StreamKind, Streams};
use crate::shell::history::{FormerDecision, History, Input, Line, Options};
use crate::shell::journal::{Journal, Limits};
use deal::{Dealer, Owner, Target};
use facts::Facts;

mod deal;
mod error;
mod facts;

pub use error::{NotRead, SplitError};

/// Lines between two commits of the new journals. [1]
const COMMIT_LINES: u64 = 10_000;

/// The cells before and after, each with its configuration, from number 0 on.
pub struct Cells {
    pub old: Vec<Config>,
    pub new: Vec<Config>,
}

/// A new cell, with the journal that was written for it.
#[derive(Clone, Debug)]
pub struct NewCell {
    /// Accounts with a position, open or closed. [1]
    pub accounts: u64,
    /// Open positions. [1]
    pub open: u64,
    /// Entries of its journal. [1]
    pub entries: u64,
    /// Decisions of the old cells. [1]
    pub decisions: u64,
    /// Its own streams: name, last id, and number of entries in the journal.
    pub own: Vec<(String, EntryId, u64)>,
}

/// The result of a split.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub cells: Vec<NewCell>,
    /// Differences between the new and the old cells. The new cells must not start unless this is empty.
    pub differences: Vec<String>,
    /// Books that have a hold after the split and had none before, with the hold.
    pub held: Vec<String>,
}

/// Returns true if a stream of this kind belongs to one cell.
const fn is_own(kind: StreamKind) -> bool {
    matches!(kind, StreamKind::Control | StreamKind::Observation | StreamKind::Decision)
}

impl Cells {
    /// Checks that the new cells have names of their own, and read the same streams as the old ones.
    pub fn check(&self) -> Result<(), SplitError> {
        if self.old.is_empty() || self.new.is_empty() {
            return Err(SplitError::NoCells);
        }
        for config in &self.new {
            for (_, stream) in config.streams.iter().filter(|(_, stream)| is_own(stream.kind)) {
                let is_known = self.old.iter().any(|old| old.streams.id_of(&stream.name).is_some());
                if is_known && stream.kind != StreamKind::Control {
                    return Err(SplitError::OldStream { stream: stream.name.clone(), kind: stream.kind });
                }
            }
            for (name, of_new, of_old) in [
                ("run.store", &config.run.store, self.old.iter().map(|old| &old.run.store).collect::<Vec<_>>()),
                ("run.journal", &config.run.journal, self.old.iter().map(|old| &old.run.journal).collect()),
            ] {
                if of_old.contains(&of_new) {
                    return Err(SplitError::OldFolder { setting: name, dir: of_new.clone() });
                }
                if of_new.exists() {
                    return Err(SplitError::FolderExists { setting: name, dir: of_new.clone() });
                }
            }
        }
        self.new.iter().try_for_each(|new| self.check_read(new))
    }

    /// Checks that a new cell reads every stream of the old cells that concerns its accounts.
    fn check_read(&self, new: &Config) -> Result<(), SplitError> {
        let mut lacking: Vec<&Stream> = Vec::new();
        for (_, stream) in self.old.iter().flat_map(|old| old.streams.iter()).filter(|(_, stream)| !is_own(stream.kind))
        {
            let concerns = stream.account.as_ref().is_none_or(|account| new.streams.selection().contains(account));
            let read = new.streams.id_of(&stream.name).map(|id| new.streams.get(id));
            let is_read = read.is_some_and(|read| (read.kind, &read.account) == (stream.kind, &stream.account));
            if concerns && !is_read && lacking.iter().all(|known| known.name != stream.name) {
                lacking.push(stream);
            }
        }
        let Some(kind) = lacking.first().map(|stream| stream.kind) else { return Ok(()) };
        let of_kind = lacking.into_iter().filter(|stream| stream.kind == kind);
        let streams =
            of_kind.map(|stream| (stream.name.clone(), stream.account.as_deref().map(str::to_owned))).collect();
        Err(SplitError::NotRead(NotRead { cell: new.run.cell.unwrap_or_default(), kind, streams }))
    }

    /// Returns the names of the streams that belong to one old cell alone: its control, observation and decision
    /// streams.
    pub fn own_streams(&self, cell: usize) -> Vec<String> {
        let own = self.old[cell].streams.iter().filter(|(_, stream)| is_own(stream.kind));
        own.map(|(_, stream)| stream.name.clone()).collect()
    }

    /// Returns the last id of each own stream of an old cell in its journal.
    pub fn ends_of(&self, cell: usize) -> Result<BTreeMap<String, EntryId>, SplitError> {
        let config = &self.old[cell];
        let mut history =
            History::open(&[Input::Path(config.run.journal.clone())], &config.streams, Options::default())?;
        let mut ends: BTreeMap<String, EntryId> = BTreeMap::new();
        while let Some(line) = history.next_line()? {
            let stream = config.streams.get(line.stream);
            if is_own(stream.kind) {
                let end = ends.entry(stream.name.clone()).or_default();
                *end = line.id.max(*end);
            }
        }
        Ok(ends)
    }

    /// Deals the journals of the old cells to the new cells, and also the entries of their own streams that the
    /// journals do not have yet (`ends`, history files). Writes the journal of a new cell into the folder that
    /// `journal_of` returns, and compares the states.
    pub fn split(&self, ends: &[PathBuf], journal_of: impl Fn(&Config) -> PathBuf) -> Result<Outcome, SplitError> {
        self.check_journals()?;
        let journals = self.old.iter().map(|old| &old.run.journal);
        let inputs: Vec<Input> = journals.chain(ends).cloned().map(Input::Path).collect();
        let mut before: Vec<Engine> = Vec::new();
        for (journal, old) in self.old.iter().enumerate() {
            before.push(folded(&inputs, journal, old)?);
        }
        let mut outcome = self.deal(&inputs, &before, &journal_of)?;
        let mut differences = killed_apart(&before);
        let mut expected: BTreeMap<Box<str>, Facts> = BTreeMap::new();
        for (old, engine) in self.old.iter().zip(&before) {
            expected.extend(facts::of(engine, old.streams.selection()));
        }
        drop(before);
        for (new, cell) in self.new.iter().zip(&mut outcome.cells) {
            let selection = new.streams.selection();
            let got = facts::of(&folded(&[Input::Path(journal_of(new))], 0, new)?, selection);
            cell.open = got.values().filter(|facts| facts.is_open).count() as u64;
            cell.accounts = got.values().map(|facts| &facts.account).collect::<BTreeSet<_>>().len() as u64;
            let is_here = |facts: &Facts| selection.contains(&facts.account);
            let wanted: Vec<Box<str>> =
                expected.iter().filter(|(_, facts)| is_here(facts)).map(|(name, _)| name.clone()).collect();
            let wanted: BTreeMap<Box<str>, Facts> =
                wanted.into_iter().filter_map(|name| expected.remove_entry(&name)).collect();
            facts::compare(&wanted, &got, &mut differences, &mut outcome.held);
        }
        let left = expected.values().map(|facts| facts.account.clone()).collect::<BTreeSet<_>>();
        differences.extend(left.iter().map(|account| format!("the account {account:?} is in no new cell")));
        outcome.differences = differences;
        Ok(outcome)
    }

    /// Checks that each old journal was written by its cell, and begins where the cell began.
    fn check_journals(&self) -> Result<(), SplitError> {
        for old in &self.old {
            let dir = &old.run.journal;
            let Some(scope) = Journal::scope_of(dir)? else {
                return Err(SplitError::OfNoCell { dir: dir.clone() });
            };
            if !scope.is_followed_by(&old.scope()) {
                let (scope, wanted) = (Box::new(scope), Box::new(old.scope()));
                return Err(SplitError::OfOtherCell { dir: dir.clone(), scope, wanted });
            }
            let report = Journal::verify(dir)?;
            if let Some(finding) = report.findings.first() {
                let (file, what) = (finding.file.clone(), finding.what.clone());
                return Err(SplitError::Damaged { dir: dir.clone(), file, what });
            }
            let first = report.first().ok_or_else(|| SplitError::Empty { dir: dir.clone() })?;
            if first > 0 {
                return Err(SplitError::NotWhole { dir: dir.clone(), first });
            }
        }
        Ok(())
    }

    /// Deals the entries of all old journals to the new ones.
    fn deal(
        &self,
        inputs: &[Input],
        before: &[Engine],
        journal_of: &impl Fn(&Config) -> PathBuf,
    ) -> Result<Outcome, SplitError> {
        let streams = self.streams_together()?;
        let key = keys::configured(&self.new[0])?;
        let mut targets = Vec::new();
        for new in &self.new {
            targets.push(Target::new(new, opened(&journal_of(new), new)?));
        }
        let owners = self.old.iter().zip(before).map(|(old, engine)| Owner::of(old, engine)).collect();
        // Every entry is read as it is written, for all accounts.
        let config = Config { streams: streams.clone(), ..self.new[0].clone() };
        let mut history = History::open(inputs, &streams, Options::default())?;
        let mut former = history.former_decisions_of_all().to_vec();
        former.sort_by_key(|decision| decision.id);
        let mut former = former.into_iter().peekable();
        let mut driver = Driver::new(&config, Decisions::Derived)?;
        let mut dealer = Dealer::new(owners, key);
        let mut last: BTreeMap<usize, EntryId> = BTreeMap::new();
        let mut lines = 0;
        while let Some(at) = history.next_line()? {
            // Each of the journals contains the entries of the shared streams.
            let end = last.entry(usize::from(at.stream.0)).or_default();
            if at.id <= *end {
                continue;
            }
            *end = at.id;
            while let Some(decision) = former.next_if(|decision| decision.id <= at.id) {
                self.deal_former(&decision, &mut driver, &mut dealer, &mut targets)?;
            }
            deal_line(&at, streams.get(at.stream), &mut driver, &mut dealer, &mut targets)?;
            lines += 1;
            if lines % COMMIT_LINES == 0 {
                targets.iter_mut().try_for_each(|target| target.journal.commit().map(|_| ()))?;
            }
        }
        for decision in former {
            self.deal_former(&decision, &mut driver, &mut dealer, &mut targets)?;
        }
        let mut outcome = Outcome::default();
        for target in targets {
            outcome.cells.push(target.finish()?);
        }
        Ok(outcome)
    }

    /// Deals a decision of a stream that an old cell wrote before it began its present chain, as one of its present stream.
    fn deal_former(
        &self,
        decision: &FormerDecision,
        driver: &mut Driver,
        dealer: &mut Dealer,
        targets: &mut [Target<'_>],
    ) -> Result<(), SplitError> {
        let present = self.old.get(decision.journal).and_then(|old| {
            let stream = look_ahead::decision_stream(&old.streams)?;
            driver.streams().id_of(&old.streams.get(stream).name)
        });
        let Some(of) = present else { return Ok(()) };
        let stream = driver.streams().get(of).clone();
        let fields = line::fields(&decision.bytes)?;
        let entry = driver.decode(of, decision.id, &fields);
        let account = driver.engine.accounts().get(entry.account).name.clone();
        for target in targets {
            dealer.deal(&stream, &entry, &account, &fields, target)?;
        }
        Ok(())
    }

    /// Returns the streams of all old cells, read for all accounts.
    fn streams_together(&self) -> Result<Streams, SplitError> {
        let mut all: Vec<Stream> = Vec::new();
        for (_, stream) in self.old.iter().flat_map(|old| old.streams.iter()) {
            if all.iter().all(|known| known.name != stream.name) {
                all.push(stream.clone());
            }
        }
        let streams = Streams::new(all).map_err(|stream| SplitError::ReadTwice { stream: stream.name })?;
        Ok(streams.with_symbols_max(self.new[0].streams.symbols_max()).with_selection(Selection::All))
    }
}

/// Deals a line of an old journal. A cell that reads its stream gets it as it is; an entry of the old cell's own streams
/// is dealt by its account.
fn deal_line(
    at: &Line<'_>,
    stream: &Stream,
    driver: &mut Driver,
    dealer: &mut Dealer,
    targets: &mut [Target<'_>],
) -> Result<(), SplitError> {
    let entry = if is_own(stream.kind) { Some(driver.decode_line(at.stream, at.id, at.bytes)?) } else { None };
    for target in targets {
        match &entry {
            _ if target.reads(&stream.name) => target.append(std::str::from_utf8(at.bytes)?, &stream.name, at.id),
            Some(entry) => {
                let account = driver.engine.accounts().get(entry.account).name.clone();
                let fields = line::fields(at.bytes)?;
                dealer.deal(stream, entry, &account, &fields, target)?;
            }
            // The stream belongs to an account that another new cell reads.
            None => {}
        }
    }
    Ok(())
}

fn opened(dir: &Path, config: &Config) -> Result<Journal, SplitError> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).map_err(|source| SplitError::Removing { dir: dir.to_owned(), source })?;
    }
    let limits = Limits { rotate_bytes: config.journal.rotate_bytes };
    Ok(Journal::open(dir, limits)?.with_scope(&config.scope())?)
}

/// Folds a history as a cell reads it. Only recorded decisions take effect, those of former streams from the journal of the
/// cell.
fn folded(inputs: &[Input], journal: usize, config: &Config) -> Result<Engine, SplitError> {
    let mut history = History::open(inputs, &config.streams, Options::default())?.with_former_of(journal);
    let mut driver = Driver::over(&history, config, Decisions::Recorded, None)?;
    driver.engine.follow_recorded_decisions_only();
    driver.pipeline(&mut history, false, |engine, batch| {
        // Each journal contributes the entries of the shared streams. After the first time they are duplicates.
        for (entry, _) in &batch.entries {
            Stepped::by(engine, entry);
        }
        Ok::<_, SplitError>(())
    })?;
    Ok(driver.engine)
}

/// Returns a message if only some of the old cells are killed: a new cell can have accounts of killed and of other
/// cells.
fn killed_apart(before: &[Engine]) -> Vec<String> {
    let killed: Vec<usize> = (0..before.len()).filter(|cell| before[*cell].globals().killed).collect();
    if killed.is_empty() || killed.len() == before.len() {
        return Vec::new();
    }
    vec![format!("of the old cells only {killed:?} are killed: kill all of them before the split, or none")]
}
