//! The kill key, as the lease task reads it, beside the kill switch of the log.
//!
//! `harvester control kill off` sets the key to 0 and then appends its entry. A read of the key that began before can
//! arrive after the entry was folded, and still says 1. It must not kill again: the next read, of 0, would not take
//! that back. Therefore a read is compared with the log only if it began after the last `kill.changed` was folded.

use std::time::Instant;

/// A value of the kill key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRead {
    pub kills: bool,
    /// The time before the server was asked.
    pub began: Instant,
}

/// What is known of the kill key.
#[derive(Debug, Default)]
pub struct KillKey {
    value: Option<bool>,
    read: Option<KeyRead>,
    /// When the last `kill.changed` was folded.
    folded: Option<Instant>,
}

impl KillKey {
    /// Returns the knowledge of a process that starts with the value of the one before.
    pub fn of(value: Option<bool>) -> Self {
        Self { value, ..Self::default() }
    }

    /// Returns the last value that was read, however old the read is.
    pub const fn value(&self) -> Option<bool> {
        self.value
    }

    /// Notes a read of the key.
    pub fn read(&mut self, read: KeyRead) {
        self.value = Some(read.kills);
        self.read = Some(read);
    }

    /// Notes that a `kill.changed` was folded.
    pub fn folded(&mut self, at: Instant) {
        self.folded = Some(at);
    }

    /// Returns the value of the last read, if that read began after the last `kill.changed` was folded.
    pub fn since_folded(&self) -> Option<bool> {
        let read = self.read?;
        self.folded.is_none_or(|folded| read.began > folded).then_some(read.kills)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_read_that_began_before_a_kill_switch_was_folded_is_not_compared_with_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut key = KillKey::of(Some(false));
        assert_eq!((key.value(), key.since_folded()), (Some(false), None), "nothing was read by this process");
        key.read(KeyRead { kills: true, began: at(1) });
        assert_eq!((key.value(), key.since_folded()), (Some(true), Some(true)), "nothing was folded");
        key.folded(at(2));
        assert_eq!((key.value(), key.since_folded()), (Some(true), None), "read before `control kill off`");
        for began in [1, 2] {
            key.read(KeyRead { kills: true, began: at(began) });
            assert_eq!((key.value(), key.since_folded()), (Some(true), None), "asked before, answered after");
        }
        key.read(KeyRead { kills: false, began: at(3) });
        assert_eq!((key.value(), key.since_folded()), (Some(false), Some(false)));
        key.read(KeyRead { kills: true, began: at(4) });
        assert_eq!((key.value(), key.since_folded()), (Some(true), Some(true)), "set again, or still set");
    }
}
