//! The emitter: does the actions of delivery one after the other, on a connection of its own.
//!
//! It decides nothing. If the answer to an action is lost, it reports that, and delivery asks again. Without a
//! connection, delivery asks for nothing.

use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use super::connect::Connect;
use super::event::LoopEvent;
use super::fail;
use super::kill_gate::KillGate;
use crate::codec::own_entry;
use crate::domain::delivery::action::{
    Action, Append, Appended, GapNotice, Offer, OfferAnswer, Record, Recorded, WrittenDecision,
};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::Streams;
use crate::service::retry_delay::RetryDelay;
use crate::shell::redis::{EmitKeys, Emitter, Offered, RawEntry, Server, ServerError, borrowed};

/// Maximum number of entries of a quarantine stream that are read at once. [1]
const PAGE_ENTRIES: usize = 1000;

/// An action for the emitter, and the connection that it is meant for. Connections are counted from 1.
#[derive(Debug)]
pub struct EmitterTask {
    pub connection: u64,
    pub action: Action,
}

/// Everything that the emitter needs to begin.
pub struct EmitterSetup {
    pub connect: Connect,
    pub keys: EmitKeys,
    pub streams: Streams,
    /// JSON of the configured policy.
    pub policy: String,
    /// The quarantine stream.
    pub quarantine: String,
    pub group: String,
    pub kill_gate: Arc<KillGate>,
    /// Set when the service stops at once. Then no new connection is opened.
    pub give_up: Arc<AtomicBool>,
    pub tasks: Receiver<EmitterTask>,
    pub events: Sender<LoopEvent>,
}

struct Emitting {
    setup: EmitterSetup,
    /// Streams and keys that refused the last write.
    refusing: BTreeSet<String>,
}

/// Works until the event loop is gone.
pub fn run(setup: EmitterSetup) {
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Emitting { setup, refusing: BTreeSet::new() }.run(&runtime),
        Err(error) => tracing::error!(%error, "no runtime for the emitter"),
    }
}

impl Emitting {
    fn run(mut self, runtime: &Runtime) {
        let mut delay = RetryDelay::of_server();
        let mut connections = 0;
        while !self.setup.give_up.load(Ordering::Relaxed) {
            let error = match runtime.block_on(self.setup.connect.server()) {
                Ok(server) => {
                    connections += 1;
                    self.send(LoopEvent::EmitterConnected(connections));
                    let mut emitter = Emitter::new(server, self.setup.keys.clone());
                    let Some(error) = self.work(runtime, &mut emitter, connections, &mut delay) else { return };
                    self.send(LoopEvent::EmitterDisconnected);
                    error
                }
                Err(error) => error,
            };
            let pause = delay.next();
            tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "emitting failed, trying again");
            std::thread::sleep(pause);
        }
    }

    /// Works on one connection. Returns the error that ended it; `None` once the event loop is gone.
    ///
    /// The runtime runs only during an action: a thread that waits at a channel wakes up sooner than one that waits for
    /// a runtime.
    fn work(
        &mut self,
        runtime: &Runtime,
        emitter: &mut Emitter,
        connection: u64,
        delay: &mut RetryDelay,
    ) -> Option<ServerError> {
        loop {
            let task = self.setup.tasks.recv().ok()?;
            // A task for an earlier connection ended with that connection.
            if task.connection == connection {
                match runtime.block_on(self.perform(emitter, task.action)) {
                    Ok(()) => delay.reset(),
                    Err(error) => return Some(error),
                }
            }
        }
    }

    fn send(&self, event: LoopEvent) {
        let _ = self.setup.events.send(event);
    }

    async fn perform(&mut self, emitter: &mut Emitter, action: Action) -> Result<(), ServerError> {
        match action {
            Action::Offer(offers) => {
                // If a failure point ends the process at an offer, offers are made one by one.
                let together = if fail::is_wanted("offered") { 1 } else { offers.len() };
                for offers in offers.chunks(together) {
                    self.offer(emitter, offers).await?;
                }
                Ok(())
            }
            Action::Append(append) => self.append(emitter, *append).await,
            Action::Check(written) => self.check(emitter, &written).await,
            Action::Acknowledge(acks) => self.acknowledge(emitter, acks).await,
            Action::Record(records) => self.record(emitter, records).await,
            // The event loop does these itself.
            Action::Checkpoint | Action::Recall { .. } => Ok(()),
        }
    }

    async fn offer(&mut self, emitter: &mut Emitter, offers: &[Offer]) -> Result<(), ServerError> {
        let began = Instant::now();
        let gated: Vec<Offer> = offers.iter().map(|offer| self.setup.kill_gate.over(offer).into_owned()).collect();
        let (answers, mut failed) = emitter.offer(&gated).await;
        fail::point("offered");
        for (offer, offered) in offers.iter().zip(answers) {
            let answer = match offered {
                Offered::Written { decision, request: _, refusal, is_new } => {
                    self.all_can_be_written();
                    OfferAnswer::Written { entry: decision, refusal, is_new }
                }
                Offered::Stale => {
                    // A node that was cut off may not know the lease that its successor has.
                    let server = emitter.server();
                    if server.is_cluster() {
                        failed.get_or_insert(ServerError::LeaseElsewhere { server: server.name().to_owned() });
                    }
                    OfferAnswer::Stale
                }
                Offered::Halted => OfferAnswer::Halted,
                Offered::Behind => OfferAnswer::Behind,
                Offered::Lost => OfferAnswer::Lost,
                Offered::Doubtful { known } => OfferAnswer::Doubtful { known },
                Offered::Unfit { key, why } => {
                    self.output(&key, Some(why.says().to_owned()));
                    OfferAnswer::Unfit
                }
            };
            self.send(LoopEvent::Offered { seq: offer.row.seq, answer, took: began.elapsed() });
        }
        failed.map_or(Ok(()), Err)
    }

    /// Reports that every key that a decision needs accepts writes. The quarantine stream is not one of them.
    fn all_can_be_written(&mut self) {
        let refusing = std::mem::take(&mut self.refusing).into_iter();
        let (others, written): (BTreeSet<String>, _) = refusing.partition(|key| *key == self.setup.quarantine);
        self.refusing = others;
        for key in written {
            self.send(LoopEvent::Output { key, refusal: None });
        }
    }

    async fn append(&mut self, emitter: &mut Emitter, append: Append) -> Result<(), ServerError> {
        let Append { number, entry, mut tried, gap } = append;
        let stream = self.setup.keys.control.clone();
        let fields = own_entry::fields(&entry, &self.setup.policy, &self.setup.streams);
        let written = match &gap {
            Some(gap) => left_out(written_gap(emitter.server(), &stream, gap).await)?.flatten(),
            None => None,
        };
        let appended = match written {
            Some(id) => Ok(id),
            None => emitter.append(&stream, &fields, &mut tried).await,
        };
        match appended {
            Ok(id) => {
                self.output(&stream, None);
                self.send(LoopEvent::Appended { number, outcome: Appended::Written(id, tried) });
                Ok(())
            }
            Err(error) if !error.may_pass() => {
                self.output(&stream, Some(why(&error)));
                self.send(LoopEvent::Appended { number, outcome: Appended::Refused });
                // Another server may have taken over. The next connection is to the present one.
                if error.stream_fault().is_some() { Ok(()) } else { Err(error) }
            }
            Err(error) => {
                self.send(LoopEvent::Appended { number, outcome: Appended::Unknown(tried) });
                Err(error)
            }
        }
    }

    /// Reports that a stream or key refuses writes, or accepts them again.
    fn output(&mut self, key: &str, refusal: Option<String>) {
        let is_known = match &refusal {
            Some(_) => !self.refusing.insert(key.to_owned()),
            None => !self.refusing.remove(key),
        };
        // A reason may change.
        if refusal.is_some() || !is_known {
            self.send(LoopEvent::Output { key: key.to_owned(), refusal });
        }
    }

    /// Writes quarantine records. First looks for the records that may have been written before. If one record is
    /// refused, the others wait with it.
    async fn record(&mut self, emitter: &mut Emitter, records: Vec<Record>) -> Result<(), ServerError> {
        let stream = self.setup.quarantine.clone();
        let doubtful: Vec<(&str, EntryId)> =
            records.iter().filter(|record| record.is_doubtful).map(|record| (&*record.stream, record.id)).collect();
        let mut refused = None;
        let known = match recorded(emitter.server(), &stream, &doubtful).await {
            Ok(known) => known,
            Err(error) if !error.may_pass() => {
                refused = Some(error);
                BTreeSet::new()
            }
            Err(error) => return Err(error),
        };
        for record in &records {
            if refused.is_none() && !known.contains(&(&*record.stream, record.id)) {
                let (fields, length_max) = (borrowed(&record.fields), self.setup.keys.length_max);
                match emitter.server().add_trimmed(&stream, &fields, length_max).await {
                    Ok(_) => fail::point("aside_written"),
                    Err(error) if !error.may_pass() => refused = Some(error),
                    Err(error) => return Err(error),
                }
            }
            let outcome = if refused.is_none() { Recorded::Written } else { Recorded::Unknown };
            self.send(LoopEvent::Recorded { number: record.number, outcome });
        }
        self.output(&stream, refused.as_ref().map(why));
        Ok(())
    }

    /// Looks for the decisions that were written. If the server refuses the look-up, it is repeated the next time that
    /// a decision is in doubt.
    async fn check(&self, emitter: &mut Emitter, written: &[WrittenDecision]) -> Result<(), ServerError> {
        let looked = left_out(emitter.look_for(written).await)?.unwrap_or_default();
        self.send(LoopEvent::Checked { looked });
        Ok(())
    }

    /// Acknowledges folded entries, also without the lease: our journal has them.
    async fn acknowledge(&self, emitter: &mut Emitter, acks: Vec<(StreamId, Vec<EntryId>)>) -> Result<(), ServerError> {
        let named = acks.into_iter().map(|(stream, ids)| (self.setup.streams.get(stream).name.clone(), ids));
        emitter.acknowledge(&self.setup.group, &named.collect::<Vec<_>>()).await?;
        fail::point("acknowledged");
        self.send(LoopEvent::Acknowledged);
        Ok(())
    }
}

/// Returns `None` for a look-up that the server refused.
fn left_out<T>(looked: Result<T, ServerError>) -> Result<Option<T>, ServerError> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if !error.may_pass() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns why a stream refuses writes: its fault, or else the message of the server.
fn why(error: &ServerError) -> String {
    error.stream_fault().map_or_else(|| error.to_string(), |fault| fault.says().to_owned())
}

/// Returns the entry of the control stream that reports this gap already, among the entries that are not folded yet. A
/// process may have written it and ended before it got the answer.
async fn written_gap(server: &mut Server, control: &str, gap: &GapNotice) -> Result<Option<EntryId>, ServerError> {
    #[derive(serde::Deserialize)]
    struct Payload {
        stream: String,
        before: Option<String>,
    }
    let reports = |entry: &RawEntry| {
        let payload = entry.pairs().iter().find(|(name, _)| name == b"payload");
        let payload = payload.and_then(|(_, text)| serde_json::from_slice::<Payload>(text).ok());
        let is_gap = entry.pairs().iter().any(|(name, value)| name == b"event_type" && value == b"history.gap");
        let payload = payload.filter(|payload| *payload.stream == *gap.stream);
        let before = payload.map(|payload| payload.before.map(|text| text.parse()).transpose());
        is_gap && matches!(before, Some(Ok(before)) if gap.gap.is_reached_by(before))
    };
    let page = server.range_after(control, Some(gap.folded), PAGE_ENTRIES).await?;
    Ok(page.iter().find(|entry| reports(entry)).map(|entry| entry.id))
}

/// Returns those of these entries that the quarantine stream contains, or contained before it was trimmed. The id of a
/// record is later than the time of its entry, because an entry is folded only after its time has passed.
async fn recorded<'a>(
    server: &mut Server,
    quarantine: &str,
    entries: &[(&'a str, EntryId)],
) -> Result<BTreeSet<(&'a str, EntryId)>, ServerError> {
    let Some(from_ms) = entries.iter().map(|(_, id)| id.ms).min() else { return Ok(BTreeSet::new()) };
    let mut after = Some(EntryId::new(from_ms.saturating_sub(1), u64::MAX));
    let info = server.stream_info(quarantine).await?;
    let trimmed_to = info.filter(|info| info.gone().is_some_and(|gone| gone > 0)).and_then(|info| info.first);
    let is_trimmed = |id: EntryId| trimmed_to.is_some_and(|first| id.ms < first.ms);
    let mut found: BTreeSet<_> = entries.iter().copied().filter(|(_, id)| is_trimmed(*id)).collect();
    loop {
        let page = server.range_after(quarantine, after, PAGE_ENTRIES).await?;
        for record in &page {
            let get = |name: &[u8]| record.pairs().iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice());
            let (stream, id) = (get(b"stream"), get(b"id").and_then(EntryId::parse));
            found.extend(entries.iter().filter(|(of, at)| stream == Some(of.as_bytes()) && id == Some(*at)));
            after = Some(record.id);
        }
        if page.len() < PAGE_ENTRIES {
            return Ok(found);
        }
    }
}
