//! Findings about past entries: those that could not be read, and those that were not believed.
//!
//! The store commits them together with the entries that they are about. So a new process has them even if the last one
//! crashed. If the store is folded again, the fold finds them again.

use std::collections::BTreeMap;

use crate::codec::live::{self, Finding};
use crate::codec::state::Row;
use crate::domain::book::counters::Counters;
use crate::domain::event::ids::EntryId;

/// The findings about entries, by name.
#[derive(Debug, Default)]
pub struct Findings {
    /// Findings of earlier processes.
    before: BTreeMap<String, Finding>,
    /// Entries that this process did not believe.
    refused: BTreeMap<&'static str, Finding>,
    /// Findings as they are in the store.
    stored: BTreeMap<String, Finding>,
}

impl Findings {
    /// Creates the findings from those in the store.
    pub fn of(stored: BTreeMap<String, Finding>) -> Self {
        Self { before: stored.clone(), refused: BTreeMap::new(), stored }
    }

    /// Notes an entry that was not believed.
    pub fn refuse(&mut self, name: &'static str, id: EntryId) {
        self.refused.entry(name).or_default().add(Finding { entries: 1, last_ms: id.ms });
    }

    /// Returns all findings, with the entries that this process could not read.
    pub fn all(&self, counters: &Counters) -> BTreeMap<String, Finding> {
        let mut all = self.before.clone();
        let unreadable = counters
            .unreadable
            .iter()
            .map(|(what, count)| (what.name(), Finding { entries: count.entries, last_ms: count.last_ms }));
        for (name, finding) in unreadable.chain(self.refused.iter().map(|(name, finding)| (*name, *finding))) {
            all.entry(name.to_owned()).or_default().add(finding);
        }
        all
    }

    /// Returns the rows of the findings that changed since the last commit.
    pub fn rows(&mut self, counters: &Counters) -> Vec<Row> {
        let all = self.all(counters);
        let changed = all.iter().filter(|(name, finding)| self.stored.get(*name) != Some(*finding));
        let rows = changed.map(|(name, finding)| live::finding_row(name, *finding)).collect();
        self.stored = all;
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::book::counters::Unreadables;

    #[test]
    fn what_a_process_found_is_added_to_what_the_store_has() {
        let finding = |entries, last_ms| Finding { entries, last_ms };
        let stored =
            BTreeMap::from([("results".to_owned(), finding(2, 50)), ("bad_signature".to_owned(), finding(1, 9))]);
        let mut findings = Findings::of(stored);
        let mut counters = Counters::default();
        assert_eq!(findings.rows(&counters), []);
        counters.unreadable(Unreadables::Results, 40);
        findings.refuse("decision_foreign", EntryId::new(70, 1));
        let names: Vec<_> = findings.all(&counters).into_iter().collect();
        let want =
            [("bad_signature", finding(1, 9)), ("decision_foreign", finding(1, 70)), ("results", finding(3, 50))];
        assert_eq!(names, want.map(|(name, finding)| (name.to_owned(), finding)));
        assert_eq!(findings.rows(&counters).len(), 2, "those that changed");
        assert_eq!(findings.rows(&counters), [], "once");
    }
}
