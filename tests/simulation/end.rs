//! Promises that are checked at the end of a run, when everything is settled.

use std::collections::BTreeMap;

use harvester::codec::checksum::state_checksum_hex;
use harvester::codec::line;
use harvester::domain::event::ids::SortKey;

use super::oracle;
use super::process::Process;
use super::promise::Promise;
use super::run::{CONTROL, DECISION, QUARANTINE, RESULT};
use super::world::World;

impl World {
    /// Returns true if every instance has nothing left to do.
    pub fn is_settled(&mut self) -> bool {
        let has_all = |world: &Self, at: usize| {
            let process = world.instances[at].process.as_ref();
            let is_awake = world.instances[at].paused_until_us <= world.now_us;
            // A reader can wait for an answer of a server that is gone.
            let is_there = |process: &Process| process.link.is_to(world.redis.epoch) && process.is_settled();
            is_awake && process.is_some_and(|process| is_there(process) && world.has_read_all(process))
        };
        let all = (0..self.instances.len()).all(|at| has_all(self, at));
        all && self.redis.is_up
            && self
                .instances
                .iter_mut()
                .any(|at| at.process().is_some_and(|process| process.processor.delivery.is_leader()))
    }

    fn has_read_all(&self, process: &Process) -> bool {
        let streams = process.processor.streams();
        streams.iter().all(|(stream, named)| {
            let last = self.redis.data.streams.get(&named.name).and_then(|stream| stream.entries.last());
            last.is_none_or(|last| process.processor.engine().cursor(stream) >= Some(last.id))
        })
    }

    /// Checks every promise that must be kept once the run is settled.
    pub fn check_end(&mut self) {
        let (is_forked, lacks_decisions) = (self.is_forked(), self.lacks_decisions());
        if let Some(text) = self.checks.broken_chain.clone().filter(|_| !is_forked) {
            self.violate(Promise::Chain, text);
        }
        let mut sums = Vec::new();
        for instance in 0..self.instances.len() {
            let name = self.instances[instance].name.clone();
            let Some(process) = self.instances[instance].process.as_ref() else { continue };
            let sum = state_checksum_hex(process.processor.engine());
            let replayed = oracle::replayed(&self.config, &self.instances[instance].disk.lines);
            let is_other = sum != state_checksum_hex(&replayed) && !is_forked && !lacks_decisions;
            if is_other && !self.has_early_decision(instance) {
                let difference = oracle::difference(process.processor.engine(), &replayed);
                let text = format!("the state of {name} is not that of its journal: {difference}");
                self.violate(Promise::StateOfJournal, text);
            }
            sums.push((name, sum));
        }
        if self.checks.is_whole() {
            self.check_order();
            if let Some((name, _)) = sums.iter().find(|(_, sum)| *sum != sums[0].1) {
                self.violate(Promise::SameState, format!("the state of {name} is not that of {}", sums[0].0));
            }
            self.check_oracle();
            self.check_outcomes();
            self.check_records();
        }
        self.check_losses();
    }

    /// Checks that every journal is in canonical order.
    fn check_order(&mut self) {
        let late = self.instances.iter().find_map(|at| {
            let keys = at.disk.lines.iter().map(|text| {
                let (name, id) = line::head(text.as_bytes()).expect("a line");
                let stream = self.config.streams.id_of(&name).expect("it is configured");
                SortKey::new(stream, id.parse().expect("an id"))
            });
            let keys: Vec<SortKey> = keys.collect();
            let late = keys.windows(2).position(|pair| pair[0] >= pair[1])?;
            Some(format!("{} applies {:?} before {:?}", at.name, keys[late], keys[late + 1]))
        });
        if let Some(text) = late {
            self.violate(Promise::CanonicalOrder, text);
        }
    }

    /// Checks that the decisions in the stream are those of an undisturbed run.
    fn check_oracle(&mut self) {
        if self.config.emit.output_maxlen > 0 {
            return;
        }
        let wanted = oracle::undisturbed(&self.config, &self.redis.data);
        let stream = self.redis.stream(DECISION);
        let made: Vec<String> = stream.entries.iter().map(|entry| entry.field("hash").to_owned()).collect();
        if made != wanted {
            let same = made.iter().zip(&wanted).take_while(|(made, wanted)| made == wanted).count();
            let text = format!(
                "{} decisions were written, {} are made undisturbed; the first {same} are equal",
                made.len(),
                wanted.len()
            );
            self.violate(Promise::DecisionsOfOracle, text);
        }
    }

    /// Checks that every decision has exactly one request, or one reason why it has none.
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
                self.violate(
                    Promise::OneOutcome,
                    format!("{} has {orders} orders and expired {expired} times", &id[..8]),
                );
            }
        }
    }

    /// Checks that every unreadable result has a record, whichever instance led when it was read. Two leaders may
    /// both write it.
    fn check_records(&mut self) {
        if self.config.emit.output_maxlen > 0 || self.checks.is_late {
            return;
        }
        let records = self.redis.stream(QUARANTINE).entries.clone();
        let results = self.redis.stream(RESULT).entries.clone();
        for entry in results.iter().filter(|entry| entry.field("executedQty") == "many") {
            let id = entry.id.to_string();
            let count = records.iter().filter(|record| record.field("id") == id).count();
            if count == 0 || (count > 1 && self.instances.len() == 1) {
                self.violate(Promise::Recorded, format!("{RESULT}/{id} has {count} records"));
            }
        }
    }
}
