//! The gate that a decision passes between the journal and its emission.

use std::collections::BTreeMap;

use crate::domain::event::ids::EntryId;

/// A decision in doubt is offered again after this time, because an operator may have resolved it. [ms]
const DOUBT_PAUSE_MS: u64 = 10_000;
/// While a key refuses writes, decisions are offered again after this time. [ms]
const UNFIT_PAUSE_MS: u64 = 2_000;

/// The conditions under which decisions may be offered. `now_ms` is the monotonic clock of the process.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The watermark: all entries before this server time are folded. [ms since 1970]
    pub watermark_ms: u64,
    /// Entries about positions wait because their ids are ahead of the server's clock.
    pub facts_ahead: bool,
    /// A group reads order requests that is not configured as an executor.
    pub has_unnamed_executors: bool,
    /// Orders wait until entries later than this are folded. [ms since 1970]
    behind_at_ms: Option<u64>,
    check: Check,
    /// An entry whose absence was checked already: it was trimmed.
    checked: Option<EntryId>,
    /// Decisions in doubt, and when each is offered again.
    doubtful: BTreeMap<u64, u64>,
    /// No decision is offered before this time, because a key refuses writes.
    not_before_ms: Option<u64>,
}

/// The state of the check whether the server still has the written decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Forgets all waits, because a new leader checks everything again.
    pub fn retry(&mut self) {
        self.behind_at_ms = None;
        self.doubtful.clear();
        self.not_before_ms = None;
    }

    pub fn set_watermark(&mut self, ms: u64) {
        self.watermark_ms = ms;
        self.behind_at_ms = self.behind_at_ms.map(|behind| behind.min(ms));
    }

    /// Makes orders wait until more is folded.
    pub const fn wait_for_news(&mut self) {
        self.behind_at_ms = Some(self.watermark_ms);
    }

    /// Returns true if orders may go: more is folded than when one was sent back, nothing about positions waits for the
    /// clock, and only configured executors read requests.
    pub fn may_order(&self) -> bool {
        let is_current = self.behind_at_ms.is_none_or(|ms| self.watermark_ms > ms);
        is_current && !self.facts_ahead && !self.has_unnamed_executors
    }

    /// Puts in doubt whether the server has the written decisions.
    pub fn doubt_written(&mut self) {
        self.check = match self.check {
            Check::NotNeeded | Check::Due => Check::Due,
            Check::Running { .. } => Check::Running { again: true },
        };
    }

    pub fn is_check_due(&self) -> bool {
        self.check == Check::Due
    }

    pub const fn begin_check(&mut self) {
        self.check = Check::Running { again: false };
    }

    /// Repeats a check whose answer was lost.
    pub fn check_lost(&mut self) {
        if let Check::Running { .. } = self.check {
            self.check = Check::Due;
        }
    }

    /// Ends a check. `trimmed` is the entry of the decision before the next one, if no decision was lost: it was only
    /// trimmed.
    pub fn checked(&mut self, trimmed: Option<EntryId>) {
        self.check = if self.check == (Check::Running { again: true }) { Check::Due } else { Check::NotNeeded };
        self.checked = trimmed;
    }

    pub fn is_checked(&self, entry: EntryId) -> bool {
        self.checked == Some(entry)
    }

    /// Returns true if no check of the written decisions is due or running.
    pub fn may_offer(&self) -> bool {
        self.check == Check::NotNeeded
    }

    /// Makes decisions wait, because a key refuses writes.
    pub const fn wait_for_outputs(&mut self, now_ms: u64) {
        self.not_before_ms = Some(now_ms.saturating_add(UNFIT_PAUSE_MS));
    }

    /// Returns true while decisions wait for a key that refuses writes.
    pub fn waits_for_outputs(&self, now_ms: u64) -> bool {
        self.not_before_ms.is_some_and(|from| now_ms < from)
    }

    /// Marks a decision as in doubt. Returns true if that is new.
    pub fn doubt(&mut self, seq: u64, now_ms: u64) -> bool {
        self.doubtful.insert(seq, now_ms.saturating_add(DOUBT_PAUSE_MS)).is_none()
    }

    /// Returns true if a decision is in doubt and not to be offered yet.
    pub fn is_doubtful(&self, seq: u64, now_ms: u64) -> bool {
        self.doubtful.get(&seq).is_some_and(|again| now_ms < *again)
    }

    /// Marks a decision as written.
    pub fn written(&mut self, seq: u64) {
        self.doubtful.remove(&seq);
    }

    /// Returns the number of decisions in doubt. [1]
    pub fn doubtful(&self) -> usize {
        self.doubtful.len()
    }

    /// Returns the next time at which a wait ends, after `now_ms`.
    pub fn timeout(&self, now_ms: u64) -> Option<u64> {
        self.doubtful.values().copied().chain(self.not_before_ms).filter(|at| *at > now_ms).min()
    }
}
