//! Losses: what an instance can never read must be named, and where histories have forked.

use std::collections::BTreeMap;

use harvester::codec::line;
use harvester::domain::event::ids::EntryId;

use super::instance::Instance;
use super::promise::Promise;
use super::run::{CONTROL, DECISION};
use super::world::World;

impl World {
    /// Returns true if a decision is in doubt, which only an operator can resolve where histories have forked or a decision
    /// was trimmed too early.
    pub fn ends_in_doubt(&self) -> bool {
        let is_doubtful =
            |at: &Instance| at.process.as_ref().is_some_and(|process| process.processor.delivery.doubtful() > 0);
        self.instances.iter().any(is_doubtful) && (self.is_forked() || self.lacks_decisions())
    }

    /// Returns true if an instance has not read a decision that is trimmed now. It may have made that decision again, and
    /// what it decides from there on is not what an instance decides that has read it (docs/spec/emission.md, "Trimming").
    pub fn lacks_decisions(&self) -> bool {
        let decisions = self.redis.data.streams.get(DECISION);
        let first = decisions.and_then(|stream| stream.entries.first()?.field("seq").parse().ok());
        let trimmed = 1..first.filter(|_| self.config.emit.output_maxlen > 0).unwrap_or(1);
        self.instances.iter().any(|at| {
            let read = at.disk.decisions();
            trimmed.clone().any(|seq| !read.contains(&seq))
        })
    }

    /// Returns true if two instances have applied other entries, or the same in another order: the server has lost some,
    /// they were trimmed, or its clock went back. From there on the histories differ, and so may what they decide.
    pub fn is_forked(&self) -> bool {
        let applied: Vec<Vec<&str>> = self.instances.iter().map(|at| at.disk.applied()).collect();
        applied.iter().any(|one| one.iter().zip(&applied[0]).any(|(one, other)| one != other))
    }

    /// What an instance can never read is named by a gap in the log.
    pub fn check_losses(&mut self) {
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
                let (stream, id) = line::head(line.as_bytes()).expect("a line");
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
            self.violate(Promise::LossIsNamed, text);
        }
        let missed = self.trimmed_unread(&read).into_iter().find(|(stream, id)| !covers(stream, *id));
        if let Some((stream, id)) = missed {
            self.violate(
                Promise::LossIsNamed,
                format!("{stream}/{id} was trimmed before it was read, and no gap names it"),
            );
        }
    }

    /// Entries that were trimmed, and that no instance has. One with an id that was given before is a duplicate.
    fn trimmed_unread(&self, read: &BTreeMap<(String, EntryId), usize>) -> Vec<(String, EntryId)> {
        let all = self.redis.trimmed.iter().filter(|entry| !self.redis.given_again.contains(*entry));
        all.filter(|entry| !read.contains_key(*entry)).cloned().collect()
    }
}
