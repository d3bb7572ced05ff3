//! The control outbox: entries of our own on their way through the control stream.
//!
//! ```text
//!          stage                 due                 appended            folded
//! (entry)  ─────▶ unpublished ─────────▶ in flight ──────────▶ published ──────▶ (gone)
//!                      ▲                     │ refused, lost, lease lost │
//!                      ├─────────────────────┘                           │ connection lost, server forgot entries,
//!                      └─────────────────────────────────────────────────┘ not back in time: looked for again
//! ```

use std::collections::BTreeMap;

use super::action::{Appended, Tried};
use super::gap::StreamGap;
use super::own_entry::OwnEntry;
use crate::domain::event::ids::EntryId;

/// How long our entries wait after the server refused one. [ms]
const PAUSE_MS: u64 = 2_000;
/// An entry that was not folded in this time is looked for: the server may have lost it, and an idle connection does
/// not show that there is another one. [ms]
const BACK_MS: u64 = 5_000;

/// Where an entry of ours is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    Unpublished(Option<Tried>),
    InFlight(Option<Tried>),
    /// In the stream under this id, and not folded yet; with the attempt that wrote it. It is looked for at a time.
    Published {
        id: EntryId,
        tried: Option<Tried>,
        look_at_ms: u64,
    },
}

#[derive(Clone, Debug)]
struct Own {
    entry: OwnEntry,
    way: Way,
}

impl Own {
    fn is_due(&self, now_ms: u64) -> bool {
        match self.way {
            Way::Unpublished(_) => true,
            Way::InFlight(_) => false,
            Way::Published { look_at_ms, .. } => look_at_ms <= now_ms,
        }
    }
}

/// Our own entries that are on their way through the control stream, by number.
#[derive(Clone, Debug, Default)]
pub struct ControlOutbox {
    next_number: u64,
    pending: BTreeMap<u64, Own>,
    /// Nothing is handed out before this time, because the server refused an entry.
    not_before_ms: Option<u64>,
}

/// An entry to append now.
#[derive(Clone, Debug)]
pub struct Due {
    pub number: u64,
    pub entry: OwnEntry,
    pub tried: Option<Tried>,
}

impl ControlOutbox {
    /// Stages an entry. It is appended now, or as soon as we lead.
    pub fn stage(&mut self, entry: OwnEntry) {
        self.pending.insert(self.next_number, Own { entry, way: Way::Unpublished(None) });
        self.next_number += 1;
    }

    /// Stages an entry, unless the same one is on its way.
    pub fn stage_once(&mut self, entry: OwnEntry) {
        if !self.has(&entry) {
            self.stage(entry);
        }
    }

    /// Returns the reason why no order is sent while an entry of ours is on its way.
    pub fn refusal(&self) -> Option<&'static str> {
        self.pending.values().find_map(|own| match own.entry {
            OwnEntry::NewPolicy | OwnEntry::AccountPolicy { .. } => Some("policy_pending"),
            OwnEntry::Gap(_) => Some("history_gap"),
            OwnEntry::PolicyInForce | OwnEntry::Kill(_) | OwnEntry::Skipped { .. } => None,
        })
    }

    /// Takes the oldest entry that must be appended. One is in flight at a time, so that they keep their order.
    pub fn due(&mut self, now_ms: u64) -> Option<Due> {
        let waits = self.not_before_ms.is_some_and(|from| now_ms < from);
        if waits || self.pending.values().any(|own| matches!(own.way, Way::InFlight(_))) {
            return None;
        }
        let (number, own) = self.pending.iter_mut().find(|(_, own)| own.is_due(now_ms))?;
        let (Way::Unpublished(tried) | Way::InFlight(tried) | Way::Published { tried, .. }) = &own.way;
        let tried = tried.clone();
        own.way = Way::InFlight(tried.clone());
        Some(Due { number: *number, entry: own.entry.clone(), tried })
    }

    /// Notes the outcome of an append.
    pub fn appended(&mut self, number: u64, outcome: Appended, now_ms: u64) {
        let Some(own) = self.pending.get_mut(&number) else { return };
        own.way = match outcome {
            Appended::Written(id, tried) => Way::Published { id, tried, look_at_ms: now_ms.saturating_add(BACK_MS) },
            Appended::Refused => {
                self.not_before_ms = Some(now_ms.saturating_add(PAUSE_MS));
                Way::Unpublished(None)
            }
            Appended::Unknown(tried) => Way::Unpublished(tried),
        };
    }

    /// Tries those again whose answer was lost.
    pub fn lost(&mut self) {
        for own in self.pending.values_mut() {
            if let Way::InFlight(tried) = &mut own.way {
                own.way = Way::Unpublished(tried.take());
            }
        }
    }

    /// Looks again for those that are in the stream and not folded, because the server may have lost them since. No gap
    /// would show that, because no process has read them.
    pub fn doubt_published(&mut self) {
        for own in self.pending.values_mut() {
            if let Way::Published { tried, .. } = &mut own.way {
                own.way = Way::Unpublished(tried.take());
            }
        }
    }

    /// Gives up, at the end of the leadership, a policy or a kill that is not in the stream. The next leader decides
    /// anew whether it is needed.
    pub fn follow(&mut self) {
        self.pending.retain(|_, own| match own.entry {
            OwnEntry::NewPolicy | OwnEntry::PolicyInForce | OwnEntry::AccountPolicy { .. } | OwnEntry::Kill(_) => {
                matches!(own.way, Way::Published { .. })
            }
            OwnEntry::Gap(_) | OwnEntry::Skipped { .. } => true,
        });
        self.lost();
    }

    /// Removes and returns the entries at or before this one, because the control stream is folded that far.
    pub fn folded_to(&mut self, cursor: EntryId) -> Vec<OwnEntry> {
        self.take(|own| matches!(own.way, Way::Published { id, .. } if id <= cursor))
    }

    /// Removes and returns the gaps, not in the stream yet, that an earlier leader has published already.
    pub fn gaps_published(&mut self, is_it: impl Fn(&StreamGap) -> bool) -> Vec<StreamGap> {
        let is_published = |own: &Own| {
            !matches!(own.way, Way::Published { .. }) && matches!(&own.entry, OwnEntry::Gap(gap) if is_it(gap))
        };
        self.take(is_published).into_iter().filter_map(OwnEntry::into_gap).collect()
    }

    fn take(&mut self, is_meant: impl Fn(&Own) -> bool) -> Vec<OwnEntry> {
        let numbers: Vec<u64> =
            self.pending.iter().filter(|(_, own)| is_meant(own)).map(|(number, _)| *number).collect();
        numbers.iter().filter_map(|number| self.pending.remove(number)).map(|own| own.entry).collect()
    }

    /// Returns the gaps that are not folded yet.
    pub fn gaps(&self) -> impl Iterator<Item = &StreamGap> {
        self.pending.values().filter_map(|own| match &own.entry {
            OwnEntry::Gap(gap) => Some(gap),
            OwnEntry::NewPolicy
            | OwnEntry::PolicyInForce
            | OwnEntry::AccountPolicy { .. }
            | OwnEntry::Kill(_)
            | OwnEntry::Skipped { .. } => None,
        })
    }

    pub fn has(&self, entry: &OwnEntry) -> bool {
        self.pending.values().any(|own| own.entry == *entry)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns the next time at which a wait ends, after `now_ms`.
    pub fn timeout(&self, now_ms: u64) -> Option<u64> {
        let looks = self.pending.values().filter_map(|own| match own.way {
            Way::Published { look_at_ms, .. } => Some(look_at_ms),
            Way::Unpublished(_) | Way::InFlight(_) => None,
        });
        let pause = self.not_before_ms.filter(|_| !self.pending.is_empty());
        looks.chain(pause).filter(|at| *at > now_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_does_not_come_back_is_looked_for() {
        let mut outbox = ControlOutbox::default();
        outbox.stage(OwnEntry::Kill(true));
        let due = |outbox: &mut ControlOutbox, now_ms| outbox.due(now_ms).map(|due| (due.number, due.tried));
        assert_eq!(due(&mut outbox, 10), Some((0, None)));
        let tried = Some(Tried { after: EntryId::new(4, 0), fields: Vec::new(), issued_ms: 0 });
        let written = || Appended::Written(EntryId::new(5, 0), tried.clone());
        outbox.appended(0, written(), 10);
        assert_eq!(due(&mut outbox, 9 + BACK_MS), None, "it may be on its way");
        assert_eq!(outbox.timeout(9 + BACK_MS), Some(10 + BACK_MS));
        assert_eq!(due(&mut outbox, 10 + BACK_MS), Some((0, tried.clone())), "looked for, not written again");
        assert_eq!(due(&mut outbox, 10 + BACK_MS), None, "in flight");
        outbox.appended(0, written(), 20 + BACK_MS);
        assert_eq!(outbox.timeout(20 + BACK_MS), Some(20 + 2 * BACK_MS), "it is there, and not folded yet");
        assert_eq!(outbox.folded_to(EntryId::new(5, 0)), [OwnEntry::Kill(true)]);
        assert_eq!((due(&mut outbox, u64::MAX), outbox.timeout(0)), (None, None));
    }
}
