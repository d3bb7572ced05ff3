//! The readable history: the available part of the streams, a journal, files.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::codec::line::{self, Fields};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::Streams;
use crate::shell::redis::{Server, ServerError};

/// Entries requested at a time.
const PAGE: usize = 2_000;

/// Writes the available part of each configured stream into a history file of a folder. Returns the number of entries.
pub async fn dump(server: &mut Server, streams: &Streams, folder: &Path) -> anyhow::Result<u64> {
    let mut entries = 0;
    for (id, stream) in streams.iter() {
        let path = folder.join(format!("{:03}.jsonl", id.0));
        let failed = || format!("cannot write {}", path.display());
        let mut file = BufWriter::new(File::create(&path).with_context(failed)?);
        entries += dump_stream(server, &stream.name, &mut file).await?;
        file.flush().with_context(failed)?;
    }
    Ok(entries)
}

async fn dump_stream(server: &mut Server, stream: &str, file: &mut BufWriter<File>) -> anyhow::Result<u64> {
    let mut after: Option<EntryId> = None;
    let mut entries = 0;
    loop {
        let page = match server.range_after(stream, after, PAGE).await {
            Ok(page) => page,
            // A key of that name that is not a stream has no history. `doctor` reports more about it.
            Err(ServerError::Failed { source, .. }) if source.code() == Some("WRONGTYPE") => {
                tracing::warn!(stream, "the key is not a stream: nothing of it is read");
                return Ok(entries);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(last) = page.last() else { return Ok(entries) };
        after = Some(last.id);
        for entry in &page {
            let text = line::write(stream, &entry.id.to_string(), &Fields::from_bytes(entry.pairs()));
            writeln!(file, "{text}").context("cannot write what was read from the streams")?;
        }
        entries += page.len() as u64;
    }
}

/// Returns all inputs of the fold in one list.
pub fn inputs(streams: Option<&Path>, journal: Option<&PathBuf>, files: &[PathBuf]) -> Vec<PathBuf> {
    streams.map(Path::to_owned).into_iter().chain(journal.cloned()).chain(files.iter().cloned()).collect()
}
