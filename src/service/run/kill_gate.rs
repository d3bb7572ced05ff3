//! The kill gate for orders: a kill takes effect as soon as it is read, whatever its id (docs/spec/canonical-order.md,
//! "Kill before its turn").
//!
//! The reader shuts the gate when it reads an entry that kills, long before that entry has its turn. The processor
//! opens the gate only after all such entries were folded and the kill switch is off. The emitter checks the gate
//! before every offer.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::domain::delivery::action::Offer;

/// The conditions that prevent orders from being sent, shared by reader, processor and emitter.
#[derive(Debug, Default)]
pub struct KillGate {
    /// Entries that kill and were read. [1]
    read: AtomicU64,
    /// Those of them that were folded since. [1]
    folded: AtomicU64,
    /// True if the folded state is killed.
    is_killed: AtomicBool,
    /// True if the policy in force is not the configured one.
    policy_differs: AtomicBool,
}

impl KillGate {
    /// Shuts the gate: an entry that kills was read.
    pub fn kill_is_read(&self) {
        self.read.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts folded entries that kill, and sets the kill switch of the folded state.
    pub fn kills_are_folded(&self, entries: u64, is_killed: bool) {
        self.is_killed.store(is_killed, Ordering::SeqCst);
        self.folded.fetch_add(entries, Ordering::SeqCst);
    }

    /// Sets whether the policy in force differs from the configured one.
    pub fn policy_differs(&self, differs: bool) {
        self.policy_differs.store(differs, Ordering::SeqCst);
    }

    /// Returns true if a kill was read and is not folded yet, or if the folded state is killed.
    pub fn is_killed(&self) -> bool {
        self.folded.load(Ordering::SeqCst) < self.read.load(Ordering::SeqCst) || self.is_killed.load(Ordering::SeqCst)
    }

    /// Returns an offer as it may be sent now. If an order may not be sent, it gets the reason.
    pub fn over<'a>(&self, offer: &'a Offer) -> Cow<'a, Offer> {
        match self.refusal().filter(|_| offer.row.is_order() && offer.refusal.is_none()) {
            Some(why) => Cow::Owned(Offer { refusal: Some(why), ..offer.clone() }),
            None => Cow::Borrowed(offer),
        }
    }

    /// Returns the reason why no order may be sent at this moment, if there is one.
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
