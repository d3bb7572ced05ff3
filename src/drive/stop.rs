//! Ends a pass over a history early, when its reader has left or when it has taken too long.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Entries between two looks at the clock. [1]
const ENTRIES_PER_LOOK: u32 = 256;

/// The reason why a pass ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("the reader has left")]
    Left,
    #[error("it takes longer than {} s: choose a later time, or read a shorter history", limit.as_secs())]
    TooLong { limit: Duration },
}

/// The limits of one pass.
#[derive(Debug, Default)]
pub struct Stop {
    has_left: Arc<AtomicBool>,
    until: Option<(Instant, Duration)>,
    entries: Cell<u32>,
    /// The number of entries, for other threads. [1]
    read: Arc<AtomicU64>,
}

impl Stop {
    /// Returns limits that never end a pass.
    pub fn never() -> Self {
        Self::default()
    }

    /// Returns limits that end a pass when `has_left` is set, or after a time.
    pub fn after(limit: Duration, has_left: Arc<AtomicBool>) -> Self {
        Self { has_left, until: Some((Instant::now() + limit, limit)), ..Self::default() }
    }

    /// Returns the limits with a counter that shows other threads the number of entries read, in steps. [1]
    #[must_use]
    pub fn counting(self, read: Arc<AtomicU64>) -> Self {
        Self { read, ..self }
    }

    /// Errors if the pass has to end. The call is cheap, so it can be made for each entry.
    pub fn check(&self) -> Result<(), Stopped> {
        let entries = self.entries.get();
        self.entries.set(entries.wrapping_add(1));
        if !entries.is_multiple_of(ENTRIES_PER_LOOK) {
            return Ok(());
        }
        self.read.store(u64::from(entries), Ordering::Relaxed);
        self.check_now()
    }

    /// Errors if the pass has to end. Unlike [`Self::check`], it looks at the clock in every call.
    pub fn check_now(&self) -> Result<(), Stopped> {
        if self.has_left.load(Ordering::Relaxed) {
            return Err(Stopped::Left);
        }
        match self.until {
            Some((at, limit)) if Instant::now() >= at => Err(Stopped::TooLong { limit }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_ends_when_its_reader_leaves_or_its_time_is_up() {
        let has_left = Arc::new(AtomicBool::new(false));
        let stop = Stop::after(Duration::from_secs(3600), Arc::clone(&has_left));
        assert_eq!(stop.check(), Ok(()));
        has_left.store(true, Ordering::Relaxed);
        let ends = (0..ENTRIES_PER_LOOK).find_map(|_| stop.check().err());
        assert_eq!(ends, Some(Stopped::Left));
        let stop = Stop::after(Duration::ZERO, Arc::default());
        assert_eq!(stop.check(), Err(Stopped::TooLong { limit: Duration::ZERO }));
        let never = Stop::never();
        assert!((0..3 * ENTRIES_PER_LOOK).all(|_| never.check().is_ok()));
    }
}
