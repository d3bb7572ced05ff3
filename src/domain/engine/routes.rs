//! Notes of the account that an order or a plan belongs to, a few bytes each, for accounts of this cell and of others;
//! and the cell that folds an entry.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::domain::book::intents::INTENT_MEMORY_MS;
use crate::domain::book::order::ORDER_MEMORY_MS;
use crate::domain::event::ids::AccountId;

/// Notes after which all that are too old are forgotten. [1]
const NOTES_PER_SWEEP: u32 = 4096;

/// Who folds an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoldedBy {
    /// This cell, as it is.
    Us,
    /// This cell, as an entry of this account.
    UsFor(AccountId),
    /// Another cell, or none.
    Others,
}

/// The subject of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    /// An order, by its id: the time of its last entry.
    Order,
    /// An order, by its plan: the time of its last entry.
    PlanOfOrder,
    /// A plan: the time of the first one of its id.
    Plan,
}

/// A note: its kind, the hash of symbol and id, and the account.
pub type NoteKey = (Noted, u64, AccountId);

/// All notes of a cell that does not read all accounts. Each cell of the same streams has the same ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// [ms since 1970]
    notes: BTreeMap<NoteKey, u64>,
    /// Notes since the last sweep. [1]
    noted: u32,
}

impl Noted {
    pub const ALL: [Self; 3] = [Self::Order, Self::PlanOfOrder, Self::Plan];

    /// Returns how long a note is remembered. [ms]
    const fn memory_ms(self) -> u64 {
        match self {
            Self::Order | Self::PlanOfOrder => ORDER_MEMORY_MS,
            Self::Plan => INTENT_MEMORY_MS,
        }
    }

    const fn is_fresh(self, ms: u64, now_ms: u64) -> bool {
        ms >= now_ms.saturating_sub(self.memory_ms())
    }
}

/// Returns the part of a key that identifies a symbol and an id.
pub fn hash(symbol: &str, id: &str) -> u64 {
    let digest = Sha256::new().chain_update(symbol).chain_update("\0").chain_update(id).finalize();
    let first = digest.first_chunk().expect("a SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}

impl Routes {
    /// Returns the accounts that are noted for an order or plan; the one without a name comes first.
    pub fn accounts(&self, noted: Noted, hash: u64, now_ms: u64) -> Vec<AccountId> {
        let all = self.notes.range((noted, hash, AccountId::NONE)..=(noted, hash, AccountId(u32::MAX)));
        all.filter(|(_, ms)| noted.is_fresh(**ms, now_ms)).map(|((_, _, account), _)| *account).collect()
    }

    /// Returns all notes that are remembered.
    pub fn notes(&self, now_ms: u64) -> impl Iterator<Item = (NoteKey, u64)> + '_ {
        let all = self.notes.iter().map(|(key, ms)| (*key, *ms));
        all.filter(move |((noted, ..), ms)| noted.is_fresh(*ms, now_ms))
    }

    /// Returns the time of a note.
    pub fn get(&self, key: NoteKey) -> Option<u64> {
        self.notes.get(&key).copied()
    }

    /// Returns true if a note is remembered.
    pub(super) fn has(&self, key: NoteKey, now_ms: u64) -> bool {
        self.get(key).is_some_and(|ms| key.0.is_fresh(ms, now_ms))
    }

    pub(super) fn put(&mut self, key: NoteKey, ms: u64) {
        self.notes.insert(key, ms);
    }

    /// Forgets notes that are too old, now and then, and returns them. Whether one counts does not depend on it.
    pub(super) fn sweep(&mut self, now_ms: u64) -> Vec<NoteKey> {
        self.noted += 1;
        if self.noted < NOTES_PER_SWEEP {
            return Vec::new();
        }
        self.noted = 0;
        let old = self.notes.iter().filter(|((noted, ..), ms)| !noted.is_fresh(**ms, now_ms));
        let old: Vec<NoteKey> = old.map(|(key, _)| *key).collect();
        old.iter().for_each(|key| _ = self.notes.remove(key));
        old
    }
}
