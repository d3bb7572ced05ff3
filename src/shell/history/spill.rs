//! Temporary files: sorted runs, and a copy of an input that can be read only once.
//!
//! The files have no name, so none of them remains however the process ends.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use thiserror::Error;

/// Compression level of temporary files. On entries it is faster, and the result smaller, than with the next two.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// A copy of standard input could not be written.
#[derive(Debug, Error)]
#[error("copy of standard input: {0}")]
pub(super) struct SpoolFailed(io::Error);

/// One temporary file that grows at its end and is shared by all its readers; made at the first write.
#[derive(Clone, Default)]
pub(super) struct Spill(Arc<Mutex<Option<Grown>>>);

struct Grown {
    file: File,
    end: u64,
}

impl Spill {
    pub fn append(&self, bytes: &[u8]) -> io::Result<Slice> {
        let mut grown = locked(&self.0);
        let grown = match &mut *grown {
            Some(grown) => grown,
            none => none.insert(Grown { file: tempfile::tempfile()?, end: 0 }),
        };
        grown.file.seek(SeekFrom::Start(grown.end))?;
        grown.file.write_all(bytes)?;
        let at = grown.end;
        grown.end += bytes.len() as u64;
        Ok(Slice { spill: self.clone(), at, end: grown.end })
    }

    /// Returns everything written so far.
    pub fn all(&self) -> Slice {
        let end = locked(&self.0).as_ref().map_or(0, |grown| grown.end);
        Slice { spill: self.clone(), at: 0, end }
    }
}

impl Write for Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map(|_| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A section of a spill, read from its start.
#[derive(Clone)]
pub(super) struct Slice {
    spill: Spill,
    at: u64,
    end: u64,
}

impl Slice {
    /// Returns this section and the one written directly after it as one.
    pub fn joined(mut self, next: &Slice) -> Self {
        assert!(self.end == next.at && Arc::ptr_eq(&self.spill.0, &next.spill.0), "slices do not touch");
        self.end = next.end;
        self
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let mut grown = locked(&self.spill.0);
        let Some(grown) = grown.as_mut().filter(|_| wanted > 0) else { return Ok(0) };
        grown.file.seek(SeekFrom::Start(self.at))?;
        let read = grown.file.read(&mut buffer[..wanted])?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A compressed copy of everything read through its [`Spool::tee`].
#[derive(Clone)]
pub(super) struct Spool {
    spill: Spill,
    copy: Arc<Mutex<Option<Copy>>>,
}

enum Copy {
    AsIs(Spill),
    Compressed(zstd::stream::write::Encoder<'static, Spill>),
}

impl Spool {
    /// Creates a copy. `is_zstd`: the bytes are already compressed.
    pub fn new(is_zstd: bool) -> io::Result<Self> {
        let spill = Spill::default();
        let copy = if is_zstd {
            Copy::AsIs(spill.clone())
        } else {
            Copy::Compressed(zstd::stream::write::Encoder::new(spill.clone(), ZSTD_LEVEL)?)
        };
        Ok(Self { spill, copy: Arc::new(Mutex::new(Some(copy))) })
    }

    pub fn tee(&self, from: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        Box::new(Tee { from, copy: self.copy.clone() })
    }

    /// Ends the copy here. Bytes that are read later are not in it.
    pub fn finish(&self) -> io::Result<Slice> {
        match locked(&self.copy).take() {
            Some(Copy::Compressed(encoder)) => drop(encoder.finish()?),
            Some(Copy::AsIs(_)) | None => {}
        }
        Ok(self.spill.all())
    }
}

struct Tee {
    from: Box<dyn Read + Send>,
    copy: Arc<Mutex<Option<Copy>>>,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        match &mut *locked(&self.copy) {
            Some(Copy::AsIs(spill)) => spill.write_all(&buffer[..read]),
            Some(Copy::Compressed(encoder)) => encoder.write_all(&buffer[..read]),
            None => Ok(()),
        }
        .map_err(|error| io::Error::other(SpoolFailed(error)))?;
        Ok(read)
    }
}

/// Locks a mutex. A panic of another thread ends the reading anyway, so a poisoned lock adds nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
