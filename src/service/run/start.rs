//! The start of a service: from its store, the tail of its journal, and the decisions and control entries that are in
//! the streams already.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::connect::{Connect, patiently};
use super::crash_guard::CrashGuard;
use super::orders::Orders;
use super::processor::{FoldParts, OutputStreams, OwnEntry, Processor};
use super::publish::Publisher;
use crate::codec::decode::kills_when_read;
use crate::codec::line::{self, Fields};
use crate::codec::live::{self, StreamPosition};
use crate::codec::state::{FORMAT_VERSION, Rows as _};
use crate::config::Config;
use crate::domain::engine::Decisions;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};
use crate::drive::look_ahead::{LookAhead, is_read_ahead};
use crate::drive::projection::{Projection, close_to_others};
use crate::drive::{keys, snapshots};
use crate::shell::journal::{Journal, Limits};
use crate::shell::redis::{Server, StreamFault};
use crate::shell::store::Store;
use crate::shell::terminal::Progress;

/// The most entries of a stream that are read at once in the preload. [1]
const PAGE_ENTRIES: usize = 1000;
/// The longest outage of a server that was reachable before, during the start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries per commit while the journal is folded. [1]
const COMMIT_ENTRIES: usize = 50_000;

/// A processor at the point where the last process ended.
pub struct Started {
    pub fold: Processor,
    /// Cursor and counts of each stream; none if it was never read.
    pub positions: Vec<Option<(EntryId, StreamPosition)>>,
}

/// Opens store and journal, and folds the entries of the journal that the store lacks.
///
/// A store that is damaged or of another rules version is folded again from the journal. The decisions that it emitted
/// are then in the history, and nothing is sold again (docs/spec/fold.md, "Recorded decisions").
pub async fn start(
    config: &Config,
    connect: &Connect,
    publisher: &Publisher,
    new_chain: bool,
) -> anyhow::Result<Started> {
    let store = &config.run.store;
    if let Some(parent) = store.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making the folder {}", parent.display()))?;
    }
    let crash_guard = CrashGuard::open(store).with_context(|| format!("the note beside {}", store.display()))?;
    close_to_others(&config.run.journal);
    let journal = Journal::open(&config.run.journal, Limits { rotate_bytes: config.journal.rotate_bytes })?;
    let mut fold = opened(config, journal, crash_guard)?;
    keep_to_chain(&mut fold, config, new_chain)?;
    patiently(connect, PATIENCE, async |server| preload(&mut fold, server).await).await?;
    skip_guilty(&mut fold);
    fold = catch_up(fold, config, publisher)?;
    let positions = positions(&fold);
    Ok(Started { fold, positions })
}

fn control_stream(streams: &Streams) -> String {
    let control = streams.iter().find(|(_, stream)| stream.kind == StreamKind::Control);
    control.map_or(StreamKind::Control.default_stream(), |(_, stream)| &stream.name).to_owned()
}

fn opened(config: &Config, journal: Journal, crash_guard: CrashGuard) -> anyhow::Result<Processor> {
    let mut notices = Vec::new();
    let mut projection = Projection::open(&config.run.store, config, Decisions::Recorded, &mut notices)?;
    let is_fresh = config.streams.iter().all(|(stream, _)| projection.engine.cursor(stream).is_none());
    if is_fresh && journal.first() > 0 {
        drop(projection);
        seed(config, &journal, &mut notices)?;
        projection = Projection::open(&config.run.store, config, Decisions::Recorded, &mut notices)?;
    }
    for notice in &notices {
        tracing::warn!("{notice}");
    }
    let names = config.streams.iter().map(|(_, stream)| &stream.name);
    let (checkpoint, outbox, positions, quarantine_outbox, refused, findings) = match projection.store() {
        Some(store) => {
            let positions: Result<Vec<_>, _> = names.map(|name| live::stream_position(store, name)).collect();
            (
                live::checkpoint(store)?,
                live::outbox(store)?,
                positions?,
                live::quarantine_outbox(store)?,
                live::refused(store)?,
                live::findings(store)?,
            )
        }
        None => {
            let positions = vec![None; config.streams.len()];
            (live::Checkpoint::default(), Vec::new(), positions, Vec::new(), Vec::new(), BTreeMap::new())
        }
    };
    if checkpoint.journal > journal.position() {
        bail!(
            "the state rests on {} entries of the journal {}, which has {}: give back the files that are missing, or \
             move the store aside to have it folded from what is left",
            checkpoint.journal,
            config.run.journal.display(),
            journal.position()
        );
    }
    Ok(Processor::new(FoldParts {
        projection,
        journal,
        signing: keys::configured(config)?,
        orders: Orders {
            live: config.emit.live(&config.policy, &config.streams)?,
            policy: config.policy.hash.clone(),
            age_max_ms: config.emit.max_decision_age_ms,
        },
        outputs: OutputStreams {
            control: control_stream(&config.streams),
            suggestions: config.outputs.suggestions.clone(),
        },
        crash_guard,
        checkpoint,
        positions,
        outbox,
        quarantine_outbox,
        refused,
        findings,
    }))
}

/// Restores the newest good snapshot if the first files of the journal are gone.
fn seed(config: &Config, journal: &Journal, notices: &mut Vec<String>) -> anyhow::Result<()> {
    let folder = snapshots::folder_of(&config.run.store);
    let held = snapshots::nearest(&folder, None, config, notices)?
        .and_then(|found| Some((found.snapshot.head.journal?, found)))
        .filter(|(journalled, _)| (journal.first()..=journal.position()).contains(journalled));
    let Some((journalled, found)) = held else {
        bail!(
            "the journal {} begins with entry {}, and no good snapshot in {} holds what was before: {}",
            config.run.journal.display(),
            journal.first(),
            folder.display(),
            notices.join("; ")
        );
    };
    notices.push(format!("the state begins with the snapshot {}", found.path.display()));
    let checkpoint = live::Checkpoint { journal: journalled, ..live::Checkpoint::default() };
    let rows = found.snapshot.rows().scan(b"")?.into_iter().map(|(key, value)| (key, Some(value)));
    let mut store = Store::open(&config.run.store, FORMAT_VERSION)?;
    store.commit(rows.chain([live::place_row(checkpoint)]))?;
    Ok(())
}

/// Checks that the chain goes on in the stream where it began. In another stream, its decisions would no longer be
/// recorded decisions, and would be sold again.
fn keep_to_chain(fold: &mut Processor, config: &Config, new_chain: bool) -> anyhow::Result<()> {
    let names = |streams: &Streams| -> Vec<String> {
        let decisions = streams.iter().filter(|(_, stream)| stream.kind == StreamKind::Decision);
        decisions.map(|(_, stream)| stream.name.clone()).collect()
    };
    let now = names(&config.streams);
    let Some(before) = fold.projection.folded_with().map(names) else { return Ok(()) };
    let knows_decisions = fold.projection.engine.globals().chain.seq > 0 || fold.projection.is_rebuild();
    if !knows_decisions || before.iter().all(|name| now.contains(name)) {
        return Ok(());
    }
    if !new_chain {
        bail!(
            "the store {} knows decisions of {}, the configuration names {}: give it the former name (streams.decision), or \
             begin a chain of its own there with --new-chain",
            config.run.store.display(),
            before.join(", "),
            now.join(", ")
        );
    }
    tracing::warn!(before = before.join(", "), now = now.join(", "), "a new chain of decisions begins");
    fold.begin_chain();
    Ok(())
}

/// Gives the engine the emitted decisions and the skipped entries that the streams contain ahead of the cursors.
async fn preload(fold: &mut Processor, server: &mut Server) -> anyhow::Result<()> {
    let mut ahead = LookAhead::default();
    let streams = fold.projection.streams().clone();
    for text in fold.journal.read_from(fold.checkpoint.journal)? {
        let text = text?;
        let (name, id) = line::head(text.as_bytes())?;
        let (Some(stream), Ok(id)) = (streams.id_of(&name), id.parse()) else { continue };
        if is_read_ahead(streams.kind(stream)) {
            look(&mut ahead, fold, stream, id, &line::fields(text.as_bytes())?);
        }
    }
    for (stream, named) in streams.iter().filter(|(stream, _)| is_read_ahead(streams.kind(*stream))) {
        let mut after = fold.projection.engine.cursor(stream);
        loop {
            let page = match server.range_after(&named.name, after, PAGE_ENTRIES).await {
                // The key holds no entries. The reader reports it, and ends the process once the key is a stream.
                Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => break,
                page => page?,
            };
            for entry in &page {
                look(&mut ahead, fold, stream, entry.id, &Fields::from_bytes(entry.pairs()));
                after = Some(entry.id);
            }
            if page.len() < PAGE_ENTRIES {
                break;
            }
        }
    }
    for (stream, entry) in fold.projection.preload(ahead) {
        tracing::error!(%stream, %entry, finding = "decision_foreign", "a decision entry does not read: it holds its symbol once it is folded, and reaches nothing");
    }
    Ok(())
}

fn look(ahead: &mut LookAhead, fold: &mut Processor, stream: StreamId, id: EntryId, fields: &Fields<'_>) {
    let entry = fold.projection.decode(stream, id, fields);
    if entry.kind == StreamKind::Control && kills_when_read(fields) {
        fold.kill_gate.kill_is_read();
        fold.kill_is_read(stream, id);
    }
    ahead.see(fold.projection.streams(), entry);
}

/// Skips an entry that has ended the process twice, and publishes that.
fn skip_guilty(fold: &mut Processor) {
    let Some((stream, id)) = fold.crash_guard.culprit().map(|(stream, id)| (stream.to_owned(), id)) else { return };
    tracing::error!(stream, id = %id, "an entry has ended the process twice and is passed over");
    fold.projection.engine.skip(&stream, id);
    let payload = serde_json::json!({"stream": stream, "id": id.to_string(), "reason": "ended the process twice"});
    fold.stage_entry(OwnEntry::Other, "entry.skipped", &payload.to_string());
    fold.crash_guard.clear();
}

/// Folds the journal entries that the store lacks, and swaps in a store that was folded again.
fn catch_up(mut fold: Processor, config: &Config, publisher: &Publisher) -> anyhow::Result<Processor> {
    let to = fold.journal.position();
    let from = fold.checkpoint.journal;
    if from < to {
        tracing::info!(from, to, "folding the journal beyond the store");
        let progress = Progress::of_entries(to - from);
        let is_rebuild = from == 0;
        publisher.catching_up(is_rebuild, 0);
        let lines = fold.journal.read_from(from)?;
        for (at, text) in (from..).zip(lines) {
            let text = text?;
            let (name, id) = line::head(text.as_bytes())?;
            let id: EntryId = id.parse().map_err(|_| anyhow::anyhow!("entry {at} of the journal has no id"))?;
            if let Some(stream) = fold.projection.streams().id_of(&name) {
                fold.fold(stream, id, &text)?;
            }
            if fold.uncommitted().is_some_and(|(entries, _)| entries >= COMMIT_ENTRIES) {
                fold.commit_at(at + 1)?;
                progress.at(at + 1 - from, String::new);
                publisher.catching_up(is_rebuild, at + 1 - from);
            }
        }
        fold.commit_at(to)?;
        progress.finish();
    }
    if fold.projection.is_rebuild() {
        let Processor { projection, journal, crash_guard, own, kill_gate, kills_read, .. } = fold;
        let (_, aside) = projection.finish()?;
        if let Some(aside) = aside {
            tracing::warn!("the former store was moved to {}", aside.display());
        }
        fold = opened(config, journal, crash_guard)?;
        (fold.own, fold.kill_gate, fold.kills_read) = (own, kill_gate, kills_read);
    }
    Ok(fold)
}

fn positions(fold: &Processor) -> Vec<Option<(EntryId, StreamPosition)>> {
    let engine = &fold.projection.engine;
    let checkpoint = |(stream, _): (StreamId, _)| {
        let checkpoint = fold.positions[usize::from(stream.0)];
        let is_known = checkpoint != StreamPosition::default() || engine.cursor(stream).is_some();
        is_known.then(|| (engine.cursor(stream).unwrap_or_default(), checkpoint))
    };
    engine.streams().iter().map(checkpoint).collect()
}
