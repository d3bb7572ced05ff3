//! What stands between a decision that was made and its way out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::domain::event::ids::EntryId;

/// A decision that is in doubt is offered again after this: somebody may have looked into it.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// Where a key that is written to takes nothing, decisions are offered again after this.
const UNFIT_PAUSE: Duration = Duration::from_secs(2);

/// Whether decisions may be offered now.
#[derive(Debug, Default)]
pub struct Gate {
    /// Counts up whenever a decision was not written. [1]
    pub round: u64,
    /// All entries before this time of the server are folded. [ms since 1970]
    pub folded_to_ms: u64,
    /// Orders wait until more is folded than this. [ms since 1970]
    behind_at_ms: Option<u64>,
    check: Check,
    /// An entry whose absence was looked into already: it was trimmed.
    checked: Option<EntryId>,
    /// Decisions in doubt, and when each is offered again.
    doubtful: BTreeMap<u64, Instant>,
    /// No decision is offered before: a key that is written to takes nothing.
    not_before: Option<Instant>,
}

/// How far it is known whether the server has what was written.
#[derive(Debug, Default, PartialEq, Eq)]
enum Check {
    #[default]
    NotNeeded,
    Due,
    Running {
        /// Another doubt came up meanwhile.
        again: bool,
    },
}

impl Gate {
    /// A process that leads anew looks at everything anew.
    pub fn retry(&mut self) {
        self.behind_at_ms = None;
        self.doubtful.clear();
        self.not_before = None;
    }

    /// What was handed over up to a round is not written any more.
    pub fn halt(&mut self, round: u64) {
        self.round = self.round.max(round + 1);
    }

    pub fn wait_for_news(&mut self) {
        self.behind_at_ms = Some(self.folded_to_ms);
    }

    /// Is more folded than when an order was sent back.
    pub fn is_current(&self) -> bool {
        self.behind_at_ms.is_none_or(|ms| self.folded_to_ms > ms)
    }

    pub fn doubt_written(&mut self) {
        self.check = match self.check {
            Check::NotNeeded | Check::Due => Check::Due,
            Check::Running { .. } => Check::Running { again: true },
        };
    }

    /// Is what was written to be looked for now.
    pub fn take_check(&mut self) -> bool {
        let is_due = self.check == Check::Due;
        if is_due {
            self.check = Check::Running { again: false };
        }
        is_due
    }

    /// What was written was looked for; `trimmed`: the last of it, where nothing was lost.
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

    /// A key that is written to takes nothing: decisions wait.
    pub fn wait_for_outputs(&mut self) {
        self.not_before = Some(Instant::now() + UNFIT_PAUSE);
    }

    /// Returns true while decisions wait for a key that takes nothing.
    pub fn waits_for_outputs(&self) -> bool {
        self.not_before.is_some_and(|from| Instant::now() < from)
    }

    /// A decision is in doubt. Answers whether that is new.
    pub fn doubt(&mut self, seq: u64) -> bool {
        self.doubtful.insert(seq, Instant::now() + DOUBT_PAUSE).is_none()
    }

    /// Is a decision in doubt, and not to be offered yet.
    pub fn is_doubtful(&self, seq: u64) -> bool {
        self.doubtful.get(&seq).is_some_and(|again| Instant::now() < *again)
    }

    /// A decision was written.
    pub fn written(&mut self, seq: u64) {
        self.doubtful.remove(&seq);
    }

    /// [1]
    pub fn doubtful(&self) -> usize {
        self.doubtful.len()
    }
}
