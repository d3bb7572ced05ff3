//! Entries that were refused for their signature, and that a replay without the key must skip too
//! (docs/spec/emission.md, "Refused control entries").

use std::collections::BTreeSet;

use crate::domain::event::ids::EntryId;

/// The most `entry.skipped` in flight. A flood of bad entries makes us write no faster than they come back. [1]
const IN_FLIGHT_MAX: usize = 256;

/// Refused entries whose `entry.skipped` was not folded yet, by stream and id.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    waiting: BTreeSet<(Box<str>, EntryId)>,
    in_flight: BTreeSet<(Box<str>, EntryId)>,
}

impl Refused {
    /// Creates the set from those whose publication an earlier process had not seen.
    pub fn of(entries: impl IntoIterator<Item = (Box<str>, EntryId)>) -> Self {
        Self { waiting: entries.into_iter().collect(), in_flight: BTreeSet::new() }
    }

    /// Notes a refused entry.
    pub fn add(&mut self, stream: &str, id: EntryId) {
        self.waiting.insert((stream.into(), id));
    }

    /// Notes that the log itself skips an entry. Returns true if it was one of these.
    pub fn published(&mut self, stream: &str, id: EntryId) -> bool {
        let entry = (stream.into(), id);
        self.in_flight.remove(&entry);
        self.waiting.remove(&entry)
    }

    /// Begins to lead: another process may have led before, and entries in flight may not have arrived.
    pub fn lead(&mut self) {
        self.in_flight.clear();
    }

    /// Takes the entries that must be published now.
    pub fn due(&mut self) -> Vec<(Box<str>, EntryId)> {
        let free = IN_FLIGHT_MAX.saturating_sub(self.in_flight.len());
        let due: Vec<_> = self.waiting.difference(&self.in_flight).take(free).cloned().collect();
        self.in_flight.extend(due.iter().cloned());
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_published_once_until_it_has_come_back_or_another_leads() {
        let mut refused = Refused::of([("s".into(), EntryId::new(1, 0))]);
        refused.add("s", EntryId::new(2, 0));
        assert_eq!(refused.due().len(), 2);
        assert_eq!(refused.due(), [], "in flight");
        assert!(refused.published("s", EntryId::new(1, 0)));
        assert!(!refused.published("s", EntryId::new(1, 0)));
        refused.lead();
        assert_eq!(refused.due(), [("s".into(), EntryId::new(2, 0))], "it may not have been written");
        for n in 0..1_000 {
            refused.add("t", EntryId::new(n, 0));
        }
        assert_eq!(refused.due().len(), IN_FLIGHT_MAX - 1);
    }
}
