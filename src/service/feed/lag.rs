//! Finds messages that waited on their way, by the times that they state. Pure: time is an argument.
//!
//! The clocks of the exchange and of this machine may differ by any time. So the difference between the time of arrival
//! and the stated time is compared with that of earlier messages.

use std::time::Duration;

/// A message is late if it took this much longer than the usual one. [ms]
const LATE_MS: i64 = 3_000;
/// The usual difference grows by at most this with each message, because clocks drift apart. [ms]
const DRIFT_MS: i64 = 1;
/// If all messages are late for this long, a clock was set, and the difference is learnt again. [ms]
const LEARNT_AGAIN_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The usual difference, if it is known. [ms]
    usual_ms: Option<i64>,
    /// Since when all messages were late. [ms]
    late_since_ms: Option<u64>,
}

impl Lag {
    /// Adds a message that arrived at a time of a monotonic clock, and states its own time. Returns true if it is late.
    /// [ms]
    pub(super) fn is_late(&mut self, arrived_ms: u64, stated_ms: u64) -> bool {
        let took_ms = i64::try_from(arrived_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(stated_ms);
        let usual_ms = *self.usual_ms.get_or_insert(took_ms);
        let more_ms = took_ms.saturating_sub(usual_ms);
        if more_ms > LATE_MS {
            let since_ms = *self.late_since_ms.get_or_insert(arrived_ms);
            if arrived_ms.saturating_sub(since_ms) < LEARNT_AGAIN_MS {
                return true;
            }
            self.usual_ms = Some(took_ms);
        } else {
            self.usual_ms = Some(usual_ms.saturating_add(more_ms.min(DRIFT_MS)));
        }
        self.late_since_ms = None;
        false
    }
}

/// Returns a time as milliseconds.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_late_if_it_took_longer_than_others_whatever_the_clocks() {
        for apart_ms in [0, 1_770_163_200_000] {
            let mut lag = Lag::default();
            let mut is_late = |arrived_ms: u64, made_ms: u64| lag.is_late(arrived_ms, made_ms + apart_ms);
            assert!(!is_late(100_050, 100_000));
            assert!(!is_late(101_900, 101_000), "0.9 s");
            // A hole of 40 s: the messages of the hole arrive together.
            for made_ms in (102_000..=138_000).step_by(1_000) {
                assert!(is_late(142_000, made_ms), "{made_ms}");
            }
            assert!(!is_late(142_050, 142_000));
        }
    }

    #[test]
    fn a_clock_that_drifts_is_followed_and_one_that_was_set_is_learnt_again() {
        let mut lag = Lag::default();
        for second in 0..100_000_u64 {
            assert!(!lag.is_late(second * 1_000, second * 1_000 - second / 10), "0.1 ms a second");
        }
        let since_ms = 100_000_000;
        for second in 0..60 {
            assert!(lag.is_late(since_ms + second * 1_000, since_ms - 20_000 + second * 1_000));
        }
        assert!(!lag.is_late(since_ms + 60_000, since_ms + 40_000), "20 s for a minute");
        assert!(!lag.is_late(since_ms + 61_000, since_ms + 41_000));
    }
}
