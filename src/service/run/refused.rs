//! Entries that were refused for their signature, and that a replay without the key must skip too
//! (docs/spec/emission.md, "Refused control entries").
//!
//! A row in the store means that the refusal must still be published. It is made in the commit that refuses the entry,
//! and deleted once the `entry.skipped` that names the entry has come back. The leader publishes a few at a time.

use std::collections::BTreeSet;

use crate::codec::live;
use crate::codec::state::Row;
use crate::domain::event::ids::EntryId;

/// The most `entry.skipped` in flight. A flood of bad entries makes us write no faster than they come back. [1]
const ON_THEIR_WAY_MAX: usize = 256;

/// Refused entries whose `entry.skipped` was not folded yet, by stream and id.
#[derive(Debug, Default)]
pub struct Refused {
    waiting: BTreeSet<(String, EntryId)>,
    on_their_way: BTreeSet<(String, EntryId)>,
}

impl Refused {
    /// Creates the set from those that an earlier process had not seen published.
    pub fn of(entries: Vec<(String, EntryId)>) -> Self {
        Self { waiting: entries.into_iter().collect(), on_their_way: BTreeSet::new() }
    }

    /// Notes a refused entry. Returns the row that goes with it.
    pub fn add(&mut self, stream: &str, id: EntryId) -> Row {
        self.waiting.insert((stream.to_owned(), id));
        live::refused_row(stream, id)
    }

    /// Notes that the log itself skips an entry. Returns the row to delete if it was one of these.
    pub fn told(&mut self, stream: &str, id: EntryId) -> Option<Row> {
        let entry = (stream.to_owned(), id);
        self.on_their_way.remove(&entry);
        self.waiting.remove(&entry).then(|| live::refused_removed(stream, id))
    }

    /// Begins to lead: another process may have led before, and entries in flight may not have arrived.
    pub fn lead(&mut self) {
        self.on_their_way.clear();
    }

    /// Takes the entries that must be published now.
    pub fn due(&mut self) -> Vec<(String, EntryId)> {
        let free = ON_THEIR_WAY_MAX.saturating_sub(self.on_their_way.len());
        let due: Vec<_> = self.waiting.difference(&self.on_their_way).take(free).cloned().collect();
        self.on_their_way.extend(due.iter().cloned());
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_until_it_has_come_back_or_another_leads() {
        let mut refused = Refused::of(vec![("s".to_owned(), EntryId::new(1, 0))]);
        refused.add("s", EntryId::new(2, 0));
        assert_eq!(refused.due().len(), 2);
        assert_eq!(refused.due(), [], "on their way");
        assert!(refused.told("s", EntryId::new(1, 0)).is_some());
        assert!(refused.told("s", EntryId::new(1, 0)).is_none());
        refused.lead();
        assert_eq!(refused.due(), [("s".to_owned(), EntryId::new(2, 0))], "it may not have been written");
        for n in 0..1_000 {
            refused.add("t", EntryId::new(n, 0));
        }
        assert_eq!(refused.due().len(), ON_THEIR_WAY_MAX - 1);
    }
}
