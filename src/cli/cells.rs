//! `harvester cells`: deals the accounts of cells to another number of cells.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::exit_code::Found;
use crate::codec::line::{self, FieldValue, Fields};
use crate::codec::plural::plural;
use crate::config::Config;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::split::{Cells, NewCell, Outcome};
use crate::service::server;
use crate::shell::journal::Journal;
use crate::shell::redis::{FieldBytes, LeaseKeys, Server, memory_of};
use crate::shell::terminal::{Screen, Tone};

/// Entries that are read from a stream, or written to one, at once. [1]
const PAGE_ENTRIES: usize = 1000;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make new cells from the journals of the old ones: another number of cells, or other accounts. Without
    /// --write nothing is changed
    #[command(after_help = "Example: harvester cells split --from three.toml --config five.toml
Stop the old cells first. Exit code 1: the new cells would not have the positions and decisions of the old ones.")]
    Split(Split),
}

#[derive(Debug, clap::Args)]
pub struct Split {
    /// Configuration of the old cells; --config is that of the new ones
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Retire the old cells, and write the journals and streams of the new ones
    #[arg(long)]
    write: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(command: &Command, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let Command::Split(args) = command;
    let old = Config::load(Some(&args.from), Some(0)).with_context(|| args.from.display().to_string())?;
    let cells = Cells { old: all_of(&old)?, new: all_of(config)? };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if runtime.block_on(is_made_before(&cells, args.write))? {
        match args.json {
            true => super::json::write(out, &Document { written: true, ..Document::default() })?,
            false => Screen::stdout(out).line("the split is complete: start the new cells")?,
        }
        return Ok(());
    }
    cells.check()?;
    let outcome = runtime.block_on(split(&cells, args.write))?;
    match args.json {
        true => super::json::write(out, &Document::of(&outcome, args.write))?,
        false => show(&outcome, args.write, &mut Screen::stdout(out))?,
    }
    match outcome.differences.len() {
        0 => Ok(()),
        n => Err(Found(format!("{}: the new cells are not made", plural(n as u64, "difference"))).into()),
    }
}

/// Returns the configuration of each cell.
fn all_of(config: &Config) -> anyhow::Result<Vec<Config>> {
    let count = config
        .cells()
        .context("the configuration states no number of cells: set run.cells, or run.shard = \"%cell%/N\"")?;
    let mut cells = Vec::new();
    for cell in 0..count {
        let config = config.for_cell(cell)?;
        config.check_cell()?;
        cells.push(config);
    }
    Ok(cells)
}

/// Returns true if an earlier run has made this split. The journals are named last, so the streams are complete if one
/// of them has its name; with `write`, those that have not get theirs.
async fn is_made_before(cells: &Cells, write: bool) -> anyhow::Result<bool> {
    let is_of = |dir: &Path, new: &Config| {
        dir.exists()
            && Journal::scope_of(dir).is_ok_and(|scope| scope.is_some_and(|scope| scope.is_followed_by(&new.scope())))
    };
    let (named, others): (Vec<&Config>, Vec<&Config>) = cells.new.iter().partition(|new| is_of(&new.run.journal, new));
    let can_be_named = |new: &&Config| !new.run.journal.exists() && is_of(&unfinished(new), new);
    if named.is_empty() || !others.iter().all(can_be_named) {
        return Ok(false);
    }
    for old in &cells.old {
        let mut server = Server::connect(&server::address(old)?).await?;
        if !server.is_retired(&lease_of(old)).await? {
            return Ok(false);
        }
    }
    if !write && !others.is_empty() {
        bail!(
            "an earlier run of this command was stopped when all was written: repeat it with --write, and it is complete"
        );
    }
    others.into_iter().try_for_each(name_journal)?;
    Ok(true)
}

async fn split(cells: &Cells, write: bool) -> anyhow::Result<Outcome> {
    let mut servers = Vec::new();
    for old in &cells.old {
        servers.push(Server::connect(&server::address(old)?).await?);
    }
    check_unused(cells).await?;
    for (old, server) in cells.old.iter().zip(&mut servers) {
        let keys = lease_of(old);
        let holder = if write { server.retire(&keys).await? } else { server.holder_of(&keys).await? };
        if let Some(holder) = holder {
            restore(cells, &mut servers).await?;
            bail!(
                "the old cell {} is led by {holder}: stop its service first, and wait until its lease ({}) has run out",
                old.run.cell.unwrap_or_default(),
                keys.lease
            );
        }
    }
    let made = make(cells, &mut servers, write).await;
    let is_done = write && made.as_ref().is_ok_and(|outcome| outcome.differences.is_empty());
    if !is_done {
        // Nothing exists yet that could act for an account, so the old cells may continue.
        for new in &cells.new {
            let unfinished = unfinished(new);
            if unfinished.exists() {
                std::fs::remove_dir_all(&unfinished)?;
            }
        }
        if write {
            restore(cells, &mut servers).await?;
        }
    }
    made
}

/// Makes and compares the journals of the new cells and, with `write`, begins their streams and names the journals.
async fn make(cells: &Cells, servers: &mut [Server], write: bool) -> anyhow::Result<Outcome> {
    let folder = beside(&cells.new[0].run.journal, ".ends");
    let ends = ends(cells, servers, &folder).await;
    let outcome = ends.and_then(|ends| Ok(cells.split(&ends, unfinished)?));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let outcome = outcome?;
    if write && outcome.differences.is_empty() {
        for (new, cell) in cells.new.iter().zip(&outcome.cells) {
            begin_streams(new, cell).await.with_context(|| format!("cell {}", new.run.cell.unwrap_or_default()))?;
        }
        // From here on, a new cell can start.
        cells.new.iter().try_for_each(name_journal)?;
    }
    Ok(outcome)
}

fn name_journal(new: &Config) -> anyhow::Result<()> {
    let journal = &new.run.journal;
    std::fs::rename(unfinished(new), journal).with_context(|| format!("naming {}", journal.display()))
}

fn lease_of(config: &Config) -> LeaseKeys {
    LeaseKeys::beside(&server::decision_stream(&config.streams))
}

async fn restore(cells: &Cells, servers: &mut [Server]) -> anyhow::Result<()> {
    for (old, server) in cells.old.iter().zip(servers) {
        server.restore(&lease_of(old)).await?;
    }
    Ok(())
}

/// Returns the folder in which a journal is written until it is compared.
fn unfinished(config: &Config) -> PathBuf {
    beside(&config.run.journal, ".split")
}

fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(more);
    path.with_file_name(name)
}

/// Returns the streams that only this cell writes: decisions, control entries, observations.
fn own_streams(config: &Config) -> impl Iterator<Item = (StreamKind, &str)> {
    let is_own = |kind| matches!(kind, StreamKind::Control | StreamKind::Observation | StreamKind::Decision);
    let streams = config.streams.iter().map(|(_, stream)| (stream.kind, &*stream.name));
    streams.filter(move |(kind, _)| is_own(*kind))
}

/// Checks that the streams of the new cells were never written to. Names all keys that an earlier run has begun.
async fn check_unused(cells: &Cells) -> anyhow::Result<()> {
    let mut begun: Vec<String> = Vec::new();
    for new in &cells.new {
        let mut server = Server::connect(&server::address(new)?).await?;
        let decisions = server::decision_stream(&new.streams);
        let is_known = |stream: &str| cells.old.iter().any(|old| old.streams.id_of(stream).is_some());
        // Cells may share a control stream, which continues.
        let own = own_streams(new).filter(|(kind, stream)| *kind != StreamKind::Control || !is_known(stream));
        let keys = own.map(|(_, stream)| stream.to_owned()).chain([memory_of(&decisions)]);
        for key in keys.collect::<Vec<_>>() {
            if !begun.contains(&key) && server.exists(&key).await? {
                begun.push(key);
            }
        }
    }
    if begun.is_empty() {
        return Ok(());
    }
    bail!(
        "keys of the new cells exist already: {}. If an earlier run of this command has left them, and no new cell was started, \
         delete all of them (redis-cli DEL) and run it again. Otherwise give the new cells other names",
        begun.join(" ")
    )
}

/// Writes those entries of the old cells' own streams that their journals lack, as history files.
async fn ends(cells: &Cells, servers: &mut [Server], folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut files = Vec::new();
    for (cell, server) in servers.iter_mut().enumerate() {
        let journalled = cells.ends_of(cell)?;
        for stream in cells.own_streams(cell) {
            let mut after = journalled.get(&stream).copied();
            let mut text = String::new();
            loop {
                let page = server.range_after(&stream, after, PAGE_ENTRIES).await?;
                for entry in &page {
                    text += &line::write(&stream, &entry.id.to_string(), &Fields::from_bytes(entry.pairs()));
                    text.push('\n');
                    after = Some(entry.id);
                }
                if page.len() < PAGE_ENTRIES {
                    break;
                }
            }
            if !text.is_empty() {
                let file = folder.join(format!("{}.jsonl", files.len()));
                std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// Begins the streams of a new cell at the end of its journal. Its decisions are then in their stream and in the memory
/// of written ids, as after any start.
async fn begin_streams(new: &Config, cell: &NewCell) -> anyhow::Result<()> {
    let mut server = Server::connect(&server::address(new)?).await?;
    let decisions = server::decision_stream(&new.streams);
    for (stream, last, count) in &cell.own {
        let is_begun = server.stream_length(stream).await? > 0;
        if *stream != decisions && !is_begun {
            server.begin_after(stream, *last, *count).await?;
        }
    }
    let mut page: Vec<(String, EntryId, Vec<FieldBytes>)> = Vec::new();
    let journal =
        Journal::open(&unfinished(new), crate::shell::journal::Limits { rotate_bytes: new.journal.rotate_bytes })?;
    for text in journal.read_from(0)? {
        let text = text?;
        let (stream, id) = line::head(text.as_bytes())?;
        if stream != decisions {
            continue;
        }
        let id: EntryId = id.parse().ok().context("an id of the journal does not read")?;
        let bytes = |value: FieldValue<'_>| match value {
            FieldValue::Text(text) => text.into_owned().into_bytes(),
            FieldValue::Bytes(bytes) => bytes,
        };
        let fields = line::fields(text.as_bytes())?.pairs;
        let fields = fields.into_iter().map(|(name, value)| (name.into_owned().into_bytes(), bytes(value)));
        page.push((decisions.clone(), id, fields.collect()));
        if page.len() == PAGE_ENTRIES {
            append(&mut server, &decisions, &mut page).await?;
        }
    }
    append(&mut server, &decisions, &mut page).await
}

async fn append(
    server: &mut Server,
    decisions: &str,
    page: &mut Vec<(String, EntryId, Vec<FieldBytes>)>,
) -> anyhow::Result<()> {
    if page.is_empty() {
        return Ok(());
    }
    let id_of = |fields: &[FieldBytes]| {
        let (_, value) = fields.iter().find(|(name, _)| name == b"decision_id")?;
        String::from_utf8(value.clone()).ok()
    };
    let written: Vec<(String, EntryId)> =
        page.iter().filter_map(|(_, entry, fields)| Some((id_of(fields)?, *entry))).collect();
    server.append(page).await?;
    if !written.is_empty() {
        server.remember_written(decisions, &written).await?;
    }
    page.clear();
    Ok(())
}

/// The document of `--json`.
#[derive(Default, Serialize)]
struct Document<'a> {
    written: bool,
    cells: Vec<CellDocument>,
    differences: &'a [String],
    held: &'a [String],
}

#[derive(Serialize)]
struct CellDocument {
    cell: usize,
    accounts: u64,
    open: u64,
    entries: u64,
    decisions: u64,
}

impl<'a> Document<'a> {
    fn of(outcome: &'a Outcome, write: bool) -> Self {
        let cell = |(cell, new): (usize, &NewCell)| {
            let &NewCell { accounts, open, entries, decisions, .. } = new;
            CellDocument { cell, accounts, open, entries, decisions }
        };
        Self {
            written: write && outcome.differences.is_empty(),
            cells: outcome.cells.iter().enumerate().map(cell).collect(),
            differences: &outcome.differences,
            held: &outcome.held,
        }
    }
}

fn show(outcome: &Outcome, write: bool, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let row = |(number, cell): (usize, &NewCell)| {
        let numbers = [number as u64, cell.accounts, cell.open, cell.decisions, cell.entries];
        numbers.iter().map(|number| (number.to_string(), Tone::Plain)).collect()
    };
    let rows = outcome.cells.iter().enumerate().map(row).collect();
    screen.table(&["CELL", "ACCOUNTS", "OPEN", "DECISIONS", "ENTRIES"], &[0, 1, 2, 3, 4], rows)?;
    for difference in &outcome.differences {
        screen.line(difference)?;
    }
    for held in &outcome.held {
        screen.line(&format!("will hold: {held}"))?;
    }
    screen.line(match (outcome.differences.is_empty(), write) {
        (false, _) => "the new cells would differ: nothing was changed",
        (true, false) => "positions, rungs and decisions are the same. Nothing was changed: repeat it with --write",
        (true, true) => "positions, rungs and decisions are the same. The old cells are retired: start the new ones",
    })?;
    Ok(())
}
