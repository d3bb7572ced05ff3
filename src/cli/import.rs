//! `harvester import`: writes a history into Redis streams under its own ids, for tests and migrations.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::replay::progress_of;
use crate::codec::line::{self, FieldValue};
use crate::codec::plural::plural;
use crate::config::Config;
use crate::config::flags::RedisFlag;
use crate::domain::event::ids::EntryId;
use crate::service::server;
use crate::shell::history::{History, Input, Options};
use crate::shell::redis::{FieldBytes, Server};
use crate::shell::terminal::Screen;

/// The most entries that are sent to the server at once. [1]
const BATCH_ENTRIES: usize = 500;
/// The largest size of the entries that are sent at once. [bytes]
const BATCH_BYTES: usize = 4 << 20;

/// The arguments of an import.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub histories: Vec<PathBuf>,
    /// Takes precedence over the configuration.
    pub redis: RedisFlag,
    pub skip_bad_lines: bool,
    pub json: bool,
}

/// What was written and what was not. The document of `--json`.
#[derive(Debug, Default, Serialize)]
struct Summary {
    written: u64,
    duplicates: u64,
    other_streams: u64,
    bad_lines: u64,
}

/// An entry that is appended: its stream, its id and its fields.
type Appended = (String, EntryId, Vec<FieldBytes>);

/// Why a line cannot be written.
#[derive(Debug, thiserror::Error)]
enum BadLine {
    #[error(transparent)]
    Unreadable(#[from] serde_json::Error),
    #[error("an entry without fields cannot be written")]
    NoFields,
}

pub fn run(request: &Request, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(import(request, config, out))
}

async fn import(request: &Request, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let inputs: Vec<Input> = request.histories.iter().cloned().map(Input::from).collect();
    let options = Options { skip_bad_lines: request.skip_bad_lines, ..Options::default() };
    let mut history = History::open(&inputs, &config.streams, options.clone())?;
    let config = &request.redis.over(config)?;
    let mut server = Server::connect(&server::address(config)?).await?;
    for (stream, first) in streams_of(&inputs, &options, config)? {
        check_accepts(&mut server, &stream, first).await?;
    }
    let summary = write_all(&mut server, &mut history, request.skip_bad_lines, config).await?;
    if request.json {
        return super::json::write(out, &summary);
    }
    let Summary { written, duplicates, other_streams, bad_lines } = summary;
    Screen::stdout(out).line(&format!(
        "wrote {written} entries; duplicates {duplicates}, other streams {other_streams}, bad lines {bad_lines}"
    ))?;
    Ok(())
}

/// Checks that a stream is empty, and takes entries from the first one of the history on.
async fn check_accepts(server: &mut Server, stream: &str, first: Option<EntryId>) -> anyhow::Result<()> {
    let length = server.stream_length(stream).await?;
    if length > 0 {
        bail!(
            "the stream {stream} holds {} already: import writes into empty streams only. Use an \
             empty server (--redis), or other names in [streams]",
            plural(length, "entry")
        );
    }
    // A stream that was emptied accepts only ids after every id that it ever had.
    let last = server.stream_info(stream).await?.and_then(|info| info.last_generated).unwrap_or_default();
    if last > EntryId::default() && first.is_none_or(|first| first <= last) {
        bail!("the stream {stream} was emptied and takes only entries after {last}: delete it first");
    }
    Ok(())
}

/// Writes all entries of a history, in batches.
async fn write_all(
    server: &mut Server,
    history: &mut History,
    skip_bad_lines: bool,
    config: &Config,
) -> anyhow::Result<Summary> {
    let progress = progress_of(history);
    let mut summary = Summary::default();
    let mut batch: Vec<Appended> = Vec::with_capacity(BATCH_ENTRIES);
    let mut bytes = 0;
    let mut last = vec![None; config.streams.len()];
    while let Some(at) = history.next_line()? {
        // The server accepts an id once. A second copy of the entry adds nothing.
        if last[usize::from(at.stream.0)] == Some(at.id) {
            summary.duplicates += 1;
            continue;
        }
        last[usize::from(at.stream.0)] = Some(at.id);
        let fields = match fields_of(at.bytes) {
            Ok(fields) => fields,
            Err(BadLine::Unreadable(_)) if skip_bad_lines => {
                summary.bad_lines += 1;
                continue;
            }
            Err(error) => {
                let (file, number) = (at.file, at.number);
                bail!("{}: {error}", history.location(file, number));
            }
        };
        bytes += at.bytes.len();
        batch.push((config.streams.get(at.stream).name.clone(), at.id, fields));
        if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
            server.append(&batch).await?;
            summary.written += batch.len() as u64;
            progress.at(summary.written, String::new);
            batch.clear();
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        server.append(&batch).await?;
        summary.written += batch.len() as u64;
    }
    progress.finish();
    summary.other_streams = history.other_streams();
    summary.bad_lines += history.bad_lines();
    Ok(summary)
}

/// Returns the fields of a line as the server takes them.
fn fields_of(line: &[u8]) -> Result<Vec<FieldBytes>, BadLine> {
    let fields = line::fields(line)?;
    if fields.pairs.is_empty() {
        return Err(BadLine::NoFields);
    }
    let fields = fields.pairs.into_iter().map(|(name, value)| {
        let value = match value {
            FieldValue::Text(text) => text.into_owned().into_bytes(),
            FieldValue::Bytes(bytes) => bytes,
        };
        (name.into_owned().into_bytes(), value)
    });
    Ok(fields.collect())
}

/// Returns the streams that a history writes to, and their first entries. Standard input can be read only once: then
/// all configured streams are returned.
fn streams_of(
    inputs: &[Input],
    options: &Options,
    config: &Config,
) -> anyhow::Result<BTreeMap<String, Option<EntryId>>> {
    if inputs.contains(&Input::Stdin) {
        return Ok(config.streams.iter().map(|(_, stream)| (stream.name.clone(), None)).collect());
    }
    let mut history = History::open(inputs, &config.streams, options.clone()).context("reading the history again")?;
    let mut streams = BTreeMap::new();
    let mut seen = vec![false; config.streams.len()];
    while let Some(at) = history.next_line()? {
        if !std::mem::replace(&mut seen[usize::from(at.stream.0)], true) {
            streams.insert(config.streams.get(at.stream).name.clone(), Some(at.id));
        }
    }
    Ok(streams)
}
