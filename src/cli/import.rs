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

/// The document of `--json`.
#[derive(Serialize)]
struct Document {
    written: u64,
    duplicates: u64,
    other_streams: u64,
    bad_lines: u64,
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
        let length = server.stream_length(&stream).await?;
        if length > 0 {
            bail!(
                "the stream {stream} holds {} already: import writes into empty streams only. Use an \
                 empty server (--redis), or other names in [streams]",
                plural(length, "entry")
            );
        }
        // A stream that was emptied accepts only ids after every id that it ever had.
        let last = server.stream_info(&stream).await?.and_then(|info| info.last_generated).unwrap_or_default();
        if last > EntryId::default() && first.is_none_or(|first| first <= last) {
            bail!("the stream {stream} was emptied and takes only entries after {last}: delete it first");
        }
    }

    let progress = progress_of(&history);
    let mut batch: Vec<(String, EntryId, Vec<FieldBytes>)> = Vec::with_capacity(BATCH_ENTRIES);
    let (mut bytes, mut written, mut duplicates, mut bad) = (0, 0_u64, 0_u64, 0_u64);
    let mut last = vec![None; config.streams.len()];
    while let Some(at) = history.next_line()? {
        // The server accepts an id once. A second copy of the entry adds nothing.
        if last[usize::from(at.stream.0)] == Some(at.id) {
            duplicates += 1;
            continue;
        }
        last[usize::from(at.stream.0)] = Some(at.id);
        let fields = match line::fields(at.bytes) {
            Ok(fields) => fields,
            Err(_) if request.skip_bad_lines => {
                bad += 1;
                continue;
            }
            Err(error) => {
                let (file, number) = (at.file, at.number);
                bail!("{}: {error}", history.location(file, number));
            }
        };
        if fields.pairs.is_empty() {
            let (file, number) = (at.file, at.number);
            bail!("{}: an entry without fields cannot be written", history.location(file, number));
        }
        let fields = fields.pairs.into_iter().map(|(name, value)| {
            let value = match value {
                FieldValue::Text(text) => text.into_owned().into_bytes(),
                FieldValue::Bytes(bytes) => bytes,
            };
            (name.into_owned().into_bytes(), value)
        });
        bytes += at.bytes.len();
        batch.push((config.streams.get(at.stream).name.clone(), at.id, fields.collect()));
        if batch.len() >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
            server.append(&batch).await?;
            written += batch.len() as u64;
            progress.at(written, String::new);
            batch.clear();
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        server.append(&batch).await?;
        written += batch.len() as u64;
    }
    progress.finish();
    let (other_streams, bad_lines) = (history.other_streams(), history.bad_lines() + bad);
    if request.json {
        return super::json::write(out, &Document { written, duplicates, other_streams, bad_lines });
    }
    Screen::stdout(out).line(&format!(
        "wrote {written} entries; duplicates {duplicates}, other streams {other_streams}, bad lines {bad_lines}"
    ))?;
    Ok(())
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
