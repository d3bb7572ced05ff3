//! The holds of a position over time. They are kept with the position, so that reports can explain why it was not
//! harvested.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::domain::event::ids::EntryId;
use crate::domain::exit::Hold;

/// Changes that are kept per position. Of older ones only the durations are kept. [1]
pub const CHANGES_KEPT: usize = 32;

/// A change of the hold: from this entry on the position had another hold than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldChange {
    pub since: EntryId,
    /// `None`: there was no hold, and a decision was made.
    pub hold: Option<Hold>,
}

/// Every change of the reason to hold, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HoldLog {
    changes: VecDeque<HoldChange>,
    /// Changes that are no longer kept. [1]
    dropped: u64,
    /// Duration of ended holds, one item per hold. [ms]
    ended: Vec<(Hold, u64)>,
}

impl HoldLog {
    /// Notes the outcome of an evaluation. Returns true if it differs from the last one. An equal outcome costs one
    /// comparison.
    #[inline]
    pub fn note(&mut self, hold: Option<Hold>, at: EntryId) -> bool {
        if self.changes.back().is_some_and(|last| last.hold == hold) {
            return false;
        }
        self.change(HoldChange { since: at, hold });
        true
    }

    #[cold]
    fn change(&mut self, change: HoldChange) {
        if let Some(HoldChange { since, hold: Some(hold) }) = self.changes.back().copied() {
            let lasted_ms = change.since.ms.saturating_sub(since.ms);
            match self.ended.iter_mut().find(|(of, _)| *of == hold) {
                Some((_, ms)) => *ms = ms.saturating_add(lasted_ms),
                None => self.ended.push((hold, lasted_ms)),
            }
        }
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
            self.dropped += 1;
        }
        self.changes.push_back(change);
    }

    pub fn last(&self) -> Option<HoldChange> {
        self.changes.back().copied()
    }

    /// Returns the changes that are kept, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &HoldChange> {
        self.changes.iter()
    }

    /// Returns the number of all changes so far. [1]
    pub fn noted(&self) -> u64 {
        self.dropped + self.changes.len() as u64
    }

    /// Returns the number of changes that are no longer kept. [1]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns how long the position had each hold, up to a time. [ms]
    pub fn times_ms(&self, until_ms: u64) -> BTreeMap<Hold, u64> {
        let mut times: BTreeMap<Hold, u64> = self.ended.iter().copied().collect();
        if let Some(HoldChange { since, hold: Some(hold) }) = self.last() {
            let ms = times.entry(hold).or_default();
            *ms = ms.saturating_add(until_ms.saturating_sub(since.ms));
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_reason_again_is_no_change_and_time_counts_by_ids() {
        let mut log = HoldLog::default();
        let noted = [
            (1_000, Some(Hold::NoPrice)),
            (2_000, Some(Hold::BelowMinR)),
            (3_000, Some(Hold::BelowMinR)),
            (5_000, None),
            (6_000, Some(Hold::NoRung)),
            (7_000, Some(Hold::BelowMinR)),
        ]
        .map(|(ms, hold)| log.note(hold, EntryId::new(ms, 0)));
        assert_eq!(noted, [true, true, false, true, true, true]);
        let times: Vec<_> = log.times_ms(9_000).into_iter().map(|(hold, ms)| (hold.name(), ms)).collect();
        // no_price 1 s; below_min_r 2…5 s and 7…9 s; no_rung 1 s; the second of the decision has no hold.
        assert_eq!(times, [("no_price", 1_000), ("below_min_r", 5_000), ("no_rung", 1_000)]);
    }

    #[test]
    fn a_log_is_bounded_and_forgets_no_time() {
        let mut log = HoldLog::default();
        for n in 0..1_000 {
            let hold = if n % 2 == 0 { Hold::StalePrice } else { Hold::BelowMinR };
            log.note(Some(hold), EntryId::new(n * 10, 0));
        }
        assert_eq!((log.changes().count(), log.dropped()), (CHANGES_KEPT, 1_000 - CHANGES_KEPT as u64));
        assert_eq!(log.times_ms(10_000).values().sum::<u64>(), 10_000);
    }
}
