//! The start of a service: from its store, the tail of its journal, and the decisions and control entries that the
//! streams already contain.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::connect::{Connect, patiently};
use super::crash_guard::CrashGuard;
use super::orders::OrderSettings;
use super::processor::{OutputStreams, Processor, ProcessorParts, Stored};
use super::publish::Publisher;
use crate::codec::line::{self, Fields};
use crate::codec::plural::plural;
use crate::codec::state::{self, FORMAT_VERSION, Rows as _};
use crate::codec::{live, policy, request};
use crate::config::Config;
use crate::domain::delivery::fault::Faults;
use crate::domain::delivery::{AccountPolicy, StreamPosition};
use crate::domain::engine::{Decisions, IDS_AHEAD_MAX_MS};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::{StreamKind, Streams};
use crate::domain::exit::policy::Policy;
use crate::drive::commits::Backing;
use crate::drive::look_ahead::{LookAhead, is_read_ahead};
use crate::drive::projection::{Projection, close_to_others};
use crate::drive::{keys, snapshots};
use crate::service::server;
use crate::shell::journal::{Journal, Limits};
use crate::shell::redis::{RawEntry, Server, StreamFault};
use crate::shell::store::Store;
use crate::shell::terminal::Progress;

/// Number of the newest entries of the request stream among which a new service looks for orders of ours. [1]
const ORDERS_LOOKED_AT: usize = 1000;
/// Maximum number of entries of a stream that the preload reads at once. [1]
const PAGE_ENTRIES: usize = 1000;
/// How long the start waits for a server that was reachable before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries per commit while the journal is folded. [1]
const COMMIT_ENTRIES: u64 = 50_000;

/// A processor at the point where the last process ended, with its disk.
pub struct Started {
    pub processor: Processor,
    pub store: Store,
    pub journal: Journal,
    /// Cursor and counts of each stream; `None` if it was never read.
    pub cursors_and_counts: Vec<Option<(EntryId, StreamPosition)>>,
}

/// A processor that is being started.
struct Starting {
    processor: Processor,
    backing: Backing,
    journal: Journal,
    /// The streams with which the existing store was last folded.
    folded_with: Option<Streams>,
    /// The last entry of each stream that the existing store has folded, by name.
    cursors: BTreeMap<String, EntryId>,
}

impl Starting {
    /// Returns true if the existing store knows decisions, or lacks what may have caused some: it is folded again, or the
    /// journal goes beyond it.
    fn has_decided(&self) -> bool {
        let is_behind = self.processor.delivery.journal().0 < self.journal.position();
        let is_stored = self.processor.engine().globals().chain.seq > 0 || self.backing.is_rebuild();
        self.folded_with.is_some() && (is_stored || is_behind)
    }
}

/// Opens the store and the journal, and folds the entries of the journal that the store lacks.
///
/// A store that is damaged or of another rules version is folded again from the journal. The decisions that it emitted
/// are then in the history, and nothing is sold again (docs/spec/fold.md, "Recorded decisions").
pub async fn start(
    config: &Config,
    connect: &Connect,
    publisher: &Publisher,
    new_chain: bool,
) -> anyhow::Result<Started> {
    let dir = &config.run.store;
    if let Some(found) = config.run.folders_meet() {
        bail!("{found}: give each a folder of its own, beside the other");
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making the folder {}", parent.display()))?;
    }
    let crash_guard = CrashGuard::open(dir).with_context(|| format!("the note beside {}", dir.display()))?;
    close_to_others(&config.run.journal);
    let limits = Limits { rotate_bytes: config.journal.rotate_bytes };
    let journal = Journal::open(&config.run.journal, limits)?.with_scope(&config.scope())?;
    let mut starting = opened(config, journal, crash_guard)?;
    let mut ahead = read_journal(&mut starting)?;
    keep_to_chain(&mut starting, &mut ahead, config, connect, new_chain).await?;
    if !new_chain {
        patiently(connect, PATIENCE, async |server| {
            no_orders_of_another_chain(&starting, &ahead, config, server).await
        })
        .await?;
    }
    patiently(connect, PATIENCE, async |server| preload(&mut starting, ahead.clone(), server).await).await?;
    skip_culprit(&mut starting.processor);
    catch_up(&mut starting, publisher)?;
    let Starting { processor, backing, journal, .. } = starting;
    let is_rebuild = backing.is_rebuild();
    let store = match backing {
        Backing::Store(store) => store,
        backing @ (Backing::Memory | Backing::Rebuild(_)) => {
            if let Some(aside) = backing.finish()?.filter(|_| is_rebuild) {
                tracing::warn!("the former store was moved to {}", aside.display());
            }
            Store::open(dir, FORMAT_VERSION)?
        }
    };
    let cursors_and_counts = processor.cursors_and_counts();
    Ok(Started { processor, store, journal, cursors_and_counts })
}

fn account_policy(of: &Policy) -> AccountPolicy {
    AccountPolicy { hash: of.hash.clone(), json: policy::to_json(of).into() }
}

fn order_settings(config: &Config) -> anyhow::Result<OrderSettings> {
    let account_policies = config.account_policies.iter();
    Ok(OrderSettings {
        live: config.live()?,
        policy: config.policy.hash.clone(),
        account_policies: account_policies.map(|(account, of)| (account.clone(), account_policy(of))).collect(),
        age_max_ms: config.emit.max_decision_age_ms,
    })
}

/// Opens the store where the last process ended. Errors if the store is not of a service, or beyond the journal.
fn opened(config: &Config, journal: Journal, crash_guard: CrashGuard) -> anyhow::Result<Starting> {
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
    // It lacks the counts of the streams, so all that was read would count as lost.
    if let Some(store) = projection.store().filter(|_| !is_fresh)
        && !live::is_of_service(store)?
    {
        bail!(
            "the store {} was made by `harvester replay`, not by a service: move it aside, and this start folds its own \
             from the journal",
            config.run.store.display()
        );
    }
    let stored = match projection.store() {
        Some(store) => Stored::read(store, &config.streams)?,
        None => Stored::default(),
    };
    let cursors = projection.store().map(state::cursors).transpose()?.unwrap_or_default();
    let checkpoint = stored.checkpoint;
    if checkpoint.journal > journal.position() {
        bail!(
            "the state rests on {} of the journal {}, which has {}: give back the files that are missing, or move the \
             store aside to have it folded from what is left",
            plural(checkpoint.journal, "entry"),
            config.run.journal.display(),
            journal.position()
        );
    }
    let folded_with = projection.folded_with().cloned();
    let (driver, rows, backing) = projection.into_parts();
    let processor = Processor::new(ProcessorParts {
        driver,
        rows,
        signing: keys::configured(config)?,
        order_settings: order_settings(config)?,
        outputs: OutputStreams {
            control: server::control_stream(&config.streams),
            suggestions: config.outputs.suggestions.clone(),
        },
        crash_guard,
        stored,
        faults: Faults::default(),
    });
    Ok(Starting { processor, backing, journal, folded_with, cursors })
}

/// Restores the newest good snapshot if the first files of the journal are gone.
fn seed(config: &Config, journal: &Journal, notices: &mut Vec<String>) -> anyhow::Result<()> {
    let folder = snapshots::folder_of(&config.run.store);
    let nearest = snapshots::nearest(&folder, None, config, notices)?
        .and_then(|found| Some((found.snapshot.head.journal?, found)))
        .filter(|(journalled, _)| (journal.first()..=journal.position()).contains(journalled));
    let Some((journalled, found)) = nearest else {
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
    store.commit(rows.chain([live::checkpoint_row(checkpoint)]))?;
    Ok(())
}

/// Reads ahead what the journal has beyond the store. The decisions of streams that are no longer configured are in it, too.
fn read_journal(starting: &mut Starting) -> anyhow::Result<LookAhead> {
    let mut ahead = LookAhead::default();
    let Starting { processor, journal, .. } = starting;
    let streams = processor.streams().clone();
    let (folded, _) = processor.delivery.journal();
    for text in journal.read_from(folded)? {
        let text = text?;
        let (name, id) = line::head(text.as_bytes())?;
        let Ok(id) = id.parse() else { continue };
        match streams.id_of(&name) {
            Some(stream) if is_read_ahead(streams.kind(stream)) => {
                processor.look(&mut ahead, stream, id, &line::fields(text.as_bytes())?);
            }
            None if line::may_be_decision(text.as_bytes()) => {
                processor.look_at_former(&mut ahead, &name, id, &line::fields(text.as_bytes())?);
            }
            Some(_) | None => {}
        }
    }
    Ok(ahead)
}

/// Returns the decision streams that this service leaves, each with its last entry that store and journal have. The store
/// shows them by the streams of its last fold. Where it is damaged, gone or of another format, the journal shows them by
/// its last decision.
fn former_streams(starting: &Starting, ahead: &LookAhead, config: &Config) -> BTreeMap<String, Option<EntryId>> {
    let names = |streams: &Streams| -> Vec<String> {
        let decisions = streams.iter().filter(|(_, stream)| stream.kind == StreamKind::Decision);
        decisions.map(|(_, stream)| stream.name.clone()).collect()
    };
    let now = names(&config.streams);
    let before = match &starting.folded_with {
        Some(streams) => names(streams),
        None => ahead.last_decided_in().map(str::to_owned).into_iter().collect(),
    };
    let left = before.into_iter().filter(|name| !now.contains(name));
    let mut former: BTreeMap<String, Option<EntryId>> =
        left.map(|name| (name.clone(), starting.cursors.get(&name).copied())).collect();
    if !former.is_empty() {
        for (name, end) in ahead.former_ends() {
            let known = former.entry(name.into()).or_default();
            *known = (*known).max(Some(end));
        }
    }
    former
}

/// Checks that the chain goes on in the stream where it began. In another stream, decisions that nobody has read from the
/// former one would be made and sold again.
///
/// With `--new-chain` the journal gets what it lacks of the former streams. So all their decisions are facts, now and
/// whenever the state is folded again.
async fn keep_to_chain(
    starting: &mut Starting,
    ahead: &mut LookAhead,
    config: &Config,
    connect: &Connect,
    new_chain: bool,
) -> anyhow::Result<()> {
    let former = former_streams(starting, ahead, config);
    if former.is_empty() {
        return Ok(());
    }
    let before: Vec<&str> = former.keys().map(String::as_str).collect();
    let (before, now) = (before.join(", "), server::decision_stream(&config.streams));
    let refused = |shown_by: String| {
        anyhow::anyhow!(
            "{shown_by} decisions of {before}, the configuration names {now}: give it the former name (streams.decision), or \
             begin a chain of its own there with --new-chain"
        )
    };
    if starting.has_decided() && !new_chain {
        return Err(refused(format!("the store {} knows", config.run.store.display())));
    }
    if ahead.last_decided_in().is_some() && !new_chain {
        return Err(refused(format!("the journal {} has", config.run.journal.display())));
    }
    let is_unsigned = !starting.processor.driver.has_key();
    let mut unread: Vec<(EntryId, String)> = Vec::new();
    for (name, end) in &former {
        let read = patiently(connect, PATIENCE, async |server| {
            let to_ms = server.time_ms().await?.saturating_add(IDS_AHEAD_MAX_MS);
            Ok((entries_after(server, name, *end).await?, to_ms))
        });
        let (entries, to_ms) = read.await.with_context(|| {
            format!(
                "what was decided in {name} must be known before the service decides in {now}: it needs XRANGE there"
            )
        })?;
        // As in the preload: an unsigned decision ahead of the clock reaches nothing.
        for entry in entries.iter().filter(|entry| !is_unsigned || entry.id.ms <= to_ms) {
            let fields = Fields::from_bytes(entry.pairs());
            if starting.processor.look_at_former(ahead, name, entry.id, &fields) {
                unread.push((entry.id, line::write(name, &entry.id.to_string(), &fields)));
            }
        }
    }
    if !new_chain && !unread.is_empty() {
        return Err(refused("the server has".to_owned()));
    }
    for (id, text) in &unread {
        starting.journal.append(text, id.ms);
    }
    starting.journal.commit()?;
    if new_chain {
        tracing::warn!(before, now, carried = unread.len(), "a new chain of decisions begins");
        starting.processor.begin_chain();
    }
    Ok(())
}

/// Returns the entries of a stream after an id.
async fn entries_after(server: &mut Server, stream: &str, mut after: Option<EntryId>) -> anyhow::Result<Vec<RawEntry>> {
    let mut entries = Vec::new();
    loop {
        let page = match server.range_after(stream, after, PAGE_ENTRIES).await {
            // The key holds no entries.
            Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => break,
            page => page?,
        };
        let is_last = page.len() < PAGE_ENTRIES;
        after = page.last().map(|entry| entry.id).or(after);
        entries.extend(page);
        if is_last {
            break;
        }
    }
    Ok(entries)
}

/// Checks that a service whose store and journal know no decision does not begin a second chain: if the request stream has
/// orders of ours and the decision stream is empty, their decisions are in a stream of another name, and would be made and
/// sent again.
async fn no_orders_of_another_chain(
    starting: &Starting,
    ahead: &LookAhead,
    config: &Config,
    server: &mut Server,
) -> anyhow::Result<()> {
    let Some(live) = config.live()? else { return Ok(()) };
    let decisions = server::decision_stream(&config.streams);
    if starting.folded_with.is_some() || ahead.last_decided_in().is_some() {
        return Ok(());
    }
    match server.newest(&decisions, 1).await {
        Ok(newest) if newest.is_empty() => {}
        Ok(_) => return Ok(()),
        // The reader reports a key that is not a stream.
        Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for entry in server.newest(&live.stream, ORDERS_LOOKED_AT).await? {
        let account = request::account_of_order(&Fields::from_bytes(entry.pairs()), &live.source);
        if account.is_some_and(|account| config.streams.selection().contains(&account)) {
            bail!(
                "{} has the order {} of {}, and the decision stream {decisions} is empty: give it the name in which that \
                 order was decided (streams.decision), or begin a chain of its own with --new-chain",
                live.stream,
                entry.id,
                live.source
            );
        }
    }
    Ok(())
}

/// Gives the engine what was read ahead, and the emitted decisions and the skipped entries that the streams contain ahead of
/// the cursors.
async fn preload(starting: &mut Starting, mut ahead: LookAhead, server: &mut Server) -> anyhow::Result<()> {
    let processor = &mut starting.processor;
    let streams = processor.streams().clone();
    // No signature proves an unsigned decision whose id is ahead of the clock. It waits for its turn, like all ids ahead.
    let to_ms = server.time_ms().await?.saturating_add(IDS_AHEAD_MAX_MS);
    let is_unsigned = !processor.driver.has_key();
    for (stream, named) in streams.iter().filter(|(stream, _)| is_read_ahead(streams.kind(*stream))) {
        let mut after = processor.engine().cursor(stream);
        'stream: loop {
            let page = match server.range_after(&named.name, after, PAGE_ENTRIES).await {
                // The key is not a stream. The reader reports it, and ends the process once the key is a stream.
                Err(error) if error.stream_fault() == Some(StreamFault::NotAStream) => break,
                page => page?,
            };
            for entry in &page {
                if is_unsigned && streams.kind(stream) == StreamKind::Decision && entry.id.ms > to_ms {
                    // All later ids of the stream are ahead, too.
                    break 'stream;
                }
                processor.look(&mut ahead, stream, entry.id, &Fields::from_bytes(entry.pairs()));
                after = Some(entry.id);
            }
            if page.len() < PAGE_ENTRIES {
                break;
            }
        }
    }
    for (stream, entry) in processor.driver.preload(ahead) {
        tracing::error!(%stream, %entry, finding = "decision_foreign", "a decision entry does not read: it holds its symbol once it is folded, and reaches nothing");
    }
    Ok(())
}

/// Skips an entry that has ended the process twice, and publishes that.
fn skip_culprit(processor: &mut Processor) {
    let culprit = processor.crash_guard.culprit().map(|(stream, id)| (stream.to_owned(), id));
    let Some((stream, id)) = culprit else { return };
    tracing::error!(stream, id = %id, "an entry has ended the process twice and is skipped");
    processor.driver.engine.skip(&stream, id);
    processor.delivery.skip(&stream, id, "ended the process twice");
    processor.crash_guard.clear();
}

/// Folds the journal entries that the store lacks.
fn catch_up(starting: &mut Starting, publisher: &Publisher) -> anyhow::Result<()> {
    let Starting { processor, backing, journal, .. } = starting;
    let (from, to) = (processor.delivery.journal().0, journal.position());
    if from < to {
        tracing::info!(from, to, "folding the journal beyond the store");
        let progress = Progress::of_entries(to - from);
        let is_rebuild = from == 0;
        publisher.catching_up(is_rebuild, 0);
        for (at, text) in (from..).zip(journal.read_from(from)?) {
            let text = text?;
            processor.fold_again(&text).with_context(|| format!("entry {at} of the journal"))?;
            if (at + 1 - from).is_multiple_of(COMMIT_ENTRIES) {
                backing.commit(processor.checkpoint().rows)?;
                progress.at(at + 1 - from, String::new);
                publisher.catching_up(is_rebuild, at + 1 - from);
            }
        }
        progress.finish();
        processor.delivery.handle_synced(to);
    }
    // The rows of a new store, and the changes of the start itself.
    backing.commit(processor.checkpoint().rows)?;
    Ok(())
}
