//! Losses: every entry that an instance can never read must be named, and histories that differ are found.

use std::collections::BTreeMap;

use harvester::codec::line;
use harvester::domain::event::ids::EntryId;

use super::checks::Noticed;
use super::instance::Instance;
use super::promise::Promise;
use super::run::{CONTROL, DECISION};
use super::world::World;

impl World {
    /// Returns true if a decision is in doubt, which only an operator can resolve if histories have forked or a
    /// decision was trimmed too early.
    pub fn ends_in_doubt(&self) -> bool {
        let is_doubtful =
            |at: &Instance| at.process.as_ref().is_some_and(|process| process.processor.delivery.doubtful() > 0);
        self.instances.iter().any(is_doubtful) && (self.is_forked() || self.lacks_decisions())
    }

    /// Returns true if an instance has not read a decision that is trimmed now. It may have made that decision again,
    /// and its later decisions differ from those of an instance that has read it (docs/spec/emission.md, "Trimming").
    pub fn lacks_decisions(&self) -> bool {
        let decisions = self.redis.data.streams.get(DECISION);
        let first = decisions.and_then(|stream| stream.entries.first()?.field("seq").parse().ok());
        let trimmed = 1..first.filter(|_| self.config.emit.output_maxlen > 0).unwrap_or(1);
        self.instances.iter().any(|at| {
            let read = at.disk.decisions();
            trimmed.clone().any(|seq| !read.contains(&seq))
        })
    }

    /// Returns true if an instance without a key has read a decision whose entry has an earlier time than its cause:
    /// the clock went back in between. The instance knows the decision, and a replay does not believe it
    /// (docs/spec/fold.md, "Compare only").
    pub fn has_early_decision(&self, instance: usize) -> bool {
        let is_early = |(id, payload): (EntryId, String)| {
            let payload: serde_json::Value = serde_json::from_str(&payload).unwrap_or_default();
            let cause = payload["cause"].as_str().and_then(|cause| cause.rsplit_once('/')?.1.parse::<EntryId>().ok());
            cause.is_some_and(|cause| cause.ms > id.ms)
        };
        !self.plan.has_key && self.instances[instance].disk.decision_payloads().into_iter().any(is_early)
    }

    /// Returns true if two instances have applied different entries, or the same in another order: the server has
    /// lost some, they were trimmed, or its clock went back. From there on the histories differ, and their decisions
    /// may differ.
    pub fn is_forked(&self) -> bool {
        let applied: Vec<Vec<&str>> = self.instances.iter().map(|at| at.disk.applied()).collect();
        applied.iter().any(|one| one.iter().zip(&applied[0]).any(|(one, other)| one != other))
    }

    /// Checks that a gap names every entry that an instance can never read: in the log, or to the operator of an
    /// instance.
    pub fn check_losses(&mut self) {
        // An entry that one instance has, and another one can never read.
        let mut read: BTreeMap<(String, EntryId), usize> = BTreeMap::new();
        for at in &self.instances {
            for line in &at.disk.lines {
                let (stream, id) = line::head(line.as_bytes()).expect("a line");
                let id: EntryId = id.parse().expect("an id");
                *read.entry((stream.into_owned(), id)).or_default() += 1;
            }
        }
        let gaps = self.gaps();
        let is_named = |stream: &str, id: EntryId| gaps.iter().any(|gap| gap.names(stream, id));
        let is_there = |stream: &str, id: EntryId| {
            self.redis.data.streams.get(stream).is_some_and(|stream| stream.get(id).is_some())
        };
        let is_trimmed_over =
            |stream: &str, id: EntryId| self.redis.trimmed.iter().any(|(of, trimmed)| of == stream && *trimmed > id);
        // A clock that goes back after a loss gives ids again that were read. Their entries count for the lost ones.
        let is_given_again = |stream: &str| self.redis.given_again.iter().any(|(of, _)| of == stream);
        let unnamed = read.iter().find(|((stream, id), count)| {
            let is_lost = **count < self.instances.len() && !is_there(stream, *id) && !is_given_again(stream);
            let may_hide = is_trimmed_over(stream, *id) && gaps.iter().any(|gap| gap.may_hide(stream, *id));
            is_lost && !is_named(stream, *id) && !may_hide
        });
        let unnamed = unnamed.map(|((stream, id), count)| {
            format!("{stream}/{id} is lost, {count} instances have it, and no gap names it")
        });
        // Entries that were trimmed and that no instance has. An entry with an id that was given before is a
        // duplicate.
        let unread =
            |entry: &&(String, EntryId)| !self.redis.given_again.contains(*entry) && !read.contains_key(*entry);
        let missed = self
            .redis
            .trimmed
            .iter()
            .filter(unread)
            .filter(|(stream, id)| !is_named(stream, *id) && !gaps.iter().any(|gap| gap.may_hide(stream, *id)));
        let mut by_stream: BTreeMap<&str, Vec<EntryId>> = BTreeMap::new();
        missed.for_each(|(stream, id)| by_stream.entry(stream).or_default().push(*id));
        let mut balanced = 0;
        let mut missed = Vec::new();
        for (stream, ids) in by_stream {
            // As many entries were lost that an instance had read: the counts agree (docs/spec/emission.md, "What
            // counts prove").
            let lost = self.checks.lost.iter().filter(|(of, entry)| {
                of == stream && read.contains_key(&(of.clone(), entry.id)) && ids.iter().all(|id| *id > entry.id)
            });
            if ids.len() <= lost.count() {
                balanced += ids.len() as u64;
            } else {
                missed.push(format!("{stream}/{} was trimmed before it was read, and no gap names it", ids[0]));
            }
        }
        for text in unnamed.into_iter().chain(missed) {
            self.violate(Promise::LossIsNamed, text);
        }
        self.checks.balanced += balanced;
    }

    /// Returns all gaps that were reported.
    pub fn gaps(&self) -> Vec<Noticed> {
        let in_log = self.redis.entries_after(CONTROL, EntryId::default());
        let in_log = in_log.iter().filter(|entry| entry.field("event_type") == "history.gap").map(|entry| {
            let gap: serde_json::Value = serde_json::from_str(entry.field("payload")).unwrap_or_default();
            let end = |name: &str| gap[name].as_str().and_then(|id| id.parse::<EntryId>().ok());
            Noticed {
                stream: gap["stream"].as_str().unwrap_or_default().to_owned(),
                after: end("after"),
                before: end("before"),
                is_from_start: false,
            }
        });
        in_log.chain(self.checks.noticed.iter().cloned()).collect()
    }
}

impl Noticed {
    pub fn names(&self, stream: &str, id: EntryId) -> bool {
        self.stream == stream
            && self.after.is_none_or(|after| after <= id)
            && self.before.is_none_or(|before| id <= before)
    }

    /// Returns true if the entry is in a gap that a process found at its start. Such a process cannot know where the
    /// gap begins, and reports everything after the last entry of an earlier process (docs/spec/emission.md, "What
    /// counts prove").
    fn may_hide(&self, stream: &str, id: EntryId) -> bool {
        self.stream == stream && self.is_from_start && self.after.is_some_and(|after| id <= after)
    }
}
