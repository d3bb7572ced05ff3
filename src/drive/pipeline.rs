//! Feeds a history to a driver: lines | decode | fold on three threads.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::driver::{Driver, Stepped};
use crate::codec::decode::{Decoder, NewNames};
use crate::domain::engine::Engine;
use crate::domain::event::Entry;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::shell::history::{History, HistoryError};

/// Maximum number of lines that one thread passes to the next at a time. [1]
///
/// The number is small, so that lines written by one thread are still in the processor's cache when the next reads
/// them.
const BATCH_LINES: usize = 512;
/// Maximum size of these lines. [bytes]
const BATCH_BYTES: usize = 1 << 18;
/// Batches that wait between two threads. They keep reading and decoding busy while a commit is written to disk.
const BATCHES_WAITING: usize = 12;

/// A history that could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A line whose fields cannot be read. `location` is `FILE:LINE`.
    #[error("{location}: {why}")]
    BadFields { location: String, why: String },
    #[error("the decoder panicked")]
    DecoderPanicked,
    #[error("the reader panicked")]
    ReaderPanicked,
}

impl PassError {
    /// Returns true if a single pass was insufficient.
    pub fn is_not_plain(&self) -> bool {
        matches!(self, Self::History(HistoryError::NotPlain { .. }))
    }
}

/// Applies `read` to a history: to `at_once` if it can be read in a single pass, and to a restart from its beginning if
/// it cannot, or if the single pass turns out to be insufficient.
///
/// Usually a history must be read twice, because decisions and skipped entries concern earlier entries. Most histories
/// from the field contain neither, and can be folded in the first pass.
///
/// `is_not_plain` returns true for the error that means this: see [`PassError::is_not_plain`].
pub fn single_pass_or_restart<H, T, E>(
    at_once: Option<H>,
    again: impl FnOnce() -> Result<H, E>,
    mut read: impl FnMut(H) -> Result<T, E>,
    is_not_plain: impl Fn(&E) -> bool,
) -> Result<T, E> {
    if let Some(history) = at_once {
        match read(history) {
            Err(error) if is_not_plain(&error) => {}
            done => return done,
        }
    }
    read(again()?)
}

/// Consecutive lines as they were read.
#[derive(Default)]
struct LineBatch {
    bytes: Vec<u8>,
    lines: Vec<LineAt>,
    /// Reused memory for the entries and the ranges of their lines.
    room: Vec<(Entry, Range<usize>)>,
    places: Vec<(u32, u64)>,
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
    /// Symbols and accounts that were new in this batch.
    pub names: NewNames,
    /// Reused memory of the lines.
    lines: Vec<LineAt>,
}

impl EntryBatch {
    /// Returns the memory of a folded batch, for the next one.
    fn emptied(self) -> LineBatch {
        let Self { mut bytes, entries: mut room, mut places, mut lines, .. } = self;
        bytes.clear();
        room.clear();
        places.clear();
        lines.clear();
        LineBatch { bytes, lines, room, places }
    }

    /// Gives an engine the names of the new symbols and accounts, before the first entry is folded.
    pub fn begin(&self, engine: &mut Engine) {
        self.names.tell(engine);
    }
}

/// A line whose fields cannot be read.
struct BadFields {
    file: u32,
    number: u64,
    why: String,
}

impl Driver {
    /// Reads, decodes and folds on three threads. `fold` gets the engine and each batch, whose symbols the engine
    /// knows. Returns the number of lines whose fields cannot be read.
    pub fn pipeline<E: From<PassError>>(
        &mut self,
        history: &mut History,
        skip_bad_lines: bool,
        mut fold: impl FnMut(&mut Engine, &EntryBatch) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Self { decoder, engine } = self;
        run(history, decoder, skip_bad_lines, |batch| {
            batch.begin(engine);
            fold(engine, &batch)?;
            Ok(Some(batch))
        })
    }

    /// Folds a whole history. Calls `each` after every entry, with its line and its effect.
    pub fn fold_all(
        &mut self,
        history: &mut History,
        mut each: impl FnMut(&Engine, &Entry, &[u8], &Stepped),
    ) -> Result<(), PassError> {
        self.pipeline(history, false, |engine, batch| {
            for (entry, range) in &batch.entries {
                let folded = Stepped::by(engine, entry);
                each(engine, entry, &batch.bytes[range.clone()], &folded);
            }
            Ok::<_, PassError>(())
        })?;
        Ok(())
    }

    /// Reads and decodes on two threads, for engines of the caller ([`Self::fork`]): `take` gets each batch. The memory
    /// of a returned batch is reused for the next one.
    pub fn decode_all<E: From<PassError>>(
        &mut self,
        history: &mut History,
        skip_bad_lines: bool,
        take: impl FnMut(EntryBatch) -> Result<Option<EntryBatch>, E>,
    ) -> Result<u64, E> {
        run(history, &mut self.decoder, skip_bad_lines, take)
    }
}

fn run<E: From<PassError>>(
    history: &mut History,
    decoder: &mut Decoder,
    skip_bad_lines: bool,
    mut take: impl FnMut(EntryBatch) -> Result<Option<EntryBatch>, E>,
) -> Result<u64, E> {
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
            Ok::<_, E>(())
        });
        (decoding.join(), folded, reader.join())
    });
    folded?;
    let bad = bad.map_err(|_| PassError::DecoderPanicked)?;
    let bad = bad.map_err(|BadFields { file, number, why }| PassError::BadFields {
        location: history.location(file, number),
        why,
    })?;
    read.map_err(|_| PassError::ReaderPanicked)?.map_err(PassError::History)?;
    Ok(bad)
}

fn read_lines(
    history: &mut History,
    to_decoder: SyncSender<LineBatch>,
    emptied: Receiver<LineBatch>,
) -> Result<(), HistoryError> {
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
    for LineBatch { bytes, lines, room: mut entries, mut places } in batches {
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
        let names = decoder.symbols.take_new();
        let sent = to_fold.send(EntryBatch { bytes, entries, places, names, lines });
        match unreadable {
            Some(unreadable) => return Err(unreadable),
            None if sent.is_err() => return Ok(bad),
            None => {}
        }
    }
    Ok(bad)
}
