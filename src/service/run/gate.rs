//! The gate that a decision passes between the commit and its emission.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::domain::event::ids::EntryId;

/// A decision in doubt is offered again after this time, because an operator may have resolved it.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// While a key rejects writes, decisions are offered again after this time.
const UNFIT_PAUSE: Duration = Duration::from_secs(2);

/// The conditions under which decisions may be offered.
#[derive(Debug, Default)]
pub struct Gate {
    /// Increases whenever a decision was not written. [1]
    pub round: u64,
    /// All entries before this server time are folded. [ms since 1970]
    pub folded_to_ms: u64,
    /// Orders wait until entries later than this are folded. [ms since 1970]
    behind_at_ms: Option<u64>,
    check: Check,
    /// An entry whose absence was checked already: it was trimmed.
    checked: Option<EntryId>,
    /// Decisions in doubt, and when each is offered again.
    doubtful: BTreeMap<u64, Instant>,
    /// No decision is offered before this time, because a key rejects writes.
    not_before: Option<Instant>,
}

/// The state of the check whether the server still has what was written.
#[derive(Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    NotNeeded,
    Due,
    Running {
        /// True if another doubt came up meanwhile.
        again: bool,
    },
}

impl Gate {
    /// Forgets all waits, because a new leader checks everything again.
    pub fn retry(&mut self) {
        self.behind_at_ms = None;
        self.doubtful.clear();
        self.not_before = None;
    }

    /// Ends the rounds up to this one: what was handed over in them is not written any more.
    pub fn halt(&mut self, round: u64) {
        self.round = self.round.max(round + 1);
    }

    pub fn wait_for_news(&mut self) {
        self.behind_at_ms = Some(self.folded_to_ms);
    }

    /// Returns true if more is folded than when an order was sent back.
    pub fn is_current(&self) -> bool {
        self.behind_at_ms.is_none_or(|ms| self.folded_to_ms > ms)
    }

    pub fn doubt_written(&mut self) {
        self.check = match self.check {
            Check::NotNeeded | Check::Due => Check::Due,
            Check::Running { .. } => Check::Running { again: true },
        };
    }

    /// Returns true if the written decisions must be looked for now.
    pub fn take_check(&mut self) -> bool {
        let is_due = self.check == Check::Due;
        if is_due {
            self.check = Check::Running { again: false };
        }
        is_due
    }

    /// Ends a check. `trimmed` is the entry of the last written decision, if no decision was lost: it was only trimmed.
    pub fn checked(&mut self, trimmed: Option<EntryId>) {
        self.check = if self.check == (Check::Running { again: true }) { Check::Due } else { Check::NotNeeded };
        self.checked = trimmed;
    }

    pub fn is_checked(&self, entry: EntryId) -> bool {
        self.checked == Some(entry)
    }

    pub fn may_offer(&self) -> bool {
        self.check == Check::NotNeeded
    }

    /// Makes decisions wait, because a key rejects writes.
    pub fn wait_for_outputs(&mut self) {
        self.not_before = Some(Instant::now() + UNFIT_PAUSE);
    }

    /// Returns true while decisions wait for a key that rejects writes.
    pub fn waits_for_outputs(&self) -> bool {
        self.not_before.is_some_and(|from| Instant::now() < from)
    }

    /// Marks a decision as in doubt. Returns true if that is new.
    pub fn doubt(&mut self, seq: u64) -> bool {
        self.doubtful.insert(seq, Instant::now() + DOUBT_PAUSE).is_none()
    }

    /// Returns true if a decision is in doubt and not to be offered yet.
    pub fn is_doubtful(&self, seq: u64) -> bool {
        self.doubtful.get(&seq).is_some_and(|again| Instant::now() < *again)
    }

    /// Marks a decision as written.
    pub fn written(&mut self, seq: u64) {
        self.doubtful.remove(&seq);
    }

    /// Returns the number of decisions in doubt. [1]
    pub fn doubtful(&self) -> usize {
        self.doubtful.len()
    }
}
