//! What must hold after every step, and at the end of a run.

use std::collections::{BTreeMap, BTreeSet};

use harvester::codec::checksum::state_checksum_hex;
use harvester::codec::operator;
use harvester::domain::delivery::action::Offer;
use harvester::domain::event::ids::EntryId;

use super::oracle;
use super::redis::{Data, StreamEntry};
use super::run::{CONTROL, DECISION, KILL_KEY, LEASE};
use super::world::World;

#[derive(Debug, Default)]
pub struct Checks {
    /// The server has lost entries.
    pub has_lost: bool,
    pub lost: Vec<(String, StreamEntry)>,
    /// Gaps that an instance has reported to its operator: stream, and the entries around it.
    pub noticed: Vec<(String, Option<EntryId>, Option<EntryId>)>,
    /// A decision that does not follow the one before it.
    broken_chain: Option<String>,
    pub trimmed: bool,
    pub clock_stepped: bool,
    /// Requests that were written last happened after the client had given up.
    pub is_late: bool,
    /// Orders that are in the stream, or that the executor has, by decision.
    orders: BTreeMap<String, Vec<EntryId>>,
    /// Entries of our own, by process and number.
    appended: BTreeSet<(String, u64)>,
    /// Decisions that were written. [1]
    pub written: u64,
    /// Orders that were repeated after a loss of which the sender could not know. [1]
    pub repeated: u64,
    /// The run ended with a decision in doubt.
    pub in_doubt: bool,
}

impl Checks {
    /// Returns true if nothing was lost, trimmed or put in another order.
    pub const fn is_whole(&self) -> bool {
        !self.has_lost && !self.trimmed && !self.clock_stepped
    }

    /// Forgets orders that are lost and that the executor has not received.
    pub fn forget_orders(&mut self, data: &Data, executed: EntryId) {
        let plans = data.streams.get(super::run::PLAN);
        for ids in self.orders.values_mut() {
            ids.retain(|id| *id <= executed || plans.is_some_and(|plans| plans.get(*id).is_some()));
        }
    }

    pub fn orders_of(&self, decision: &str) -> usize {
        self.orders.get(decision).map_or(0, Vec::len)
    }
}

impl World {
    /// Checks a decision that the script has just written.
    pub fn check_written(&mut self, instance: usize, offer: &Offer, id: EntryId, request: Option<EntryId>) {
        let row = &offer.row;
        let (name, short) = (self.instances[instance].name.clone(), &row.decision_id[..8]);
        self.checks.written += 1;
        if self.redis.get(LEASE) != Some(&*offer.lease) {
            self.violate(format!("{name} writes {short} and does not hold the lease"));
        }
        let payload: serde_json::Value = serde_json::from_str(row.field("payload")).expect("a payload is JSON");
        let cause = payload["cause"].as_str().and_then(|cause| cause.rsplit_once('/'));
        let (stream, cause) = cause.expect("a decision names its cause");
        let cause: EntryId = cause.parse().expect("the cause has an id");
        if !row.again && !self.instances[instance].disk.has(stream, cause) {
            self.violate(format!("{name} writes {short}, whose cause {stream}/{cause} is not durable"));
        }
        self.check_chain(id);
        let Some(request) = request.filter(|_| row.live) else { return };
        let now_ms = self.redis.time_ms();
        if now_ms.saturating_sub(row.cause_ms) > self.config.emit.max_decision_age_ms {
            self.violate(format!("the order of {short} is {} ms old when it is sent", now_ms - row.cause_ms));
        }
        if now_ms.saturating_sub(offer.folded_to_ms) > 2_000 {
            self.violate(format!("the order of {short} rests on what was folded before {}", offer.folded_to_ms));
        }
        if self.redis.get(KILL_KEY).is_some_and(|value| operator::kills(value.as_bytes())) {
            self.violate(format!("the order of {short} is sent while the kill key is set"));
        }
        let process = self.instances[instance].process.as_ref();
        let knows = process.is_none_or(|process| process.knows.contains(&row.decision_id));
        let orders = self.checks.orders.entry(row.decision_id.clone()).or_default();
        orders.push(request);
        if orders.len() > 1 && !knows && self.checks.has_lost {
            // The server has lost decision and order before this instance had seen either.
            self.checks.repeated += 1;
        } else if orders.len() > 1 {
            let text = format!("{short} has the orders {orders:?}");
            self.violate(text);
        }
    }

    /// The last decision in the stream goes on from the one before it.
    fn check_chain(&mut self, id: EntryId) {
        let Some(stream) = self.redis.data.streams.get(DECISION) else { return };
        let Some(last) = stream.get(id) else { return };
        let seq = |entry: &StreamEntry| entry.field("seq").parse::<u64>().unwrap_or(0);
        let before = stream.entries.iter().rev().nth(1);
        let goes_on = match before {
            Some(before) => seq(last) == seq(before) + 1 && last.field("prev") == before.field("hash"),
            None => seq(last) == 1 || self.config.emit.output_maxlen > 0,
        };
        if !goes_on {
            let text = format!("decision {} follows {:?}", seq(last), before.map(seq));
            self.note("CHAIN", &text);
            self.checks.broken_chain.get_or_insert(text);
        }
    }

    /// Checks an offer at the moment when it is made.
    pub fn check_offer(&mut self, name: &str, offer: &Offer, still_holds: bool) {
        if offer.row.is_order() && offer.refusal.is_none() && !still_holds {
            self.violate(format!(
                "{name} offers the order of {}, whose position is closed",
                &offer.row.decision_id[..8]
            ));
        }
    }

    /// Checks entries that are acknowledged.
    pub fn check_acknowledged(&mut self, instance: usize, stream: &str, ids: &[EntryId]) {
        for id in ids {
            let is_there = self.redis.data.streams.get(stream).is_some_and(|stream| stream.get(*id).is_some());
            if is_there && !self.instances[instance].disk.has(stream, *id) {
                let name = self.instances[instance].name.clone();
                self.violate(format!("{name} acknowledges {stream}/{id}, which is not durable"));
            }
        }
    }

    /// Checks an entry of our own that was just appended.
    pub fn check_appended(&mut self, owner: String, number: u64, id: EntryId) {
        let is_gap = self.redis.stream(CONTROL).get(id).is_some_and(|entry| entry.field("event_type") == "history.gap");
        if is_gap && !self.checks.has_lost && !self.checks.trimmed {
            self.violate(format!("the gap {id} is reported, and nothing was lost"));
        }
        let is_first = self.checks.appended.insert((owner.clone(), number));
        if !is_first && !self.checks.is_late && !self.checks.has_lost {
            self.violate(format!("{owner} writes its entry {number} twice"));
        }
    }

    /// Returns true if every instance has nothing left to do.
    pub fn is_settled(&mut self) -> bool {
        let has_all = |world: &Self, at: usize| {
            let process = world.instances[at].process.as_ref();
            process.is_some_and(|process| process.is_settled() && world.has_read_all(process))
        };
        let all = (0..self.instances.len()).all(|at| has_all(self, at));
        all && self.redis.is_up
            && self
                .instances
                .iter_mut()
                .any(|at| at.process().is_some_and(|process| process.processor.delivery.is_leader()))
    }

    fn has_read_all(&self, process: &super::instance::Process) -> bool {
        let streams = process.processor.streams();
        streams.iter().all(|(stream, named)| {
            let last = self.redis.data.streams.get(&named.name).and_then(|stream| stream.entries.last());
            last.is_none_or(|last| process.processor.engine().cursor(stream) >= Some(last.id))
        })
    }

    /// Checks everything that has to hold once the run is settled.
    pub fn check_end(&mut self) {
        let is_forked = self.is_forked();
        if let Some(text) = self.checks.broken_chain.clone().filter(|_| !is_forked) {
            self.violate(text);
        }
        let mut sums = Vec::new();
        for instance in 0..self.instances.len() {
            let name = self.instances[instance].name.clone();
            let Some(process) = self.instances[instance].process.as_ref() else { continue };
            let sum = state_checksum_hex(process.processor.engine());
            let replayed = oracle::replayed(&self.config, &self.instances[instance].disk.lines);
            if sum != replayed && !is_forked {
                self.violate(format!("the state of {name} is not that of its journal"));
            }
            sums.push((name, sum));
        }
        if self.checks.is_whole() {
            if let Some((name, _)) = sums.iter().find(|(_, sum)| *sum != sums[0].1) {
                self.violate(format!("the state of {name} is not that of {}", sums[0].0));
            }
            self.check_oracle();
            self.check_outcomes();
        }
        self.check_losses();
    }

    /// The decisions in the stream are those of a run that nobody disturbed.
    fn check_oracle(&mut self) {
        if self.config.emit.output_maxlen > 0 {
            return;
        }
        let wanted = oracle::undisturbed(&self.config, &self.redis.data);
        let stream = self.redis.stream(DECISION);
        let made: Vec<String> = stream.entries.iter().map(|entry| entry.field("hash").to_owned()).collect();
        if made != wanted {
            let same = made.iter().zip(&wanted).take_while(|(made, wanted)| made == wanted).count();
            self.violate(format!(
                "{} decisions were written, {} are made undisturbed; the first {same} are equal",
                made.len(),
                wanted.len()
            ));
        }
    }

    /// Every decision has exactly one request, or one reason why it has none.
    fn check_outcomes(&mut self) {
        if !self.plan.is_live || self.config.emit.output_maxlen > 0 {
            return;
        }
        let control = self.redis.stream(CONTROL).entries.clone();
        let mut expired: BTreeMap<String, usize> = BTreeMap::new();
        for entry in control.iter().filter(|entry| entry.field("event_type") == "decision.expired") {
            let payload: serde_json::Value = serde_json::from_str(entry.field("payload")).unwrap_or_default();
            *expired.entry(payload["decision_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let decisions = self.redis.stream(DECISION).entries.clone();
        for entry in decisions {
            let id = entry.field("decision_id");
            let (orders, expired) = (self.checks.orders_of(id), expired.get(id).copied().unwrap_or(0));
            if orders + expired != 1 {
                self.violate(format!("{} has {orders} orders and expired {expired} times", &id[..8]));
            }
        }
    }

    /// Returns true if a decision is in doubt, which only an operator can resolve where histories have forked.
    pub fn ends_in_doubt(&self) -> bool {
        let is_doubtful = |at: &super::instance::Instance| {
            at.process.as_ref().is_some_and(|process| process.processor.delivery.doubtful() > 0)
        };
        self.is_forked() && self.instances.iter().any(is_doubtful)
    }

    /// Returns true if the server has lost an entry that one instance has folded and another one has not: their histories
    /// differ from there on, and so may what they decide.
    fn is_forked(&self) -> bool {
        let has = |at: &super::instance::Instance, stream: &str, id: EntryId| {
            let named = format!("{{\"stream\":\"{stream}\",\"id\":\"{id}\"");
            at.disk.lines.iter().any(|line| line.starts_with(&named))
        };
        let lost = self.checks.lost.iter().map(|(stream, entry)| (stream, entry.id));
        let trimmed = self.redis.trimmed.iter().map(|(stream, id)| (stream, *id));
        lost.chain(trimmed).filter(|(stream, _)| *stream != DECISION).any(|(stream, id)| {
            let count = self.instances.iter().filter(|at| has(at, stream, id)).count();
            count > 0 && count < self.instances.len()
        })
    }

    /// What an instance can never read is named by a gap in the log.
    fn check_losses(&mut self) {
        let control = self.redis.stream(CONTROL).entries.clone();
        let gaps: Vec<serde_json::Value> = control
            .iter()
            .filter(|entry| entry.field("event_type") == "history.gap")
            .map(|entry| serde_json::from_str(entry.field("payload")).unwrap_or_default())
            .collect();
        let noticed = self.checks.noticed.clone();
        let covers = |stream: &str, id: EntryId| {
            let end =
                |gap: &serde_json::Value, name: &str| gap[name].as_str().and_then(|id| id.parse::<EntryId>().ok());
            gaps.iter().any(|gap| {
                gap["stream"] == stream
                    && end(gap, "after").is_none_or(|after| after <= id)
                    && end(gap, "before").is_none_or(|before| id <= before)
            }) || noticed.iter().any(|(of, after, before)| {
                of == stream && after.is_none_or(|after| after <= id) && before.is_none_or(|before| id <= before)
            })
        };
        // An entry that one instance has, and another one can never read.
        let mut read: BTreeMap<(String, EntryId), usize> = BTreeMap::new();
        for at in &self.instances {
            for line in &at.disk.lines {
                let (stream, id) = harvester::codec::line::head(line.as_bytes()).expect("a line");
                let id: EntryId = id.parse().expect("an id");
                *read.entry((stream.into_owned(), id)).or_default() += 1;
            }
        }
        let is_there = |stream: &str, id: EntryId| {
            self.redis.data.streams.get(stream).is_some_and(|stream| stream.get(id).is_some())
        };
        let unnamed = read.iter().find(|((stream, id), count)| {
            **count < self.instances.len() && !is_there(stream, *id) && !covers(stream, *id)
        });
        let unnamed = unnamed.map(|((stream, id), count)| {
            format!("{stream}/{id} is lost, {count} instances have it, and no gap names it")
        });
        if let Some(text) = unnamed {
            self.violate(text);
        }
        let missed = self.trimmed_unread(&read).into_iter().find(|(stream, id)| !covers(stream, *id));
        if let Some((stream, id)) = missed {
            self.violate(format!("{stream}/{id} was trimmed before it was read, and no gap names it"));
        }
    }

    /// Entries that were trimmed, and that no instance has.
    fn trimmed_unread(&self, read: &BTreeMap<(String, EntryId), usize>) -> Vec<(String, EntryId)> {
        let all = self.redis.trimmed.iter();
        all.filter(|entry| !read.contains_key(*entry)).cloned().collect()
    }
}
