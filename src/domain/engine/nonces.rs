//! Signed control entries that come again, or too late (docs/spec/emission.md, "Nonces").
//!
//! A nonce is a number that a control entry contains once: a copy of a signed entry is not accepted. An entry that
//! clears the kill switch is not accepted after a kill that it does not know: an attacker may have delayed it.
//!
//! An entry is accepted only if it was issued close to its id, and ids grow. An entry that was issued long before the
//! last id cannot come again, and its nonce is forgotten. So the memory is bounded without a guess.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::EntryId;
use crate::domain::event::{Control, ControlFact};

/// A nonce issued this long before the id of an entry cannot come again. It is twice the allowed distance between the
/// time of issue and the id. [ms]
const MEMORY_MS: u64 = 120_000;
/// Maximum number of nonces. If there are more, every entry counts as seen that was issued no later than the oldest of
/// them. [1]
const NONCES_MAX: usize = 1024;

/// The nonces that may come again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonces {
    seen: BTreeSet<(u64, Box<str>)>,
    /// Everything issued no later than this counts as seen. [ms since 1970]
    seen_to_ms: u64,
    /// Time of the latest id of an entry that kills. An entry that clears the kill switch must be issued then or later.
    /// [ms since 1970]
    killed_ms: u64,
}

/// The reason why an entry with a valid signature is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBelieved {
    /// Its nonce is not new: it is a copy.
    Copy,
    /// It clears the kill switch, and was issued before the last kill.
    Overtaken,
}

impl Nonces {
    /// Remembers a control entry. Returns an error if its signature was verified and it must not be believed
    /// nevertheless.
    ///
    /// Without a verified signature nothing is refused: an instance without a key relies on those with one, and
    /// remembers the same nonces.
    pub fn take(&mut self, fact: &ControlFact, id: EntryId) -> Result<(), NotBelieved> {
        if fact.control == (Control::KillChanged { kill: true }) {
            self.killed_ms = self.killed_ms.max(id.ms);
        }
        let Some(issue) = fact.issue.as_ref().filter(|_| fact.control.loosens()) else { return Ok(()) };
        let nonce = (issue.issued_ms, issue.nonce.clone());
        let clears = matches!(fact.control, Control::KillChanged { kill: false });
        if issue.is_verified && (issue.issued_ms <= self.seen_to_ms || self.seen.contains(&nonce)) {
            return Err(NotBelieved::Copy);
        }
        if issue.is_verified && clears && issue.issued_ms < self.killed_ms {
            return Err(NotBelieved::Overtaken);
        }
        self.seen.insert(nonce);
        self.seen = self.seen.split_off(&(id.ms.saturating_sub(MEMORY_MS), Box::default()));
        while self.seen.len() > NONCES_MAX {
            if let Some((issued_ms, _)) = self.seen.pop_first() {
                self.seen_to_ms = self.seen_to_ms.max(issued_ms);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Issue;

    fn issued(control: Control, issued_ms: u64, nonce: &str) -> ControlFact {
        ControlFact { control, issue: Some(Issue { issued_ms, nonce: nonce.into(), is_verified: true }) }
    }

    fn accepts(issued_ms: u64, nonce: &str) -> ControlFact {
        issued(Control::GapAccepted, issued_ms, nonce)
    }

    fn taken(nonces: &mut Nonces, fact: &ControlFact, id_ms: u64) -> bool {
        nonces.take(fact, EntryId::new(id_ms, 0)).is_ok()
    }

    #[test]
    fn a_nonce_is_taken_once_and_remembered_while_it_could_come_again() {
        let mut nonces = Nonces::default();
        assert!(taken(&mut nonces, &accepts(1_000_000, "a"), 1_000_000));
        let again = nonces.take(&accepts(1_000_000, "a"), EntryId::new(1_060_000, 0));
        assert_eq!(again, Err(NotBelieved::Copy), "the same entry under a later id");
        assert!(taken(&mut nonces, &accepts(1_000_000, "b"), 1_060_000), "another one of the same millisecond");
        assert!(taken(&mut nonces, &accepts(1_200_000, "c"), 1_200_000));
        assert_eq!(nonces.seen.len(), 1, "what cannot come again is forgotten");
        let mut unverified = accepts(1_200_000, "c");
        unverified.issue.as_mut().expect("an issue").is_verified = false;
        assert!(taken(&mut nonces, &unverified, 1_200_000), "without a key nothing is refused");
    }

    #[test]
    fn a_flood_of_entries_lets_none_be_used_again() {
        let mut nonces = Nonces::default();
        assert!(taken(&mut nonces, &accepts(5_000, "kill off"), 5_000));
        for n in 0..2 * NONCES_MAX as u64 {
            assert!(taken(&mut nonces, &accepts(5_001 + n, "x"), 5_001 + n));
        }
        assert_eq!(nonces.seen.len(), NONCES_MAX);
        assert!(
            !taken(&mut nonces, &accepts(5_000, "kill off"), 8_000),
            "pushed out of memory, and not believed again"
        );
    }

    #[test]
    fn what_clears_a_kill_was_issued_after_it() {
        let kill = |kill, issued_ms, nonce| issued(Control::KillChanged { kill }, issued_ms, nonce);
        let on = ControlFact { control: Control::KillChanged { kill: true }, issue: None };
        let mut nonces = Nonces::default();
        assert!(taken(&mut nonces, &on, 10_000));
        assert!(taken(&mut nonces, &kill(false, 10_000, "a"), 10_000), "issued in the millisecond of the kill");
        assert!(taken(&mut nonces, &on, 20_000));
        let late = nonces.take(&kill(false, 19_999, "b"), EntryId::new(21_000, 0));
        assert_eq!(late, Err(NotBelieved::Overtaken), "delayed, and written after another kill");
        assert!(taken(&mut nonces, &accepts(19_999, "c"), 21_000), "anything else may have been under way");
        let mut unverified = kill(false, 19_999, "d");
        unverified.issue.as_mut().expect("an issue").is_verified = false;
        assert!(taken(&mut nonces, &unverified, 21_000), "without a key nothing is refused");
        assert!(taken(&mut nonces, &kill(false, 20_001, "e"), 21_001));
    }
}
