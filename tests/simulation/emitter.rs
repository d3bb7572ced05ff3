//! The emitter of an instance: the same steps as in `src/service/run/emitter.rs`, one action after the other.

use std::collections::{BTreeSet, VecDeque};

use harvester::codec::issue::{self, Stamp};
use harvester::codec::{own_entry, policy};
use harvester::domain::delivery::action::{
    Action, Append, Appended, GapNotice, Offer, OfferAnswer, Record, Recorded, Tried, WrittenDecision,
};
use harvester::domain::event::ids::{EntryId, StreamId};
use harvester::drive::keys;

use super::network::Broken;
use super::process::{Event, Process};
use super::redis::{BEGAN_MS, Redis, StreamEntry};
use super::run::{CONTROL, QUARANTINE};
use super::script::{self, EmitTerms, Reply};
use super::world::World;

/// Maximum number of attempts to issue a decision for the present time of the control stream. [1]
const TRIES_MAX: u32 = 5;
/// An entry that was signed longer ago than this is signed again. [ms]
const SIGNED_AGE_MAX_MS: u64 = 30_000;

#[derive(Default)]
pub struct Emitting {
    /// The number of the connection, from 1.
    pub connection: u64,
    pub is_connected: bool,
    /// The epoch of the server that the connection reaches.
    epoch: u64,
    pub orders: VecDeque<(u64, Action)>,
    is_busy: bool,
    /// Last measured lead of the server's clock over ours. [ms]
    ahead_ms: i64,
}

impl World {
    /// Connects the emitter of an instance.
    pub fn connect_emitter(&mut self, instance: usize) {
        if self.network.is_emitter_cut(instance, self.now_us) {
            return self.connect_emitter_after_a_pause(instance);
        }
        self.call(
            instance,
            |world, _| world.redis.epoch,
            move |world, connected| match connected {
                Ok(epoch) => {
                    let Some(process) = world.instances[instance].process() else { return };
                    process.emitting.connection += 1;
                    process.emitting.is_connected = true;
                    process.emitting.epoch = epoch;
                    world.report(instance, Event::EmitterConnected);
                    world.work_on(instance);
                }
                Err(Broken) => world.connect_emitter_after_a_pause(instance),
            },
        );
    }

    fn connect_emitter_after_a_pause(&mut self, instance: usize) {
        let (life, us) = (self.instances[instance].life, self.rng.within(25_000, 600_000));
        self.at_instance(instance, life, us, move |world| world.connect_emitter(instance));
    }

    /// Handles a broken connection.
    fn disconnect_emitter(&mut self, instance: usize) {
        let Some(process) = self.instances[instance].process() else { return };
        (process.emitting.is_connected, process.emitting.is_busy) = (false, false);
        self.report(instance, Event::EmitterDisconnected);
        self.connect_emitter_after_a_pause(instance);
    }

    /// Sends a request on the connection of the emitter. A connection to an earlier server is broken.
    fn call_of_emitter<T: 'static>(
        &mut self,
        instance: usize,
        effect: impl FnOnce(&mut Self, bool) -> T + 'static,
        done: impl FnOnce(&mut Self, Result<T, Broken>) + 'static,
    ) {
        let (life, epoch) = (self.instances[instance].life, self.redis.epoch);
        if self.instances[instance].process().is_some_and(|process| process.emitting.epoch != epoch) {
            return self.at_instance(instance, life, 500, move |world| done(world, Err(Broken)));
        }
        self.call(instance, effect, done);
    }

    fn work_on(&mut self, instance: usize) {
        let Some(mut process) = self.instances[instance].process.take() else { return };
        self.work(instance, &mut process);
        self.instances[instance].process = Some(process);
    }

    /// Begins the next action, if none is in progress.
    pub fn work(&mut self, instance: usize, process: &mut Process) {
        if process.emitting.is_busy || !process.emitting.is_connected {
            return;
        }
        while let Some((connection, action)) = process.emitting.orders.pop_front() {
            // An action for an earlier connection was dropped with it.
            if connection == process.emitting.connection {
                process.emitting.is_busy = true;
                return self.perform(instance, process, action);
            }
        }
    }

    fn perform(&mut self, instance: usize, process: &Process, action: Action) {
        match action {
            Action::Offer(offers) => {
                let gate = &process.processor.kill_gate;
                let gated: Vec<Offer> = offers.iter().map(|offer| gate.over(offer).into_owned()).collect();
                self.offer(instance, gated, 0, process.emitting.ahead_ms);
            }
            Action::Append(append) => self.append(instance, process, *append),
            Action::Check(written) => self.check(instance, written),
            Action::Acknowledge(acks) => self.acknowledge(instance, process, acks),
            Action::Record(records) => self.record(instance, records),
            Action::Checkpoint | Action::Recall { .. } => unreachable!("the event loop does these itself"),
        }
    }

    /// Ends the action: reports the events, and continues or connects again.
    fn end_action(&mut self, instance: usize, events: Vec<Event>, is_broken: bool) {
        for event in events {
            self.report(instance, event);
        }
        if is_broken {
            return self.disconnect_emitter(instance);
        }
        if let Some(process) = self.instances[instance].process() {
            process.emitting.is_busy = false;
        }
        self.work_on(instance);
    }

    fn local_ms(&self, instance: usize) -> u64 {
        (BEGAN_MS + self.now_us / 1000).saturating_add_signed(self.plan.clocks_off_ms[instance])
    }

    fn offer(&mut self, instance: usize, offers: Vec<Offer>, tries: u32, ahead_ms: i64) {
        if let Some(us) = self.ambush_before_offer(instance, &offers) {
            let life = self.instances[instance].life;
            return self.at_instance(instance, life, us, move |world| world.offer(instance, offers, tries, ahead_ms));
        }
        let issued_ms = self.local_ms(instance).saturating_add_signed(ahead_ms);
        let (kept, sent) = (offers.clone(), offers.clone());
        let effect = move |world: &mut World, is_whole: bool| {
            world.ambush_at_offer(instance, &offers);
            let count = if is_whole { offers.len() } else { world.rng.within(0, offers.len() as u64 + 1) as usize };
            offers[..count].iter().map(|offer| world.emit(instance, offer, issued_ms)).collect::<Vec<Reply>>()
        };
        self.call_of_emitter(instance, effect, move |world, reply| {
            let Ok(reply) = reply else { return world.end_action(instance, Vec::new(), true) };
            let mut events = Vec::new();
            for (at, (offer, reply)) in kept.iter().zip(reply).enumerate() {
                if let Reply::Late { id_ms } = reply {
                    for event in events {
                        world.report(instance, event);
                    }
                    let ahead_ms = id_ms as i64 - world.local_ms(instance) as i64;
                    if let Some(process) = world.instances[instance].process() {
                        process.emitting.ahead_ms = ahead_ms;
                    }
                    if tries < TRIES_MAX {
                        return world.offer(instance, kept[at..].to_vec(), tries + 1, ahead_ms);
                    }
                    let rest = kept[at..]
                        .iter()
                        .map(|offer| Event::Offered { seq: offer.row.seq, answer: OfferAnswer::Unfit });
                    return world.end_action(instance, rest.collect(), false);
                }
                events.push(Event::Offered { seq: offer.row.seq, answer: answer(reply) });
            }
            world.end_action(instance, events, false);
        });
        self.ambush_after_offer(instance, &sent);
    }

    /// Runs the script, and checks what it wrote.
    fn emit(&mut self, instance: usize, offer: &Offer, issued_ms: u64) -> Reply {
        let key = keys::configured(&self.config).expect("the key reads");
        let faults = self.request.faults;
        let terms = EmitTerms {
            key: key.as_ref(),
            length_max: self.config.emit.output_maxlen,
            issued_ms,
            streams: &self.config.streams,
            faults,
        };
        let reply = script::emit(&mut self.redis, &mut self.rng, &terms, offer);
        let name = self.instances[instance].name.clone();
        let row = &offer.row;
        self.note(&name, format!("offers {} ({}): {}", row.seq, &row.decision_id[..8], shown(&reply)));
        if let Reply::Written { decision, request, .. } = &reply {
            self.check_written(instance, offer, *decision, *request);
        }
        reply
    }

    fn append(&mut self, instance: usize, process: &Process, append: Append) {
        let key = keys::configured(&self.config).expect("the key reads");
        let fields =
            own_entry::fields(&append.entry, &policy::to_json(&self.config.policy), process.processor.streams());
        let Append { number, entry, mut tried, gap } = append;
        let (what, is_gap, owner) = (format!("{entry:?}"), gap.is_some(), process.owner.clone());
        let before = tried.clone();
        let look = move |world: &mut World, _: bool| {
            let redis = &world.redis;
            if let Some(id) = gap.as_ref().and_then(|gap| written_gap(redis, gap)) {
                return (Some(id), tried);
            }
            let stream = redis.data.streams.get(CONTROL);
            let (last_ms, newest) = stream.map_or((0, EntryId::default()), |stream| {
                (stream.last_id.ms, stream.entries.last().map_or_else(EntryId::default, |entry| entry.id))
            });
            let next_ms = if key.is_some() { redis.time_ms().max(last_ms) } else { 0 };
            if let Some(before) = tried.as_ref() {
                let mut since = redis.entries_after(CONTROL, before.after).iter();
                if let Some(entry) = since.find(|entry| *entry.fields == before.fields) {
                    return (Some(entry.id), tried);
                }
                if before.issued_ms.abs_diff(next_ms) > SIGNED_AGE_MAX_MS {
                    tried = None;
                }
            }
            let attempt = tried.unwrap_or_else(|| {
                let nonce = script::nonce(&mut world.rng);
                let sign = |key| issue::sign_fields(key, CONTROL, &fields, &Stamp::new(next_ms, nonce));
                Tried { after: newest, fields: key.as_ref().map_or_else(|| fields.clone(), sign), issued_ms: next_ms }
            });
            (None, Some(attempt))
        };
        self.call_of_emitter(instance, look, move |world, looked| {
            let appended = move |outcome| vec![Event::Appended { number, outcome }];
            let attempt = match looked {
                Ok((Some(id), tried)) => {
                    return world.end_action(instance, appended(Appended::Written(id, tried)), false);
                }
                Ok((None, attempt)) => attempt.expect("there is an attempt"),
                // Nothing was tried on this connection. An earlier attempt is still to be looked for.
                Err(Broken) => return world.end_action(instance, appended(Appended::Unknown(before)), true),
            };
            let fields = attempt.fields.clone();
            let add = move |world: &mut World, _: bool| {
                let id = world.redis.add(CONTROL, fields);
                let name = world.instances[instance].name.clone();
                world.note(&name, format!("appends {id} {what}"));
                world.check_appended(owner, number, id);
                world.ambush_at_append(instance);
                if is_gap {
                    world.ambush_at_gap(instance);
                }
                id
            };
            world.call_of_emitter(instance, add, move |world, added| match added {
                Ok(id) => world.end_action(instance, appended(Appended::Written(id, Some(attempt))), false),
                Err(Broken) => world.end_action(instance, appended(Appended::Unknown(Some(attempt))), true),
            });
        });
    }

    fn check(&mut self, instance: usize, written: Vec<WrittenDecision>) {
        let effect = move |world: &mut World, _: bool| script::look_for(&world.redis, &written);
        self.call_of_emitter(instance, effect, move |world, looked| match looked {
            Ok(looked) => world.end_action(instance, vec![Event::Checked { looked }], false),
            Err(Broken) => world.end_action(instance, Vec::new(), true),
        });
    }

    fn acknowledge(&mut self, instance: usize, process: &Process, acks: Vec<(StreamId, Vec<EntryId>)>) {
        let streams = process.processor.streams();
        let named: Vec<(String, Vec<EntryId>)> =
            acks.into_iter().map(|(stream, ids)| (streams.get(stream).name.clone(), ids)).collect();
        let effect = move |world: &mut World, is_whole: bool| {
            let count = if is_whole { named.len() } else { world.rng.within(0, named.len() as u64 + 1) as usize };
            for (stream, ids) in &named[..count] {
                world.check_acknowledged(instance, stream, ids);
                if let Some(group) = &mut world.redis.stream(stream).group {
                    for id in ids {
                        group.pending.remove(id);
                    }
                }
            }
        };
        self.call_of_emitter(instance, effect, move |world, done| match done {
            Ok(()) => world.end_action(instance, vec![Event::Acknowledged], false),
            Err(Broken) => world.end_action(instance, Vec::new(), true),
        });
    }

    fn record(&mut self, instance: usize, records: Vec<Record>) {
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        let effect = move |world: &mut World, is_whole: bool| {
            let count = if is_whole { records.len() } else { world.rng.within(0, records.len() as u64 + 1) as usize };
            let known: BTreeSet<(String, String)> = world
                .redis
                .entries_after(QUARANTINE, EntryId::default())
                .iter()
                .map(|entry| (entry.field("stream").to_owned(), entry.field("id").to_owned()))
                .collect();
            for record in &records[..count] {
                let is_known = known.contains(&(record.stream.to_string(), record.id.to_string()));
                if !(record.is_doubtful && is_known) {
                    world.redis.add(QUARANTINE, record.fields.clone());
                }
            }
        };
        self.call_of_emitter(instance, effect, move |world, done| match done {
            Ok(()) => {
                let recorded = |number| Event::Recorded { number, outcome: Recorded::Written };
                world.end_action(instance, numbers.into_iter().map(recorded).collect(), false);
            }
            Err(Broken) => world.end_action(instance, Vec::new(), true),
        });
    }
}

fn answer(reply: Reply) -> OfferAnswer {
    let of = |text: &str, is_new| {
        let mut parts = text.splitn(3, ' ');
        let entry = parts.next().and_then(|id| id.parse().ok()).expect("an answer begins with an id");
        let refusal = parts.nth(1).filter(|reason| !reason.is_empty()).map(str::to_owned);
        OfferAnswer::Written { entry, refusal, is_new }
    };
    match reply {
        Reply::Stale => OfferAnswer::Stale,
        Reply::Halted => OfferAnswer::Halted,
        Reply::Doubt { known } => OfferAnswer::Doubtful { known },
        Reply::Lost => OfferAnswer::Lost,
        Reply::Behind => OfferAnswer::Behind,
        Reply::Known { answer } => of(&answer, false),
        Reply::Written { answer, .. } => of(&answer, true),
        Reply::Late { .. } => unreachable!("it is offered again"),
    }
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Written { decision, request, refusal, .. } => {
            let order = request.map_or_else(|| format!("no request {refusal}"), |id| format!("request {id}"));
            format!("written {decision}, {order}")
        }
        other => format!("{other:?}"),
    }
}

/// Returns the entry that reports this gap already, after those that are folded.
fn written_gap(redis: &Redis, gap: &GapNotice) -> Option<EntryId> {
    let reports = |entry: &&StreamEntry| {
        let payload: serde_json::Value = serde_json::from_str(entry.field("payload")).unwrap_or_default();
        let before = payload["before"].as_str().map(|text| text.parse().expect("our gaps end with an id"));
        entry.field("event_type") == "history.gap" && payload["stream"] == *gap.stream && gap.gap.is_reached_by(before)
    };
    redis.entries_after(CONTROL, gap.folded).iter().find(reports).map(|entry| entry.id)
}
