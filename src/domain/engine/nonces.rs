//! Nonces: numbers that control entries carry once. A signed entry that is written again is not accepted again
//! (docs/spec/emission.md, "Nonces").
//!
//! An entry is accepted only if it was issued close to its id, and ids grow. An entry that was issued long before the
//! last id cannot come again, and its nonce is forgotten. So the memory is bounded without a guess.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::event::Issue;

/// A nonce issued this long before the id of an entry cannot come again. It is twice the allowed distance between the
/// time of issue and the id. [ms]
const MEMORY_MS: u64 = 120_000;
/// Largest number of nonces. Beyond it everything counts as seen that was issued no later than the first of them. [1]
const NONCES_MAX: usize = 1024;

/// The nonces that may come again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonces {
    seen: BTreeSet<(u64, Box<str>)>,
    /// Everything issued no later than this counts as seen. [ms since 1970]
    seen_to_ms: u64,
}

impl Nonces {
    /// Remembers the nonce of an entry. Returns false if the signature was verified and the nonce is not new: such an
    /// entry is refused.
    ///
    /// `id_ms` is the time of its id. Without a verified signature nothing is refused: an instance without a key relies
    /// on those with one, and remembers the same nonces.
    pub fn take(&mut self, issue: &Issue, id_ms: u64) -> bool {
        let nonce = (issue.issued_ms, issue.nonce.clone());
        if issue.is_verified && (issue.issued_ms <= self.seen_to_ms || self.seen.contains(&nonce)) {
            return false;
        }
        self.seen.insert(nonce);
        self.seen = self.seen.split_off(&(id_ms.saturating_sub(MEMORY_MS), Box::default()));
        while self.seen.len() > NONCES_MAX {
            if let Some((issued_ms, _)) = self.seen.pop_first() {
                self.seen_to_ms = self.seen_to_ms.max(issued_ms);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(issued_ms: u64, nonce: &str) -> Issue {
        Issue { issued_ms, nonce: nonce.into(), is_verified: true }
    }

    #[test]
    fn a_nonce_is_taken_once_and_remembered_while_it_could_come_again() {
        let mut nonces = Nonces::default();
        assert!(nonces.take(&issue(1_000_000, "a"), 1_000_000));
        assert!(!nonces.take(&issue(1_000_000, "a"), 1_060_000), "the same entry under a later id");
        assert!(nonces.take(&issue(1_000_000, "b"), 1_060_000), "another one of the same millisecond");
        assert!(nonces.take(&issue(1_200_000, "c"), 1_200_000));
        assert_eq!(nonces.seen.len(), 1, "what cannot come again is forgotten");
        let unverified = Issue { is_verified: false, ..issue(1_200_000, "c") };
        assert!(nonces.take(&unverified, 1_200_000), "without a key nothing is refused");
    }

    #[test]
    fn a_flood_of_entries_lets_none_be_used_again() {
        let mut nonces = Nonces::default();
        assert!(nonces.take(&issue(5_000, "kill off"), 5_000));
        for n in 0..2 * NONCES_MAX as u64 {
            assert!(nonces.take(&issue(5_001 + n, "x"), 5_001 + n));
        }
        assert_eq!(nonces.seen.len(), NONCES_MAX);
        assert!(!nonces.take(&issue(5_000, "kill off"), 8_000), "pushed out of memory, and not believed again");
    }
}
