//! The reader of an instance: the real one, on a connection to the model of the server.

use std::time::Duration;

use harvester::domain::event::ids::EntryId;
use harvester::service::run::ReadError;
use harvester::service::run::source::Source;
use harvester::shell::redis::{GroupState, RawEntry, Round, RoundAnswer, Sent, ServerError, StreamStats, Take};

use super::network::{Broken, Network};
use super::redis::{Group, Redis, StreamEntry};
use super::rng::Rng;
use super::run::LEASE;
use super::world::World;

/// Largest number of messages that wait for the event loop. [1]
const MESSAGES_WAITING: usize = 4;

/// A round that was sent.
#[derive(Clone, Debug)]
struct SentRound {
    takes: Vec<Take>,
    count: usize,
    fence: Option<String>,
    /// Number of writes of the lease when the round began to watch it. [1]
    watched: u64,
}

/// The connection of a reader, between its requests.
#[derive(Debug, Default)]
pub struct ReaderLink {
    /// The epoch of the server that the connection reaches.
    epoch: u64,
    is_begun: bool,
    sent: Option<SentRound>,
    /// The reply that came: a round in the bytes of the protocol, or `None` if the fence refused the read.
    reply: Option<Option<Vec<u8>>>,
    /// The entries that the reader waits for.
    waits: Option<(Vec<Option<EntryId>>, u64)>,
    pause_us: u64,
}

impl ReaderLink {
    /// Returns true if the connection is to this server, and was begun.
    pub const fn is_to(&self, epoch: u64) -> bool {
        self.is_begun && self.epoch == epoch
    }
}

/// A reader that waits at the server for an entry after these.
#[derive(Debug)]
pub struct Waiter {
    instance: usize,
    life: u64,
    after: Vec<Option<EntryId>>,
}

/// The server as the reader of an instance reaches it at this moment.
struct Link<'a> {
    redis: &'a mut Redis,
    network: &'a Network,
    rng: &'a mut Rng,
    link: &'a mut ReaderLink,
    streams: &'a [String],
    instance: usize,
    breaks_permille: u64,
}

fn unreachable() -> ServerError {
    let source = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "cut").into();
    ServerError::Unreachable { server: "simulated".to_owned(), source }
}

impl Link<'_> {
    /// Calls the server. The connection may break before or after the effect.
    fn ask<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> Result<T, ServerError> {
        let is_there = self.redis.is_up
            && !self.network.is_reader_cut(self.instance, self.redis.now_us)
            && self.link.epoch == self.redis.epoch;
        let is_broken = self.rng.chance(self.breaks_permille);
        if !is_there || (is_broken && self.rng.chance(500)) {
            return Err(unreachable());
        }
        let answer = act(self);
        if is_broken { Err(unreachable()) } else { Ok(answer) }
    }
}

impl Source for Link<'_> {
    fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
        self.ask(|link| {
            let stats = |(stream, after): (&String, &EntryId)| link.redis.stats(stream, *after);
            link.streams.iter().zip(after).map(stats).collect()
        })
    }

    fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
        self.ask(|link| {
            link.redis.entries_after(&link.streams[stream], after).iter().filter(|entry| entry.id <= to).count() as u64
        })
    }

    fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError> {
        self.ask(|link| link.redis.entries_after(&link.streams[stream], after).first().map(|entry| entry.id))
    }

    fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
        self.ask(|link| {
            let all = link.redis.entries_after(&link.streams[stream], EntryId::default());
            all.iter().rev().find(|entry| entry.id <= to).map(|entry| entry.id)
        })
    }

    fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError> {
        self.ask(|link| {
            let stream = link.redis.stream(&link.streams[stream]);
            let group = stream.group.get_or_insert_with(|| Group { last_delivered: from, ..Group::default() });
            GroupState { last_delivered: group.last_delivered, pending: group.pending.len() as u64 }
        })
    }

    fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError> {
        self.ask(|link| {
            let (instance, stream) = (link.instance, link.redis.stream(&link.streams[stream]));
            let pending = stream.group.as_ref().map(|group| group.pending.clone()).unwrap_or_default();
            let own = pending.into_iter().filter(|(id, consumer)| *id > after && *consumer == instance);
            own.take(1000).map(|(id, _)| RawEntry { id, fields: None }).collect()
        })
    }

    fn claim(&mut self, stream: usize, from: EntryId) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
        self.ask(|link| {
            let (instance, stream) = (link.instance, link.redis.stream(&link.streams[stream]));
            let ids: Vec<EntryId> = stream.entries.iter().map(|entry| entry.id).collect();
            let Some(group) = &mut stream.group else { return (Vec::new(), None) };
            // Entries that were trimmed are no longer pending then.
            group.pending.retain(|id, _| *id < from || ids.binary_search(id).is_ok());
            let claimed: Vec<EntryId> = group.pending.range(from..).map(|(id, _)| *id).collect();
            for id in &claimed {
                group.pending.insert(*id, instance);
            }
            (claimed.into_iter().map(|id| RawEntry { id, fields: None }).collect(), None)
        })
    }

    fn send_round(&mut self, takes: &[Take], count: usize, fence: Option<&str>) -> Result<Sent, ServerError> {
        let is_ours = self.ask(|link| fence.is_none() || link.redis.get(LEASE) == fence)?;
        if !is_ours {
            return Ok(Sent::Fenced);
        }
        self.link.sent = Some(SentRound {
            takes: takes.to_vec(),
            count,
            fence: fence.map(str::to_owned),
            watched: self.redis.lease_writes,
        });
        Ok(Sent::Sent)
    }

    fn receive_round(&mut self) -> Result<RoundAnswer, ServerError> {
        match self.link.reply.take().expect("the reply is there") {
            Some(bytes) => {
                Ok(RoundAnswer::Read(Round::parse(bytes, self.streams).expect("the model answers as a server")))
            }
            None => Ok(RoundAnswer::LeaseChanged),
        }
    }

    fn reuse(&mut self, _round: Round) {}

    fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<Option<EntryId>, ServerError> {
        self.link.waits = Some((after.to_vec(), self.redis.now_us + limit.as_micros() as u64));
        Ok(None)
    }

    fn pause(&mut self, length: Duration) {
        self.link.pause_us = length.as_micros() as u64;
    }

    fn clock(&self) -> Duration {
        Duration::from_micros(self.redis.now_us)
    }
}

impl World {
    /// Runs the reader's next step, on a connection.
    pub fn read(&mut self, instance: usize) {
        let life = self.instances[instance].life;
        let streams: Vec<String> = self.config.streams.iter().map(|(_, stream)| stream.name.clone()).collect();
        let (now_us, epoch) = (self.now_us, self.redis.epoch);
        let breaks_permille = if self.is_calm { 0 } else { self.plan.breaks_permille / 3 };
        let Some(process) = self.instances[instance].process.as_deref_mut() else { return };
        process.set_role(now_us);
        let has_reply = process.link.reply.is_some();
        if !has_reply && process.messages.len() >= MESSAGES_WAITING {
            // The channel is full: the reader waits for the event loop.
            return self.at_instance(instance, life, 500, move |world| world.read(instance));
        }
        let Some(mut reader) = process.reader.take() else { return };
        process.link.pause_us = 0;
        let is_begun = std::mem::replace(&mut process.link.is_begun, true);
        if !is_begun {
            process.link.epoch = epoch;
        }
        let mut link = Link {
            redis: &mut self.redis,
            network: &self.network,
            rng: &mut self.rng,
            link: &mut process.link,
            streams: &streams,
            instance,
            breaks_permille,
        };
        let done = if !is_begun {
            reader.begin(&mut link)
        } else if has_reply {
            reader.cycle(&mut link)
        } else {
            reader.prepare(&mut link).map(drop)
        };
        process.reader = Some(reader);
        if !process.messages.is_empty() {
            self.wake(instance);
        }
        match done {
            Ok(()) => self.read_on(instance),
            Err(ReadError::Server(_)) => self.reconnect_reader(instance),
            Err(ReadError::Shutdown) => {}
        }
    }

    fn reconnect_reader(&mut self, instance: usize) {
        let (life, us) = (self.instances[instance].life, self.rng.within(25_000, 600_000));
        if let Some(process) = self.instances[instance].process() {
            process.link = ReaderLink::default();
            process.status.is_drained.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        self.at_instance(instance, life, us, move |world| world.read(instance));
    }

    /// Sends the round that the reader asks for, waits, or runs the next step.
    fn read_on(&mut self, instance: usize) {
        let life = self.instances[instance].life;
        let Some(process) = self.instances[instance].process() else { return };
        if let Some(round) = process.link.sent.take() {
            let effect = move |world: &mut World, _: bool| world.round(instance, &round);
            return self.call(instance, effect, move |world, reply| match reply {
                Ok(_) if world.network.is_reader_cut(instance, world.now_us) => world.reconnect_reader(instance),
                Ok(reply) => {
                    if let Some(process) = world.instances[instance].process() {
                        process.link.reply = Some(reply);
                        world.read(instance);
                    }
                }
                Err(Broken) => world.reconnect_reader(instance),
            });
        }
        if let Some((after, until_us)) = process.link.waits.take() {
            return self.wait_for(instance, after, until_us);
        }
        let us = process.link.pause_us.max(20);
        self.at_instance(instance, life, us, move |world| world.read(instance));
    }

    /// Waits at the server until one of the streams has a new entry, or until the time is over.
    fn wait_for(&mut self, instance: usize, after: Vec<Option<EntryId>>, until_us: u64) {
        let waiter = Waiter { instance, life: self.instances[instance].life, after };
        if self.now_us >= until_us || self.is_woken(&waiter) {
            return self.read_soon(instance, waiter.life);
        }
        let (life, us) = (waiter.life, until_us - self.now_us);
        self.waiters.push(waiter);
        self.at_instance(instance, life, us, move |world| {
            let place = world.waiters.iter().position(|waiter| (waiter.instance, waiter.life) == (instance, life));
            if let Some(place) = place.filter(|_| world.now_us >= until_us) {
                world.waiters.remove(place);
                world.read(instance);
            }
        });
    }

    fn read_soon(&mut self, instance: usize, life: u64) {
        let us = self.rng.within(50, 300);
        self.at_instance(instance, life, us, move |world| world.read(instance));
    }

    /// Wakes the readers whose wait ends with a change at the server or at their link.
    pub fn wake_readers(&mut self) {
        if std::mem::replace(&mut self.changes_seen, self.redis.changes) == self.redis.changes {
            return;
        }
        for waiter in std::mem::take(&mut self.waiters) {
            if self.is_woken(&waiter) {
                self.read_soon(waiter.instance, waiter.life);
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    fn is_woken(&self, waiter: &Waiter) -> bool {
        let names = self.config.streams.iter().map(|(_, stream)| &stream.name);
        let has_more = names.zip(&waiter.after).any(|(name, after)| {
            let last = self.redis.data.streams.get(name).map(|stream| stream.last_id);
            after.zip(last).is_some_and(|(after, last)| last > after)
        });
        has_more || !self.redis.is_up || self.network.is_reader_cut(waiter.instance, self.now_us)
    }

    /// Reads all streams in one step, if the fence allows it. Returns the replies of the server.
    fn round(&mut self, instance: usize, round: &SentRound) -> Option<Vec<u8>> {
        let is_watched = self.redis.lease_writes == round.watched && self.redis.get(LEASE) == round.fence.as_deref();
        if round.fence.is_some() && !is_watched {
            return None;
        }
        let names: Vec<String> = self.config.streams.iter().map(|(_, stream)| stream.name.clone()).collect();
        let keeps_pending = self.plan.has_pending_list;
        let mut read: Vec<(&String, Vec<StreamEntry>)> = Vec::new();
        for (name, take) in names.iter().zip(&round.takes) {
            let entries = match take {
                Take::Nothing | Take::Barred => Vec::new(),
                Take::New => self.redis.deliver(name, instance, round.count, keeps_pending),
                Take::After(id) => self.redis.entries_after(name, *id).iter().take(round.count).cloned().collect(),
                Take::Range { after, to } => {
                    let entries = self.redis.entries_after(name, *after).iter().filter(|entry| entry.id <= *to);
                    entries.take(round.count).cloned().collect()
                }
            };
            if !entries.is_empty() {
                read.push((name, entries));
            }
        }
        Some(replies(self.redis.time_us(), &read))
    }
}

/// Returns the replies to `TIME` and to a read, in the bytes of the protocol.
fn replies(time_us: u64, read: &[(&String, Vec<StreamEntry>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let list = |bytes: &mut Vec<u8>, len: usize| bytes.extend(format!("*{len}\r\n").bytes());
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend(format!("${}\r\n", text.len()).bytes());
        bytes.extend(text.bytes());
        bytes.extend(b"\r\n");
    };
    list(&mut bytes, 2);
    text(&mut bytes, &(time_us / 1_000_000).to_string());
    text(&mut bytes, &(time_us % 1_000_000).to_string());
    list(&mut bytes, read.len());
    for (name, entries) in read {
        list(&mut bytes, 2);
        text(&mut bytes, name);
        list(&mut bytes, entries.len());
        for entry in entries {
            list(&mut bytes, 2);
            text(&mut bytes, &entry.id.to_string());
            list(&mut bytes, 2 * entry.fields.len());
            for (field, value) in entry.fields.iter() {
                text(&mut bytes, field);
                text(&mut bytes, value);
            }
        }
    }
    bytes
}
