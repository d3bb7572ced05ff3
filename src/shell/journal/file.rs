//! The journal file that is being written.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use zstd::stream::write::Encoder;

use super::error::JournalError;
use super::folder::{Closed, sync_folder};
use crate::codec::journal::{Commit, Digest, Foot, HEAD_BYTES, Head, file_name, scope_frame};

/// Compression level. On entries, level 1 is faster, and its result smaller, than the next two.
const ZSTD_LEVEL: i32 = 1;

/// Name under which a file is created. It gets its own name once it has a head.
pub(super) const UNNAMED: &str = "journal.new";

/// The open file of a journal.
pub(super) struct Growing {
    path: PathBuf,
    file: File,
    head: Head,
    /// `None` once the frame has ended.
    encoder: Option<Encoder<'static, Vec<u8>>>,
    /// Compressed bytes that are not yet durable. They are written after `committed.len`, again if that failed.
    unwritten: Vec<u8>,
    unwritten_count: u64,
    unwritten_last_ms: u64,
    /// Digest of the file up to its last commit, with its head as that of a closed file.
    hashed: Sha256,
    committed: Commit,
    /// True if the next commit is written to the second of the two slots.
    second_location: bool,
    /// Known once the frame has ended.
    foot: Option<Foot>,
}

impl Growing {
    /// Creates the file for the entries from `first` on. `scope` states what the service reads, unless it is
    /// everything.
    pub fn create(dir: &Path, first: u64, previous: Digest, scope: Option<&str>) -> Result<Self, JournalError> {
        let unnamed = dir.join(UNNAMED);
        let path = dir.join(file_name(first));
        let closed = Head { first, previous, commits: None, is_scoped: scope.is_some() };
        let scope = scope.map(scope_frame).unwrap_or_default();
        let hashed = Sha256::new().chain_update(closed.bytes()).chain_update(&scope);
        let len = (HEAD_BYTES + scope.len()) as u64;
        let committed = Commit { len, count: 0, last_ms: 0, digest: hashed.clone().finalize().into() };
        let head = Head { commits: Some([committed; 2]), ..closed };
        let failed = JournalError::io(&path, "making");
        // A name guarantees a complete head. Otherwise a torn head could not be distinguished from a damaged one.
        let file = File::create(&unnamed).map_err(&failed)?;
        let bytes = [&head.bytes()[..], &scope].concat();
        file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(&failed)?;
        fs::rename(&unnamed, &path).map_err(&failed)?;
        sync_folder(dir)?;
        let encoder = Encoder::new(Vec::new(), ZSTD_LEVEL).and_then(|mut encoder| {
            encoder.include_checksum(true)?;
            Ok(encoder)
        });
        Ok(Self {
            encoder: Some(encoder.map_err(&failed)?),
            path,
            file,
            head,
            unwritten: Vec::new(),
            unwritten_count: 0,
            unwritten_last_ms: 0,
            hashed,
            committed,
            second_location: false,
            foot: None,
        })
    }

    /// Appends whole lines, each with its line feed. They are durable after [`Self::commit`].
    pub fn take(&mut self, lines: &[u8], count: u64, last_ms: u64) -> Result<(), JournalError> {
        let encoder = self.encoder.as_mut().expect("a file whose frame has ended takes no lines");
        encoder.write_all(lines).map_err(JournalError::io(&self.path, "compressing"))?;
        self.unwritten_count += count;
        self.unwritten_last_ms = self.unwritten_last_ms.max(last_ms);
        Ok(())
    }

    /// Makes the appended lines durable, together with the note of their commit, in one call to the disk.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if let Some(encoder) = &mut self.encoder {
            encoder.flush().map_err(JournalError::io(&self.path, "compressing"))?;
            self.unwritten.append(encoder.get_mut());
        }
        let hashed = self.hashed.clone().chain_update(&self.unwritten);
        let commit = Commit {
            len: self.committed.len + self.unwritten.len() as u64,
            count: self.committed.count + self.unwritten_count,
            last_ms: self.committed.last_ms.max(self.unwritten_last_ms),
            digest: hashed.clone().finalize().into(),
        };
        self.file.write_all_at(&self.unwritten, self.committed.len).map_err(JournalError::io(&self.path, "writing"))?;
        let (at, place) = self.head.place(self.second_location, &commit);
        self.file.write_all_at(&place, at).map_err(JournalError::io(&self.path, "writing"))?;
        self.file.sync_data().map_err(JournalError::io(&self.path, "syncing"))?;
        self.second_location = !self.second_location;
        (self.hashed, self.committed) = (hashed, commit);
        self.unwritten.clear();
        (self.unwritten_count, self.unwritten_last_ms) = (0, 0);
        Ok(())
    }

    /// Returns true if lines were appended that are not committed.
    pub fn is_behind(&self) -> bool {
        self.unwritten_count > 0
    }

    /// Ends the frame and writes the foot. The file counts as closed once the foot is durable.
    pub fn close(&mut self) -> Result<Closed, JournalError> {
        assert!(!self.is_behind(), "a file is closed behind a commit");
        let foot = match self.foot {
            Some(foot) => foot,
            None => self.end_frame()?,
        };
        self.file.write_all_at(&self.unwritten, self.committed.len).map_err(JournalError::io(&self.path, "closing"))?;
        close_head(&self.file, &self.path, &self.head)?;
        Ok(Closed { path: self.path.clone(), foot, len: self.committed.len + self.unwritten.len() as u64 })
    }

    fn end_frame(&mut self) -> Result<Foot, JournalError> {
        let encoder = self.encoder.take().expect("a frame ends once");
        self.unwritten = encoder.finish().map_err(JournalError::io(&self.path, "compressing"))?;
        let foot = Foot {
            first: self.head.first,
            count: self.committed.count,
            last_ms: self.committed.last_ms,
            digest: self.hashed.clone().chain_update(&self.unwritten).finalize().into(),
            previous: self.head.previous,
        };
        self.unwritten.extend(foot.bytes());
        self.foot = Some(foot);
        Ok(foot)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn first(&self) -> u64 {
        self.head.first
    }

    /// Returns the durable part.
    pub fn committed(&self) -> Commit {
        self.committed
    }
}

/// Marks a file with a foot as closed, durably: first the foot, then the head that refers to it.
pub(super) fn close_head(file: &File, path: &Path, head: &Head) -> Result<(), JournalError> {
    let failed = JournalError::io(path, "closing");
    file.sync_data().map_err(&failed)?;
    file.write_all_at(&head.closed().bytes(), 0).map_err(&failed)?;
    file.sync_data().map_err(&failed)
}
