//! Feeds a history to an engine: the look-ahead first, then lines | decode | fold on three threads.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::bail;
use secrecy::ExposeSecret as _;

use super::projection::Folded;
use crate::codec::decode::Decoder;
use crate::codec::line;
use crate::codec::object::Object;
use crate::codec::signing::SigningKey;
use crate::config::Config;
use crate::domain::engine::chain;
use crate::domain::engine::recorded::RecordedDecisions;
use crate::domain::engine::shortcut::price_run::Ahead;
use crate::domain::engine::skips;
use crate::domain::engine::{ChainHead, Engine};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::{Control, DecisionFact, Entry, Event};
use crate::domain::exit::policy::Policy;
use crate::shell::history::{History, HistoryError};

/// Maximum number of lines that one thread passes to the next at a time. [1]
///
/// The number is small, so that lines written by one thread are still in the processor's cache when the next reads
/// them.
const BATCH_LINES: usize = 512;
/// Maximum size of these lines. [bytes]
const BATCH_BYTES: usize = 1 << 18;
/// Batches that wait between two threads. Reading and decoding continue for this long while a commit is written to
/// disk.
const BATCHES_WAITING: usize = 12;

/// The reason of a service for adopting the configured policy.
pub const CONFIGURED: &str = "configured";

/// Applies `read` to a history: to `at_once` if it can be read in a single pass, and to a restart from its beginning if
/// it cannot, or if the single pass turns out to be insufficient.
///
/// Usually a history must be read twice, because decisions and skipped entries concern earlier entries. Most histories
/// from the field contain neither, and can be folded in the first pass.
pub fn single_pass_or_restart<H, T>(
    at_once: Option<H>,
    again: impl FnOnce() -> anyhow::Result<H>,
    mut read: impl FnMut(H) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if let Some(history) = at_once {
        match read(history) {
            Err(error) if is_not_plain(&error) => {}
            done => return done,
        }
    }
    read(again()?)
}

/// Returns true if a single pass was insufficient.
fn is_not_plain(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(HistoryError::NotPlain { .. }))
}

/// Preloads the entries that later entries skip.
pub fn preload_skips(history: &History, decoder: &mut Decoder, engine: &mut Engine, until: Option<EntryId>) {
    for (stream, id) in skipped(history, decoder, until) {
        engine.skip(&stream, id);
    }
}

/// Returns the entries that a history itself skips.
pub fn skipped(history: &History, decoder: &mut Decoder, until: Option<EntryId>) -> BTreeSet<skips::At> {
    let mut said = Vec::new();
    for at in history.control_lines().filter(|at| until.is_none_or(|until| at.id <= until)) {
        let Ok(fields) = line::fields(at.bytes) else { continue };
        let entry = decoder.decode(at.stream, at.id, &fields);
        if let Ok(Event::Control(fact)) = entry.content
            && let Control::EntrySkipped { stream, id } = fact.control
        {
            let own = decoder.streams().get(at.stream).name.as_str().into();
            said.push(((own, at.id), (stream, id)));
        }
    }
    skips::skipped(said)
}

/// Returns the recorded decisions of a history: sealed, chained, and not skipped. Passes the location of each
/// unreadable one to `unreadable`.
pub fn recorded(
    history: &History,
    decoder: &mut Decoder,
    head: &ChainHead,
    until: Option<EntryId>,
    mut unreadable: impl FnMut(String),
) -> Vec<DecisionFact> {
    let passed = skipped(history, decoder, until);
    let mut found = Vec::new();
    for at in history.decision_lines().filter(|at| until.is_none_or(|until| at.id <= until)) {
        let name: Box<str> = decoder.streams().get(at.stream).name.as_str().into();
        if passed.contains(&(name, at.id)) {
            continue;
        }
        let Ok(fields) = line::fields(at.bytes) else { continue };
        match decoder.decode(at.stream, at.id, &fields).content {
            Ok(Event::Decision(fact)) => found.push(*fact),
            Ok(_) | Err(_) => unreadable(history.location(at.file, at.number)),
        }
    }
    chain::following(head, found)
}

/// Returns the key that verifies signatures, if one is configured.
pub fn signing_key(config: &Config) -> anyhow::Result<Option<SigningKey>> {
    let Some(key) = config.emit.signing_key()? else { return Ok(None) };
    Ok(Some(with_former(SigningKey::new(key.expose_secret().as_bytes())?, config)?))
}

/// Adds the former keys, and the ids up to which entries are trusted without this key, to a key.
pub fn with_former(key: SigningKey, config: &Config) -> anyhow::Result<SigningKey> {
    let mut key = key.with_unsigned_until(config.emit.believe_unsigned_until);
    for (former, until) in config.emit.former_keys()? {
        key = key.with_former(SigningKey::new(former.expose_secret().as_bytes())?, until);
    }
    Ok(key)
}

/// Returns the policy that a service had in its configuration before any was adopted, as far as the service published
/// it: its first entry in the control stream is the configuration of that time, independent of today's.
pub fn policy_at_first(history: &History, decoder: &mut Decoder) -> Option<Policy> {
    let passed = skipped(history, decoder, None);
    let is_reached = |stream: StreamId, id, decoder: &Decoder| {
        passed.contains(&(decoder.streams().get(stream).name.as_str().into(), id))
    };
    history
        .control_lines()
        .filter(|at| !is_reached(at.stream, at.id, decoder))
        .collect::<Vec<_>>()
        .into_iter()
        .find_map(|at| {
            let fields = line::fields(at.bytes).ok()?;
            let Ok(Event::Control(fact)) = decoder.decode(at.stream, at.id, &fields).content else { return None };
            let Control::PolicyAdopted(policy) = fact.control else { return None };
            let reason = Object::of(&fields).ok().and_then(|object| object.text(&["reason"]).ok().flatten());
            Some((reason.as_deref() == Some(CONFIGURED)).then_some(*policy))
        })?
}

/// Preloads what later entries state about earlier ones: the recorded decisions and the skipped entries.
pub fn preload(
    history: &History,
    decoder: &mut Decoder,
    engine: &mut Engine,
    derive: bool,
    until: Option<EntryId>,
) -> anyhow::Result<()> {
    // Entries after the end are not known yet.
    preload_skips(history, decoder, engine, until);
    if derive {
        engine.set_derive();
    } else {
        let mut facts = RecordedDecisions::default();
        let head = engine.globals().chain.clone();
        let recorded = recorded(history, decoder, &head, until, |location| {
            tracing::warn!(location, "a decision entry does not read and goes to quarantine");
        });
        for fact in recorded {
            facts.add(fact, decoder.streams());
        }
        engine.set_facts(facts);
    }
    for name in decoder.symbols.take_new() {
        engine.intern(&name);
    }
    Ok(())
}

/// Consecutive lines as they were read.
#[derive(Default)]
struct LineBatch {
    bytes: Vec<u8>,
    lines: Vec<LineAt>,
    /// Reused memory for the entries and the ranges of their lines.
    room: Vec<(Entry, Range<usize>)>,
    places: Vec<(u32, u64)>,
    ahead: Ahead,
}

struct LineAt {
    range: Range<usize>,
    stream: StreamId,
    id: EntryId,
    file: u32,
    number: u64,
}

/// Decoded entries, each with the range of its line in `bytes`.
pub struct EntryBatch {
    pub bytes: Vec<u8>,
    pub entries: Vec<(Entry, Range<usize>)>,
    /// File and line of each entry.
    pub places: Vec<(u32, u64)>,
    /// Symbols that were new in this batch, in the order of their indices.
    pub symbols: Vec<Box<str>>,
    /// Result of [`Self::look_ahead`]; empty before it.
    pub ahead: Ahead,
    /// Reused memory of the lines.
    lines: Vec<LineAt>,
}

impl EntryBatch {
    /// Returns the memory of a folded batch, for the next one.
    fn emptied(self) -> LineBatch {
        let Self { mut bytes, entries: mut room, mut places, mut lines, ahead, .. } = self;
        bytes.clear();
        room.clear();
        places.clear();
        lines.clear();
        LineBatch { bytes, lines, room, places, ahead }
    }

    /// Finds the prices that follow each entry.
    pub fn look_ahead(&mut self, stands_alone: impl Fn(&Entry) -> bool) {
        self.ahead.look(self.entries.iter().map(|(entry, _)| entry), stands_alone);
    }
}

/// A line whose fields cannot be read.
struct BadFields {
    file: u32,
    number: u64,
    why: String,
}

/// Reads, decodes and folds on three threads. Returns the number of lines whose fields cannot be read.
pub fn pipeline(
    history: &mut History,
    decoder: &mut Decoder,
    skip_bad_lines: bool,
    mut fold: impl FnMut(&EntryBatch) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    hand_over(history, decoder, skip_bad_lines, |batch| {
        fold(&batch)?;
        Ok(Some(batch))
    })
}

/// Folds a whole history into an engine. Calls `each` after every entry, with its line and its effect.
pub fn fold_all(
    history: &mut History,
    decoder: &mut Decoder,
    engine: &mut Engine,
    mut each: impl FnMut(&Engine, &Entry, &[u8], &Folded),
) -> anyhow::Result<()> {
    pipeline(history, decoder, false, |batch| {
        for name in &batch.symbols {
            engine.intern(name);
        }
        for (entry, range) in &batch.entries {
            let folded = Folded::by(engine, entry);
            each(engine, entry, &batch.bytes[range.clone()], &folded);
        }
        Ok(())
    })?;
    Ok(())
}

/// Does the same as [`pipeline`] and passes on each batch. The memory of a returned batch is reused for the next one.
pub fn hand_over(
    history: &mut History,
    decoder: &mut Decoder,
    skip_bad_lines: bool,
    mut take: impl FnMut(EntryBatch) -> anyhow::Result<Option<EntryBatch>>,
) -> anyhow::Result<u64> {
    let (bad, folded, read) = thread::scope(|scope| {
        let (to_decoder, lines) = sync_channel(BATCHES_WAITING);
        let (to_fold, entries) = sync_channel(BATCHES_WAITING);
        // Memory circulates between the threads: new memory for each batch would cause page faults.
        let (to_reader, emptied) = sync_channel(2 * BATCHES_WAITING + 3);
        let reader = scope.spawn(|| read_lines(history, to_decoder, emptied));
        let decoding = scope.spawn(move || decode_lines(decoder, lines, to_fold, skip_bad_lines));
        // If the fold ends early, the channels close and both threads end.
        let folded = entries.into_iter().try_for_each(|batch: EntryBatch| {
            if let Some(batch) = take(batch)? {
                let _ = to_reader.try_send(batch.emptied());
            }
            anyhow::Ok(())
        });
        (decoding.join(), folded, reader.join())
    });
    folded?;
    let bad = bad.map_err(|_| anyhow::anyhow!("the decoder panicked"))?;
    let bad = match bad {
        Ok(bad) => bad,
        Err(BadFields { file, number, why }) => bail!("{}: {why}", history.location(file, number)),
    };
    read.map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    Ok(bad)
}

fn read_lines(
    history: &mut History,
    to_decoder: SyncSender<LineBatch>,
    emptied: Receiver<LineBatch>,
) -> anyhow::Result<()> {
    let mut batch = LineBatch::default();
    while let Some(line) = history.next_line()? {
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(line.bytes);
        let range = start..batch.bytes.len();
        batch.lines.push(LineAt { range, stream: line.stream, id: line.id, file: line.file, number: line.number });
        if batch.lines.len() >= BATCH_LINES || batch.bytes.len() >= BATCH_BYTES {
            let full = std::mem::replace(&mut batch, emptied.try_recv().unwrap_or_default());
            if to_decoder.send(full).is_err() {
                return Ok(());
            }
        }
    }
    let _ = to_decoder.send(batch);
    Ok(())
}

fn decode_lines(
    decoder: &mut Decoder,
    batches: Receiver<LineBatch>,
    to_fold: SyncSender<EntryBatch>,
    skip_bad_lines: bool,
) -> Result<u64, BadFields> {
    let mut bad = 0;
    for LineBatch { bytes, lines, room: mut entries, mut places, ahead } in batches {
        let mut unreadable = None;
        for LineAt { range, stream, id, file, number } in &lines {
            match decoder.decode_line(*stream, *id, &bytes[range.clone()]) {
                Ok(entry) => {
                    entries.push((entry, range.clone()));
                    places.push((*file, *number));
                }
                Err(_) if skip_bad_lines => bad += 1,
                Err(error) => {
                    unreadable = Some(BadFields { file: *file, number: *number, why: error.to_string() });
                    break;
                }
            }
        }
        let symbols = decoder.symbols.take_new();
        let sent = to_fold.send(EntryBatch { bytes, entries, places, symbols, ahead, lines });
        match unreadable {
            Some(unreadable) => return Err(unreadable),
            None if sent.is_err() => return Ok(bad),
            None => {}
        }
    }
    Ok(bad)
}
