//! The gate before orders: a kill counts as soon as it is read, whatever its id (SPEC §2).
//!
//! The reader shuts the gate when it sees an entry that kills, long before that entry has its turn. The fold opens it only
//! when all such entries were folded and what they came to is no kill. The emitter looks at it before every offer.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::shell::redis::Emission;

/// What keeps orders from going out, shared by reader, fold and emitter.
#[derive(Debug, Default)]
pub struct KillGate {
    /// Entries that kill, as they were read. [1]
    read: AtomicU64,
    /// Those of them that were folded since. [1]
    folded: AtomicU64,
    /// The fold says that everything is killed.
    is_killed: AtomicBool,
    /// The folded policy is not the configured one.
    policy_differs: AtomicBool,
}

impl KillGate {
    /// Shuts the gate: an entry that kills was read.
    pub fn kill_is_read(&self) {
        self.read.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes in that entries which kill were folded, and what the fold says now.
    pub fn kills_are_folded(&self, entries: u64, is_killed: bool) {
        self.is_killed.store(is_killed, Ordering::SeqCst);
        self.folded.fetch_add(entries, Ordering::SeqCst);
    }

    /// Takes in what the fold says of the policy.
    pub fn policy_differs(&self, differs: bool) {
        self.policy_differs.store(differs, Ordering::SeqCst);
    }

    /// Returns true if a kill was read that is not folded yet, or the fold says so.
    pub fn is_killed(&self) -> bool {
        self.folded.load(Ordering::SeqCst) < self.read.load(Ordering::SeqCst) || self.is_killed.load(Ordering::SeqCst)
    }

    /// Returns an emission as it may go out at this moment: an order with a reason why it is not sent, where there is one.
    pub fn over<'a>(&self, emission: &'a Emission) -> Cow<'a, Emission> {
        let is_order = emission.request.as_ref().is_some_and(|request| !request.is_ours);
        match self.refusal().filter(|_| is_order && emission.refusal.is_none()) {
            Some(why) => Cow::Owned(Emission { refusal: Some(why), ..emission.clone() }),
            None => Cow::Borrowed(emission),
        }
    }

    /// Why no order may go out at this moment.
    pub fn refusal(&self) -> Option<&'static str> {
        if self.is_killed() {
            return Some("killed");
        }
        self.policy_differs.load(Ordering::SeqCst).then_some("policy_differs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_shuts_the_gate_from_the_moment_it_is_read_until_the_fold_takes_it_back() {
        let gate = KillGate::default();
        assert_eq!(gate.refusal(), None);
        gate.kill_is_read();
        gate.kills_are_folded(0, false);
        assert_eq!(gate.refusal(), Some("killed"), "read, not folded: whatever else was folded meanwhile");
        gate.kills_are_folded(1, true);
        assert_eq!(gate.refusal(), Some("killed"), "folded");
        gate.kills_are_folded(0, false);
        assert_eq!(gate.refusal(), None, "taken back by an entry that was folded later");
        gate.policy_differs(true);
        assert_eq!(gate.refusal(), Some("policy_differs"));
    }
}
