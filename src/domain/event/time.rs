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

/// A time as its producer states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedTime {
    /// Whole milliseconds. [ms since 1970]
    pub ms: u64,
    /// True if a fraction of a millisecond was cut off.
    pub is_cut: bool,
}

impl EventTime {
    /// How far an event time may be ahead of its entry id, because clocks differ. [ms]
    const AHEAD_MAX_MS: u64 = 60_000;

    /// Returns the event time of an entry that states it. It is unreadable if it is too far ahead of the entry.
    pub fn of(StatedTime { ms, is_cut }: StatedTime, entry: EntryId) -> Self {
        let last_ms = entry.ms.saturating_add(Self::AHEAD_MAX_MS);
        if ms > last_ms || (ms == last_ms && is_cut) { Self::Unreadable } else { Self::At(ms) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_unreadable_from_the_first_fraction_after_its_limit() {
        let entry = EntryId::new(1_770_163_200_000, 0);
        let last_ms = entry.ms + EventTime::AHEAD_MAX_MS;
        let of = |ms, is_cut| EventTime::of(StatedTime { ms, is_cut }, entry);
        assert_eq!(of(last_ms, false), EventTime::At(last_ms));
        assert_eq!(of(last_ms, true), EventTime::Unreadable);
        assert_eq!(of(last_ms - 1, true), EventTime::At(last_ms - 1));
        assert_eq!(of(last_ms + 1, false), EventTime::Unreadable);
        assert_eq!(of(0, true), EventTime::At(0));
    }
}
