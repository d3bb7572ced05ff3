//! Writes a journal: appends entries, commits them, and closes files.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use super::file::{Growing, UNNAMED};
use super::folder::{self, ChainEnd, Closed, Headed, sync_folder};
use super::reader::{Lines, Piece, Span};
use super::recovery;
use super::verify::{self, Report};
use crate::codec::journal::first_of_name;
use crate::codec::scope::Scope;
use crate::codec::time::DAY_MS;
use crate::shell::folder_lock::FolderLock;

/// Limits at which a file is closed and the next one begins, besides each new day (UTC) of the entries' ids.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size at which a file is closed. [byte]
    pub rotate_bytes: u64,
}

/// A journal, open for writing by this process alone.
///
/// ```
/// use harvester::shell::journal::{Journal, Limits};
///
/// let folder = tempfile::tempdir()?;
/// let dir = folder.path().join("journal");
/// let mut journal = Journal::open(&dir, Limits { rotate_bytes: 1 << 20 })?;
/// let line = r#"{"stream":"quantum:stream:market.tick","id":"1000-0","fields":{"symbol":"SOLUSDT","price":"100"}}"#;
///
/// // An appended line is durable after the commit: the position counts committed lines.
/// journal.append(line, 1000);
/// assert_eq!(journal.position(), 0);
/// assert_eq!(journal.commit()?, 1);
/// journal.close()?;
///
/// // A closed journal has no fault, and is read from any position on.
/// assert!(Journal::verify(&dir)?.findings.is_empty());
/// let journal = Journal::open(&dir, Limits { rotate_bytes: 1 << 20 })?;
/// let lines: Vec<_> = journal.read_from(0)?.collect::<Result<_, _>>()?;
/// assert_eq!(lines, [line]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Journal {
    dir: PathBuf,
    limits: Limits,
    closed: Vec<Closed>,
    growing: Option<Growing>,
    /// States in the head of each new file what the service reads; `None` if it reads everything.
    scope: Option<String>,
    /// Day of the first entry of the growing file. [days since 1970]
    day: u64,
    chain: ChainEnd,
    waiting: Waiting,
    is_broken: bool,
    /// Closed files that were found damaged when it was opened after a crash. [1]
    damaged: u64,
    _lock: FolderLock,
}

/// Appended lines that are not yet compressed.
#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    /// The end of each line in the text, and the time of its id. [ms since 1970]
    lines: Vec<(usize, u64)>,
}

impl Journal {
    /// Opens the journal of a folder, or creates one, and closes a file that a crash left open: committed whole lines
    /// are kept, a torn end is cut off. Earlier damage is an error that names file and position.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, JournalError> {
        let lock = folder::lock(dir)?;
        match fs::remove_file(dir.join(UNNAMED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::io(dir, "tidying")(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut closed: Vec<Closed> = Vec::new();
        let mut is_after_crash = false;
        let mut chain = ChainEnd::default();
        let files = folder::files(dir)?;
        for (index, (name_first, path)) in files.iter().enumerate() {
            let is_last = index + 1 == files.len();
            let headed = Headed::open(path, is_last)?;
            if let Some(why) = chain.fault(*name_first, &headed.head) {
                return Err(JournalError::unchained(path, why));
            }
            let file = match headed.head.commits {
                None => Some(headed.closed()?),
                Some(commits) if is_last => {
                    is_after_crash = true;
                    recovery::close(headed, commits)?
                }
                Some(_) => {
                    return Err(JournalError::unchained(&files[index + 1].1, "that was never closed".to_owned()));
                }
            };
            if let Some(file) = file {
                chain = ChainEnd::behind(&file);
                closed.push(file);
            }
        }
        let damaged = if is_after_crash { verify::newest_after_crash(&closed) } else { 0 };
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            closed,
            growing: None,
            scope: None,
            day: 0,
            chain,
            waiting: Waiting::default(),
            is_broken: false,
            damaged,
            _lock: lock,
        })
    }

    /// Sets the scope that the head of each new file states: what the service reads. Errors if a service of other
    /// accounts, or of another cell, wrote the journal.
    pub fn with_scope(self, scope: &Scope) -> Result<Self, JournalError> {
        if let Some(file) = self.closed.last() {
            let before = Headed::open(&file.path, false)?.scope()?;
            let is_same = match &before {
                None => scope.streams.selection().is_all(),
                Some(before) => before.is_followed_by(scope),
            };
            if !is_same {
                return Err(JournalError::OtherScope {
                    dir: self.dir.clone(),
                    found: before.map_or_else(|| "all accounts".to_owned(), |before| before.to_string()),
                    wanted: scope.to_string(),
                });
            }
        }
        let scope = (!scope.is_everything()).then(|| scope.text());
        Ok(Self { scope, ..self })
    }

    /// Returns the scope that the newest file of a journal states; `None` if the service reads everything, or if the
    /// file does not belong to a journal.
    pub fn scope_of(path: &Path) -> Result<Option<Scope>, JournalError> {
        let newest = match path.is_dir() {
            true => folder::files(path)?.pop().map(|(_, path)| path),
            false => Some(path.to_owned()),
        };
        let is_journal =
            |path: &Path| path.file_name().and_then(|name| name.to_str()).and_then(first_of_name).is_some();
        let Some(path) = newest.filter(|path| is_journal(path)) else { return Ok(None) };
        match Headed::open(&path, false) {
            Ok(headed) => headed.scope(),
            // A file that has the name of a journal file and other content is read like any other file.
            Err(JournalError::Damaged { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole journal and compares it with the digests and counts in its files. It may be written to meanwhile.
    ///
    /// The remaining files do not show that later files are missing: compare [`Self::position`] with the store.
    pub fn verify(dir: &Path) -> Result<Report, JournalError> {
        verify::verify(dir)
    }

    /// Returns the files of a journal, which may be in use, that contain the entries from a position on.
    pub fn files_from(dir: &Path, position: u64) -> Result<Vec<PathBuf>, JournalError> {
        let files = folder::files(dir)?;
        let before = files.iter().skip(1).take_while(|(first, _)| *first <= position).count();
        match files.get(before) {
            Some(&(first, _)) if first > position => {
                Err(JournalError::NotHeld { dir: dir.to_owned(), position, first, end: None })
            }
            _ => Ok(files.into_iter().skip(before).map(|(_, path)| path).collect()),
        }
    }

    /// Returns the number of durable entries since the journal's first. [1]
    pub fn position(&self) -> u64 {
        let committed = self.growing.as_ref().map_or(0, |growing| growing.committed().count);
        self.chain.position() + committed
    }

    /// Returns the position of the first kept entry.
    pub fn first(&self) -> u64 {
        let growing = self.growing.as_ref().map(Growing::first);
        self.closed.first().map(|file| file.foot.first).or(growing).unwrap_or(0)
    }

    /// Appends one history line, durable after [`Self::commit`]. `id_ms` is the time of its id. [ms since 1970]
    pub fn append(&mut self, line: &str, id_ms: u64) {
        assert!(memchr::memchr(b'\n', line.as_bytes()).is_none(), "a history line has no line feed in it");
        self.waiting.text.extend_from_slice(line.as_bytes());
        self.waiting.text.push(b'\n');
        self.waiting.lines.push((self.waiting.text.len(), id_ms));
    }

    /// Takes whole lines, each with its line feed. `ends` has the end of each line in the text, and the time of its id.
    /// [ms since 1970] Both are empty afterwards, with space for the next lines.
    pub fn append_all(&mut self, text: &mut Vec<u8>, ends: &mut Vec<(usize, u64)>) {
        let Waiting { text: waiting, lines } = &mut self.waiting;
        let before = waiting.len();
        if lines.is_empty() {
            std::mem::swap(waiting, text);
            std::mem::swap(lines, ends);
        } else {
            waiting.append(text);
            lines.extend(ends.drain(..).map(|(end, id_ms)| (before + end, id_ms)));
        }
    }

    /// Makes the appended lines durable, and returns the position after them.
    ///
    /// After [`JournalError::DiskFull`] from a write, the commit may be repeated: nothing is lost or written twice. If
    /// the repetition returns [`JournalError::Broken`], the journal must be opened again.
    pub fn commit(&mut self) -> Result<u64, JournalError> {
        if self.is_broken {
            return Err(JournalError::Broken { dir: self.dir.clone() });
        }
        let done = self.write();
        if let Err(error) = &done {
            self.is_broken = !is_harmless(error);
        }
        done.map(|()| self.position())
    }

    /// Commits the remaining lines and closes the file.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.commit()?;
        self.close_file()
    }

    /// Returns the size of all files up to their last commits. [byte]
    pub fn bytes(&self) -> u64 {
        let growing = self.growing.as_ref().map_or(0, |growing| growing.committed().len);
        self.closed.iter().map(|file| file.len).sum::<u64>() + growing
    }

    /// Returns the number of closed files that were found damaged when it was opened after a crash. [1]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Returns the number of files. [1]
    pub fn files(&self) -> u64 {
        self.closed.len() as u64 + u64::from(self.growing.is_some())
    }

    /// Returns the durable entries from `position` on, in order.
    pub fn read_from(&self, position: u64) -> Result<Lines, JournalError> {
        let (first, end) = (self.first(), self.position());
        if position < first || position > end {
            return Err(JournalError::NotHeld { dir: self.dir.clone(), position, first, end: Some(end) });
        }
        let piece = |path: &Path, first: u64, count: u64, span: Span| {
            let skipped = position.saturating_sub(first).min(count);
            Piece { path: path.to_owned(), span, skipped, count: count - skipped }
        };
        let closed = self
            .closed
            .iter()
            .map(|file| piece(&file.path, file.foot.first, file.foot.count, Span { end: file.len, is_ended: true }));
        let growing = self.growing.iter().map(|file| {
            let committed = file.committed();
            piece(file.path(), file.first(), committed.count, Span { end: committed.len, is_ended: false })
        });
        Ok(Lines::new(closed.chain(growing).filter(|piece| piece.count > 0).collect::<VecDeque<_>>()))
    }

    /// Deletes the oldest closed files whose entries are all before position `keep_from` and, if it is given, have ids
    /// before `older_than_ms` [ms since 1970]. It deletes nothing else, and never the last file, which contains the
    /// position. Returns the number of freed bytes.
    pub fn retain(&mut self, keep_from: u64, older_than_ms: Option<u64>) -> Result<u64, JournalError> {
        let is_old = |file: &Closed| older_than_ms.is_none_or(|bound| file.foot.last_ms < bound);
        let mut freed = 0;
        while let Some(file) = self.closed.first() {
            let is_only = self.closed.len() == 1 && self.growing.is_none();
            if is_only || file.end() > keep_from || !is_old(file) {
                break;
            }
            fs::remove_file(&file.path).map_err(JournalError::io(&file.path, "removing"))?;
            freed += self.closed.remove(0).len;
        }
        if freed > 0 {
            sync_folder(&self.dir)?;
        }
        Ok(freed)
    }

    fn write(&mut self) -> Result<(), JournalError> {
        // A commit that a full disk interrupted comes first.
        if let Some(growing) = self.growing.as_mut().filter(|growing| growing.is_behind()) {
            growing.commit()?;
        }
        while let Some(&(_, ms)) = self.waiting.lines.first() {
            let is_large = self.growing.as_ref().is_some_and(|file| file.committed().len >= self.limits.rotate_bytes);
            // A late entry goes into the file of the day that is open.
            if self.growing.is_some() && (is_large || ms / DAY_MS > self.day) {
                self.close_file()?;
            }
            let growing = match &mut self.growing {
                Some(growing) => growing,
                none => {
                    self.day = ms / DAY_MS;
                    none.insert(Growing::create(
                        &self.dir,
                        self.chain.position(),
                        self.chain.seal(),
                        self.scope.as_deref(),
                    )?)
                }
            };
            self.waiting.hand_over(self.day, growing)?;
            growing.commit()?;
        }
        Ok(())
    }

    fn close_file(&mut self) -> Result<(), JournalError> {
        if let Some(growing) = &mut self.growing {
            let file = growing.close().inspect_err(|error| self.is_broken = !is_harmless(error))?;
            self.growing = None;
            self.chain = ChainEnd::behind(&file);
            self.closed.push(file);
        }
        Ok(())
    }
}

/// Returns true if the commit can be repeated. Bytes that found no space are overwritten, from the last durable byte
/// on.
fn is_harmless(error: &JournalError) -> bool {
    matches!(error, JournalError::DiskFull { .. })
}

impl Waiting {
    /// Passes on the lines up to the first one of a later day.
    fn hand_over(&mut self, day: u64, to: &mut Growing) -> Result<(), JournalError> {
        let count = self.lines.iter().take_while(|(_, ms)| ms / DAY_MS <= day).count();
        let last_ms = self.lines[..count].iter().map(|(_, ms)| *ms).max().unwrap_or(0);
        let end = self.lines[..count].last().map_or(0, |(end, _)| *end);
        to.take(&self.text[..end], count as u64, last_ms)?;
        if count == self.lines.len() {
            self.text.clear();
            self.lines.clear();
        } else {
            self.text.drain(..end);
            self.lines.drain(..count);
            self.lines.iter_mut().for_each(|(at, _)| *at -= end);
        }
        Ok(())
    }
}
