//! Entries that were refused for their signature, and that a replay without the key must pass over too (SPEC §6).
//!
//! A row in the store, made in the commit that refuses the entry, says that it is still to be told; it goes once the
//! `entry.skipped` that tells it has come back. Whoever leads tells it, a few at a time.

use std::collections::BTreeSet;

use crate::codec::live;
use crate::codec::state::Row;
use crate::domain::event::ids::EntryId;

/// So many `entry.skipped` are on their way at a time: who floods us makes us write no faster than they come back. [1]
const ON_THEIR_WAY_MAX: usize = 256;

/// Refused entries whose `entry.skipped` was not folded yet, by stream and id.
#[derive(Debug, Default)]
pub struct Refused {
    waiting: BTreeSet<(String, EntryId)>,
    on_their_way: BTreeSet<(String, EntryId)>,
}

impl Refused {
    /// Those that a process before had not seen told.
    pub fn of(entries: Vec<(String, EntryId)>) -> Self {
        Self { waiting: entries.into_iter().collect(), on_their_way: BTreeSet::new() }
    }

    /// Notes a refused entry. Returns the row that goes with it.
    pub fn add(&mut self, stream: &str, id: EntryId) -> Row {
        self.waiting.insert((stream.to_owned(), id));
        live::refused_row(stream, id)
    }

    /// Notes that an entry is passed over by the log itself. Returns the row that goes, if it was one of these.
    pub fn told(&mut self, stream: &str, id: EntryId) -> Option<Row> {
        let entry = (stream.to_owned(), id);
        self.on_their_way.remove(&entry);
        self.waiting.remove(&entry).then(|| live::refused_removed(stream, id))
    }

    /// Somebody else may have led before, and what was on its way may not have come.
    pub fn lead(&mut self) {
        self.on_their_way.clear();
    }

    /// Takes those that are to be told now.
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
