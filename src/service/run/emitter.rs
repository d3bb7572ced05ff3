//! The emitter: offers decisions one after the other, appends our own entries, and acknowledges last.
//!
//! A failure of the server is retried without limit, and nothing later is done before it succeeds. Without the lease,
//! nothing is written. Decisions that were not offered stay in the outbox of the store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use super::connect::{Connect, RetryDelay};
use super::fail;
use super::kill_gate::KillGate;
use super::message::{Append, Done, EmitBatch, GapNotice, NotEmitted, QuarantineRecord, Role};
use crate::domain::event::ids::EntryId;
use crate::shell::redis::{
    Emission, EmitKeys, Emitter, Offered, RawEntry, Server, ServerError, Tried, WrittenDecision, borrowed,
};

/// The most entries of a quarantine stream that are read at once. [1]
const PAGE_ENTRIES: usize = 1000;

/// Everything that the emitter needs to begin.
pub struct EmitterSetup {
    pub connect: Connect,
    pub keys: EmitKeys,
    /// The quarantine stream.
    pub quarantine: String,
    pub group: String,
    pub role: watch::Receiver<Role>,
    pub kill_gate: Arc<KillGate>,
    /// Set when the service stops at once: nothing is retried.
    pub give_up: Arc<AtomicBool>,
    pub work: Receiver<EmitBatch>,
    pub done: Sender<Done>,
}

struct Emitting {
    setup: EmitterSetup,
    emitter: Option<Emitter>,
    delay: RetryDelay,
    /// The last round in which a decision was not written.
    halted: Option<u64>,
    /// Streams and keys that rejected the last write.
    refusing: BTreeSet<String>,
}

/// How an operation is retried.
#[derive(Clone, Copy)]
struct Try {
    /// True if the operation needs the lease.
    leads: bool,
    /// True if a rejected operation is left for later, so that decisions and acknowledgements do not wait for it.
    can_wait: bool,
}

impl Try {
    const AS_LEADER: Self = Self { leads: true, can_wait: false };
    const WHOEVER_LEADS: Self = Self { leads: false, can_wait: false };
    const TELLING: Self = Self { leads: true, can_wait: true };
    const LOOKING: Self = Self { leads: false, can_wait: true };
}

/// The reason why an operation was not done.
enum NotDone {
    /// The lease is not ours, or the service gives up.
    Later,
    /// The server rejects an operation that can wait.
    Refused(ServerError),
}

/// Works until all senders of emit batches are gone.
pub fn run(setup: EmitterSetup) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no runtime for the emitter"),
    };
    runtime.block_on(
        Emitting { setup, emitter: None, delay: RetryDelay::default(), halted: None, refusing: BTreeSet::new() }.run(),
    );
}

impl Emitting {
    async fn run(mut self) {
        while let Some(work) = self.setup.work.recv().await {
            let EmitBatch { emissions, round, appends, quarantine_outbox, mut acks, checks } = work;
            for append in &appends {
                self.append(append).await;
            }
            for (seq, emission) in emissions {
                self.offer(seq, round, &emission).await;
            }
            if let Some(written) = checks {
                self.check(&written).await;
            }
            acks.retain(|(_, ids)| !ids.is_empty());
            if !acks.is_empty() {
                self.acknowledge(&acks).await;
            }
            self.put_aside(quarantine_outbox).await;
            let _ = self.setup.done.send(Done::Finished);
        }
    }

    fn lease(&self) -> Option<String> {
        self.setup.role.borrow().lease().map(str::to_owned)
    }

    /// Returns the connection, opened again after a failure; `None` once the service gives up.
    async fn connected(&mut self) -> Option<&mut Emitter> {
        while self.emitter.is_none() {
            match self.setup.connect.server().await {
                Ok(server) => self.emitter = Some(Emitter::new(server, self.setup.keys.clone())),
                Err(error) => self.failed(&error).await?,
            }
        }
        self.emitter.as_mut()
    }

    /// Waits before the next try; returns `None` if there is none.
    async fn failed(&mut self, error: &ServerError) -> Option<()> {
        self.emitter = None;
        if self.setup.give_up.load(Ordering::Relaxed) {
            return None;
        }
        let pause = self.delay.next();
        tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "emitting failed, trying again");
        tokio::time::sleep(pause).await;
        Some(())
    }

    /// Tries until the operation is done, each time on an open connection.
    async fn until_done<T>(
        &mut self,
        what: Try,
        mut call: impl AsyncFnMut(&mut Emitter, &str) -> Result<T, ServerError>,
    ) -> Result<T, NotDone> {
        loop {
            let lease = if what.leads { self.lease().ok_or(NotDone::Later)? } else { String::new() };
            match call(self.connected().await.ok_or(NotDone::Later)?, &lease).await {
                Ok(done) => {
                    self.delay.reset();
                    return Ok(done);
                }
                Err(error) if what.can_wait && !error.may_pass() => {
                    // Another server may have taken over. The next try connects to the present one.
                    self.emitter = self.emitter.take().filter(|_| error.stream_fault().is_some());
                    return Err(NotDone::Refused(error));
                }
                Err(error) => self.failed(&error).await.ok_or(NotDone::Later)?,
            }
        }
    }

    /// Offers a decision. Decisions are written in their order: after one that was not written, none is offered until
    /// the processor has applied that outcome.
    async fn offer(&mut self, seq: u64, round: u64, emission: &Emission) {
        let began = Instant::now();
        let gate = Arc::clone(&self.setup.kill_gate);
        let offered = if self.halted.is_some_and(|halted| round <= halted) {
            None
        } else {
            let offered = self
                .until_done(Try::AS_LEADER, async |emitter, lease| emitter.offer(&gate.over(emission), lease).await)
                .await;
            fail::point("offered");
            offered.ok()
        };
        let why = match offered {
            Some(Offered::Written { decision, request: _, refusal, is_new }) => {
                let refusing = std::mem::take(&mut self.refusing).into_iter();
                let (others, written): (BTreeSet<String>, _) = refusing.partition(|key| *key == self.setup.quarantine);
                self.refusing = others;
                for key in written {
                    let _ = self.setup.done.send(Done::Output { key, refusal: None });
                }
                let _ = self.setup.done.send(Done::Emitted { seq, decision, refusal, is_new, took: began.elapsed() });
                return;
            }
            Some(Offered::Stale) | None => NotEmitted::Later,
            Some(Offered::Behind) => NotEmitted::Behind,
            Some(Offered::Unfit { key, why }) => {
                self.output(&key, Some(why.says().to_owned()));
                NotEmitted::Unfit
            }
            Some(Offered::Lost) => NotEmitted::Lost,
            Some(Offered::Doubtful { known }) => NotEmitted::Doubtful { known },
        };
        self.halted = self.halted.max(Some(round));
        let _ = self.setup.done.send(Done::NotEmitted { seq, round, why });
    }

    async fn append(&mut self, append: &Append) {
        let Append { number, stream, fields, gap } = append;
        let number = *number;
        if let Some(gap) = gap
            && let Ok(Some(id)) =
                self.until_done(Try::LOOKING, async |emitter, _| written_gap(emitter.server(), stream, gap).await).await
        {
            let _ = self.setup.done.send(Done::Appended { number, id });
            return;
        }
        // The answer to an earlier try may have been lost.
        let mut tried = Tried::default();
        let appended =
            self.until_done(Try::TELLING, async |emitter, _| emitter.append(stream, fields, &mut tried).await).await;
        let done = match appended {
            Ok(id) => {
                self.output(stream, None);
                Done::Appended { number, id }
            }
            Err(NotDone::Later) => Done::NotAppended { number },
            Err(NotDone::Refused(error)) => {
                self.output(stream, Some(why(&error)));
                Done::AppendRefused { number, fields: fields.clone() }
            }
        };
        let _ = self.setup.done.send(done);
    }

    /// Reports that a stream or key rejects writes, or accepts them again.
    fn output(&mut self, key: &str, refusal: Option<String>) {
        let is_known = match &refusal {
            Some(_) => !self.refusing.insert(key.to_owned()),
            None => !self.refusing.remove(key),
        };
        // A reason may change.
        if refusal.is_some() || !is_known {
            let _ = self.setup.done.send(Done::Output { key: key.to_owned(), refusal });
        }
    }

    /// Writes quarantine records. Records that may have been written before are looked for first.
    async fn put_aside(&mut self, quarantine_outbox: Vec<QuarantineRecord>) {
        let doubtful: Vec<(&str, EntryId)> = quarantine_outbox
            .iter()
            .filter(|aside| aside.is_doubtful)
            .map(|aside| (aside.stream.as_str(), aside.id))
            .collect();
        let stream = self.setup.quarantine.clone();
        let mut told = if doubtful.is_empty() {
            Some(BTreeSet::new())
        } else {
            let looked =
                self.until_done(Try::LOOKING, async |emitter, _| told(emitter.server(), &stream, &doubtful).await);
            match looked.await {
                Ok(told) => Some(told),
                Err(not_done) => {
                    self.aside_refused(&stream, not_done);
                    None
                }
            }
        };
        for aside in &quarantine_outbox {
            let is_told = told.as_ref().map(|told| told.contains(&(aside.stream.as_str(), aside.id)));
            let is_written = match is_told {
                None => false,
                Some(true) => true,
                Some(false) => self.tell(&stream, aside).await,
            };
            // If one record was rejected, the others wait with it.
            told = told.filter(|_| is_written);
            let _ = self.setup.done.send(Done::Aside { number: aside.number, is_written });
        }
    }

    async fn tell(&mut self, stream: &str, aside: &QuarantineRecord) -> bool {
        let (fields, length_max) = (borrowed(&aside.fields), self.setup.keys.length_max);
        let entry = (aside.stream.as_str(), aside.id);
        let mut was_tried = false;
        let written = self
            .until_done(Try::TELLING, async |emitter, _| {
                // The answer to the earlier try may have been lost.
                let is_retry = std::mem::replace(&mut was_tried, true);
                if is_retry && told(emitter.server(), stream, &[entry]).await?.contains(&entry) {
                    return Ok(());
                }
                emitter.server().add_trimmed(stream, &fields, length_max).await.map(|_| ())
            })
            .await;
        match written {
            Ok(()) => {
                fail::point("aside_written");
                self.output(stream, None);
                true
            }
            Err(not_done) => {
                self.aside_refused(stream, not_done);
                false
            }
        }
    }

    fn aside_refused(&mut self, stream: &str, not_done: NotDone) {
        if let NotDone::Refused(error) = not_done {
            self.output(stream, Some(why(&error)));
        }
    }

    /// Looks for the decisions that were written. If the server rejects the look-up, it is repeated at the next doubt.
    async fn check(&mut self, written: &[WrittenDecision]) {
        let lost = self.until_done(Try::LOOKING, async |emitter, _| emitter.lost_of(written).await).await;
        let _ = self.setup.done.send(Done::Checked { lost: lost.unwrap_or_default() });
    }

    /// Acknowledges folded entries, also after the lease was lost: they are durable here.
    async fn acknowledge(&mut self, acks: &[(String, Vec<EntryId>)]) {
        let group = self.setup.group.clone();
        let _ = self.until_done(Try::WHOEVER_LEADS, async |emitter, _| emitter.acknowledge(&group, acks).await).await;
        fail::point("acknowledged");
    }
}

/// Returns the reason why a stream rejects writes: its fault, else the server's message.
fn why(error: &ServerError) -> String {
    error.stream_fault().map_or_else(|| error.to_string(), |fault| fault.says().to_owned())
}

/// Returns the entry of the control stream, after those that are folded, that reports this gap already. A process that
/// ended before it knew may have written it.
async fn written_gap(server: &mut Server, control: &str, gap: &GapNotice) -> Result<Option<EntryId>, ServerError> {
    #[derive(serde::Deserialize)]
    struct Payload {
        stream: String,
        before: Option<String>,
    }
    let tells = |entry: &RawEntry| {
        let payload = entry.pairs().iter().find(|(name, _)| name == b"payload");
        let payload = payload.and_then(|(_, text)| serde_json::from_slice::<Payload>(text).ok());
        let is_gap = entry.pairs().iter().any(|(name, value)| name == b"event_type" && value == b"history.gap");
        let before = payload.filter(|payload| payload.stream == gap.stream).and_then(|payload| payload.before);
        is_gap && before.and_then(|text| text.parse().ok()).is_some_and(|before: EntryId| gap.before <= before)
    };
    let page = server.range_after(control, Some(gap.folded), PAGE_ENTRIES).await?;
    Ok(page.iter().find(|entry| tells(entry)).map(|entry| entry.id))
}

/// Returns those of these entries that the quarantine stream contains, or contained before it was trimmed. The id of a
/// record is later than the time of its entry, because an entry is folded only after its time is past.
async fn told<'a>(
    server: &mut Server,
    quarantine: &str,
    entries: &[(&'a str, EntryId)],
) -> Result<BTreeSet<(&'a str, EntryId)>, ServerError> {
    let from_ms = entries.iter().map(|(_, id)| id.ms).min().unwrap_or(0);
    let mut after = Some(EntryId::new(from_ms.saturating_sub(1), u64::MAX));
    let info = server.stream_info(quarantine).await?;
    let trimmed_to = info.filter(|info| info.gone().is_some_and(|gone| gone > 0)).and_then(|info| info.first);
    let mut told: BTreeSet<_> =
        entries.iter().copied().filter(|(_, id)| trimmed_to.is_some_and(|first| id.ms < first.ms)).collect();
    loop {
        let page = server.range_after(quarantine, after, PAGE_ENTRIES).await?;
        for record in &page {
            let get = |name: &[u8]| record.pairs().iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice());
            let (stream, id) = (get(b"stream"), get(b"id").and_then(EntryId::parse));
            told.extend(entries.iter().filter(|(of, at)| stream == Some(of.as_bytes()) && id == Some(*at)));
            after = Some(record.id);
        }
        if page.len() < PAGE_ENTRIES {
            return Ok(told);
        }
    }
}
