//! A clock that never steps: it counts on while this process is stopped and while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The clock since the start of the machine. Linux has another monotonic clock that stops while the machine sleeps.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A moment of that clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    pub fn now() -> Self {
        let now = clock_gettime(CLOCK);
        let (seconds, ns) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
        Self(Duration::from_secs(seconds.unwrap_or_default()) + Duration::from_nanos(ns.unwrap_or_default()))
    }

    /// Returns the time since this moment.
    pub fn age(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    /// Returns the moment a time before this one.
    #[must_use]
    pub const fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time))
    }

    /// Returns the moment a time after this one.
    #[must_use]
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// Returns the time until this moment; zero if it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_sub(Self::now().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_grows_old_and_one_to_come_draws_near() {
        let now = Moment::now();
        let (before, after) = (now.minus(Duration::from_secs(3)), now.plus(Duration::from_secs(3_600)));
        assert!(before < now && now < after);
        assert!(before.age() >= Duration::from_secs(3) && before.left().is_zero());
        assert!(after.left() > Duration::from_secs(3_000) && after.age().is_zero());
    }
}
