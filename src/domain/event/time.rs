//! The event time of a fact.

use super::ids::EntryId;

/// The event time of a fact: when it happened, as its producer states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTime {
    /// The fact has none.
    Absent,
    /// [ms since 1970]
    At(u64),
    /// A text that is not a time, or a time that the entry id makes impossible.
    Unreadable,
}

impl EventTime {
    /// How far an event time may be ahead of its entry id, because clocks differ. [ms]
    const AHEAD_MAX_MS: u64 = 60_000;

    /// Returns the time, unless it is too far ahead of the entry that carries it.
    pub fn checked(self, entry: EntryId) -> Self {
        match self {
            Self::At(ms) if ms > entry.ms.saturating_add(Self::AHEAD_MAX_MS) => Self::Unreadable,
            time => time,
        }
    }

    /// Returns the time, if it is known. [ms since 1970]
    pub fn ms(self) -> Option<u64> {
        match self {
            Self::At(ms) => Some(ms),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// Returns how much older the fact is than its entry, 0 without an event time. `None` if the time is unreadable.
    /// [ms]
    pub fn age_ms(self, entry_ms: u64) -> Option<u64> {
        match self {
            Self::Absent => Some(0),
            Self::At(ms) => Some(entry_ms.saturating_sub(ms)),
            Self::Unreadable => None,
        }
    }
}
