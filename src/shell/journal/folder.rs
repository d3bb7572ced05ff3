//! The folder of a journal: its lock, its files, and the chain that they form.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::JournalError;
use crate::codec::journal::{
    Digest, FOOT_BYTES, Fault, Foot, HEAD_BYTES, HEAD_TRIES, Head, first_of_name, read_scope, scope_frame_bytes,
};
use crate::codec::scope::Scope;
use crate::shell::folder_lock::FolderLock;

/// Creates the folder if there is none, and locks it.
pub(super) fn lock(dir: &Path) -> Result<FolderLock, JournalError> {
    let failed = JournalError::io(dir, "opening");
    if !dir.exists() {
        fs::create_dir_all(dir).map_err(&failed)?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_folder(parent.unwrap_or(Path::new(".")))?;
    }
    FolderLock::try_take(dir).map_err(&failed)?.ok_or_else(|| JournalError::InUse { dir: dir.to_owned() })
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(JournalError::io(dir, "syncing"))
}

/// A closed file.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub path: PathBuf,
    pub foot: Foot,
    /// [byte]
    pub len: u64,
}

impl Closed {
    /// Returns the position after its last entry.
    pub fn end(&self) -> u64 {
        self.foot.first + self.foot.count
    }
}

/// Returns the files by the position in their names, which is the order in which they were written.
pub(super) fn files(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let failed = JournalError::io(dir, "reading");
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        if let Some(first) = entry.file_name().to_str().and_then(first_of_name) {
            files.push((first, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// A file and its head.
pub(super) struct Headed {
    pub path: PathBuf,
    pub file: File,
    pub head: Head,
    /// [byte]
    pub len: u64,
}

impl Headed {
    pub fn open(path: &Path, is_to_be_changed: bool) -> Result<Self, JournalError> {
        let failed = JournalError::io(path, "reading");
        let file = File::options().read(true).write(is_to_be_changed).open(path).map_err(&failed)?;
        let mut tries = 0;
        let head = loop {
            let mut bytes = [0; HEAD_BYTES];
            match file.read_exact_at(&mut bytes, 0) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Err(Fault::NoHead),
                Err(error) => return Err(failed(error)),
            }
            tries += 1;
            match Head::read(&bytes) {
                // Its writer may be in the middle of a commit.
                Err(Fault::Head) if tries < HEAD_TRIES => {}
                head => break head,
            }
        };
        let len = file.metadata().map_err(&failed)?.len();
        let head = head.map_err(|fault| JournalError::fault(path, len, fault))?;
        Ok(Self { path: path.to_owned(), file, head, len })
    }

    /// Returns the scope in the head: what the service reads; `None` if it reads everything.
    pub fn scope(&self) -> Result<Option<Scope>, JournalError> {
        if !self.head.is_scoped {
            return Ok(None);
        }
        let fault = |fault| JournalError::fault(&self.path, self.len, fault);
        let read = |bytes: &mut [u8]| match self.file.read_exact_at(bytes, HEAD_BYTES as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(fault(Fault::Scope)),
            read => read.map_err(JournalError::io(&self.path, "reading")),
        };
        let mut start = [0; 8];
        read(&mut start)?;
        let mut frame = vec![0; scope_frame_bytes(&start).map_err(fault)?];
        read(&mut frame)?;
        let text = read_scope(&frame).map_err(fault)?;
        let damaged = |why: String| JournalError::damaged(&self.path, HEAD_BYTES as u64, why);
        Scope::read(&text).map(Some).map_err(damaged)
    }

    /// Returns the foot of a file whose head marks it as closed.
    pub fn foot(&self) -> Result<Foot, JournalError> {
        let mut bytes = [0; FOOT_BYTES];
        let fault = |fault| JournalError::fault(&self.path, self.len, fault);
        let at = self.len.checked_sub(FOOT_BYTES as u64).filter(|&at| at >= HEAD_BYTES as u64);
        let at = at.ok_or_else(|| fault(Fault::NoFoot))?;
        self.file.read_exact_at(&mut bytes, at).map_err(JournalError::io(&self.path, "reading"))?;
        Foot::read(&bytes).map_err(fault)
    }

    /// Does the same, and compares the values that head and foot both contain.
    pub fn closed(&self) -> Result<Closed, JournalError> {
        let foot = self.foot()?;
        if (foot.first, foot.previous) != (self.head.first, self.head.previous) {
            return Err(JournalError::damaged(&self.path, self.len - FOOT_BYTES as u64, "head and foot contradict"));
        }
        Ok(Closed { path: self.path.clone(), foot, len: self.len })
    }
}

/// The end of the chain after some files of a journal: the values that the next file must begin with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChainEnd {
    /// Position after the last entry, and seal of the last file; `None` before the first.
    last: Option<(u64, Digest)>,
}

impl ChainEnd {
    pub fn behind(closed: &Closed) -> Self {
        Self { last: Some((closed.end(), closed.foot.seal())) }
    }

    pub fn position(&self) -> u64 {
        self.last.map_or(0, |(end, _)| end)
    }

    pub fn seal(&self) -> Digest {
        self.last.map_or([0; 32], |(_, seal)| seal)
    }

    /// Returns the reason why a file does not follow here, if there is one. The first kept file may begin anywhere.
    pub fn fault(&self, name_first: u64, head: &Head) -> Option<String> {
        if head.first != name_first {
            return Some(format!("its name says that it begins with entry {name_first}, its head with {}", head.first));
        }
        match self.last {
            Some((end, _)) if head.first != end => Some(format!("it begins with entry {}, want {end}", head.first)),
            Some((_, seal)) if head.previous != seal => Some("it names another file as the one before".to_owned()),
            None if head.first == 0 && head.previous != [0; 32] => Some("it is the first and names another".to_owned()),
            Some(_) | None => None,
        }
    }
}
