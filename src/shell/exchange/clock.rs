//! The server's clock: the last known server time plus the time since then on a monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::shell::uptime::Moment;

/// A monotonic clock that starts when the process creates its client. [ms]
#[derive(Debug)]
pub(super) struct Since(Moment);

impl Since {
    pub(super) fn now() -> Self {
        Self(Moment::now())
    }

    pub(super) fn ms(&self) -> u64 {
        u64::try_from(self.0.age().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Returns the wall clock of this machine. [ms since 1970]
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX))
}

/// The server's clock as we know it. A step of this machine's clock does not change it. The server itself reports
/// drift, by refusing a timestamp.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerClock {
    /// A time of the server, and our monotonic time at that moment. [ms since 1970], [ms]
    known: Option<(u64, u64)>,
    /// When the call was sent that returned that time, by our monotonic clock. [ms]
    sent_ms: u64,
    /// Server clock minus wall clock at the last answer. [ms]
    offset_ms: Option<i64>,
}

impl ServerClock {
    /// Adopts a server time from the answer to a call that was sent and answered at the given times.
    pub(super) fn learn(&mut self, server_ms: u64, sent_ms: u64, answered_ms: u64, wall_answered_ms: u64) {
        let half_ms = answered_ms.saturating_sub(sent_ms) / 2;
        self.known = Some((server_ms, sent_ms + half_ms));
        self.sent_ms = sent_ms;
        let wall_middle_ms = wall_answered_ms.saturating_sub(half_ms);
        self.offset_ms =
            i64::try_from(server_ms).ok().zip(i64::try_from(wall_middle_ms).ok()).map(|(s, w)| s.saturating_sub(w));
    }

    /// Returns the server's present time. [ms since 1970]
    pub(super) fn now_ms(&self, since_ms: u64) -> Option<u64> {
        self.known.map(|(server_ms, at_ms)| server_ms.saturating_add(since_ms.saturating_sub(at_ms)))
    }

    /// Returns the greatest age that a time of the server can have now. The server stated its own time after the call was
    /// sent. [ms]
    pub(super) fn age_ms(&self, server_ms: u64, since_ms: u64) -> Option<u64> {
        let (stated_ms, _) = self.known?;
        Some(stated_ms.saturating_add(since_ms.saturating_sub(self.sent_ms)).saturating_sub(server_ms))
    }

    /// Returns how long ago the server was asked for its time. [ms]
    pub(super) fn asked_ago_ms(&self, since_ms: u64) -> Option<u64> {
        self.known.map(|_| since_ms.saturating_sub(self.sent_ms))
    }

    pub(super) fn offset_ms(&self) -> Option<i64> {
        self.offset_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_is_that_of_the_middle_of_the_round_trip() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.now_ms(5), None);
        clock.learn(1_000_000, 10, 50, 999_000);
        assert_eq!(clock.now_ms(30), Some(1_000_000));
        assert_eq!(clock.now_ms(50), Some(1_000_020));
        assert_eq!(clock.age_ms(999_990, 60), Some(60), "the server may have stated its time at 10");
        assert_eq!((clock.age_ms(2_000_000, 60), clock.asked_ago_ms(60)), (Some(0), Some(50)));
        assert_eq!(clock.offset_ms(), Some(1_020), "the wall clock stood at 998,980 in the middle");
    }
}
