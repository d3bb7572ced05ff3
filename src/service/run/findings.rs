//! Findings that speak of past entries: what could not be read, and what was not believed.
//!
//! The store keeps them in the commit of the entries that they speak of, so that a start finds them again, whatever ended
//! the process before. A store that is folded anew finds them anew.

use std::collections::BTreeMap;

use crate::codec::live::{self, Finding};
use crate::codec::state::Row;
use crate::domain::book::counters::Counters;
use crate::domain::event::ids::EntryId;

/// What was found of entries, by name.
#[derive(Debug, Default)]
pub struct Findings {
    /// By processes before.
    before: BTreeMap<String, Finding>,
    /// Not believed since.
    refused: BTreeMap<&'static str, Finding>,
    /// As the store has them.
    stored: BTreeMap<String, Finding>,
}

impl Findings {
    /// Those that the store has.
    pub fn of(stored: BTreeMap<String, Finding>) -> Self {
        Self { before: stored.clone(), refused: BTreeMap::new(), stored }
    }

    /// Notes an entry that was not believed.
    pub fn refuse(&mut self, name: &'static str, id: EntryId) {
        self.refused.entry(name).or_default().add(Finding { entries: 1, last_ms: id.ms });
    }

    /// Returns all findings, with what this process could not read.
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

    /// Takes the rows of those that changed since the last commit.
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
