//! The kill key and the kills that were read (docs/spec/canonical-order.md, "Kill before its turn").
//!
//! A read of the key counts against the log only if it began after the last `kill.changed` was folded. `harvester
//! control kill off` shows why:
//!
//! ```text
//!  1. the service begins to read the key                                      key: 1
//!  2. the operator sets the key to 0, and appends `kill.changed` (kill false) key: 0
//!  3. the service folds that entry                                            switch: off
//!  4. the read of step 1 returns 1: without the rule it would kill again, and the next read, of 0, would not undo that
//! ```

use std::collections::BTreeSet;

use crate::domain::event::ids::{EntryId, StreamId};

/// The known kills that the folded state does not contain.
#[derive(Clone, Debug, Default)]
pub struct Kills {
    /// The kill key as it was last read; `None` before the first read.
    pub seen: Option<bool>,
    /// When the read of that value began, by the clock of the process. [ms]
    began_ms: Option<u64>,
    /// When the last `kill.changed` was folded. [ms]
    folded_ms: Option<u64>,
    /// The value of the key that the log contains: set, cleared, or never seen.
    pub known: Option<bool>,
    /// Entries that kill, read and not folded.
    read: BTreeSet<(StreamId, EntryId)>,
}

impl Kills {
    pub fn of(known: Option<bool>) -> Self {
        Self { seen: known, known, ..Self::default() }
    }

    /// Notes a value of the key, whose read began at a time.
    pub const fn key_read(&mut self, kill: bool, began_ms: u64) {
        (self.seen, self.began_ms) = (Some(kill), Some(began_ms));
    }

    /// Returns the value of the last read, if that read began after the last `kill.changed` was folded.
    pub fn since_folded(&self) -> Option<bool> {
        let began_ms = self.began_ms?;
        self.seen.filter(|_| self.folded_ms.is_none_or(|folded_ms| began_ms > folded_ms))
    }

    /// Notes an entry that kills and whose turn comes later. Returns true if it is new.
    pub fn entry_read(&mut self, stream: StreamId, id: EntryId) -> bool {
        self.read.insert((stream, id))
    }

    /// Notes that an entry was folded. Returns true if it was one that kills.
    pub fn entry_folded(&mut self, stream: StreamId, id: EntryId) -> bool {
        self.read.remove(&(stream, id))
    }

    /// Returns true if an entry that kills was read and is not folded.
    pub fn has_unfolded(&self) -> bool {
        !self.read.is_empty()
    }

    /// Returns true if the key was set when it was last seen. A key that is missing now then still counts.
    pub fn was_set(&self) -> bool {
        self.seen.or(self.known) == Some(true)
    }

    /// Notes a kill switch of the log. An entry that clears the switch while the key is set has effect until the next
    /// read of the key, which sets the switch again.
    pub fn switch_folded(&mut self, kill: bool, now_ms: u64) {
        self.folded_ms = Some(now_ms);
        if self.seen == Some(kill) || self.seen == Some(true) {
            self.known = Some(kill);
        }
    }
}
