//! The destinations of the decisions that a replay makes.

use std::io::{Seek as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// A decision sink: receives the decisions of a replay.
pub trait DecisionSink {
    /// Takes a decision that takes effect, as a history line.
    fn take(&mut self, line: &str) -> anyhow::Result<()>;

    /// Returns true if everything that was taken can be discarded.
    fn may_start_over(&self) -> bool;

    /// Discards everything that was taken, because the replay starts over. After a decision it is called only if that
    /// is possible.
    fn start_over(&mut self) -> anyhow::Result<()>;
}

/// A sink that ignores the decisions.
impl DecisionSink for () {
    fn take(&mut self, _: &str) -> anyhow::Result<()> {
        Ok(())
    }

    fn may_start_over(&self) -> bool {
        true
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl DecisionSink for Vec<String> {
    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        self.push(line.to_owned());
        Ok(())
    }

    fn may_start_over(&self) -> bool {
        true
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        self.clear();
        Ok(())
    }
}

/// The destination of the command's decisions.
pub(super) enum DecisionOutput<'a> {
    Dropped,
    /// To standard output, as they are made.
    Written(&'a mut dyn Write),
    File(DecisionFile),
    Lines(Vec<String>),
}

impl DecisionSink for DecisionOutput<'_> {
    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        match self {
            Self::Dropped => Ok(()),
            Self::Written(out) => Ok(writeln!(out, "{line}")?),
            Self::File(file) => file.write(line),
            Self::Lines(lines) => lines.take(line),
        }
    }

    fn may_start_over(&self) -> bool {
        match self {
            Self::Written(_) => false,
            Self::File(file) => file.aside.is_some(),
            Self::Dropped | Self::Lines(_) => true,
        }
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Dropped | Self::Written(_) => Ok(()),
            Self::File(file) => file.start_over(),
            Self::Lines(lines) => lines.start_over(),
        }
    }
}

/// The file of decisions: written as a temporary file and renamed at the end, so that an existing file is kept until
/// its replacement is complete.
pub(super) struct DecisionFile {
    path: PathBuf,
    writer: std::io::BufWriter<std::fs::File>,
    /// The temporary file; `None` for a device or pipe, which is written directly.
    aside: Option<tempfile::TempPath>,
}

impl DecisionFile {
    /// Creates the file. Errors if the path is one of the histories, which would be overwritten.
    pub(super) fn beside(path: &Path, histories: &[PathBuf]) -> anyhow::Result<Self> {
        if let Ok(target) = path.canonicalize() {
            let is_read = |history: &PathBuf| history.canonicalize().is_ok_and(|history| target.starts_with(history));
            if histories.iter().any(is_read) {
                bail!("{} is part of the history that is replayed: write the decisions elsewhere", path.display());
            }
        }
        let failed = || format!("cannot write the decisions to {}", path.display());
        let (file, aside) = if path.exists() && !path.is_file() {
            (std::fs::File::options().write(true).open(path).with_context(failed)?, None)
        } else {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let made = tempfile::Builder::new().tempfile_in(folder).with_context(failed)?;
            let (file, aside) = made.into_parts();
            (file, Some(aside))
        };
        Ok(Self { path: path.to_owned(), writer: std::io::BufWriter::new(file), aside })
    }

    fn write(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.writer, "{line}")
            .with_context(|| format!("cannot write the decisions to {}", self.path.display()))
    }

    /// Empties the file, if that is possible.
    fn start_over(&mut self) -> anyhow::Result<()> {
        if self.aside.is_some() {
            self.writer.flush()?;
            self.writer.get_ref().set_len(0)?;
            self.writer.rewind()?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let failed = || format!("cannot write the decisions to {}", self.path.display());
        self.writer.flush().with_context(failed)?;
        if let Some(aside) = self.aside {
            aside.persist(&self.path).map_err(|error| error.error).with_context(failed)?;
        }
        Ok(())
    }
}
